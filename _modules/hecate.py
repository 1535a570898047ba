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


def _here():
    return hecate_salt.offline(__opts__, __salt__)


def join(system, transaction, fence, by):
    """
    Let one deploy alone write here from now on; a list of other deploys' transactions that are open here.

    Waits for an apply of another deploy that is under way. Refused for a deploy that began earlier than the last one
    that was here, and where the undo journal can't be written. Called by the runner's ``hecate.begin``.

    system: caddy, authentik, hetzner_dns, rfc2136, nomad or terraform.
    transaction: id of the deploy. fence: its number from the lock. by: who deploys.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate.join caddy 20260102-030405-0a1b2c3d 7 'alice on master-1'

    Required access: none but the minion's own files.
    """
    return hecate_salt.told(lambda: hecate_salt.joined(_here(), system, transaction, fence, by))


def leave(system, transaction):
    """
    Take no more of a deploy that lost its lock. What it has written stays, to be undone.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate.leave caddy 20260102-030405-0a1b2c3d

    Required access: none but the minion's own files.
    """
    return hecate_salt.told(lambda: hecate_salt.left(_here(), system, transaction))


def rollback(system, transaction, fence=None):
    """
    Undo what one transaction changed here; the ids that were put back. Repeatable.

    system: caddy, authentik, hetzner_dns, rfc2136, nomad or terraform.
    transaction: id of a deploy, as ``salt-run hecate.history`` lists them.
    fence: number of the lock of whoever has it undone; a later one's makes it refused. A person gives none.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate.rollback caddy 20260102-030405-0a1b2c3d

    Required access: write on that system.
    """
    return hecate_salt.told(lambda: hecate_salt.rolled_back(_site, _here(), system, transaction, fence))


def commit(system, transaction, fence=None):
    """
    Close the undo journal of a deploy that is over and good; what it changed. Called by the runner's ``hecate.record``.

    fence: as ``rollback`` takes it.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate.commit caddy 20260102-030405-0a1b2c3d

    Required access: none but the minion's own files.
    """
    return hecate_salt.told(lambda: hecate_salt.committed(_here(), system, transaction, fence))


def transactions(system):
    """
    Transactions that were begun here and neither closed nor undone.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate.transactions caddy

    Required access: none but the minion's own files.
    """
    return hecate_salt.told(lambda: hecate_salt.open_transactions(_here(), system))


def changed(system, transaction):
    """
    Ids of what one transaction announced here; asks no system, and no pillar.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate.changed caddy 20260102-030405-0a1b2c3d

    Required access: none but the minion's own files.
    """
    return hecate_salt.told(lambda: hecate_salt.changed(_here(), system, transaction))


def verify(task="", edges=(), routes=()):
    """
    Probe from this minion, as a visitor: a row a probe.

    The runner's ``hecate.verify`` picks the minions and gives each a task; by hand it is this minion's pillar that is
    asked about. Edges with certificates of Caddy's own authority need its root under hecate:verify:roots then.

    task: packed, from the runner. edges, routes: only these; absent: all.

    CLI Example:

    .. code-block:: bash

        salt edge-2 hecate.verify edges='[edge-1]' routes='[app.example.com]'

    Required access: none but the network path of a visitor; read on the passwords of ``hecate:verify:accounts``.
    """
    if task:
        return hecate_salt.told(lambda: hecate_salt.task_done(_site, task))
    return hecate_salt.told(lambda: hecate_salt.verified(_site(), edges, routes))


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


def drift(system, base=""):
    """
    What at this target is neither as it was deployed nor as pillar wants it. Writes nothing.

    Called by the runner's ``hecate.drift``, which knows what was deployed.

    system: as for ``rollback``. base: what the last deployment wanted, packed; without it, what pillar wants now.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate.drift caddy

    Required access: read on that system.
    """
    return hecate_salt.told(lambda: hecate_salt.drifted(_site(), system, base))


def heal(system, base, transaction, ids):
    """
    Put back what the last deployment wanted of some objects that were changed by hand alone; the ids that it took.

    Called by the runner's ``hecate.drift``, which has the lock. It looks again before it writes.

    system, base: as for ``drift``. transaction: of the healing. ids: of the objects.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate.heal caddy '' 20260102-030405-0a1b2c3d '["caddy.route app.example.com"]'

    Required access: write on that system.
    """
    return hecate_salt.told(lambda: hecate_salt.drift_healed(_site(), system, base, transaction, ids))


def adoptable(system, base=""):
    """
    What was changed by hand at this target, in pillar's words, where these say it exactly. Writes nothing.

    system, base: as for ``drift``.

    CLI Example:

    .. code-block:: bash

        salt hecate-dns hecate.adoptable hetzner_dns

    Required access: read on that system.
    """
    return hecate_salt.told(lambda: hecate_salt.drift_adoptable(_site(), system, base))
