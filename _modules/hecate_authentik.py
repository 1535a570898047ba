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


def _site(order=None):
    return hecate_salt.live(__opts__, __salt__, __grains__, order)


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


def plan(order=None):
    """
    What an apply would change now, as text and as data. Writes nothing.

    order: what a deploy would tell this target, such as ``{"hosts": ["app.example.com"]}`` for one route alone.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.plan

    Required access: view on application, proxyprovider, group, policybinding, outpost, flow; as superuser,
    so that the listing is complete.
    """
    return hecate_salt.told(lambda: hecate_salt.planned(_site(order), "authentik"))


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

    host: the public name; or that of an application of hecate:applications.

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


def warnings():
    """
    What a person should know of the server's version: holes in its forward auth, and whether Hecate knows it.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.warnings

    Required access: any valid token.
    """
    return hecate_salt.told(lambda: hecate_salt.version_warnings(_site()))


def applications():
    """
    Everything that Hecate guards, by slug: what it is, its policy, its hosts, and whether it stands as wanted.

    ``kind``: proxy (one host), domain, oauth2 or saml. ``state``: confirmed; or NOT CONFIRMED, and the edges answer
    503. ``differs``: what is missing there, changed, or bound by hand.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.applications

    Required access: view on everything that Hecate manages; as superuser, so that the listing is complete.
    """
    return hecate_salt.told(lambda: hecate_salt.identity(_site()).applications())


def policies():
    """
    Each of pillar's policies: what it means, what it becomes in authentik, and where it is used.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.policies

    Required access: none; authentik isn't asked.
    """
    return hecate_salt.told(lambda: hecate_salt.policies(_site()))


def who_may(route):
    """
    Who may pass: the rule in words, and who fits it now.

    Where groups alone decide, their members as the server has them, with those of groups below. Where attributes do,
    or something was bound by hand, the server is asked about each one that it may concern, 100 at most.

    route: a host, an application of hecate:applications, or a slug.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.who_may app.example.com

    Required access: superuser.
    """
    return hecate_salt.told(lambda: hecate_salt.identity(_site()).who_may(route))


def access(user, route=None):
    """
    Why somebody can't get in: where they may go and where not, by the server's own word, with reasons.

    user: username, or the address that this user alone has.
    route: a host, an application of hecate:applications, or a slug; absent: everything in pillar, 100 at most.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.access alice
        salt hecate-authentik hecate_authentik.access alice app.example.com

    Required access: superuser.
    """
    return hecate_salt.told(lambda: hecate_salt.identity(_site()).access(user, route))


def groups():
    """
    Every group on the server: how many are in it, which policies use it, and who looks after it.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.groups

    Required access: view on everything that Hecate manages; as superuser, so that the listing is complete.
    """
    return hecate_salt.told(lambda: hecate_salt.identity(_site()).groups())


def members(group):
    """
    Who is in a group, itself or through a group below it.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate_authentik.members staff

    Required access: view on everything that Hecate manages; as superuser, so that the listing is complete.
    """
    return hecate_salt.told(lambda: hecate_salt.identity(_site()).members(group))
