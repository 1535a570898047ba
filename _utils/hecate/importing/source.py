"""Where in a Caddyfile something came from.

Adapted JSON has no line numbers. What belongs to a host is in its site's block or in a snippet that
the block imports; the line there that has most of the words of a value is taken for its origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hecate.importing.ledger import Path

WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|`([^`]*)`|(\S+)')
HANDLERS = {
    "static_response": ("respond", "redir", "abort"),
    "headers": ("header", "request_header", "header_up", "header_down"),
    "rewrite": ("rewrite", "uri", "handle_path", "method", "try_files"),
    "reverse_proxy": ("reverse_proxy", "forward_auth", "php_fastcgi"),
    "authentication": ("basic_auth", "basicauth"),
    "vars": ("root", "vars", "log_skip", "log_name"),
    "subroute": ("handle", "route", "handle_path"),
}
SHORT = {"header_regexp", "path_regexp", "expression", "header", "path", "not", "query", "remote_ip", "client_ip"}
SETTINGS = {
    "tls_connection_policies": "tls",
    "automation": "tls",
    "load_files": "tls",
    "logs": "log",
    "errors": "handle_errors",
}


@dataclass(frozen=True)
class Line:
    number: int
    text: str
    words: frozenset[str]


@dataclass
class Block:
    """A site, a snippet or the global options: where it starts, and its lines."""

    heads: list[str]
    lines: list[Line] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)


def words_of(text: str) -> list[str]:
    """The words of one line, without quotes and comment."""
    found = []
    for match in WORD.finditer(text):
        word = next(group for group in match.groups() if group is not None)
        if match[3] and word.startswith("#"):
            break
        found.append(word)
    return found


class Source:
    """A Caddyfile, and where things are in it."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.snippets: dict[str, Block] = {}
        self.sites: list[Block] = []
        self.options: Block | None = None
        self._read()

    def _read(self) -> None:
        depth, block = 0, Block([])
        for number, text in enumerate(self.lines, 1):
            words = words_of(text)
            if not words:
                continue
            if depth == 0:
                heads = [*block.heads, *(w.rstrip(",") for w in words if w != "{")] if not block.lines else words
                block = Block([h.removesuffix("{") for h in heads if h not in ("{", "}")])
            block.lines.append(Line(number, text.strip(), frozenset(words)))
            if words[0] == "import" and len(words) > 1:
                block.imports.append(words[1])
            depth += sum(1 for w in words if w == "{" or (w.endswith("{") and depth == 0)) - words.count("}")
            if depth <= 0 and (words[-1] == "}" or "}" in words):
                self._keep(block)
                depth, block = 0, Block([])
            elif depth == 0:  # the addresses of a site may be on several lines
                block.lines = []
        if block.lines:
            self._keep(block)

    def _keep(self, block: Block) -> None:
        name = block.heads[0] if block.heads else ""
        if not name:
            self.options = block
        elif name.startswith("(") and name.endswith(")"):
            self.snippets[name[1:-1]] = block
        else:
            self.sites.append(block)

    def visible(self, host: str) -> list[Line]:
        """Every line that may concern a host; without host, every line."""
        if not host:
            return [line for block in self._all() for line in block.lines]
        mine = [b for b in self.sites if any(_names(head, host) for head in b.heads)] or self.sites
        lines = [line for block in mine for line in block.lines]
        for name in dict.fromkeys(name for block in mine for name in self._imported(block)):
            lines += self.snippets[name].lines
        return lines

    def _all(self) -> list[Block]:
        return [*([self.options] if self.options else []), *self.sites, *self.snippets.values()]

    def _imported(self, block: Block, seen: tuple[str, ...] = ()) -> Iterable[str]:
        for name in block.imports:
            if name in self.snippets and name not in seen:
                yield name
                yield from self._imported(self.snippets[name], (*seen, name))

    def find(self, path: Path, value: Any, host: str = "") -> Line | None:
        """The line that `value` (at `path` in the JSON) most likely came from."""
        wanted, named = set(_texts(value)), _directives(path, value)
        best: tuple[int, Line] | None = None
        for line in self.visible(host):
            found = sum(3 for word in wanted if word in line.words)
            if named and line.words & named and (found or not wanted):
                found += 2
            if found and (best is None or found > best[0]):
                best = (found, line)
        if best is None and named:
            first = next((line for line in self.visible(host) if line.words & named), None)
            return first
        return best[1] if best else None

    def snippet_at(self, number: int) -> str:
        """Name of the snippet that a line is in, or "" """
        for name, block in self.snippets.items():
            if any(line.number == number for line in block.lines):
                return name
        return ""


def _names(head: str, host: str) -> bool:
    name = head.partition("://")[2] if "://" in head else head
    return name.partition("/")[0].partition(":")[0].lower() == host


def _texts(value: Any) -> Iterable[str]:
    """Values and keys that may stand in a Caddyfile as they are."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("handler", "group", "terminal", "host"):
                yield from (key, f"-{key}", f"+{key}", f"?{key}")
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, bool) or value is None:
        return
    else:
        text = str(value)
        yield text
        yield text.replace("http.request.uri", "uri").replace("http.request.host", "host")
        yield f"@{text}"
        if isinstance(value, int) and value % 10**9 == 0 and value:
            yield f"{value // 10**9}s"


def _directives(path: Path, value: Any) -> frozenset[str]:
    found: set[str] = set()
    for part in path:
        if isinstance(part, str):
            if part in SETTINGS:
                return frozenset({SETTINGS[part]})
            found |= {part} if part in SHORT else set()
    for name in _handlers(value):
        found |= set(HANDLERS.get(name, (name,)))
    return frozenset(found)


def _handlers(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if isinstance(value.get("handler"), str):
            yield value["handler"]
        for inner in value.values():
            yield from _handlers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _handlers(inner)
