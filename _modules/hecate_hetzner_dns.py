"""
Records in Hetzner DNS, from pillar.

Follows https://docs.hetzner.cloud/reference/cloud#zones. Only rrsets with Hecate's labels are changed.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate_hetzner_dns"
__func_alias__ = {"list_": "list"}


def __virtual__():
    if hecate_salt is None:
        return False, "hecate_hetzner_dns needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_salt.live(__opts__, __salt__, __grains__)


def list_():
    """
    Rrsets that Hecate owns there, by key.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.list

    Required access: an API token of the project that has the zones; read is enough.
    """
    return hecate_salt.told(lambda: hecate_salt.listed(_site(), "hetzner_dns", "dns.rrset"))


def show(rrset):
    """
    One rrset: as pillar wants it, and as the system holds it.

    rrset: zone/name/type, the name relative to the zone or @.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.show example.com/app/A

    Required access: an API token of the project that has the zones; read is enough.
    """
    return hecate_salt.told(lambda: hecate_salt.shown(_site(), "hetzner_dns", f"dns.rrset {rrset}"))


def plan():
    """
    What an apply would change now, as text and as data. Writes nothing.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.plan

    Required access: an API token of the project that has the zones; read is enough.
    """
    return hecate_salt.told(lambda: hecate_salt.planned(_site(), "hetzner_dns"))


def apply(test=False, allow=()):
    """
    Bring the system to what pillar says, or leave it as it was. Returns what was changed.

    test: only tell, write nothing.
    allow: overrides that a stopped plan named, such as ``["deletes"]``.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.apply test=True

    Required access: an API token with read and write.
    """
    return hecate_salt.told(lambda: hecate_salt.applied(_site(), "hetzner_dns", test=test, allow=allow))


def absent(rrset):
    """
    Remove an rrset, if it is Hecate's. If pillar still wants it, the next apply brings it back.

    rrset: zone/name/type, the name relative to the zone or @.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.absent example.com/old/A

    Required access: an API token with read and write.
    """
    return hecate_salt.told(
        lambda: hecate_salt.removed(_site(), "hetzner_dns", [f"dns.rrset {rrset}"], f"apex:{rrset}")
    )
