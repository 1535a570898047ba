"""
What a deploy or a rotation asks of a target, whatever system that target manages: undo, close, rotate, and tell.

The functions that read and write one system are in hecate_caddy, hecate_authentik, hecate_hetzner_dns,
hecate_nomad and hecate_terraform.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate"


def __virtual__():
    if hecate_salt is None:
        return False, "hecate needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_salt.live(__opts__, __salt__, __grains__)


def rollback(system, transaction):
    """
    Undo what one transaction changed here; the ids that were put back. Repeatable.

    system: caddy, authentik, hetzner_dns, rfc2136, nomad or terraform.
    transaction: id of a deploy, as ``salt-run hecate.history`` lists them.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate.rollback caddy 20260102-030405-0a1b2c3d

    Required access: write on that system.
    """
    return hecate_salt.told(lambda: hecate_salt.rolled_back(_site(), system, transaction))


def commit(system, transaction):
    """
    Close the undo journal of a deploy that is over and good. Called by the runner's ``hecate.record``.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate.commit caddy 20260102-030405-0a1b2c3d

    Required access: none but the minion's own files.
    """
    return hecate_salt.told(lambda: hecate_salt.committed(_site(), system, transaction))


def transactions(system):
    """
    Transactions that were begun here and neither closed nor undone.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate.transactions caddy

    Required access: none but the minion's own files.
    """
    return hecate_salt.told(lambda: hecate_salt.open_transactions(_site(), system))


def rotate(name, immediate=False, begin=True, told=False):
    """
    Carry one rotation of pillar's ``hecate:rotation`` as far as it can go now; what was done, without any value.

    The runner's ``hecate.rotate`` does it for all of them, holds the lock, and tells consumers meanwhile.

    name: as pillar calls it. immediate: no grace, for a secret that others know. begin: start one where none is under
    way. told: consumers know what stands in Vault now.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate.rotate own-token

    Required access: create and update on the secret in Vault; what the kind needs in its system (docs/secrets.md).
    """
    return hecate_salt.told(lambda: hecate_salt.rotated(_site(), name, begin=begin, immediate=immediate, told=told))


def rotation(name):
    """
    Where one rotation stands: phase, age, seconds until it is due.

    name: as pillar calls it under ``hecate:rotation``.

    CLI Example:

    .. code-block:: bash

        salt hecate-authentik hecate.rotation own-token

    Required access: read on the secret in Vault.
    """
    return hecate_salt.told(lambda: hecate_salt.rotation_status(_site(), name))
