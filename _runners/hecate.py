"""
One plan, one deploy and one undo for the whole estate.

Runs on the master. What is wanted comes from the pillar of the controller minion
(``hecate_minion`` in the master's configuration, default ``hecate-controller``).
"""

try:
    import hecate_deploy
    import hecate_estate
except ImportError:
    hecate_estate = None

__virtualname__ = "hecate"


def __virtual__():
    if hecate_estate is None:
        return False, "the runner hecate needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _estate(asked=None):
    job = {name: str(globals().get(f"__{name}__") or "") for name in ("user", "jid")}
    return hecate_deploy.Conductor(__opts__, __pillar__ if asked is None else asked, **job)


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


def plan(form="text", save=True, systems=None, routes=None, tags=None, tenants=None, exclude=None):
    """
    What a deploy would change, system by system, and object by object. Writes nothing to any system.

    The plan is kept under its digest, and ``hecate.deploy plan=DIGEST`` does that and nothing else.

    form: ``text``, ``markdown`` for a pull request, or ``data``. ``--out json`` has data anyway.
    save: whether to keep it.
    systems, routes, tags, tenants: only these, lists or with commas between; routes, tags and tenants take ``*``.
    exclude: what of it is left out: ``system:dns``, ``route:*.lab.example.com``, ``tag:slow``, ``tenant:x``, or a name.

    Exit codes: 0 nothing to do, 2 changes, 1 error.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.plan
        salt-run hecate.plan routes=app.example.com exclude=system:dns
        salt-run hecate.plan form=markdown --out raw
        salt-run hecate.plan --out json

    Required access: read on every system, write on the store.
    """
    selectors = {"systems": systems, "routes": routes, "tags": tags, "tenants": tenants, "exclude": exclude}
    asked = {name: words for name, words in selectors.items() if words is not None}
    return _planned(lambda: _estate(asked).plan("data" if form == "text" else form, save))


def plans():
    """
    The plans that are kept, newest first: the last fifty, for a week.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.plans

    Required access: read on the store.
    """
    return _run(lambda: _estate().plans())


def show_plan(digest, form="text"):
    """
    A plan that was kept, as it was shown.

    digest: as ``plans`` lists it.
    form: as ``plan`` takes it.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.show_plan p3f9c2a7be1d04c5
        salt-run hecate.show_plan p3f9c2a7be1d04c5 form=markdown --out raw

    Required access: read on the store.
    """
    return _planned(lambda: (_estate().show_plan(str(digest), "data" if form == "text" else form), 0))


def _coded(call):
    """The answer and the exit code of a call that tells both; of an error its text, and 1."""
    code, told = hecate_estate.outcome(call)
    if code == 0:
        told, code = told
    __context__["retcode"] = code
    return told, code


def _planned(call):
    """A plan for Hecate's own outputter, with the exit code beside it."""
    told, code = _coded(call)
    return {"outputter": "hecate", "data": {"plan" if code != 1 else "error": told, "retcode": code}}


def status():
    """
    The lock, the last deploy, and of each target whether it answers and has a transaction open.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.status

    Required access: read on the store.
    """
    return _run(lambda: _estate().status())


def verify(transaction="", routes=(), form="text"):
    """
    Probe routes and records from outside, each edge from another machine. Exit code 1 if any probe fails.

    transaction: of the deploy that it is part of: what that changed, and a sample of the rest; absent: everything.
    routes: only these, by any of their hosts; a list or with commas between.
    form: ``text`` for a table, or ``data`` for all rows.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.verify
        salt-run hecate.verify routes=app.example.com,www.example.com
        salt-run hecate.verify form=data --out json

    Required access: none but the network path of a visitor; read on the passwords of ``hecate:verify:accounts``.
    """
    told, code = _coded(lambda: _estate().verify(transaction, routes, form))
    return {"error": told, "retcode": code} if code and form != "data" else told


def deploy(
    plan=None,
    to=None,
    systems=None,
    routes=None,
    tags=None,
    tenants=None,
    exclude=None,
    allow=None,
    message="",
    wait=0,
):
    """
    Make the estate what pillar says, as one transaction: ``state.orch hecate.deploy``, told in a few lines.

    plan: digest of a plan that ``hecate.plan`` showed; that is applied, or nothing.
    to: id of an earlier deploy; what it wanted is wanted again, in place of today's pillar.
    systems, routes, tags, tenants: only these, lists or with commas between; routes take ``*``.
    exclude: what of it is left out.
    allow: overrides, as the plan names them.
    message: why, kept in the history.
    wait: seconds to wait for another deploy; 0 fails at once and names who deploys.

    Exit code 1 if it failed; everything is as it was before then, or it says what is not.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.deploy message="new wiki"
        salt-run hecate.deploy plan=p3f9c2a7be1d04c5
        salt-run hecate.deploy routes=app.example.com,*.lab.example.com wait=300

    Required access: write on every system.
    """
    asked = {
        "plan": plan,
        "to": to,
        "systems": systems,
        "routes": routes,
        "tags": tags,
        "tenants": tenants,
        "exclude": exclude,
        "allow": allow,
        "message": message,
        "wait": wait,
    }
    return _run(lambda: _estate({k: v for k, v in asked.items() if v is not None}).deploy())


