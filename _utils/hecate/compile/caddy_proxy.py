"""Upstreams -> Caddy's reverse_proxy (https://caddyserver.com/docs/json/apps/http/servers/routes/handle/reverse_proxy/)."""

from __future__ import annotations

from math import gcd
from typing import Any

from hecate.compile.caddy_text import filled
from hecate.model.estate import Estate
from hecate.model.routes import Service
from hecate.model.upstreams import Balance, Discovery, HealthCheck, Pool, Timeouts, UpstreamTls

Handler = dict[str, Any]
UPSTREAM = "{hecate.upstream}"  # what a shared table of hosts says for the host at hand


def plain_upstream(estate: Estate, service: Service) -> str | None:
    """The one address behind a service that asks for nothing but to be proxied there; else None.

    Such services share one proxy. Health checks never do: Caddy skips active ones where the address
    is a placeholder, and lets one dead host trip the passive checks of all.
    """
    pool = service
    if isinstance(pool.upstreams, str) or len(pool.upstreams) != 1 or pool.balance or pool.health_check:
        return None
    only = pool.upstreams[0]
    return only.address if only.scheme == "http" and not only.max_requests else None


def proxy(estate: Estate, service: Service, dial: str | None = None) -> Handler:
    """The handler for a service; dial replaces its only upstream's address."""
    pool = estate.pool_of(service)
    handler: Handler = {"handler": "reverse_proxy", "stream_close_delay": estate.caddy.websocket_grace}
    if pool.discover:
        handler["dynamic_upstreams"] = _discovery(pool.discover)
    else:
        handler["upstreams"] = [
            {"dial": dial or u.address, **({"max_requests": u.max_requests} if u.max_requests else {})}
            for u in pool.upstreams
            if not isinstance(u, str)
        ]
    put = {
        "load_balancing": _balancing(pool),
        "health_checks": _checks(pool, estate.health_check_of(pool)),
        "transport": _transport(pool),
        "headers": _headers(service, over_tls=pool.tls_to_upstream is not None),
    }
    return {**handler, **{key: value for key, value in put.items() if value}}


def _discovery(found_by: Discovery) -> Handler:
    found: Handler = {"refresh": found_by.refresh}
    if found_by.resolver:
        found["resolver"] = {"addresses": [found_by.resolver]}
    if found_by.srv:
        # With grace the last answer is used on, and asked for again at every refresh, while DNS is down.
        return {"source": "srv", "name": found_by.srv, "grace_period": found_by.refresh, **found}
    return {"source": "a", "name": found_by.a, "port": str(found_by.port), **found}


def _balancing(pool: Pool) -> Handler:
    weights = [u.weight for u in pool.upstreams if not isinstance(u, str)]
    if len(weights) < 2 and not pool.discover and not pool.balance:
        return {}
    balance = pool.balance or Balance()
    default = _weighted(weights) if pool.uneven else {"policy": "round_robin"}
    chosen: Handler = {"policy": balance.policy}
    if balance.policy in (None, "weighted"):
        chosen = default
    elif balance.policy == "header":
        chosen |= {"field": balance.header, "fallback": default}
    elif balance.policy == "cookie":
        chosen |= {"name": balance.cookie or "lb", "fallback": default}
        if balance.max_age:
            chosen["max_age"] = balance.max_age
    found: Handler = {"selection_policy": chosen}
    if balance.retries:
        found["retries"] = balance.retries
    if balance.try_duration:
        found |= {"try_duration": balance.try_duration, "try_interval": balance.try_interval}
    return found


def _weighted(weights: list[int]) -> Handler:
    """In smallest terms: [90, 10] would send ten requests in a row to the second upstream."""
    shared = gcd(*weights) if weights else 1
    return {"policy": "weighted_round_robin", "weights": [w // shared for w in weights]}


def _checks(pool: Pool, check: HealthCheck | None) -> Handler:
    found: Handler = {}
    if check and check.path:
        found["active"] = _active(check.path, check)
    passive = _passive(pool, check)
    if passive:
        found["passive"] = passive
    return found


def _active(path: str, check: HealthCheck) -> Handler:
    found: Handler = {"uri": path, "interval": check.interval, "timeout": check.timeout}
    found |= {"passes": check.passes, "fails": check.fails}
    optional = {
        "port": check.port,
        "method": check.method if check.method != "GET" else None,
        "expect_status": check.expect_status,
        "expect_body": check.expect_body,
        "headers": {name: [value] for name, value in sorted(check.headers.items())},
    }
    return found | {k: v for k, v in optional.items() if v}


def _passive(pool: Pool, check: HealthCheck | None) -> Handler:
    found: Handler = {}
    if check and check.counts_failures:
        # Without a duration Caddy remembers no failure, and the other settings would do nothing.
        found |= {"fail_duration": check.fail_duration or check.interval, "max_fails": check.max_fails}
        found |= {"unhealthy_status": list(check.unhealthy_status), "unhealthy_latency": check.unhealthy_latency}
    elif pool.balance and (pool.balance.retries or pool.balance.try_duration) and len(pool.upstreams) > 1:
        # Without a memory most policies would try the server that just failed once more.
        found |= {"fail_duration": "1s", "max_fails": 1}
    if check:
        found["unhealthy_request_count"] = check.unhealthy_request_count
    return {k: v for k, v in found.items() if v}


def _transport(pool: Pool) -> Handler:
    timeouts, tls = pool.timeouts or Timeouts(), pool.tls_to_upstream
    found: Handler = {"protocol": "http", "dial_timeout": timeouts.dial}
    optional = {
        "response_header_timeout": timeouts.response,
        "read_timeout": timeouts.read,
        "write_timeout": timeouts.write,
        "keep_alive": {"idle_timeout": timeouts.idle} if timeouts.idle else None,
    }
    found |= {k: v for k, v in optional.items() if v}
    if tls:
        found["tls"] = _tls(tls)
    if pool.scheme == "h2c":
        found["versions"] = ["h2c", "2"]
    if pool.discover and pool.discover.srv and pool.discover.resolver:
        # An SRV record names hosts, and those are often known to the same name server alone.
        found["resolver"] = {"addresses": [pool.discover.resolver]}
    return found


def _tls(tls: UpstreamTls) -> Handler:
    optional = {
        "ca": {"provider": "file", "pem_files": [tls.ca]} if tls.ca else None,
        "client_certificate_file": tls.certificate,
        "client_certificate_key_file": tls.key,
        "server_name": tls.server_name,
        "insecure_skip_verify": tls.skip_verify,
    }
    return {k: v for k, v in optional.items() if v}


def _headers(service: Service, *, over_tls: bool) -> Handler:
    changes = service.headers.request
    wanted = {
        ("Host" if name.lower() == "host" else name): [filled(value)] for name, value in sorted(changes.set.items())
    }
    if over_tls:
        # Over TLS Caddy would send the upstream's own address as Host.
        wanted = {"Host": ["{http.request.hostport}"], **wanted}
    optional = {
        "set": wanted,
        "add": {name: [filled(value)] for name, value in sorted(changes.add.items())},
        "delete": list(changes.remove),
    }
    found = {k: v for k, v in optional.items() if v}
    return {"request": found} if found else {}
