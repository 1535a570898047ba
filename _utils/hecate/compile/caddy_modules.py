"""Which modules a configuration needs that are not in the Caddy of caddyserver.com/download as it comes.

Caddy names a module by a word inside its object, by the object's key, or by a string alone; where
which is the case stands in PLACES (https://caddyserver.com/docs/json/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# The namespaces that Hecate's configurations use -> their modules in a stock Caddy (`caddy list-modules`).
STOCK: Mapping[str, frozenset[str]] = {
    namespace: frozenset(names.split())
    for namespace, names in {
        "http.handlers": "acme_server authentication copy_response copy_response_headers encode error file_server "
        "headers intercept invoke log_append map metrics push request_body reverse_proxy rewrite static_response "
        "subroute templates timeouts tracing vars",
        "http.encoders": "gzip zstd",
        "http.matchers": "client_ip expression file header header_regexp host method not path path_regexp protocol "
        "query remote_ip tls url_pattern vars vars_regexp",
        "http.authentication.providers": "http_basic",
        "http.authentication.hashes": "argon2id bcrypt",
        "http.ip_sources": "static",
        "http.reverse_proxy.selection_policies": "client_ip_hash cookie first header ip_hash least_conn query random "
        "random_choose round_robin uri_hash weighted_round_robin",
        "http.reverse_proxy.transport": "fastcgi http",
        "http.reverse_proxy.upstreams": "a multi srv",
        "tls.issuance": "acme internal zerossl",
        "tls.permission": "http",
        "tls.ca_pool.source": "combined file http inline pki_intermediate pki_root storage system",
        "caddy.storage": "file_system",
        "caddy.logging.encoders": "append console filter journald json",
        "caddy.logging.writers": "discard file net stderr stdout",
        "dns.providers": "",
    }.items()
}

# Key that holds a module (or a list of them) -> its namespace, and the word inside the object that names it.
PLACES: Mapping[str, tuple[str, str]] = {
    "handle": ("http.handlers", "handler"),
    "hash": ("http.authentication.hashes", "algorithm"),
    "trusted_proxies": ("http.ip_sources", "source"),
    "selection_policy": ("http.reverse_proxy.selection_policies", "policy"),
    "fallback": ("http.reverse_proxy.selection_policies", "policy"),
    "transport": ("http.reverse_proxy.transport", "protocol"),
    "dynamic_upstreams": ("http.reverse_proxy.upstreams", "source"),
    "issuers": ("tls.issuance", "module"),
    "permission": ("tls.permission", "module"),
    "ca": ("tls.ca_pool.source", "provider"),
    "storage": ("caddy.storage", "module"),
    "provider": ("dns.providers", "name"),
    "encoder": ("caddy.logging.encoders", "format"),
    "wrap": ("caddy.logging.encoders", "format"),
    "writer": ("caddy.logging.writers", "output"),
}
# Key that holds an object whose own keys name modules -> their namespace.
BY_KEY: Mapping[str, str] = {
    "encodings": "http.encoders",
    "providers": "http.authentication.providers",
    "match": "http.matchers",
    "not": "http.matchers",
}
NOT_MATCHERS = {"status_code", "headers", "sni"}  # `match` of an answer, and of a TLS handshake


def modules_of(spec: Any) -> set[str]:
    """Ids of the modules beyond a stock Caddy's that `spec` names: a route's spec, a server's, or any part of them."""
    return set(_beyond(spec))


def _beyond(value: Any) -> Iterator[str]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _beyond(item)
    elif isinstance(value, Mapping):
        if isinstance(value.get("handler"), str):
            yield from _named("http.handlers", value["handler"])
        for key, held in value.items():
            yield from _at(key, held)
            yield from _beyond(held)


def _at(key: str, held: Any) -> Iterator[str]:
    for item in held if isinstance(held, list | tuple) else (held,):
        if not isinstance(item, Mapping):
            continue
        if key in BY_KEY and not NOT_MATCHERS & item.keys():
            for name in item:
                yield from _named(BY_KEY[key], name)
        if key in PLACES:
            namespace, word = PLACES[key]
            if isinstance(item.get(word), str):
                yield from _named(namespace, item[word])


def _named(namespace: str, name: str) -> Iterator[str]:
    if name not in STOCK[namespace]:
        yield f"{namespace}.{name}"
