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
__func_alias__ = {"list_": "list"}


def __virtual__():
    if hecate_salt is None:
        return False, "hecate_caddy needs Hecate's domain package: salt-pip install saltext-hecate"
    return __virtualname__


def _site(order=None):
    return hecate_salt.live(__opts__, __salt__, __grains__, order)


def list_():
    """
    Routes that Hecate owns there, by key.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.list

    Required access: GET on Caddy's admin API (unix socket or loopback; the admin API knows no finer rights).
    """
    return hecate_salt.told(lambda: hecate_salt.listed(_site(), "caddy", "caddy.route"))


def show(host):
    """
    One route: as pillar wants it, and as the system holds it.

    host: the route's host, its key in pillar.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.show app.example.com

    Required access: GET on Caddy's admin API (unix socket or loopback; the admin API knows no finer rights).
    """
    return hecate_salt.told(lambda: hecate_salt.shown(_site(), "caddy", f"caddy.route {host}"))


def routes():
    """
    What each of Hecate's routes does now, by host: all its hosts, its upstreams, and how it answers.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.routes

    Required access: GET on Caddy's admin API (unix socket or loopback; the admin API knows no finer rights).
    """
    return hecate_salt.told(lambda: _site().access("caddy").backend.routes())


def upstreams():
    """
    Upstreams in use, by address: ``requests`` under way, ``fails`` that passive checks remember, ``healthy``.

    What active checks found is up to ten seconds old, and starts anew with every change of the configuration.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.upstreams

    Required access: GET on Caddy's admin API (unix socket or loopback; the admin API knows no finer rights).
    """
    return hecate_salt.told(lambda: _site().access("caddy").backend.upstreams())


def config():
    """
    Hecate's server as it runs, and its routes in Caddy's own terms; password hashes are left out.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.config

    Required access: GET on Caddy's admin API (unix socket or loopback; the admin API knows no finer rights).
    """
    return hecate_salt.told(lambda: _site().access("caddy").backend.config())


def diff():
    """
    Where pillar, the running Caddy and the file that a starting Caddy reads part ways.

    ``pillar``: the plan as text, ``changes``: the same as data, ``disk``: same, differs, missing or unreadable.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.diff

    Required access: GET on Caddy's admin API (unix socket or loopback; the admin API knows no finer rights).
    """
    return hecate_salt.told(lambda: hecate_salt.edge_differences(_site()))


def certificates():
    """
    The certificate that this edge shows for each host: names, issuer, ``not_after``, ``days_left``, and
    ``warn`` where it expires soon (hecate:certificates:warn_days) or doesn't fit the host.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.certificates

    Required access: a TLS connection to the edge's own listener; no rights in Caddy.
    """
    return hecate_salt.told(lambda: hecate_salt.edge_certificates(_site()))


def renew(anew=(), test=False):
    """
    Certificates from Vault, and files of the operator's, that have a newer one, and nothing else of the pillar.

    Those that Vault's PKI engine signs are due after two thirds of their life; those of its KV engine and of files when
    there is another one. Meant for Salt's scheduler; an apply does the same. Returns the plan as text and as data.

    anew: hosts of routes whose certificates are to be signed again now, however good they are (``tls:pki`` alone).
    test: only say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.renew
        salt 'edge*' hecate_caddy.renew anew='[app.example.com]'

    Required access: Caddy's admin API (unix socket or loopback; the admin API knows no finer rights); in Vault
    ``update`` on <mount>/sign/<role> of each role, ``read`` on the references of tls:vault and tls:vault_key.
    """
    return hecate_salt.told(lambda: hecate_salt.certificates_renewed(_site(), anew, test=test))


def plan(order=None):
    """
    What an apply would change now, as text and as data. Writes nothing.

    order: what a deploy would tell this target, such as ``{"hosts": ["app.example.com"]}`` for one route alone.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.plan

    Required access: GET on Caddy's admin API (unix socket or loopback; the admin API knows no finer rights).
    """
    return hecate_salt.told(lambda: hecate_salt.planned(_site(order), "caddy"))


def apply(test=False, allow=()):
    """
    Bring the system to what pillar says, or leave it as it was. Returns what was changed.

    test: only tell, write nothing.
    allow: overrides that a stopped plan named, such as ``["deletes"]``.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.apply test=True

    Required access: GET and POST on /config/ of Caddy's admin API.
    """
    return hecate_salt.told(lambda: hecate_salt.applied(_site(), "caddy", test=test, allow=allow))


def absent(host):
    """
    Remove a route, if it is Hecate's. If pillar still wants it, the next apply brings it back.

    host: the route's host, its key in pillar.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.absent old.example.com

    Required access: GET and POST on /config/ of Caddy's admin API.
    """
    return hecate_salt.told(lambda: hecate_salt.removed(_site(), "caddy", [f"caddy.route {host}"], f"route:{host}"))


def root_certificate():
    """
    The root of Caddy's internal CA on this edge, as PEM; it is public.

    CLI Example:

    .. code-block:: bash

        salt 'edge*' hecate_caddy.root_certificate

    Required access: GET on /pki/ca/local of Caddy's admin API.
    """
    return hecate_salt.told(lambda: _site().access("caddy").backend.root_certificate())


def import_caddyfile(path=None, text=None, allow_imports=False, show=None):
    """
    Pillar for an existing Caddyfile, and a report of what pillar can't say. Changes nothing.

    The running Caddy adapts the file (POST /adapt). Returns ``pillar`` (data), ``yaml`` (the same, to
    paste), ``report`` (text) and ``entries`` (the report as data). What protects and could not be said
    is imported as ``maintenance``, so that nothing is opened by pasting it. Read the report first.

    path: absolute path of the Caddyfile on this minion.
    text: the Caddyfile itself, in place of path.
    allow_imports: let Caddy read files that the Caddyfile imports. Only for a Caddyfile whose author may
        read whatever Caddy may: their contents come back.
    show: return just one of the four, such as ``report``.

    CLI Example:

    .. code-block:: bash

        salt 'edge-1' hecate_caddy.import_caddyfile /etc/caddy/Caddyfile show=report
        salt 'edge-1' hecate_caddy.import_caddyfile /etc/caddy/Caddyfile show=yaml --out newline_values_only

    Required access: POST on /adapt of Caddy's admin API; read on the file.
    """

    def made():
        given = hecate_salt.one_of(path=path, text=text)
        caddyfile = hecate_salt.read_text(path) if given == "path" else text
        return hecate_salt.part_of(hecate_salt.imported(_site(), caddyfile, allow_imports=allow_imports), show)

    return hecate_salt.told(made)


def import_live(show=None):
    """
    Pillar for what this Caddy serves beside Hecate's own server, and a report. Changes nothing.

    Like ``import_caddyfile``, for the configuration that runs; there are no line numbers then.

    show: return just one of ``pillar``, ``yaml``, ``report``, ``entries``.

    CLI Example:

    .. code-block:: bash

        salt 'edge-1' hecate_caddy.import_live show=report

    Required access: GET on /config/ of Caddy's admin API.
    """
    return hecate_salt.told(lambda: hecate_salt.part_of(hecate_salt.imported(_site()), show))
