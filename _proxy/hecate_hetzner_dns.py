"""
A proxy minion that manages Hetzner DNS over its API.

Pillar of the proxy minion:

.. code-block:: yaml

    proxy: {proxytype: hecate_hetzner_dns}

The API's address and the reference to its token come from pillar ``hecate:hetzner_dns``. The proxy
keeps no connection and no secret: each call resolves what it needs, so several sub-proxies of one
deltaproxy never share anything.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__proxyenabled__ = ["hecate_hetzner_dns"]
__virtualname__ = "hecate_hetzner_dns"


def __virtual__():
    if hecate_salt is None:
        return False, "hecate_hetzner_dns needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def init(opts):
    """
    Nothing to set up. A system that is down must not keep its proxy minion from starting.
    """
    return True


def initialized():
    """
    Always: there is no connection to wait for.
    """
    return True


def ping():
    """
    The proxy process is there; whether the system answers is what a plan tells.

    CLI Example:

    .. code-block:: bash

        salt hecate-hetzner-dns test.ping

    Required access: none.
    """
    return True


def shutdown(opts):
    """
    Nothing to close.
    """
    return True
