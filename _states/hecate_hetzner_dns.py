"""
Records in Hetzner DNS, from pillar.

Follows https://docs.hetzner.cloud/reference/cloud#zones. Only rrsets with Hecate's labels are changed.
"""

try:
    import hecate_states
except ImportError:
    hecate_states = None

__virtualname__ = "hecate_hetzner_dns"


def __virtual__():
    if hecate_states is None:
        return False, "hecate_hetzner_dns needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_states.in_state(__opts__, __salt__, __pillar__)


def managed(name, **kwargs):
    """
    Everything that pillar wants of this system, and nothing else that is Hecate's.

    name: free text.

    .. code-block:: yaml

        records:
          hecate_hetzner_dns.managed

    Required access: an API token with read and write.
    """
    return hecate_states.managed(_site(), "hetzner_dns", name, test=__opts__["test"])


def rrset_present(name, zone, type, records, ttl=None, **kwargs):  # pylint: disable=redefined-builtin
    """
    One rrset, beside whatever Hecate owns already.

    name: relative to the zone, or @. type, records: as in pillar (docs/pillar.md); text without quotes.
    ttl: seconds, at least 60; the zone's own default when absent.

    .. code-block:: yaml

        app:
          hecate_hetzner_dns.rrset_present:
            - zone: example.com
            - type: A
            - records: [203.0.113.10]

    Required access: an API token with read and write.
    """
    return hecate_states.rrset_present(_site(), "hetzner_dns", name, zone, type, records, ttl, test=__opts__["test"])


def rrset_absent(name, zone, type, **kwargs):  # pylint: disable=redefined-builtin
    """
    No such rrset, if there is one of Hecate's.

    name: relative to the zone, or @.

    .. code-block:: yaml

        old:
          hecate_hetzner_dns.rrset_absent:
            - zone: example.com
            - type: A

    Required access: an API token with read and write.
    """
    return hecate_states.rrset_absent(_site(), "hetzner_dns", name, zone, type, test=__opts__["test"])
