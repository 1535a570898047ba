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


def _site(order=None):
    return hecate_salt.live(__opts__, __salt__, __grains__, order)


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


def plan(order=None):
    """
    What an apply would change now, as text and as data. Writes nothing.

    order: what a deploy would tell this target, such as ``{"hosts": ["app.example.com"]}`` for one route alone.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.plan

    Required access: an API token of the project that has the zones; read is enough.
    """
    return hecate_salt.told(lambda: hecate_salt.planned(_site(order), "hetzner_dns"))


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


def zonefiles(zone):
    """
    Zonefiles that are kept of a zone on this minion, oldest first: one from before each apply that changed it.

    zone: its name.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.zonefiles example.com

    Required access: none; asks nobody.
    """
    return hecate_salt.told(lambda: hecate_salt.zone_files(_site(), zone))


def export(zone):
    """
    A zone as it is now, as a zonefile in text.

    zone: its name.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.export example.com --out=txt

    Required access: an API token of the project that has the zone; read is enough.
    """
    return hecate_salt.told(lambda: hecate_salt.zone_exported(_site(), "hetzner_dns", zone))


def restore(zone, file, test=True, strangers=False, allow=()):
    """
    Bring a zone's rrsets back to what a zonefile has, and show first what that changes: ``diff`` from the zone to the
    file, ``plan`` of what would be written. Journalled and undone like any apply. SOA, NS at the apex and
    _acme-challenge are left. Pillar that says otherwise has its way again at the next apply.

    zone: its name.
    file: the name of a kept one, as ``zonefiles`` lists it, or the absolute path of another.
    test: only tell; ``test=False`` writes.
    strangers: bring back what isn't Hecate's as well, and remove what the file doesn't have.
    allow: overrides that a stopped plan named, such as ``["deletes"]``.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.restore example.com 20260101-120000-0a1b2c3d.zone
        salt hecate-dns hecate_hetzner_dns.restore example.com 20260101-120000-0a1b2c3d.zone test=False

    Required access: an API token with read and write; with ``test=True`` read is enough.
    """
    return hecate_salt.told(
        lambda: hecate_salt.zone_restored(
            _site(), "hetzner_dns", zone, file, test=test, strangers=strangers, allow=allow
        )
    )


def import_zone(zone):
    """
    A zone's records as pillar, to paste: ``yaml``; with the ids for ``hecate:adopt``, and what was left out and why.

    zone: its name; it has to be under ``hecate:dns:zones`` already.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.import_zone example.com

    Required access: an API token of the project that has the zone; read is enough.
    """
    return hecate_salt.told(lambda: hecate_salt.zone_imported(_site(), "hetzner_dns", zone))


def serials():
    """
    The SOA serial of each zone as its name servers have it; None where none answers. No API call is made.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.serials

    Required access: none; asks name servers over DNS.
    """
    return hecate_salt.told(lambda: hecate_salt.zone_serials(_site()))


def drift():
    """
    Zones whose serial is not the one that the last apply from here left: somebody else changed something there, or
    it was undone. Empty when all are as they were. A cheap look; ``plan`` tells what differs.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate_hetzner_dns.drift

    Required access: none; asks name servers over DNS.
    """
    return hecate_salt.told(lambda: hecate_salt.zone_drift(_site()))
