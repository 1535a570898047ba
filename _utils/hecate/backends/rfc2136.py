"""Name servers with dynamic update (RFC 2136) as a provider of DNS; ours by a TXT set beside each set of ours.

DNS has no labels. What Hecate made is marked by `_hecate-<type>.<name> TXT "heritage=hecate,environment=..."`, written
in the same message as the set itself. Of a set that is shared with others each value of ours has a mark of its own.
See docs/decisions/0019-rfc2136-ownership.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.update
import dns.zone

from hecate.backends.dns import DnsBackend, Rrset, Values, ZoneSeen, mark_of, values_of
from hecate.clients.rfc2136 import SYSTEM, Rfc2136Client
from hecate.errors import InvalidPillar, NotAuthorised, NotFound, Problem, Refused, Unreachable
from hecate.resource import Change, Resource, Snapshot

HERITAGE = "heritage=hecate,environment="
PREFIX = "_hecate-"
MARK_TTL = 3600
ROOM = 50_000  # octets of one message; RFC 1035, 4.2.2 allows 65,535
# The server's own: it makes them itself, and they are neither shown nor written.
ITS_OWN = frozenset(
    dns.rdatatype.from_text(kind)
    for kind in ("SOA", "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "CDS", "CDNSKEY", "ZONEMD", "TYPE65534")
)
Key = tuple[str, str]
Records = frozenset[dns.rdata.Rdata]


@dataclass(frozen=True)
class Held:
    """A set as it lies in the zone."""

    records: Records = frozenset()
    ttl: int = 0


@dataclass
class Contents:
    """A zone as it was read, and as our own writes have changed it since. marks: texts by name and type."""

    sets: dict[Key, Held] = field(default_factory=dict)
    marks: dict[Key, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What one change makes of one set and its mark."""

    key: Key
    before: Held
    after: Held
    marks_before: frozenset[str]
    marks_after: frozenset[str]
    shared: bool


class Rfc2136:
    """A provider for backends.dns. server_of: who has a zone."""

    system = SYSTEM

    def __init__(self, server_of: Callable[[str], Rfc2136Client]) -> None:
        self._server_of = server_of
        self.defaults: dict[str, int] = {}

    def zones(self, names: Sequence[str]) -> Mapping[str, ZoneSeen]:
        found = {}
        for name in names:
            try:
                contents, ttl = contents_of(self._server_of(name).transfer(name))
            except NotFound:
                continue
            self.defaults[name] = ttl
            found[name] = ZoneSeen(name, ttl, True, contents)
        return found

    def rrsets(self, zone: ZoneSeen) -> Sequence[Rrset]:
        contents: Contents = zone.raw
        return [_rrset(key, held, contents.marks.get(key, frozenset())) for key, held in contents.sets.items()]

    def write(self, zone: ZoneSeen, changes: Sequence[Change], seen: Mapping[str, Rrset]) -> None:
        """All of a message or nothing of it; as many messages as they need to be no longer than DNS allows."""
        contents: Contents = zone.raw
        origin = dns.name.from_text(zone.name)
        steps = [_step(origin, contents, change, seen.get(change.id)) for change in changes]
        for share in _shares(origin, steps):
            message = dns.update.UpdateMessage(origin)
            for step in share:
                _prerequisites(message, origin, step)
            for step in share:
                _changes(message, origin, step)
            self._send(zone.name, message, share)
            for step in share:
                _remember(contents, step)

    def _send(self, zone: str, message: dns.update.UpdateMessage, share: Sequence[Step]) -> None:
        """A message whose answer was lost is looked for in the zone, and never sent again."""
        server = self._server_of(zone)
        try:
            server.update(message, zone)
        except Unreachable:
            now, _ = contents_of(server.transfer(zone))
            if not all(_is_done(now, step) for step in share):
                raise


