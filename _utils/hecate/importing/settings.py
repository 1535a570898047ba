"""What is not routes: listeners, TLS, certificates, logs, and the global options."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from hecate.importing.ledger import Node
from hecate.importing.matching import host_matches
from hecate.importing.proxies import reason
from hecate.model.caddy import Caddy
from hecate.model.certificates import Certificates, Provider
from hecate.model.routes import AccessLog, Tls

Fields = dict[str, Any]
ZEROSSL = "https://acme.zerossl.com/v2/DV90"
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
ENV = re.compile(r"\{(env|file)\.([^{}]+)\}")
VERIFYING = ("require_and_verify", "verify_if_given")
VERSIONS = {"tls1.2": "1.2", "tls1.3": "1.3"}


def ours(node: Node) -> bool:
    """Whether Hecate itself put it there."""
    marks = [node.peek("@id") or "", *(node.peek("tags") or [])]
    return any(str(mark).startswith("hecate-") for mark in marks)


def is_https(server: Node, http_port: int) -> bool:
    listens = [str(text) for text in server.peek("listen") or []]
    if "tls_connection_policies" in server:
        return True
    plain = all(text.endswith(f":{http_port}") for text in listens)
    return not plain and not server.at("automatic_https").peek("disable")


def server_settings(server: Node, name: str, https: bool, all_plain: bool) -> Fields:
    """Fields of hecate:caddy that this server speaks of."""
    found: Fields = {}
    listen = server.at("listen")
    port = str(next(iter(server.peek("listen") or [""]), "")).rpartition(":")[2]
    if listen.value == [":443"] and https:
        listen.take()
    elif https or all_plain:
        what = f"server {name} listens on {', '.join(map(str, listen.value or []))}"
        advice = f"set hecate:edges:<minion id>:https to {port} (and bind, if it was one address)"
        listen.refuse("told", what, advice)
    else:
        what = f"server {name} is plain HTTP ({', '.join(map(str, listen.value or []))}); imported, its hosts get "
        what += "certificates, are served over HTTPS, and http is redirected there"
        listen.refuse("differs", what, "keep the server beside Hecate's for a host that must stay plain HTTP")
    found |= _trusted(server)
    protocols = server.peek("protocols")
    if protocols in (["h1", "h2"], ["h1", "h2", "h3"]):
        server.get("protocols")
        if "h3" not in protocols:
            found["http3"] = False
    off = server.at("automatic_https")
    if off.peek("disable") and all_plain:
        off.get("disable")
    return found


def _trusted(server: Node) -> Fields:
    node = server.at("trusted_proxies")
    found: Fields = {}
    if node.peek("source") == "static":
        ranges = list(dict.fromkeys(node.peek("ranges") or []))
        try:
            Caddy.model_validate({"trusted_proxies": ranges})
        except ValidationError as err:
            node.refuse("left", f"Hecate would refuse it: {reason(err)}", "write hecate:caddy:trusted_proxies by hand")
            return {}
        found["trusted_proxies"] = ranges
        node.take()
        if not server.peek("trusted_proxies_strict"):
            what = "believed the leftmost address of X-Forwarded-For, which a client can write itself; Hecate goes "
            what += "from the right (trusted_proxies_strict)"
            node.tell("differs", what, "nothing, unless the proxy in front puts the client's address elsewhere")
    if server.peek("trusted_proxies_strict") == 1:
        server.get("trusted_proxies_strict")
    return found


# TLS


class Issuing:
    """Who issues certificates for which host: automation policies, files, and connection policies."""

    def __init__(self, tls: Node, servers: list[Node]) -> None:
        self.policies = [node for node in tls.at("automation", "policies").items() if not ours(node)]
        self.files = [node for node in tls.at("certificates", "load_files").items() if not ours(node)]
        self.connections = [
            node for server in servers for node in server.at("tls_connection_policies").items() if not ours(node)
        ]
        self.tls = tls
        self.providers: dict[str, Fields] = {}
        self.dns: Fields = {}
        for node in self.connections:
            if node.value == {}:
                node.take()

    def of(self, host: str) -> Fields:
        """Fields of a route's tls, and `closed` where a client certificate was asked for and can't be now."""
        found: Fields = {}
        connection = self._connection(host)
        found |= self._handshake(connection, host)
        certificate = self._certificate(connection, host)
        found |= certificate or self._issuer(host)
        closed = found.pop("closed", False)
        try:
            Tls.model_validate(found)
        except ValidationError as err:
            connection.refuse("left", f"Hecate would refuse it: {reason(err)}", "write the route's tls by hand", host)
            found = {}
        return {**found, "closed": True} if closed else found

    def _connection(self, host: str) -> Node:
        for node in self.connections:
            names = node.at("match").peek("sni")
            if names is not None and any(host_matches(str(name), host) for name in names):
                node.at("match").get("sni")
                return node
        everybody = [node for node in self.connections if node.value and "match" not in node]
        return everybody[0] if everybody else Node({}, self.tls.path, self.tls.ledger)

    def _handshake(self, node: Node, host: str) -> Fields:
        found: Fields = {}
        least = node.peek("protocol_min")
        if least in VERSIONS:
            node.get("protocol_min")
            found["min_version"] = VERSIONS[least]
        asked = node.at("client_authentication")
        if not asked.value:
            return found
        ca, mode = asked.at("ca"), asked.peek("mode") or "require_and_verify"
        files = ca.peek("pem_files") or asked.peek("trusted_ca_certs_pem_files") or []
        if len(files) == 1 and ca.peek("provider", "file") == "file" and mode in VERIFYING:
            found["client_auth"] = {"ca": files[0], **({"mode": mode} if mode != "require_and_verify" else {})}
            asked.get("mode")
            ca.get("provider")
            ca.get("pem_files")
            asked.get("trusted_ca_certs_pem_files")
            return found
        what = f"client certificates by mode {mode}; Hecate wants one file of authorities on the edge, and to verify. "
        asked.refuse(
            "closed", f"{what}{host} gets 503 (maintenance)", "put the authorities in a file: tls:client_auth:ca", host
        )
        return {**found, "closed": True}

    def _certificate(self, connection: Node, host: str) -> Fields:
        tags = set(connection.at("certificate_selection").peek("any_tag") or [])
        for node in self.files:
            if tags & set(node.peek("tags") or []):
                connection.at("certificate_selection").get("any_tag")
                for key in ("certificate", "key", "tags"):
                    node.get(key)
                return {"certificate": node.peek("certificate"), "key": node.peek("key")}
        return {}

    def _issuer(self, host: str) -> Fields:
        node = self._policy(host)
        issuers = node.at("issuers").items()
        if host not in (node.peek("subjects") or [host]):
            what = f"{host} was under a wildcard's certificate; it gets one of its own"
            node.tell("differs", what, "tls:certificate and key, where a wildcard's is at hand as a file", host)
        found: Fields = {"on_demand": True} if node.get("on_demand") else {}
        for spare in issuers[1:]:
            if spare.peek("ca") == ZEROSSL:
                spare.tell("told", "ZeroSSL, Caddy's second choice, is not asked", "nothing; providers can name it", "")
                self.tls.ledger.refused.add(spare.path)
        if not issuers:
            return found
        first = issuers[0]
        if first.peek("module") == "internal":
            first.get("module")
            return {**found, "issuer": "internal"}
        if first.peek("module") != "acme":
            return found
        name = self._provider(first)
        return {**found, "issuer": name} if name else found

    def _policy(self, host: str) -> Node:
        for node in self.policies:
            subjects = node.peek("subjects")
            mine = [subject for subject in node.at("subjects").items() if host_matches(str(subject.value), host)]
            if subjects is None or mine:
                for subject in mine:
                    subject.take()
                return node
        return Node({}, self.tls.path, self.tls.ledger)

    def _provider(self, node: Node) -> str | None:
        directory = str(node.peek("ca") or LETS_ENCRYPT)
        found: Fields = {}
        if directory != LETS_ENCRYPT:
            found["directory"] = directory
        if node.peek("email"):
            found["email"] = node.peek("email")
        roots = node.peek("trusted_roots_pem_files") or []
        if len(roots) == 1:
            found["ca"] = roots[0]
        off = [c for c in ("http", "tls-alpn") if node.at("challenges", c).peek("disabled")]
        if off and len(off) < 2:
            found["challenges"] = [c for c in ("http", "tls-alpn") if c not in off]
        try:
            Provider.model_validate(found)
        except ValidationError as err:
            node.refuse("left", f"Hecate would refuse it: {reason(err)}", "write hecate:certificates:providers by hand")
            return None
        for key in ("module", "ca", "email"):
            node.get(key)
        if "ca" in found:
            node.get("trusted_roots_pem_files")
        dns = node.at("challenges", "dns", "provider")
        token = ENV.fullmatch(str(dns.peek("api_token", "")))
        if dns.peek("name") and token and len(dns.value) == 2:
            dns.take()
            self.dns = {"provider": dns.peek("name"), "token": f"{token[1]}:{token[2]}"}
            found["challenges"] = ["dns"]
        for challenge in off if len(off) < 2 else ():
            node.at("challenges", challenge).get("disabled")
        if not found:
            return None
        for name, known in self.providers.items():
            if known == found:
                return name
        first = "letsencrypt" if directory == LETS_ENCRYPT else "acme-ca"
        name = first if first not in self.providers else f"{first}-{len(self.providers) + 1}"
        self.providers[name] = found
        return name


def certificates(config: Node, issuing: Issuing) -> Fields:
    """Fields of hecate:certificates."""
    found: Fields = {"providers": issuing.providers} if issuing.providers else {}
    if issuing.dns:
        found["dns_challenge"] = issuing.dns
    tls = config.at("apps", "tls")
    permission = tls.at("automation", "on_demand", "permission")
    ask = permission.peek("endpoint")
    if ask and permission.peek("module") == "http":
        found["on_demand"] = {"ask": ask}
    try:
        Certificates.model_validate(found)
    except ValidationError as err:
        tls.tell("left", f"Hecate would refuse it: {reason(err)}", "write hecate:certificates by hand")
        return {"providers": issuing.providers} if issuing.providers else {}
    if "on_demand" in found:
        permission.take()
    return found


# Logs


class Logs:
    """Which log a host's requests go to. A route has one access log; further ones are told of."""

    def __init__(self, config: Node) -> None:
        self.loggers = config.at("logging", "logs")
        for name, node in self.loggers.fields():
            if name.startswith("hecate-"):
                node.take()
        default = self.loggers.at("default")
        if "exclude" in default:
            default.at("exclude").take()  # Caddy's own bookkeeping: what other loggers have

    def of(self, server: Node, host: str) -> Any:
        """A route's access_log; None: no word on it."""
        logs = server.at("logs")
        if "logs" not in server:
            return None
        if logs.value == {}:
            logs.take()
        names = self._names(logs, host)
        if names is None:
            return None
        wanted = [self._one(name, host) for name in names]
        best = next((log for log in wanted if isinstance(log, dict) and "file" in log), None)
        chosen = best if best is not None else next(iter(wanted), True)
        if len(names) > 1:
            for name, log in zip(names, wanted, strict=True):
                if log is not chosen:
                    what = f"a second access log of {host}; a route has one, and the one with a file is imported"
                    self.loggers.at(name).refuse("left", what, "audit_log is a second one", host)
        return chosen

    def _names(self, logs: Node, host: str) -> list[str] | None:
        for node in logs.at("skip_hosts").items():
            if host_matches(str(node.value), host):
                node.take()
                return None
        named = logs.peek("logger_names") or {}
        for pattern, names in named.items():
            if host_matches(str(pattern), host):
                logs.at("logger_names", pattern).take()
                return [names] if isinstance(names, str) else list(names)
        if logs.peek("skip_unmapped_hosts"):
            logs.get("skip_unmapped_hosts")
            return None
        return [str(logs.get("default_logger_name") or "")]

    def _one(self, name: str, host: str) -> Any:
        if not name:
            default = self.loggers.at("default")
            if "writer" in default:
                what = "went to Caddy's default log; Hecate's has no file unless access_log names one"
                default.at("writer").tell("differs", what, "set access_log: {file: ...}", host)
            return True
        node = self.loggers.at(name)
        writer, found = node.at("writer"), dict[str, Any]()
        if writer.peek("output") == "discard":
            node.take()
            return False
        if name not in self.loggers:
            self.loggers.tell("differs", f"the logger {name} is nowhere set up", "set access_log: {file: ...}", host)
        if node.peek("include") == [f"http.log.access.{name}"]:
            node.get("include")
        if node.at("encoder").peek("format") in ("json", None):
            node.at("encoder").get("format")
        if node.peek("level") in ("DEBUG", "WARN", "ERROR", "INFO"):
            level = node.get("level")
            if level != "INFO":
                found["level"] = level
        if writer.peek("output") == "file":
            found["file"] = writer.peek("filename")
            if "roll_keep" in writer:
                found["keep"] = writer.peek("roll_keep")
            if "roll_size_mb" in writer:
                found["roll_size"] = f"{writer.peek('roll_size_mb')}MB"
        try:
            AccessLog.model_validate(found)
        except ValidationError as err:
            node.refuse("left", f"Hecate would refuse it: {reason(err)}", "write access_log by hand", host)
            return True
        if writer.peek("output") == "stderr":
            writer.get("output")
        for key in ("output", "filename", "roll_keep", "roll_size_mb") if "file" in found else ():
            writer.get(key)
        return found or True


# Everything else that has a word of its own


def whole(config: Node) -> Fields:
    """Sections beside routes: monitoring; and what to say of parts that Hecate leaves to the machine."""
    found: Fields = {}
    metrics = config.at("apps", "http").at("metrics")
    if "metrics" in config.at("apps", "http"):
        found["monitoring"] = {"metrics": {"per_host": True} if metrics.peek("per_host") else {"enabled": True}}
        metrics.get("per_host")
        if metrics.value == {}:
            metrics.take()
    told = {
        ("admin",): "Caddy's admin API is the machine's; Hecate only has to know where: hecate:caddy:admin",
        ("logging", "logs", "default"): "Caddy's own log is the machine's; keep it in Caddy's base configuration",
        ("storage",): "where Caddy keeps certificates is the machine's; name it under hecate:certificates:storage",
        ("apps", "pki"): "the internal CA is Caddy's own; keep it in Caddy's base configuration",
    }
    for path, what in told.items():
        if path[-1] in config.at(*path[:-1]) and config.at(*path).value:
            node = config.at(*path)
            left = [p for p, _ in config.ledger.below(node.path) if p not in config.ledger.taken]
            if left:
                node.ledger.refused.add(node.path)
                node.tell("told", what, "keep it where it is")
    return found
