"""What became of every leaf of a configuration: used, or told.

Readers walk the configuration by `Node`s, which know their JSON path, and say `take` for what they
turned into pillar. What nobody took is found at the end and told, so nothing can be lost unsaid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Path = tuple[str | int, ...]
# opens: somebody gets in who was kept out. closed: answers 503 until a person decides. left: not imported.
# differs: imported, and behaves differently. told: good to know, nothing to do.
Kind = Literal["opens", "closed", "left", "differs", "told"]
SECRET = re.compile(r"(?i)(token|secret|password|passwd|private|api_?key|credential|mac_key|^key_pem$|^key$|^config$)")
HIDDEN = "(hidden)"


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know. path: into the JSON; host: "" where it isn't of one host."""

    kind: Kind
    path: Path
    what: str
    advice: str
    host: str = ""


@dataclass(frozen=True)
class Node:
    """A value of the configuration, and where it is."""

    value: Any
    path: Path
    ledger: Ledger = field(repr=False, compare=False)

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def at(self, *keys: str) -> Node:
        """Further in; an absent place is an empty mapping there."""
        node = self
        for key in keys:
            inner = node.value.get(key) if isinstance(node.value, dict) else None
            node = Node({} if inner is None else inner, (*node.path, key), self.ledger)
        return node

    def peek(self, key: str, default: Any = None) -> Any:
        return self.value.get(key, default) if isinstance(self.value, dict) else default

    def items(self) -> list[Node]:
        values = self.value if isinstance(self.value, list) else []
        return [Node(value, (*self.path, index), self.ledger) for index, value in enumerate(values)]

    def fields(self) -> list[tuple[str, Node]]:
        return [(key, self.at(key)) for key in self.value] if isinstance(self.value, dict) else []

    def get(self, key: str, default: Any = None) -> Any:
        """The value under that key, all of it used."""
        if key in self:
            self.at(key).take()
        return self.peek(key, default)

    def take(self) -> Any:
        """All below is used."""
        self.ledger.taken.update(path for path, _ in leaves(self.value, self.path))
        return self.value

    def tell(self, kind: Kind, what: str, advice: str, host: str = "") -> None:
        """Something to know about what is here, used or not."""
        self.ledger.findings[Finding(kind, self.path, what, advice, host)] = None

    def refuse(self, kind: Kind, what: str, advice: str, host: str = "") -> None:
        """Nothing below is used after all."""
        self.ledger.refused.add(self.path)
        self.ledger.entirely.add(self.path)
        self.tell(kind, what, advice, host)


class Ledger:
    def __init__(self, config: dict[str, Any]) -> None:
        self.root = Node(config, (), self)
        self.taken: set[Path] = set()
        self.refused: set[Path] = set()
        self.entirely: set[Path] = set()  # refused places of which even what was read at first is not used
        self.findings: dict[Finding, None] = {}

    def covered(self, path: Path) -> bool:
        """Whether a finding speaks of this place or of what it is part of."""
        return any(path[:n] in self.refused for n in range(len(path) + 1))

    def rest(self) -> list[tuple[Path, Any]]:
        """Leaves that nobody used and nothing was said about."""
        return [(p, v) for p, v in leaves(self.root.value) if p not in self.taken and not self.covered(p)]

    def below(self, path: Path) -> list[tuple[Path, Any]]:
        """The leaves at a place; none where nothing is."""
        value: Any = self.root.value
        for part in path:
            if isinstance(value, dict) and part not in value:
                return []
            value = value[part]
        return list(leaves(value, path))


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every single value, and every empty mapping or list."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path, value


def pointer(path: Path) -> str:
    """As Caddy's admin API has it: apps/http/servers/srv0/listen/0."""
    return "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in path) or "(everything)"


def shown(path: Path, value: Any) -> str:
    """The value for a report; what may be a secret is not shown."""
    named = [part for part in path if isinstance(part, str)]
    if value not in ({}, [], "") and any(SECRET.search(part) for part in named[-2:]):
        return HIDDEN
    text = repr(value) if not isinstance(value, str) else value
    return text.replace("\r", "\\r").replace("\n", "\\n")
