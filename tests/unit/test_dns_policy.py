"""What may be written in whose zone: policies, strangers, shared sets, thresholds; with a provider in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hecate import model
from hecate.backends.dns import DnsBackend, Rrset, Rules, ZoneSeen, resource_of, values_of
from hecate.engine import Engine, Wish
from hecate.errors import ApplyFailed, Conflict, InvalidPillar, Refused, UnsafePlan
from hecate.journal import Journal
from hecate.plan import Limits
from hecate.resource import Change, Resource
from hecate.targets import Step, parts_of
from hypothesis import event, given, settings
from hypothesis import strategies as st

ZONE, ME = "estate.test", "production"
MARK = f"hecate/{ME}"
LAX = Limits(10**6, 10**6, 100, frozenset({"deletes"}))
Key = tuple[str, str]
Held = dict[Key, Rrset]


class Memory:
    """A provider in memory, as strict as Hetzner. meanwhile: called once, between somebody's look and write."""

    system = "memory"

    def __init__(self, *sets: Rrset, writable: bool = True) -> None:
        self.held: Held = {(s.name, s.type): s for s in sets}
        self.writable = writable
        self.meanwhile: Callable[[], None] = lambda: None

    def zones(self, names: Sequence[str]) -> Mapping[str, ZoneSeen]:
        return {name: ZoneSeen(name, 3600, self.writable) for name in names if name == ZONE}

    def rrsets(self, zone: ZoneSeen) -> Sequence[Rrset]:
        return list(self.held.values())

    def write(self, zone: ZoneSeen, changes: Sequence[Change], seen: Mapping[str, Rrset]) -> None:
        self.meanwhile()
        self.meanwhile = lambda: None
        for change in changes:
            self._write(change, seen.get(change.id))

    def _write(self, change: Change, seen: Rrset | None) -> None:
        _, name, kind = change.subject.key.split("/")
        there, values = self.held.get((name, kind)), values_of(change, seen)
        if values is None:
            if change.after is None:
                del self.held[name, kind]
                return
            spec = change.after.spec
            records = {value: spec.get("comments", {}).get(value, "") for value in spec["records"]}
            self._put(Rrset(name, kind, records, spec["ttl"], spec["owner"]))
            return
        records = dict(there.records) if there else {}
        if set(values.add) & records.keys() or not {*values.remove, *values.marked} <= records.keys():
            raise Refused("memory", "already there, or not there")
        records |= dict.fromkeys((*values.add, *values.marked), values.mark)
        for value in values.remove:
            del records[value]
        if not records:
            self.held.pop((name, kind), None)
            return
        now = there or Rrset(name, kind, {}, values.ttl)
        if change.before and change.after and change.before.spec["ttl"] != values.ttl:
            now = replace(now, ttl=values.ttl)
        whole = change.before is not None and not change.before.spec.get("shared")
        self._put(replace(now, records=records, owner="" if whole else now.owner))

    def _put(self, rrset: Rrset) -> None:
        beside = {kind for name, kind in self.held if name == rrset.name} - {rrset.type}
        if beside and "CNAME" in beside | {rrset.type}:
            raise Refused("memory", "a CNAME stands alone")
        self.held[rrset.name, rrset.type] = rrset


def mine(name: str, *values: str, kind: str = "A", ttl: int | None = None) -> Rrset:
    return Rrset(name, kind, dict.fromkeys(values, ""), ttl, ME)


def theirs(name: str, *values: str, kind: str = "A", ttl: int | None = None, owner: str = "") -> Rrset:
    return Rrset(name, kind, dict.fromkeys(values, ""), ttl, owner)


def want(name: str, *values: str, kind: str = "A", ttl: int | None = None, shared: bool = False) -> Resource:
    more = {"shared": True} if shared else {}
    return Resource("dns.rrset", f"{ZONE}/{name}/{kind}", {"records": sorted(values), "ttl": ttl, "owner": ME, **more})


