"""
Nomad jobs, from pillar.

Follows https://developer.hashicorp.com/nomad/api-docs. A job counts as applied once its deployment is healthy.
"""

try:
    import hecate_states
except ImportError:
    hecate_states = None

__virtualname__ = "hecate_nomad"


def __virtual__():
    if hecate_states is None:
        return False, "hecate_nomad needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_states.in_state(__opts__, __salt__, __pillar__)


def managed(name, **kwargs):
    """
    Everything that pillar wants of this system, and nothing else that is Hecate's.

    name: free text.

    .. code-block:: yaml

        workloads:
          hecate_nomad.managed

    Required access: namespace capabilities list-jobs, read-job and submit-job.
    """
    return hecate_states.managed(_site(), "nomad", name, test=__opts__["test"])
