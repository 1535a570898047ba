"""
authentik's events on Salt's event bus, as ``hecate/authentik/<name>``.

Configuration of the master (or of a minion, see docs/events.md):

.. code-block:: yaml

    engines:
      - hecate_events:
          secret: file:/etc/salt/hecate-events.key

It listens on loopback and speaks plain HTTP: publish it through a Caddy.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate_events"


def __virtual__():
    if hecate_salt is None:
        return False, "the engine hecate_events needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def start(secret, address="127.0.0.1", port=4545, window=300, vault=None):
    """
    Take deliveries until the process ends. Those that are forged, replayed or too old are refused and logged.

    secret: reference to what authentik signs with (``vault:``, ``env:`` or ``file:``), or a list while it is rotated.
    address, port: where to listen. window: seconds that a delivery may be old, or ahead of this clock.
    vault: ``{url, token, mount}`` for ``vault:`` references, as pillar's ``hecate:vault``, which is the default on a
    minion.

    Watch them arrive:

    .. code-block:: bash

        salt-run state.event 'hecate/authentik/*' pretty=True

    Required access: read on the secret; a folder in the cache directory.
    """
    hecate_salt.serve_events(__opts__, __salt__, secret=secret, address=address, port=port, window=window, vault=vault)