def engine(memory: Memory, folder: Path, policy: str = "sync", limits: Limits = LAX, **more: Any) -> Engine:
    adopt = more.pop("adopt", ())
    backend = DnsBackend(memory, {ZONE: Rules(policy, **more)}, ME)
    return Engine(backend, Journal(folder), adopt=adopt, limits=limits)


def undone(memory: Memory, folder: Path, transaction: str = "t") -> None:
    """As a rollback does it: with no idea of what pillar says of zones."""
    Engine(DnsBackend(memory, {}, ME), Journal(folder)).undo(transaction)


def allowing(memory: Memory, folder: Path, wish: Wish, policy: str, adopt: Sequence[str] = (), **rules: Any) -> Engine:
    """With every word that the plan asks for."""
    words = {reason.rpartition("allow=")[2] for reason in _plan(memory, folder, wish, policy, adopt, rules).unsafe}
    return engine(memory, folder, policy, replace(LAX, allow=LAX.allow | words), adopt=adopt, **rules)


def _plan(memory: Memory, folder: Path, wish: Wish, policy: str, adopt: Sequence[str], rules: dict[str, Any]) -> Any:
    return engine(memory, folder, policy, adopt=adopt, **rules).plan(wish)


# Policies

OLD = (mine("gone", "192.0.2.1"), mine("kept", "192.0.2.2"), theirs("mail", "192.0.2.25"))
WISH = Wish((want("kept", "192.0.2.3"), want("new", "192.0.2.4")))
LEFT = {
    "sync": {"kept": "192.0.2.3", "new": "192.0.2.4"},
    "upsert-only": {"gone": "192.0.2.1", "kept": "192.0.2.3", "new": "192.0.2.4"},
    "create-only": {"gone": "192.0.2.1", "kept": "192.0.2.2", "new": "192.0.2.4"},
}


@pytest.mark.parametrize("policy", LEFT)
def test_each_policy_does_as_much_as_it_says_and_its_undo_leaves_no_trace(tmp_path: Path, policy: str) -> None:
    memory = Memory(*OLD)
    before, made = dict(memory.held), engine(memory, tmp_path, policy)
    assert made.apply(WISH, "t").plan
    assert {name: "".join(s.records) for (name, _), s in memory.held.items()} == {**LEFT[policy], "mail": "192.0.2.25"}
    assert not made.plan(WISH)
    undone(memory, tmp_path)
    assert memory.held == before


def test_a_zone_without_policy_is_only_looked_at(tmp_path: Path) -> None:
    memory = Memory(*OLD)
    assert not engine(memory, tmp_path, "").plan(Wish())
    assert not engine(memory, tmp_path, "", take_over=True).plan(Wish())
    assert engine(memory, tmp_path, "sync").plan(Wish()), "with a policy it would have been written to"


def test_a_zone_that_is_copied_from_elsewhere_is_never_written(tmp_path: Path) -> None:
    memory = Memory(*OLD, writable=False)
    assert not engine(memory, tmp_path, take_over=True).plan(Wish())
    with pytest.raises(Refused, match="secondary"):
        engine(memory, tmp_path).plan(WISH)


# Strangers


def test_what_a_zone_ignores_is_never_changed_and_never_counted(tmp_path: Path) -> None:
    seen = [mine(f"k8s-{n}", "192.0.2.1") for n in range(9)]
    memory = Memory(*seen, theirs("k8s-x", "192.0.2.9"), mine("a", "192.0.2.1"), mine("b", "192.0.2.1"))
    careful = engine(memory, tmp_path, limits=Limits(), ignore=("k8s-*",), take_over=True)
    assert [c.subject.key for c in careful.plan(Wish()).changes] == [f"{ZONE}/a/A", f"{ZONE}/b/A"]
    with pytest.raises(UnsafePlan, match="2 of 2 objects in estate.test"):
        careful.apply(Wish(), "t")


