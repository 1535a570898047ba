"""
Records on name servers that take dynamic updates (RFC 2136), from pillar.

Follows https://www.rfc-editor.org/rfc/rfc2136. Only rrsets with Hecate's mark beside them are changed.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate_rfc2136"
__func_alias__ = {"list_": "list"}


def __virtual__():
    if hecate_salt is None:
        return False, "hecate_rfc2136 needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site(order=None):
    return hecate_salt.live(__opts__, __salt__, __grains__, order)


def list_():
    """
    Rrsets that Hecate owns there, by key.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_rfc2136.list

    Required access: a TSIG key that may transfer the zones (BIND: allow-transfer).
    """
    return hecate_salt.told(lambda: hecate_salt.listed(_site(), "rfc2136", "dns.rrset"))


def show(rrset):
    """
    One rrset: as pillar wants it, and as the system holds it.

    rrset: zone/name/type, the name relative to the zone or @.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_rfc2136.show example.com/app/A

    Required access: a TSIG key that may transfer the zones (BIND: allow-transfer).
    """
    return hecate_salt.told(lambda: hecate_salt.shown(_site(), "rfc2136", f"dns.rrset {rrset}"))


def plan(order=None):
    """
    What an apply would change now, as text and as data. Writes nothing.

    order: what a deploy would tell this target, such as ``{"hosts": ["app.example.com"]}`` for one route alone.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_rfc2136.plan

    Required access: a TSIG key that may transfer the zones (BIND: allow-transfer).
    """
    return hecate_salt.told(lambda: hecate_salt.planned(_site(order), "rfc2136"))


def apply(test=False, allow=()):
    """
    Bring the system to what pillar says, or leave it as it was. Returns what was changed.

    test: only tell, write nothing.
    allow: overrides that a stopped plan named, such as ``["deletes"]``.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_rfc2136.apply test=True

    Required access: a TSIG key that may transfer and update the zones (BIND: allow-transfer, update-policy).
    """
    return hecate_salt.told(lambda: hecate_salt.applied(_site(), "rfc2136", test=test, allow=allow))


def absent(rrset):
    """
    Remove an rrset, if it is Hecate's. If pillar still wants it, the next apply brings it back.

    rrset: zone/name/type, the name relative to the zone or @.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_rfc2136.absent example.com/old/A

    Required access: a TSIG key that may transfer and update the zones (BIND: allow-transfer, update-policy).
    """
    return hecate_salt.told(lambda: hecate_salt.removed(_site(), "rfc2136", [f"dns.rrset {rrset}"], f"apex:{rrset}"))
