"""
Who may reach what: applications, providers, groups and bindings in authentik, from pillar.

Follows https://api.goauthentik.io/. Runs on the proxy minion that holds the API token's reference.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate_authentik"


def __virtual__():
    if hecate_salt is None:
        return False, "hecate_authentik needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_salt.in_state(__opts__, __salt__, __pillar__)


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
    return hecate_salt.managed(_site(), "authentik", name, test=__opts__["test"])


def application_present(name, groups=(), session_duration="8h", **kwargs):
    """
    Everything that guards one host: groups, provider, application, bindings, outpost attachment.

    name: the host. groups: members of any of them may pass; empty: whoever can log in.
    session_duration: like 8h.

    .. code-block:: yaml

        app.example.com:
          hecate_authentik.application_present:
            - groups: [employees]

    Required access: as for managed.
    """
    overlay = hecate_salt.guard_overlay(name, groups, session_duration)
    return hecate_salt.present(_site(), "authentik", name, overlay, test=__opts__["test"])


def application_absent(name, **kwargs):
    """
    No application, provider, bindings and attachment for this host, if they are Hecate's.

    name: the host.

    .. code-block:: yaml

        old.example.com:
          hecate_authentik.application_absent

    Required access: as for managed.
    """
    return hecate_salt.absent(_site(), "authentik", name, hecate_salt.guard_of(name), test=__opts__["test"])