def test_a_zone_that_is_taken_over_keeps_what_makes_it_a_zone_and_every_challenge(tmp_path: Path) -> None:
    kept = [
        theirs("@", "ns. host. 1 2 3 4 5", kind="SOA"),
        mine("x", "marked. host. 1 2 3 4 5", kind="SOA"),
        theirs("@", "ns1.example.", kind="NS"),
        theirs("_acme-challenge", '"token"', kind="TXT"),
        theirs("_acme-challenge.www", '"token"', kind="TXT"),
        theirs("_account._acme-challenge", '"token"', kind="TXT"),
        theirs("own.ignored", "192.0.2.7"),
    ]
    memory = Memory(
        *kept, theirs("sub", "ns1.example.", kind="NS"), theirs("old", "192.0.2.1"), theirs("a", "192.0.2.1")
    )
    before, wish = dict(memory.held), Wish((want("a", "192.0.2.2"),))
    allowing(memory, tmp_path, wish, "sync", take_over=True, ignore=("*.ignored",)).apply(wish, "t")
    assert memory.held == {**{(s.name, s.type): s for s in kept}, ("a", "A"): mine("a", "192.0.2.2")}
    undone(memory, tmp_path)
    assert memory.held == before


@pytest.mark.parametrize("policy", LEFT)
@pytest.mark.parametrize("name", ["_acme-challenge", "_acme-challenge.a"])
def test_somebody_s_challenge_wants_its_own_adoption(tmp_path: Path, policy: str, name: str) -> None:
    memory = Memory(theirs(name, '"theirs"', kind="TXT"), theirs("a", "192.0.2.1"))
    before, wish = dict(memory.held), Wish((want(name, '"ours"', kind="TXT"),))
    other = [f"dns.rrset {ZONE}/a/A"]
    made = engine(memory, tmp_path, policy, take_over=True, adopt=other)
    if policy == "create-only":
        assert not made.plan(wish)
    else:
        with pytest.raises(Conflict, match=name):
            made.apply(wish, "t")
    assert memory.held == before


def test_one_set_is_adopted_by_its_name(tmp_path: Path) -> None:
    memory = Memory(theirs("a", "192.0.2.1"), theirs("b", "192.0.2.1"), theirs("c", "192.0.2.1", owner="staging"))
    before = dict(memory.held)
    wish = Wish((want("a", "192.0.2.2"), want("c", "192.0.2.2")))
    with pytest.raises(Conflict) as caught:
        engine(memory, tmp_path).apply(wish, "t")
    ids = [f"dns.rrset {ZONE}/{name}/A" for name in "ac"]
    assert all(name in str(caught.value) for name in ids), "another environment's Hecate is a stranger, too"
    engine(memory, tmp_path, adopt=ids).apply(wish, "t")
    assert memory.held == {
        ("a", "A"): mine("a", "192.0.2.2"),
        ("b", "A"): before["b", "A"],
        ("c", "A"): mine("c", "192.0.2.2"),
    }
    undone(memory, tmp_path)
    assert memory.held == before


# Shared sets

SPF = "@"


def part(*values: str, ttl: int | None = None) -> Wish:
    return Wish((want(SPF, *values, kind="TXT", ttl=ttl, shared=True),))


def txt(**records: str) -> Rrset:
    """Values and their comments."""
    return Rrset(SPF, "TXT", records, 600)


