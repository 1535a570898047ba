"""Who is to be told. Accepted so that one pillar can hold it; Hecate sends nothing by itself yet."""

from __future__ import annotations

from pydantic import Field

from hecate.model.fields import Line, Port, Section, Url


class Email(Section):
    """Mail through an SMTP server."""

    enabled: bool = Field(True, description="false: not even mentioned.")
    smtp_host: Line = Field(description="Mail server.")
    smtp_port: Port = Field(587, description="Its port; 587 wants STARTTLS.")
    smtp_username: Line | None = Field(None, description="Account there; no password belongs here.")
    from_address: Line = Field(description="Sender.")
    admin_email: Line = Field(description="Receiver.")


class Slack(Section):
    """A channel of Slack."""

    enabled: bool = Field(True, description="false: not even mentioned.")
    webhook_url: Line = Field(repr=False, description="Never shown; whoever has it can post to the channel.")
    channel: Line = Field(description="Channel, with its #.")


class Webhook(Section):
    """A POST with each event."""

    url: Url = Field(description="Where to POST.")
    events: tuple[Line, ...] = Field((), description="Which ones, such as route.created.")


class Notifications(Section):
    """Who is to be told of what. Hecate sends nothing by itself; `hecate.validate` says so."""

    email: Email | None = None
    slack: Slack | None = None
    webhooks: tuple[Webhook, ...] = ()