def watch(deployment=None):
    """
    Follow a deploy of this master live, from its first step: the one that is under way, else the last.

    deployment: its id, as history lists it.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.watch

    Required access: read on the store.
    """
    return _run(lambda: _estate().watch(deployment))


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


def history(count=20, form="text", file=None):
    """
    The last deploys, newest first: when, who, from where, what became of it, how long it took, what it changed.

    form: ``text``, ``data`` for rows, ``jsonl`` for JSON lines. file: where to write JSON lines to, on the master.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.history count=5
        salt-run hecate.history count=1000 file=/srv/audit/deploys.jsonl

    Required access: read on the store.
    """
    return _run(lambda: _estate().history(int(count), form, file))


def audit(form="text", file=None, against=None):
    """
    Verify the audit chain: entries that are missing, edited or moved, and deployments' records that were edited.

    Exit code 1 with all that was found. form and file export its entries, as ``history`` does.
    against: a file with an earlier export, to compare with: it shows a whole store that was set back.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.audit
        salt-run hecate.audit file=/srv/audit/chain.jsonl
        salt-run hecate.audit against=/srv/audit/chain.jsonl

    Required access: read on the store, and on the key of ``hecate:history:key`` where pillar has one.
    """
    return _run(lambda: _estate().audited(form, file, against))


def resume(how=None):
    """
    Carry a deploy to an end that was cut off: its master process is gone. Refused while somebody alive deploys.

    how: ``undo`` puts everything back; ``finish`` deploys what it wanted, as a new deploy. Absent: as pillar's
    ``hecate:transactions:interrupted`` says. One that had succeeded already is completed, one that was being undone
    is undone, whatever is said.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.resume
        salt-run hecate.resume finish

    Required access: write on the store and on every system.
    """
    return _run(lambda: _estate().resume(how))


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

    reason: kept in the audit.

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
    return _coded(lambda: _estate().rotation_status(form))[0]


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


def drift(systems=None, form="text", act=False, heal=None, adopt=None, reset=None):
    """
    What at the systems is neither as it was deployed nor as pillar wants it, and who moved. Alone it only tells.

    systems: only these, a list or with commas between. form: ``text`` or ``data``.
    act: do what pillar's ``hecate:drift`` says about each system: report, heal or adopt.
    heal: put these systems back to what the last deployment wanted, where only somebody's hand has moved them.
    adopt: take the live state of these systems into pillar. reset: heal these systems again, whose breaker is open.
    Exit codes: 0 no drift (left), 2 drift, 1 error, also where a target could not be looked at.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.drift
        salt-run hecate.drift systems=caddy form=data --out json
        salt-run hecate.drift act=True
        salt-run hecate.drift heal=caddy
        salt-run hecate.drift reset=caddy

    Required access: read on every system; to heal, write on them and on the store.
    """
    named = hecate_estate.words({"systems": systems, "heal": heal, "adopt": adopt, "reset": reset})
    told, code = _coded(lambda: _estate({}).drift(form, act=bool(act), **named))
    return {"error" if code == 1 else "drift": told, "retcode": code}


def steps(asked=None):
    """
    What orch/hecate/deploy.sls is rendered from: a fresh transaction id, and target by target a step.

    asked: what the command line asked, as ``deploy`` takes it.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.steps

    Required access: none.
    """
    return _run(lambda: _estate(asked or {}).steps())


def preflight(transaction="", problem="", plan=""):
    """
    Refuse a deploy before anything is read or written: pillar, targets. Says what is wrong with authentik's version.

    transaction: of the deploy that it is part of.
    problem: what kept that deploy from being laid out. plan: what it is about to do.

    CLI Example:

    .. code-block:: bash

        salt-run hecate.preflight

    Required access: none.
    """
    return _run(lambda: _estate().preflight(transaction, problem, plan))


def begin(transaction, after=None):
    """
    Take the lock and open the deploy. What an earlier, dead deploy left half done is undone first.

    after: the fence that its steps were planned after, as ``steps`` told it; refused if somebody had the lock since.

    CLI Example:

    .. code-block:: bash

        salt-run state.orch hecate.deploy

    Required access: write on the store.
    """
    return _run(lambda: _estate().begin(transaction, after))


def check_plan(transaction):
    """
    Refuse a deploy of a saved plan when pillar or the estate are not as they were; says what has moved.

    CLI Example:

    .. code-block:: bash

        salt-run state.orch hecate.deploy pillar='{"plan": "p3f9c2a7be1d04c5"}'

    Required access: read on every system and on the store.
    """
    return _run(lambda: _estate().check_plan(transaction))


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