STEPS: dict[str, tuple[tuple[Rrset, ...], Wish, tuple[Rrset, ...]]] = {
    "add beside others": ((txt(theirs="note"),), part("ours"), (txt(theirs="note", ours=MARK),)),
    "one more": ((txt(theirs="", one=MARK),), part("one", "two"), (txt(theirs="", one=MARK, two=MARK),)),
    "one for another": ((txt(theirs="", one=MARK),), part("two"), (txt(theirs="", two=MARK),)),
    "the last of ours": ((txt(theirs="", one=MARK, two=MARK),), Wish(), (txt(theirs=""),)),
    "the last of all": ((txt(one=MARK),), Wish(), ()),
    "another environment's stay": ((txt(x="hecate/staging", one=MARK),), Wish(), (txt(x="hecate/staging"),)),
    "nobody was there": ((), part("ours", ttl=300), (replace(txt(ours=MARK), ttl=300),)),
    "a TTL of ours alone": ((txt(one=MARK),), part("one", ttl=300), (replace(txt(one=MARK), ttl=300),)),
    "a TTL of theirs too": ((txt(theirs="", one=MARK),), part("one", ttl=300), (txt(theirs="", one=MARK),)),
    "somebody has it already": ((txt(same="", theirs=""),), part("same"), (txt(same="", theirs=""),)),
    "somebody has some": ((txt(same="", theirs=""),), part("same", "x"), (txt(same="", theirs="", x=MARK),)),
    "somebody had some": ((txt(same="", x=MARK),), Wish(), (txt(same=""),)),
    "wholly ours so far": ((replace(txt(a="", b=""), owner=ME),), part("b", "c", ttl=600), (txt(b=MARK, c=MARK),)),
}


@pytest.mark.parametrize("step", STEPS)
def test_of_a_shared_set_only_our_values_come_and_go(tmp_path: Path, step: str) -> None:
    held, wish, expected = STEPS[step]
    memory = Memory(*held)
    before = dict(memory.held)
    made = allowing(memory, tmp_path, wish, "sync")
    made.apply(wish, "t")
    assert memory.held == {(s.name, s.type): s for s in expected}
    assert not made.plan(wish)
    undone(memory, tmp_path)
    assert memory.held == before


@pytest.mark.parametrize("wish", [part("one", "two"), part("two"), Wish()], ids=["add", "replace", "remove"])
def test_a_value_that_somebody_adds_meanwhile_survives_the_write_and_the_undo(tmp_path: Path, wish: Wish) -> None:
    memory = Memory(txt(one=MARK))
    made = allowing(memory, tmp_path, wish, "sync")

    def add() -> None:
        held = memory.held[SPF, "TXT"]
        memory.held[SPF, "TXT"] = replace(held, records={**held.records, "late": ""})

    memory.meanwhile = add
    made.apply(wish, "t")
    wished = [value for resource in wish.resources for value in resource.spec["records"]]
    assert sorted(memory.held[SPF, "TXT"].records) == sorted([*wished, "late"])
    undone(memory, tmp_path)
    assert memory.held[SPF, "TXT"].records == {"one": MARK, "late": ""}


@pytest.mark.parametrize("wished", [["ours"], ["ours", "more"]])
def test_the_same_value_added_by_somebody_meanwhile_stays_theirs(tmp_path: Path, wished: list[str]) -> None:
    memory = Memory(txt(theirs=""))
    memory.meanwhile = lambda: memory.held.update({(SPF, "TXT"): txt(theirs="", ours="")})
    with pytest.raises(ApplyFailed) as caught:
        engine(memory, tmp_path).apply(part(*wished), "t")
    assert caught.value.undone
    assert memory.held[SPF, "TXT"] == txt(theirs="", ours="")
    engine(memory, tmp_path).apply(part(*wished), "t2")
    assert memory.held[SPF, "TXT"] == txt(theirs="", ours="", **dict.fromkeys(wished[1:], MARK))


def test_a_set_that_is_no_longer_shared_is_not_simply_replaced(tmp_path: Path) -> None:
    memory = Memory(txt(theirs="", ours=MARK))
    with pytest.raises(Conflict):
        engine(memory, tmp_path).apply(Wish((want(SPF, "ours", kind="TXT"),)), "t")


# Thresholds


def zone_of(number: int) -> Memory:
    return Memory(*(mine(f"h{n}", "192.0.2.1") for n in range(number)))


