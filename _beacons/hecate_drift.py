"""
Tell the master when somebody else has changed what Hecate manages.

Configuration of a minion or proxy minion, in pillar or in its own file:

.. code-block:: yaml

    beacons:
      hecate_drift:
        - interval: 60

Each look is one small question: Caddy's Etag, the serials of zones, authentik's newest change. Only what has moved is
looked at in full, and only what is then not as pillar wants it is told, once, as
``salt/beacon/<minion>/hecate_drift/<system>``. Hecate's own deploys are not told.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate_drift"


def __virtual__():
    if hecate_salt is None:
        return False, "the beacon hecate_drift needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _settings(config):
    return {key: value for part in config if isinstance(part, dict) for key, value in part.items()}


def validate(config):
    """
    Whether this configuration makes sense, and why not. ``systems``: a list; without it, all that this minion manages.
    """
    if not isinstance(config, list):
        return False, "the configuration of beacon hecate_drift is a list"
    systems = _settings(config).get("systems")
    if systems is not None and not isinstance(systems, list):
        return False, "systems is a list, such as [caddy]"
    return True, "valid"


def beacon(config):
    """
    One look at each system; an event for each that has moved, or that can't be asked any more.

    Required access: read on the systems; on authentik also the right view_event.
    """
    systems = _settings(config).get("systems")
    return hecate_salt.drift_watched(__opts__, __salt__, __grains__, systems)