class Rfc2136Backend(DnsBackend):
    """Wishes in the words of the server: its spelling of values, a TTL always, and no comments or protection."""

    def __init__(self, provider: Rfc2136, *more: object) -> None:
        super().__init__(provider, *more)  # type: ignore[arg-type]
        self._own = provider

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        return super().observe([_spelled(resource) for resource in scope])

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        want = super().normalise(want, have)
        if want is have:
            return want
        spelled = _spelled(want)
        zone = want.key.split("/")[0]
        spec = {key: value for key, value in spelled.spec.items() if key not in ("comments", "protected")}
        spec["ttl"] = spec["ttl"] if spec["ttl"] is not None else self._own.defaults[zone]
        if have is not None and _parsed(want, have.spec["records"]) == _parsed(want, spec["records"]):
            spec["records"] = have.spec["records"]  # the case of a name is no difference
            if "comments" in have.spec:
                spec["comments"] = have.spec["comments"]
        return want.with_spec(spec)


def the_one_with(zone: str, servers: Mapping[str, Rfc2136Client]) -> Rfc2136Client:
    """The server of a zone that the pillar at hand doesn't place. Raises when that isn't clear."""
    if len(servers) == 1:
        return next(iter(servers.values()))
    having = {}
    for name, server in servers.items():
        try:
            server.transfer(zone)
        except (NotFound, NotAuthorised):
            continue
        having[name] = server
    if len(having) != 1:
        found = " and ".join(sorted(having)) or "none"
        raise Refused(SYSTEM, f"{zone}: which server of hecate:rfc2136 has it isn't clear ({found} answers for it)")
    return next(iter(having.values()))


def contents_of(zone: dns.zone.Zone) -> tuple[Contents, int]:
    """Sets and marks of a transferred zone, and the TTL of records without one: that of its SOA."""
    contents, origin, ttl = Contents(), zone.origin, MARK_TTL
    assert origin is not None
    for name, node in zone.nodes.items():
        assert isinstance(name, dns.name.Name)
        short = relative(name, origin)
        for rdataset in node.rdatasets:
            if rdataset.rdtype == dns.rdatatype.SOA:
                ttl = rdataset.ttl
            if rdataset.rdtype in ITS_OWN:
                continue
            marked = _marked(short, rdataset)
            if marked:
                contents.marks[marked] = frozenset(_texts(rdataset))
            else:
                key = (short, dns.rdatatype.to_text(rdataset.rdtype))
                contents.sets[key] = Held(frozenset(rdataset), rdataset.ttl)
    return contents, ttl


def relative(name: dns.name.Name, origin: dns.name.Name) -> str:
    """Lower case, without the zone; @ for the zone itself."""
    return name.relativize(origin).to_text(omit_final_dot=True).lower()


def mark_name(name: str, kind: str) -> str:
    """Where the mark of a set lies, relative to the zone: a label of its own, so that any name has room for it."""
    first = f"{PREFIX}{kind.lower()}"
    return first if name == "@" else f"{first}.{name}"


def _marked(name: str, rdataset: dns.rdataset.Rdataset) -> Key | None:
    """The set that this one is the mark of; None for a set of its own."""
    first, _, rest = name.partition(".")
    if rdataset.rdtype != dns.rdatatype.TXT or not first.startswith(PREFIX):
        return None
    if not all(text.startswith(HERITAGE) for text in _texts(rdataset)):
        return None
    return rest or "@", first.removeprefix(PREFIX).upper()


def _texts(rdataset: Iterable[dns.rdata.Rdata]) -> list[str]:
    return [b"".join(record.strings).decode("utf-8", "replace") for record in rdataset]  # type: ignore[attr-defined]


def _value_mark(owner: str, value: str) -> str:
    """The mark of one value in a set that others have values in too."""
    return f"{HERITAGE}{owner},value={hashlib.sha256(value.encode()).hexdigest()[:24]}"


def _rrset(key: Key, held: Held, marks: frozenset[str]) -> Rrset:
    owners = [text.removeprefix(HERITAGE) for text in sorted(marks)]
    whole = [owner for owner in owners if "," not in owner]
    sharing = {owner.partition(",")[0] for owner in owners if "," in owner}
    values = {}
    for record in held.records:
        value = record.to_text()
        values[value] = next((mark_of(o) for o in sorted(sharing) if _value_mark(o, value) in marks), "")
    return Rrset(*key, values, held.ttl, whole[0] if whole else "")