def keeping(number: int) -> Wish:
    return Wish(tuple(want(f"h{n}", "192.0.2.1") for n in range(number)))


@pytest.mark.parametrize(
    ("there", "kept", "own", "asks"),
    [
        (3, 1, None, True),
        (3, 2, None, False),
        (1, 0, None, False),
        (2, 0, None, True),
        (7, 5, None, False),
        (30, 25, None, False),
        (30, 24, None, True),
        (30, 24, (6, 30), False),
        (3, 1, (5, 70), False),
        (30, 29, (0, 100), True),
        (30, 28, (5, 5), True),
    ],
)
def test_a_zone_s_own_size_and_limits_say_when_deletions_want_a_word(
    tmp_path: Path, there: int, kept: int, own: tuple[int, int] | None, asks: bool
) -> None:
    memory, limits = zone_of(there), Limits(zones={ZONE: own} if own else {})
    plan = engine(memory, tmp_path, limits=limits).plan(keeping(kept))
    words = [reason.rpartition("allow=")[2] for reason in plan.unsafe]
    assert words == (["deletes:estate.test"] if asks else [])
    for word in ("deletes", "deletes:estate.test"):
        allowed = replace(limits, allow=frozenset({word}))
        assert not engine(memory, tmp_path, limits=allowed).plan(keeping(kept)).unsafe
    other = replace(limits, allow=frozenset({"deletes:other.test"}))
    assert bool(engine(memory, tmp_path, limits=other).plan(keeping(kept)).unsafe) is asks


@pytest.mark.parametrize(
    ("held", "wish", "word"),
    [
        ([], want("@", "10 mail.", kind="MX"), ""),
        ([mine("@", "10 mail.", kind="MX")], want("@", "20 mail.", kind="MX"), "@/MX"),
        ([theirs("@", "10 mail.", kind="MX")], want("@", "20 mail.", kind="MX"), "@/MX"),
        ([theirs("@", "0 issue x", kind="CAA")], want("@", "0 issue y", kind="CAA"), "@/CAA"),
        ([theirs("@", "ns1.", kind="NS")], want("@", "ns2.", kind="NS"), "@/NS"),
        ([mine("@", "10 mail.", kind="MX")], None, "@/MX"),
        ([mine("@", "192.0.2.1")], None, "@/A"),
        ([mine("@", "192.0.2.1")], want("@", "192.0.2.2"), ""),
        ([mine("@", '"x"', kind="TXT")], want("@", '"y"', kind="TXT"), ""),
        ([mine("sub", "ns1.", kind="NS")], want("sub", "ns2.", kind="NS"), ""),
        ([mine("sub", "192.0.2.1")], None, ""),
    ],
)
def test_what_stands_at_the_apex_is_lost_only_with_a_word_for_it(
    tmp_path: Path, held: list[Rrset], wish: Resource | None, word: str
) -> None:
    made = engine(Memory(*held), tmp_path, limits=Limits(), adopt=[wish.id] if wish else [])
    plan = made.plan(Wish((wish,) if wish else ()))
    assert plan
    assert [r.rpartition("allow=")[2] for r in plan.unsafe] == ([f"apex:{ZONE}/{word}"] if word else [])


# Order


