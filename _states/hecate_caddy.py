"""
Routes of the Caddy on this edge, from pillar.

Follows https://caddyserver.com/docs/api. Hecate owns one server in Caddy's configuration and leaves
everything else alone; all changes of one apply are one conditional write.
"""

try:
    import hecate_states
except ImportError:
    hecate_states = None

__virtualname__ = "hecate_caddy"


def __virtual__():
    if hecate_states is None:
        return False, "hecate_caddy needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site():
    return hecate_states.in_state(__opts__, __salt__, __pillar__)


def managed(name, **kwargs):
    """
    Everything that pillar wants of this system, and nothing else that is Hecate's.

    name: free text.

    .. code-block:: yaml

        proxy:
          hecate_caddy.managed

    Required access: GET and POST on /config/ of Caddy's admin API.
    """
    return hecate_states.managed(_site(), "caddy", name, test=__opts__["test"])


def passwords(name, **kwargs):
    """
    Hash files of this edge's basic_auth accounts as Vault has the passwords (hecate:rotation, kind basic_auth).

    Where one is new, Caddy loads what it runs once more. No password and no hash is in the return.

    name: free text.

    .. code-block:: yaml

        passwords:
          hecate_caddy.passwords

    Required access: ``read`` on each such secret in Vault; GET and POST on /config/ of Caddy's admin API.
    """
    return hecate_states.passwords_taken(_site(), name, test=__opts__["test"])


def route_present(name, **kwargs):
    """
    One route, beside whatever Hecate owns in this Caddy already.

    name: the host. The other parameters are the fields of a route in pillar (docs/pillar.md); what
    they name is looked up in pillar. A protected route answers 503 until authentik's part is confirmed.
    All such states of a run that wait for no other state are one write; each tells its own changes.
    ``aggregate: False`` keeps one out of that.

    .. code-block:: yaml

        app.example.com:
          hecate_caddy.route_present:
            - upstreams: [10.0.0.5:3000]

    Required access: GET and POST on /config/ of Caddy's admin API.
    """
    low = {"state": "hecate_caddy", "fun": "route_present", "__id__": name, **kwargs, "name": name}
    told = globals()  # of a run; Salt tells nothing where a state function is called by itself
    run = hecate_states.Run(
        low,
        told.get("__lowstate__") or [],
        told.get("__running__") or {},
        told.get("__context__", {}),
        told.get("__instance_id__", ""),
    )
    return hecate_states.routes_present(_site(), run, test=__opts__["test"])


def route_absent(name, **kwargs):
    """
    No route for this host, if there is one of Hecate's.

    name: the host.

    .. code-block:: yaml

        old.example.com:
          hecate_caddy.route_absent

    Required access: GET and POST on /config/ of Caddy's admin API.
    """
    doomed = hecate_states.route_of(name)
    return hecate_states.absent(_site(), "caddy", name, doomed, f"route:{name}", test=__opts__["test"])
