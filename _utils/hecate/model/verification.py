"""How the result is checked from outside: for all routes, and what a single one has to answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from hecate.errors import Problem
from hecate.model.fields import Address, Duration, File, HeaderName, Line, Listed, Name, SecretRef, Section, Status

if TYPE_CHECKING:
    from hecate.model.estate import Estate

Asked = Annotated[str, Field(pattern=r"^/[!\"$-z|~]*$")]  # as it goes over the wire


class Account(Section):
    """Who logs in at authentik to see whether people get in. A bare text is its password's reference."""

    username: Line | None = Field(None, description="As authentik knows it; absent: the key.")
    password: SecretRef | None = Field(
        None, description="Absent: nobody logs in; authentik is asked for its own word instead."
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"password": data} if isinstance(data, str) else data


class Verify(Section):
    """How the result is checked from outside."""

    nameserver: Address | Literal[""] = Field("", description="host:port to ask; empty: the machine's own resolver.")
    timeout: int = Field(10, ge=1, le=120, description="Seconds an exchange may take in all.")
    attempts: int = Field(5, ge=1, le=100, description="A probe that fails is tried again, a second apart.")
    concurrency: int = Field(8, ge=1, le=64, description="Probes at a time, of each machine that probes.")
    roots: Annotated[tuple[File, ...], Listed] = Field(
        (), description="PEM files on the master with roots beside the public ones and Caddy's own."
    )
    expiry: Duration = Field(
        "3d",
        description="A certificate that expires sooner fails; a short-lived one (below 14 days) in the last tenth of "
        "its time. hecate:certificates:warn_days warns before.",
    )
    plain: Literal["redirect", "closed", "either"] = Field(
        "either", description="What plain HTTP has to meet where an edge speaks TLS: a redirect to HTTPS, or nobody."
    )
    probers: Annotated[tuple[Name, ...], Listed] = Field(
        (), alias="from", description="Minions that probe; absent: of each edge another edge, else the master."
    )
    sample: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        25, description="Routes that a deploy probes beside those that it changed; `all` of them."
    )
    accounts: dict[Name, Account] = Field({}, description="Who may be named by `allowed` and `refused` of a route.")


class RouteVerify(Section):
    """What `hecate.verify` asks of this route; absent: `/`, and what the kind of the route makes plain."""

    path: Asked = Field("/", description="What is asked for; a query may follow.")
    status: Annotated[tuple[Status, ...], Listed] = Field((), description="Any of these; absent: anything below 500.")
    header: dict[HeaderName, Line] = Field({}, description="Of the answer; a * at either end stands for anything.")
    body: Line = Field("", description="Has to be in the first 64 KiB of the answer.")
    allowed: Name | None = Field(None, description="An account that has to get in.")
    refused: Name | None = Field(None, description="An account that has to be kept out.")
    echo: Asked | None = Field(
        None, description="A path that answers with the headers that reached it: proves that spoofed ones do not."
    )
    skip: Line = Field("", description="Why this route is not probed at all.")


def verification_problems(estate: Estate) -> Iterator[Problem]:
    """Accounts that nobody has, and promises that nobody could check."""
    accounts = estate.verify.accounts
    for host, route in estate.routes.items():
        path, asked = f"hecate:routes:{host}:verify", route.verify
        policy = estate.auth_policies.get(route.auth_policy or "")
        for field in ("allowed", "refused"):
            name = getattr(asked, field)
            if name and name not in accounts:
                why = f"no such account under hecate:verify:accounts; there are: {', '.join(accounts) or 'none'}"
                yield Problem(f"{path}:{field}", name, why)
            elif name and (policy is None or policy.provider != "authentik"):
                yield Problem(f"{path}:{field}", name, "only a route behind authentik lets in one and not another")
        if asked.allowed and asked.allowed == asked.refused:
            yield Problem(f"{path}:refused", asked.allowed, "is also the one that has to get in")
        needs = [field for field in ("status", "header", "body", "echo") if getattr(asked, field)]
        if needs and policy and policy.provider != "none" and not asked.allowed and not asked.skip:
            at = asked.path if needs != ["echo"] else asked.echo or "/"
            if not is_public(route, at):
                why = f"{at} is behind a login; name an account in `allowed` that may see it, or a public path"
                yield Problem(f"{path}:{needs[0]}", "", why)


def is_public(route: Any, path: str) -> bool:
    """Whether a path of a protected route needs no login. path: as asked; a query does not count."""
    bare = path.partition("?")[0].lower()
    rules = {
        key.rpartition(" ")[2]: value
        for key, value in route.paths.items()
        if not isinstance(value, tuple) and value.public and key.rpartition(" ")[0] in ("", "GET")
    }
    return any(_covers(pattern.lower(), bare) for pattern in (*route.public_paths, *rules))


def _covers(pattern: str, path: str) -> bool:
    if pattern.endswith("/*"):
        return path == pattern[:-2] or path.startswith(pattern[:-1])
    return path == pattern
