"""
Values of secrets as pillar, for what cannot take a reference. Hecate itself never needs this.

Off unless the master's configuration says so, and then for these minions and these keys alone:

.. code-block:: yaml

    ext_pillar:
      - hecate_vault:
          vault:                                 # as hecate:vault in pillar; here it is the master that logs in
            url: https://vault.example.com:8200
            approle: {role_id: file:/etc/salt/hecate/role-id, secret_id: file:/etc/salt/hecate/secret-id}
          minions:
            "web*":
              app:database:password: vault:app/database#password
            "*":
              app:license: sdb:licenses/app

What it costs is in docs/secrets.md, "Resolved pillar": the value is in the minion's memory, in pillar caches, in
the returns of ``pillar.items``, and whoever has a minion's key has its secrets. A wrong configuration and a
secret that cannot be had are errors of the pillar (``_errors``): nothing is applied with half of it.

Required access: on the master, read on each of the secrets; for Vault the error names the line of a policy.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate_vault"


def __virtual__():
    if hecate_salt is None:
        return False, "the ext_pillar hecate_vault needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def ext_pillar(minion_id, pillar, **settings):
    """
    The values that ``minions`` names for this minion; nothing for everybody else.
    """
    return hecate_salt.resolved_pillar(__opts__, minion_id, settings)