def _step(origin: dns.name.Name, contents: Contents, change: Change, there: Rrset | None) -> Step:
    name, _, kind = change.subject.key.partition("/")[2].rpartition("/")
    key = (name, kind)
    before, marks = contents.sets.get(key, Held()), contents.marks.get(key, frozenset())
    _refuse_clashes(origin, contents, change, key)
    values = values_of(change, there)
    if values:
        after, marks_after = _some(origin, key, before, marks, values)
        return Step(key, before, after, marks, marks_after, True)
    if change.after is None:
        return Step(key, before, Held(), marks, frozenset(), False)
    records = _parsed(change.after, change.after.spec["records"])
    kept = {_value_mark(owner, r.to_text()) for r in records for owner in _sharing(marks)} & marks
    whole = {f"{HERITAGE}{change.after.spec['owner']}"} if change.after.spec["owner"] else set()
    return Step(key, before, Held(records, change.after.spec["ttl"]), marks, frozenset(kept | whole), False)


def _some(
    origin: dns.name.Name, key: Key, before: Held, marks: frozenset[str], values: Values
) -> tuple[Held, frozenset[str]]:
    """A shared set and its marks, after some values came and went."""
    owner = values.mark.partition("/")[2]
    add, gone = (_read(key[1], texts, origin) for texts in (values.add, values.remove))
    records = (before.records - gone) | add
    ttl = before.ttl if before.records - gone else values.ttl if values.ttl is not None else MARK_TTL
    lost = {_value_mark(owner, value) for value in values.remove} | {f"{HERITAGE}{owner}"}
    ours = {_value_mark(owner, value) for value in (*values.add, *values.marked)}
    return Held(records, ttl), frozenset((marks - lost) | ours) if records else frozenset()


def _sharing(marks: frozenset[str]) -> set[str]:
    return {text.removeprefix(HERITAGE).partition(",")[0] for text in marks}


def _refuse_clashes(origin: dns.name.Name, contents: Contents, change: Change, key: Key) -> None:
    """What a server would pass over in silence (RFC 2136, 3.4.2.2), or mistake for something else."""
    name, kind = key
    place = mark_name(name, kind)
    full = f"{place}.{origin.to_text(omit_final_dot=True)}"
    if change.after is None:
        return
    if (place, "TXT") in contents.sets:
        why = "holds a TXT that is not Hecate's mark, which has to stand there; remove it, or rename the record"
        raise Refused(SYSTEM, f"{full} {why}")
    try:
        dns.name.from_text(full)
    except dns.exception.DNSException as err:
        raise Refused(SYSTEM, f"{change.subject.key}: too long a name to be marked ({full})") from err
    others = [k for n, k in contents.sets if n == name and k != kind and ("CNAME" in (k, kind))]
    if others:
        raise Refused(SYSTEM, f"{change.subject.key}: there is {', '.join(others)}, and a CNAME has nothing beside it")