def test_deletions_are_held_back_weighed_all_the_same_and_done_by_the_same_wish_later(tmp_path: Path) -> None:
    memory = Memory(mine("old", "192.0.2.1"), mine("a", "192.0.2.1"), mine("b", "192.0.2.1"))
    before = dict(memory.held)
    wish = Wish((want("a", "192.0.2.2"), want("b", "192.0.2.1"), want("new", "192.0.2.3")))
    made, held_back = engine(memory, tmp_path, limits=Limits()), replace(wish, hold=True)
    made.apply(held_back, "t", shared=True)
    assert sorted(name for name, _ in memory.held) == ["a", "b", "new", "old"]
    assert not made.plan(held_back)
    made.apply(wish, "t", shared=True)
    assert sorted(name for name, _ in memory.held) == ["a", "b", "new"]
    undone(memory, tmp_path)
    assert memory.held == before
    with pytest.raises(UnsafePlan, match="deletes:estate.test"):
        made.apply(replace(Wish((want("a", "192.0.2.1"),)), hold=True), "t2")
    assert memory.held == before, "told before anything is written, not when the routes are gone"


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("to_cname", [False, True])
def test_what_a_new_record_cannot_stand_beside_goes_first(tmp_path: Path, hold: bool, to_cname: bool) -> None:
    address, alias = want("a", "192.0.2.1"), want("a", "b.", kind="CNAME")
    old, new = (mine("a", "192.0.2.1"), alias) if to_cname else (mine("a", "b.", kind="CNAME"), address)
    memory = Memory(old)
    engine(memory, tmp_path).apply(Wish((new,), hold=hold), "t")
    assert [resource_of(ZONE, s).id for s in memory.held.values()] == [new.id]
    undone(memory, tmp_path)
    assert list(memory.held.values()) == [old]


def test_a_deploy_removes_records_after_the_last_edge() -> None:
    steps = [Step(name, "m", name) for name in ("authentik", "hetzner_dns", "rfc2136")]
    edges = [Step(name, name, "caddy") for name in ("one", "two")]
    parts = [(part.name, part.step.system, part.hold) for part in parts_of(steps + edges)]
    assert parts == [
        ("authentik", "authentik", ""),
        ("hetzner_dns", "hetzner_dns", "deletions"),
        ("rfc2136", "rfc2136", "deletions"),
        ("one", "caddy", ""),
        ("two", "caddy", ""),
        ("hetzner_dns deletions", "hetzner_dns", ""),
        ("rfc2136 deletions", "rfc2136", ""),
    ]
    assert [(part.name, part.hold) for part in parts_of(steps[:2])] == [("authentik", ""), ("hetzner_dns", "")]


# The model


@pytest.mark.parametrize(
    ("hecate", "path"),
    [
        ({"dns": {"zones": {ZONE: {"ignore": "k8s-*", "records": {"k8s-a": {"A": "192.0.2.1"}}}}}}, "records:k8s-a"),
        (
            {
                "dns": {"zones": {ZONE: {"ignore": ["b", "a.*"]}}},
                "routes": {f"a.b.{ZONE}": {"upstreams": ["h:1"], "dns": {"A": "192.0.2.1"}}},
            },
            f"hecate:routes:a.b.{ZONE}:dns",
        ),
    ],
)
def test_wanting_a_name_that_is_ignored_is_a_mistake(hecate: dict[str, Any], path: str) -> None:
    for zone in hecate["dns"]["zones"].values():
        zone["policy"] = "sync"
    with pytest.raises(InvalidPillar, match="ignores") as caught:
        model.parse({"hecate": {"hetzner_dns": {"token": "env:T"}, **hecate}})
    assert path in str(caught.value)


# Whatever may come

NAMES = ["@", "a", "b", "_acme-challenge", "_acme-challenge.a", "ign-x"]
KINDS = ["A", "TXT", "MX", "CNAME"]
VALUES = st.sets(st.sampled_from(["v1", "v2", "v3"]), min_size=1)
TTLS = st.sampled_from([None, 60, 300])
COMMENTS = st.sampled_from(["", "note", MARK, "hecate/staging"])
KEYS = st.tuples(st.sampled_from(NAMES), st.sampled_from(KINDS))


def lonely(keys: set[Key]) -> set[Key]:
    """Without what stands beside a CNAME, as no zone may have it, and without a CNAME at the apex."""
    aliases = {name for name, kind in keys if kind == "CNAME"} - {"@"}
    return {(name, kind) for name, kind in keys if (kind == "CNAME") == (name in aliases)}


