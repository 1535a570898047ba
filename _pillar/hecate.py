"""
Terraform's outputs as pillar, under ``hecate:terraform:outputs``.

Master configuration:

.. code-block:: yaml

    ext_pillar:
      - hecate: {}

The outputs are those of the last ``hecate.deploy``, read from Hecate's store. Values elsewhere in
pillar refer to them as ``terraform:<output>``. Sensitive outputs are never in it.

Required access: read on the store (the master's own cache directory, or Consul).
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate"


def __virtual__():
    if hecate_salt is None:
        return False, "the ext_pillar hecate needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def ext_pillar(minion_id, pillar, *args, **kwargs):
    """
    Outputs for whoever has a Terraform section in pillar; nothing for everybody else.
    """
    return hecate_salt.terraform_pillar(__opts__, pillar)
