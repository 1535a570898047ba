"""
Nomad jobs, from pillar.

Follows https://developer.hashicorp.com/nomad/api-docs. A job counts as applied once its deployment is healthy.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate_nomad"
__func_alias__ = {"list_": "list"}


def __virtual__():
    if hecate_salt is None:
        return False, "hecate_nomad needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site(order=None):
    return hecate_salt.live(__opts__, __salt__, __grains__, order)


def list_():
    """
    Jobs that Hecate owns there, by key.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_nomad.list

    Required access: namespace capabilities list-jobs and read-job.
    """
    return hecate_salt.told(lambda: hecate_salt.listed(_site(), "nomad", "nomad.job"))


def show(job):
    """
    One job: as pillar wants it, and as the system holds it.

    job: the job's id, its key under hecate:workloads.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_nomad.show web

    Required access: namespace capabilities list-jobs and read-job.
    """
    return hecate_salt.told(lambda: hecate_salt.shown(_site(), "nomad", f"nomad.job {job}"))


def plan(order=None):
    """
    What an apply would change now, as text and as data. Writes nothing.

    order: what a deploy would tell this target, such as ``{"hosts": ["app.example.com"]}`` for one route alone.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_nomad.plan

    Required access: namespace capabilities list-jobs and read-job.
    """
    return hecate_salt.told(lambda: hecate_salt.planned(_site(order), "nomad"))


def apply(test=False, allow=()):
    """
    Bring the system to what pillar says, or leave it as it was. Returns what was changed.

    test: only tell, write nothing.
    allow: overrides that a stopped plan named, such as ``["deletes"]``.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_nomad.apply test=True

    Required access: namespace capabilities list-jobs, read-job and submit-job.
    """
    return hecate_salt.told(lambda: hecate_salt.applied(_site(), "nomad", test=test, allow=allow))


def absent(job):
    """
    Deregister a job, if it is Hecate's. If pillar still wants it, the next apply brings it back.

    job: the job's id, its key under hecate:workloads.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_nomad.absent web

    Required access: namespace capabilities list-jobs, read-job and submit-job.
    """
    return hecate_salt.told(lambda: hecate_salt.removed(_site(), "nomad", [f"nomad.job {job}"]))


def revert(job, version):
    """
    Make an earlier version of a job current, and wait until it is healthy.

    version: a number, as Nomad counts the job's versions. If pillar wants something else, the next
    apply brings that back.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_nomad.revert web 3

    Required access: namespace capabilities read-job and submit-job.
    """
    return hecate_salt.told(lambda: _site().target("nomad").backend.revert(job, int(version)))
