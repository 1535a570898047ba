"""
Routes of the Caddy on this edge, from pillar.

Follows https://caddyserver.com/docs/api. Hecate owns one server in Caddy's configuration and leaves
everything else alone; all changes of one apply are one conditional write.
"""

try:
    import hecate_salt
except ImportError:
    hecate_salt = None

__virtualname__ = "hecate_caddy"


def __virtual__():
    if hecate_salt is None:
        return False, "hecate_caddy needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_salt.in_state(__opts__, __salt__, __pillar__)


def managed(name, **kwargs):
    """
    Everything that pillar wants of this system, and nothing else that is Hecate's.

    name: free text.

    .. code-block:: yaml

        proxy:
          hecate_caddy.managed

    Required access: GET and POST on /config/ of Caddy's admin API.
    """
    return hecate_salt.managed(_site(), "caddy", name, test=__opts__["test"])


def route_present(name, upstreams, auth_policy=None, headers=None, hosts=(), tls_skip_verify=False, **kwargs):
    """
    One route, beside whatever Hecate owns in this Caddy already.

    name: the host. The other parameters are the fields of a route in pillar; `auth_policy` names one
    under ``hecate:auth_policies``. A protected route answers 503 until authentik's part is confirmed.

    .. code-block:: yaml

        app.example.com:
          hecate_caddy.route_present:
            - upstreams: [10.0.0.5:3000]

    Required access: GET and POST on /config/ of Caddy's admin API.
    """
    route = {
        "upstreams": upstreams,
        "auth_policy": auth_policy,
        "headers": headers or {},
        "hosts": hosts,
        "tls_skip_verify": tls_skip_verify,
    }
    return hecate_salt.present(_site(), "caddy", name, {"routes": {name: route}}, test=__opts__["test"])


def route_absent(name, **kwargs):
    """
    No route for this host, if there is one of Hecate's.

    name: the host.

    .. code-block:: yaml

        old.example.com:
          hecate_caddy.route_absent

    Required access: GET and POST on /config/ of Caddy's admin API.
    """
    doomed = hecate_salt.route_of(name)
    return hecate_salt.absent(_site(), "caddy", name, doomed, f"route:{name}", test=__opts__["test"])
