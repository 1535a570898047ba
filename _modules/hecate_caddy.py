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


def rollback(transaction):
    """
    Undo what one transaction changed here; the ids that were put back. Repeatable.

    transaction: id of a deploy, as ``salt-run hecate.history`` lists them.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.rollback 20260102-030405-0a1b2c3d

    Required access: GET and POST on /config/ of Caddy's admin API.
    """
    return hecate_salt.told(lambda: hecate_salt.rolled_back(_site(), "caddy", transaction))


def transactions():
    """
    Transactions that were begun here and neither closed nor undone.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.transactions

    Required access: none but the minion's own files.
    """
    return hecate_salt.told(lambda: hecate_salt.open_transactions(_site(), "caddy"))


def commit(transaction):
    """
    Close the undo journal of a deploy that is over and good. Called by ``hecate.record``.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.commit 20260102-030405-0a1b2c3d

    Required access: none but the minion's own files.
    """
    return hecate_salt.told(lambda: hecate_salt.committed(_site(), "caddy", transaction))


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
