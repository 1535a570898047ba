"""
Plans in a terminal: ``salt-run hecate.plan`` asks for it by itself, anything else of Hecate's with ``--out hecate``.

Colours only on a terminal, as Salt decides it (``--no-color``, ``--force-color``), and never with NO_COLOR set.
"""

try:
    import hecate_estate
except ImportError:
    hecate_estate = None

__virtualname__ = "hecate"


def __virtual__():
    if hecate_estate is None:
        return False, "the outputter hecate needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def output(data, **kwargs):
    """
    A plan as a tree, a text as it is; other data as Python shows it.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.plan --out hecate
    """
    return hecate_estate.shown(data, __opts__)