def _shares(origin: dns.name.Name, steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Steps that fit into one message, those of one name together."""
    share: list[Step] = []
    length = 0
    for step in steps:
        needed = _length(origin, step)
        if needed > ROOM:
            raise Refused(SYSTEM, f"{'/'.join(step.key)}: too much for one message")
        if share and length + needed > ROOM:
            yield share
            share, length = [], 0
        share.append(step)
        length += needed
    if share:
        yield share


def _length(origin: dns.name.Name, step: Step) -> int:
    """Octets at most: every record once as seen, once to be removed and once to be added, each name written out."""
    name = 24 + len(step.key[0]) + len(PREFIX + step.key[1]) + len(origin.to_text())
    records = [len(record.to_wire() or b"") for record in (*step.before.records, *step.after.records)]
    marks = [len(text) + 2 for text in (*step.marks_before, *step.marks_after)]
    return sum(2 * (name + octets) for octets in (*records, *marks)) + 4 * name


def _prerequisites(message: dns.update.UpdateMessage, origin: dns.name.Name, step: Step) -> None:
    """What was seen, to the letter: the server refuses the whole message where it is no longer so.

    Of a shared set just our marks: what others do with their values is no race.
    """
    name, kind = step.key
    if not step.shared:
        _as_seen(message, _absolute(name, origin), kind, step.before.records)
    _as_seen(message, _absolute(mark_name(name, kind), origin), "TXT", _mark_records(step.marks_before))
    if step.after.records and not step.before.records and kind != "CNAME":
        message.absent(_absolute(name, origin), "CNAME")
    if step.after.records and not step.before.records and kind == "CNAME":
        message.absent(_absolute(name, origin))


def _as_seen(message: dns.update.UpdateMessage, name: dns.name.Name, kind: str, records: Records) -> None:
    if not records:
        message.absent(name, kind)
    for record in sorted(records):
        message.present(name, record)


def _changes(message: dns.update.UpdateMessage, origin: dns.name.Name, step: Step) -> None:
    name, kind = step.key
    one_by_one = step.shared or step.key == ("@", "NS")  # a server never removes its last NS (RFC 2136, 3.4.2.4)
    _replace(message, _absolute(name, origin), kind, step.before, step.after, one_by_one)
    if step.marks_before != step.marks_after:
        before, after = (Held(_mark_records(texts), MARK_TTL) for texts in (step.marks_before, step.marks_after))
        _replace(message, _absolute(mark_name(name, kind), origin), "TXT", before, after, False)


def _replace(
    message: dns.update.UpdateMessage, name: dns.name.Name, kind: str, before: Held, after: Held, one_by_one: bool
) -> None:
    if before == after:
        return
    if not one_by_one and before.records:
        message.delete(name, kind)
    new = after.records if not one_by_one or before.ttl != after.ttl else after.records - before.records
    for record in sorted(new):
        message.add(name, after.ttl, record)
    for record in sorted(before.records - after.records) if one_by_one else ():
        message.delete(name, record)


def _remember(contents: Contents, step: Step) -> None:
    """So that the next batch knows what this one did."""
    contents.sets.pop(step.key, None)
    contents.marks.pop(step.key, None)
    if step.after.records:
        contents.sets[step.key] = step.after
    if step.marks_after:
        contents.marks[step.key] = step.marks_after


def _is_done(contents: Contents, step: Step) -> bool:
    held, marks = contents.sets.get(step.key, Held()), contents.marks.get(step.key, frozenset())
    if step.shared:
        gone = step.before.records - step.after.records
        return marks == step.marks_after and step.after.records - step.before.records <= held.records - gone
    return marks == step.marks_after and held.records == step.after.records and held.ttl == step.after.ttl


def _mark_records(texts: frozenset[str]) -> Records:
    return frozenset(_read("TXT", [f'"{text}"' for text in texts], dns.name.root))


def _absolute(name: str, origin: dns.name.Name) -> dns.name.Name:
    return origin if name == "@" else dns.name.from_text(name, origin)


def _spelled(resource: Resource) -> Resource:
    """With values as the server would write them."""
    return resource.with_spec(
        {**resource.spec, "records": sorted(r.to_text() for r in _parsed(resource, resource.spec["records"]))}
    )


def _parsed(resource: Resource, values: Iterable[str]) -> Records:
    """Values of a resource; names in them that have no dot at their end are relative to the zone, as in a zonefile."""
    zone, kind = resource.key.split("/")[0], resource.key.rpartition("/")[2]
    try:
        return _read(kind, values, dns.name.from_text(zone))
    except dns.exception.DNSException as err:
        shown = ", ".join(values)[:80]
        raise InvalidPillar([Problem(resource.origin or resource.key, shown, f"not {kind} records: {err}")]) from err


def _read(kind: str, values: Iterable[str], origin: dns.name.Name) -> Records:
    return frozenset(
        dns.rdata.from_text(dns.rdataclass.IN, kind, value, origin=origin, relativize=False) for value in values
    )
