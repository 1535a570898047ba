"""
Who may reach what: applications, providers, groups and bindings in authentik, from pillar.

Follows https://api.goauthentik.io/. Runs on the proxy minion that holds the API token's reference.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate_authentik"
__func_alias__ = {"list_": "list"}


def __virtual__():
    if hecate_salt is None:
        return False, "hecate_authentik needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_salt.live(__opts__, __salt__, __grains__)


def list_():
    """
    Applications that Hecate owns there, by key.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.list

    Required access: view on application, proxyprovider, group, policybinding, outpost, flow; as superuser,
    so that the listing is complete.
    """
    return hecate_salt.told(lambda: hecate_salt.listed(_site(), "authentik", "authentik.application"))


def show(slug):
    """
    One application: as pillar wants it, and as the system holds it.

    slug: the application's slug: the host with hyphens for dots.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.show app-example-com

    Required access: view on application, proxyprovider, group, policybinding, outpost, flow; as superuser,
    so that the listing is complete.
    """
    return hecate_salt.told(lambda: hecate_salt.shown(_site(), "authentik", f"authentik.application {slug}"))


def plan():
    """
    What an apply would change now, as text and as data. Writes nothing.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.plan

    Required access: view on application, proxyprovider, group, policybinding, outpost, flow; as superuser,
    so that the listing is complete.
    """
    return hecate_salt.told(lambda: hecate_salt.planned(_site(), "authentik"))


def apply(test=False, allow=()):
    """
    Bring the system to what pillar says, or leave it as it was. Returns what was changed.

    test: only tell, write nothing.
    allow: overrides that a stopped plan named, such as ``["deletes"]``.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.apply test=True

    Required access: view, add, change, delete on application, proxyprovider, group, policybinding;
    view and change on outpost; view on flow.
    """
    return hecate_salt.told(lambda: hecate_salt.applied(_site(), "authentik", test=test, allow=allow))


def absent(host):
    """
    Remove the application, provider, bindings and attachment of a host, if they are Hecate's.

    The attachment goes first, so that the application is never reachable without its guard.

    host: the public name.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.absent old.example.com

    Required access: view and delete on application, proxyprovider, policybinding; change on outpost.
    """
    return hecate_salt.told(lambda: hecate_salt.guard_removed(_site(), host))


def guards():
    """
    Hosts whose protection is confirmed: application, bindings and attachment are as wanted.

    The edges read it from the mine; a protected route that is not in it answers 503.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.guards

    Required access: as for plan.
    """
    return hecate_salt.told(lambda: hecate_salt.confirmed_guards(_site()))


def version():
    """
    The server's version.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.version

    Required access: any valid token.
    """
    return hecate_salt.told(lambda: _site().target("authentik").backend.version())
