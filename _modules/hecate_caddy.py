"""
Routes of the Caddy on this edge, from pillar.

Follows https://caddyserver.com/docs/api. Hecate owns one server in Caddy's configuration and leaves
everything else alone; all changes of one apply are one conditional write.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate_caddy"
__func_alias__ = {"list_": "list"}


def __virtual__():
    if hecate_salt is None:
        return False, "hecate_caddy needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_salt.live(__opts__, __salt__, __grains__)


def list_():
    """
    Routes that Hecate owns there, by key.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.list

    Required access: GET on Caddy's admin API (unix socket or loopback; the admin API knows no finer rights).
    """
    return hecate_salt.told(lambda: hecate_salt.listed(_site(), "caddy", "caddy.route"))


def show(host):
    """
    One route: as pillar wants it, and as the system holds it.

    host: the route's host, its key in pillar.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.show app.example.com

    Required access: GET on Caddy's admin API (unix socket or loopback; the admin API knows no finer rights).
    """
    return hecate_salt.told(lambda: hecate_salt.shown(_site(), "caddy", f"caddy.route {host}"))


def plan():
    """
    What an apply would change now, as text and as data. Writes nothing.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.plan

    Required access: GET on Caddy's admin API (unix socket or loopback; the admin API knows no finer rights).
    """
    return hecate_salt.told(lambda: hecate_salt.planned(_site(), "caddy"))


def apply(test=False, allow=()):
    """
    Bring the system to what pillar says, or leave it as it was. Returns what was changed.

    test: only tell, write nothing.
    allow: overrides that a stopped plan named, such as ``["deletes"]``.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.apply test=True

    Required access: GET and POST on /config/ of Caddy's admin API.
    """
    return hecate_salt.told(lambda: hecate_salt.applied(_site(), "caddy", test=test, allow=allow))


def absent(host):
    """
    Remove a route, if it is Hecate's. If pillar still wants it, the next apply brings it back.

    host: the route's host, its key in pillar.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.absent old.example.com

    Required access: GET and POST on /config/ of Caddy's admin API.
    """
    ids = [f"caddy.route {host}", f"caddy.certificate {host}"]
    return hecate_salt.told(lambda: hecate_salt.removed(_site(), "caddy", ids, f"route:{host}"))


def root_certificate():
    """
    The root of Caddy's internal CA on this edge, as PEM; it is public.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.root_certificate

    Required access: GET on /pki/ca/local of Caddy's admin API.
    """
    return hecate_salt.told(lambda: _site().target("caddy").backend.root_certificate())
