"""
Who may reach what: applications, providers, groups and bindings in authentik, from pillar.

Follows https://api.goauthentik.io/. Runs on the proxy minion that holds the API token's reference.
"""

try:
    import hecate_states
except ImportError:
    hecate_states = None

__virtualname__ = "hecate_authentik"


def __virtual__():
    if hecate_states is None:
        return False, "hecate_authentik needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_states.in_state(__opts__, __salt__, __pillar__)


def managed(name, **kwargs):
    """
    Everything that pillar wants of this system, and nothing else that is Hecate's.

    name: free text.

    .. code-block:: yaml

        identity:
          hecate_authentik.managed

    Required access: view, add, change, delete on application, proxyprovider, group, policybinding;
    view and change on outpost; view on flow.
    """
    return hecate_states.managed(_site(), "authentik", name, test=__opts__["test"])


def application_present(name, **kwargs):
    """
    One application and all that guards it, and nothing that was bound to it before.

    name: a host; with ``oauth2`` or ``saml`` the name of an application that logs in by itself. The other parameters
    are the fields of a policy in pillar (docs/pillar.md: groups, attributes, require_mfa, allowed_methods,
    session_duration, flow, outpost), or ``auth_policy``, one that pillar has. Without any of them whoever can log in
    may pass. An application has ``launch_url``, ``title``, ``description`` and ``group`` too.

    .. code-block:: yaml

        app.example.com:
          hecate_authentik.application_present:
            - groups: [employees]
            - require_mfa: true

        grafana:
          hecate_authentik.application_present:
            - auth_policy: staff
            - oauth2:
                client_secret: vault:hecate/grafana#client
                redirect_uris: [https://grafana.example.com/login/generic_oauth]

    Required access: as for managed.
    """
    return hecate_states.guard_present(_site(), name, hecate_states.fields_of(kwargs), test=__opts__["test"])


def application_absent(name, **kwargs):
    """
    No application, provider, bindings and attachment of this name, if they are Hecate's. Groups stay.

    name: the host, or the name of an application with oauth2 or saml.

    .. code-block:: yaml

        old.example.com:
          hecate_authentik.application_absent

    Required access: as for managed.
    """
    return hecate_states.guard_absent(_site(), name, test=__opts__["test"])


def group_present(name, **kwargs):
    """
    A group, and who is in it.

    name: the group's. members: usernames, exactly these; absent: left as they are. attributes: exactly these;
    absent: left as they are. A group that others made is taken over only if hecate:adopt names it.

    .. code-block:: yaml

        operators:
          hecate_authentik.group_present:
            - members: [alice, backup]

    Required access: view, add, change on group; view on user.
    """
    return hecate_states.in_directory(_site(), "groups", name, hecate_states.fields_of(kwargs), test=__opts__["test"])


def group_absent(name, **kwargs):
    """
    No such group, if it is Hecate's. One that has members, or guards something, stays, and the state fails.

    name: the group's.

    .. code-block:: yaml

        contractors:
          hecate_authentik.group_absent

    Required access: view, delete on group.
    """
    return hecate_states.group_absent(_site(), name, test=__opts__["test"])


def service_account_present(name, full_name="", **kwargs):
    """
    A user for machines, with API tokens.

    name: the username. full_name: shown in authentik. tokens: by name, each the reference to its key.

    .. code-block:: yaml

        backup:
          hecate_authentik.service_account_present:
            - tokens: {main: vault:hecate/backup#token}

    Required access: view, add, change on user and token; set_token_key; as superuser.
    """
    fields = {**hecate_states.fields_of(kwargs), **({"name": full_name} if full_name else {})}
    return hecate_states.in_directory(_site(), "service_accounts", name, fields, test=__opts__["test"])


def service_account_absent(name, **kwargs):
    """
    No such service account, and none of its tokens, if they are Hecate's.

    name: the username.

    .. code-block:: yaml

        backup:
          hecate_authentik.service_account_absent

    Required access: view, delete on user and token; as superuser.
    """
    return hecate_states.account_absent(_site(), name, test=__opts__["test"])
