"""
One plan, one deploy and one undo for the whole estate.

Runs on the master. What is wanted comes from the pillar of the controller minion
(``hecate_minion`` in the master's configuration, default ``hecate-controller``).
"""

try:
    import hecate_estate
except ImportError:
    hecate_estate = None

__virtualname__ = "hecate"


def __virtual__():
    if hecate_estate is None:
        return False, "the runner hecate needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _estate():
    return hecate_estate.Master(__opts__, __pillar__)


def _run(call):
    """The answer; or the error as text, with the exit code where salt-run and orchestrations look for it.

    A raised error would come with Salt's traceback around it.
    """
    code, told = hecate_estate.outcome(call)
    __context__["retcode"] = code
    return {"error": told, "retcode": code} if code else told


def validate():
    """
    Every problem in the pillar, by pillar path. Asks no system. Exit code 1 if there is any.

    Of a good pillar, what Hecate takes note of without doing anything about it.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.validate

    Required access: none.
    """
    return _run(lambda: _estate().validated())


def plan(form="text"):
    """
    What a deploy would change, system by system. Writes nothing.

    form: ``text``, or ``data`` for the plans as they are. Exit codes: 0 nothing to do, 2 changes, 1 error.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.plan
        salt-run hecate.plan form=data --out json

    Required access: read on every system.
    """
    code, told = hecate_estate.outcome(lambda: _estate().plan(form))
    if code == 0:
        told, code = told
    __context__["retcode"] = code
    return {"plan" if code != 1 else "error": told, "retcode": code}


def status():
    """
    The lock, the last deploy, and of each target whether it answers and has a transaction open.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.status

    Required access: read on the store.
    """
    return _run(lambda: _estate().status())


def verify():
    """
    Probe every route and record from outside. Exit code 1 if any probe fails.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.verify

    Required access: none but the network path of a visitor.
    """
    return _run(lambda: _estate().verify())


def rollback(transaction=None, reason="asked for"):
    """
    Undo a deploy on every target, in reverse order: the open one, else the last that is not undone yet.

    transaction: id of the deploy; none that came after it may still stand.
    reason: kept in the history.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.rollback

    Required access: write on every system.
    """
    return _run(lambda: _estate().rollback(transaction, reason))


def history(count=20):
    """
    The last deploys, newest first: when, who, what became of it.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.history count=5

    Required access: read on the store.
    """
    return _run(lambda: _estate().history(int(count)))


def show(deployment):
    """
    Everything that is recorded of one deploy, its pillar included (secrets are references there).

    deployment: its id, as history lists it.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.show 20260102-030405-0a1b2c3d

    Required access: read on the store.
    """
    return _run(lambda: _estate().show(deployment))


def unlock(reason):
    """
    Take the lock away from whoever holds it. The deploy that held it is undone by the next one.

    reason: kept in the history.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.unlock "master was rebuilt"

    Required access: write on the store.
    """
    return _run(lambda: _estate().unlock(reason))


def rights(target=None, form="text"):
    """
    The least that each target needs: Vault policies, authentik's role, tokens. A script to read, and to paste.

    Worked out from the pillar; asks no system. target: a minion's id, or ``hecate-master``; absent: all of them.
    form: ``text``, or ``json`` for the same as data.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.rights
        salt-run hecate.rights hecate-authentik form=json --out json

    Required access: none.
    """
    return _run(lambda: _estate().rights(target, form))


def rotate(which=None, immediate=False, only_due=False):
    """
    Give secrets their successors, or carry on where an earlier run stopped. Exit code 1 if any could not be done.

    which: of pillar's ``hecate:rotation``, a list or with commas between; all without it.
    immediate: for a secret that others know: without any grace.
    only_due: only what is due, and what was begun; for a schedule.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.rotate own-token
        salt-run hecate.rotate only_due=True
        salt-run hecate.rotate own-token immediate=True

    Required access: write on the store; each target has its own on its systems and in Vault.
    """
    return _run(lambda: _estate().rotate(which, immediate=immediate, only_due=only_due))


def rotation_status(form="text"):
    """
    Of each secret that gets successors: its phase, its age, when it is due; overdue ones are marked. No values.

    form: ``text``, or ``data`` for rows with seconds. Exit code 1 if a target could not tell.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.rotation_status
        salt-run hecate.rotation_status form=data --out json

    Required access: each target reads its secrets in Vault.
    """
    code, told = hecate_estate.outcome(lambda: _estate().rotation_status(form))
    if code == 0:
        told, code = told
    __context__["retcode"] = code
    return told


def rotations(which=None):
    """
    What orch/hecate/rotate.sls is rendered from: each rotation, and the minion that does it.

    which: as ``rotate`` takes them.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.rotations

    Required access: none.
    """
    return _run(lambda: _estate().rotations(which))


def steps(allow=()):
    """
    What orch/hecate/deploy.sls is rendered from: a fresh transaction id, and target by target a step.

    allow: overrides for the plans, as the command line gave them.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.steps

    Required access: none.
    """
    return _run(lambda: _estate().steps(allow))


def preflight():
    """
    Refuse a deploy before anything is read or written: pillar, targets. Says what is wrong with authentik's version.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.preflight

    Required access: none.
    """
    return _run(lambda: _estate().preflight())


def begin(transaction):
    """
    Take the lock and open the deploy. What an earlier, dead deploy left half done is undone first.

    CLI Example:

    .. code-block:: bash

        salt-run state.orch hecate.deploy

    Required access: write on the store.
    """
    return _run(lambda: _estate().begin(transaction))


def outputs(transaction):
    """
    Put Terraform's outputs into the store, from where pillar has them.

    CLI Example:

    .. code-block:: bash

        salt-run state.orch hecate.deploy

    Required access: write on the store; read on Terraform's state.
    """
    return _run(lambda: _estate().outputs(transaction))


def record(transaction):
    """
    The deploy is good: say so in the history, close every target's journal, give back the lock.

    CLI Example:

    .. code-block:: bash

        salt-run state.orch hecate.deploy

    Required access: write on the store.
    """
    return _run(lambda: _estate().record(transaction))
