"""
Records on name servers that take dynamic updates (RFC 2136), from pillar.

Follows https://www.rfc-editor.org/rfc/rfc2136. Only rrsets with Hecate's mark beside them are changed.
"""

try:
    import hecate_states
except ImportError:
    hecate_states = None

__virtualname__ = "hecate_rfc2136"


def __virtual__():
    if hecate_states is None:
        return False, "hecate_rfc2136 needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_states.in_state(__opts__, __salt__, __pillar__)


def managed(name, **kwargs):
    """
    Everything that pillar wants of this system, and nothing else that is Hecate's.

    name: free text.

    .. code-block:: yaml

        records:
          hecate_rfc2136.managed

    Required access: a TSIG key that may transfer and update the zones (BIND: allow-transfer, update-policy).
    """
    return hecate_states.managed(_site(), "rfc2136", name, test=__opts__["test"])


def rrset_present(name, zone, type, records, ttl=None, **kwargs):  # pylint: disable=redefined-builtin
    """
    One rrset, beside whatever Hecate owns already.

    name: relative to the zone, or @. type, records: as in pillar (docs/pillar.md); text without quotes.
    ttl: seconds, at least 60; the zone's own default when absent.

    .. code-block:: yaml

        app:
          hecate_rfc2136.rrset_present:
            - zone: example.com
            - type: A
            - records: [203.0.113.10]

    Required access: a TSIG key that may transfer and update the zones (BIND: allow-transfer, update-policy).
    """
    return hecate_states.rrset_present(_site(), "rfc2136", name, zone, type, records, ttl, test=__opts__["test"])


def rrset_absent(name, zone, type, **kwargs):  # pylint: disable=redefined-builtin
    """
    No such rrset, if there is one of Hecate's.

    name: relative to the zone, or @.

    .. code-block:: yaml

        old:
          hecate_rfc2136.rrset_absent:
            - zone: example.com
            - type: A

    Required access: a TSIG key that may transfer and update the zones (BIND: allow-transfer, update-policy).
    """
    return hecate_states.rrset_absent(_site(), "rfc2136", name, zone, type, test=__opts__["test"])