@st.composite
def zones(draw: st.DrawFn) -> list[Rrset]:
    makers = [theirs("@", "ns. host. 1 2 3 4 5", kind="SOA"), theirs("@", "ns1.", kind="NS")]
    for name, kind in sorted(lonely(draw(st.sets(KEYS)))):
        records = {value: draw(COMMENTS) for value in sorted(draw(VALUES))}
        # A set that is marked as staging's and holds nothing but our values is nobody's doing.
        owners = ["", ME, "staging"] if {*records.values()} != {MARK} else ["", ME]
        makers.append(Rrset(name, kind, records, draw(TTLS), draw(st.sampled_from(owners))))
    return makers


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    found = []
    for name, kind in sorted(lonely(draw(st.sets(KEYS.filter(lambda key: key[0] != "ign-x"))))):
        shared = kind != "CNAME" and draw(st.booleans())
        found.append(want(name, *draw(VALUES), kind=kind, ttl=draw(TTLS), shared=shared))
    return Wish(tuple(found))


@settings(max_examples=200, deadline=None)
@given(zones(), wishes(), st.sampled_from([*LEFT]), st.booleans())
def test_whatever_is_there_and_wanted_one_apply_is_enough_and_nobody_else_notices(
    held: list[Rrset], wish: Wish, policy: str, take_over: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_through(Path(folder), held, wish, policy, {"take_over": take_over, "ignore": ("ign-*",)})


def run_through(folder: Path, held: list[Rrset], wish: Wish, policy: str, rules: dict[str, Any]) -> None:
    memory = Memory(*held)
    before, adopt = dict(memory.held), list[str]()
    try:
        engine(memory, folder, policy, **rules).plan(wish)
    except Conflict as err:
        adopt = list(err.ids)
    made = allowing(memory, folder, wish, policy, adopt, **rules)
    try:
        made.apply(wish, "t")
    except ApplyFailed as err:
        event("a CNAME of others is in the way")
        assert err.undone and memory.held == before
        assert clashing(before, wish), err
        return
    assert not made.plan(wish)
    for key, rrset in before.items():
        assert memory.held.get(key, Rrset(*key, {}, None)) == expected(rrset, memory, wish, policy, rules), key
    undone(memory, folder)
    assert memory.held == before


def expected(rrset: Rrset, memory: Memory, wish: Wish, policy: str, rules: dict[str, Any]) -> Rrset | None:
    """A stranger, or one who merely has values in the set, as it was; what is ours, as it is now."""
    now = memory.held.get((rrset.name, rrset.type), Rrset(rrset.name, rrset.type, {}, None))
    wanted = {r.id: r for r in wish.resources}.get(resource_of(ZONE, rrset).id)
    challenge, is_zone = "_acme" in rrset.name, rrset.type in ("SOA", "NS")
    whole = rrset.owner == ME or (rules["take_over"] and not challenge and not is_zone)
    if rrset.name == "ign-x" or is_zone:
        return rrset
    if wanted is not None and not wanted.spec.get("shared"):
        return now  # ours, or adopted
    if whole and not (wanted is not None and rrset.owner != ME):
        return now if wanted is not None or policy == "sync" else rrset
    others = {value: comment for value, comment in rrset.records.items() if comment != MARK}
    assert others.items() <= now.records.items(), "values of others"
    if others:
        assert (now.owner, now.ttl) == (rrset.owner, rrset.ttl)
    if wanted is None and policy != "sync":
        return rrset
    return now


def clashing(held: Held, wish: Wish) -> bool:
    """Whether a name is wanted with a CNAME and without, by us and by what is there."""
    wanted = {(r.key.split("/")[1], r.key.split("/")[2]) for r in wish.resources}
    both = {*held} | wanted
    return lonely({key for key in both if key[0] != "@"}) != {key for key in both if key[0] != "@"}
