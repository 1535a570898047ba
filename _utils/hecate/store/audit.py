"""The audit chain of one environment: what was done, each entry signed and bound to the one before it.

Entries are numbered from 1 and never rewritten. A signed head names the last one, a signed anchor the last that was
pruned. An entry is put first, and the head moved after it; whoever finds an entry that the head does not know yet,
and that fits, completes it. Entries that tell of a deployment hold the digest of its record.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hecate.errors import HecateError
from hecate.store import ABSENT, Store
from hecate.store.deployments import Deployment
from hecate.store.witness import Witness

TRIES = 40  # of one append, while others append too
BEGIN, BROKEN = "begin", "chain broken"


@dataclass(frozen=True)
class Entry:
    """at: Unix seconds. what: begin, done, rolled back, failed, refused, ... deployment: which it is about, if any.

    fence: that it was begun with. digest: of its record afterwards. oldest: fence of the oldest record that is kept.
    previous: hash of the entry before. mac: over all the rest and the environment.
    """

    number: int
    at: float
    user: str
    host: str
    what: str
    deployment: str = ""
    note: str = ""
    fence: int = 0
    digest: str = ""
    oldest: int = 0
    previous: str = ""
    mac: str = ""

    @property
    def hash(self) -> str:
        return hashlib.sha256(_canonical(asdict(self))).hexdigest()


@dataclass(frozen=True)
class Mark:
    """A head or an anchor: the number and hash of an entry."""

    number: int = 0
    hash: str = ""


class Audit:
    """key: called when something is to be signed or checked. user, host: who does what is told."""

    def __init__(
        self,
        store: Store,
        environment: str,
        key: Callable[[], bytes],
        witness: Witness,
        *,
        user: str = "",
        host: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store, self._base, self._key, self._witness = store, environment, key, witness
        self._user, self._host, self._sleep = user, host, sleep

    # Telling

    def tell(self, what: str, deployment: Deployment | None = None, *, note: str = "", oldest: int = 0) -> Entry:
        """Append. deployment: its record as it is to be found afterwards.

        Raises HecateError when others append all the time, ApiFailure when the store does not answer.
        """
        about = (
            {"deployment": deployment.id, "fence": deployment.fence, "digest": deployment.digest} if deployment else {}
        )
        return self._append(what, note=note, oldest=oldest, **about)

    def tell_of(self, what: str, name: str, *, note: str = "", fence: int = 0) -> Entry:
        """Append what has no record: a rotation, a deploy that was refused."""
        return self._append(what, deployment=name, note=note, fence=fence)

    def _append(self, what: str, **fields: Any) -> Entry:
        for _ in range(TRIES):
            head, there, version = self._completed()
            whole = head is not None and there is None
            start = head if head and whole else self._after_a_break()
            said = what if whole else f"{BROKEN}; {what}"
            entry = Entry(start.number + 1, time.time(), self._user, self._host, said, previous=start.hash, **fields)
            fresh = self._signed(entry)
            if self._store.put(self._entry_key(fresh.number), asdict(fresh), ABSENT):
                self._advance(fresh, version)
                return fresh
            self._sleep(random.uniform(0, 0.05))
        raise HecateError(f"the audit of {self._base} could not be written: somebody else writes it all the time")

    def _completed(self) -> tuple[Mark | None, Entry | None, str]:
        """The head, moved on to entries that somebody put a moment ago, or who was killed before he moved it.

        And an entry that stands after it and does not fit, if one does.
        """
        while True:
            head, version = self._head()
            there = self._entry(head.number + 1) if head else None
            if not (head and there and self._is_signed(there) and there.previous == head.hash):
                return head, there, version
            self._advance(there, version)

    def _advance(self, entry: Entry, version: str) -> None:
        """Somebody else may have completed it meanwhile; the head is right then, or further on."""
        mark = Mark(entry.number, entry.hash)
        self._store.put(self._head_key, self._marked("head", mark), version)
        self._witness.see(mark.number, mark.hash)

    def _after_a_break(self) -> Mark:
        """Where to go on without a head that can be believed: after the last entry, bound to none."""
        numbers = [int(key.rpartition("/")[2]) for key in self._store.keys(f"{self._base}/audit/")]
        return Mark(max([*numbers, self._witness.number]))

    # Keeping

    def settle(self, find: Callable[[str], Deployment | None]) -> None:
        """The last entry announced a record that was never written, as its writer was killed: say so."""
        head, _, _ = self._completed()
        last = self._entry(head.number) if head and head.number else None
        if last is None or not last.digest:
            return
        record = find(last.deployment)
        if record is None and last.what == BEGIN:
            self.tell_of(f"cut off before: {last.what}", last.deployment, fence=last.fence)
        elif record and record.digest != last.digest and record.digest == self._digest_before(last):
            self.tell(f"cut off before: {last.what}", record)

    def _digest_before(self, last: Entry) -> str:
        """Of the same deployment's record, as the entry before tells it."""
        entry = self._entry(last.number - 1)
        while entry and not (entry.deployment == last.deployment and entry.digest):
            entry = self._entry(entry.number - 1)
        return entry.digest if entry else ""

    def prune(self, oldest: int) -> None:
        """Forget what came before the deployment with the fence `oldest`, the first that is kept."""
        mark = self._mark("anchor")[0] or Mark()
        keep_from, last = mark, (self._head()[0] or Mark()).number
        while keep_from.number + 1 < last:
            entry = self._entry(keep_from.number + 1)
            if entry is None or not self._is_signed(entry) or entry.fence >= oldest:
                break
            keep_from = Mark(entry.number, entry.hash)
        if keep_from.number > mark.number:
            self._store.put(self._anchor_key, self._marked("anchor", keep_from), None)
            for number in range(mark.number + 1, keep_from.number + 1):
                self._store.delete(self._entry_key(number))

    # Looking

    def entries(self) -> list[Entry]:
        """All that are kept, oldest first, whatever they say."""
        found = map(self._store.get, self._store.keys(f"{self._base}/audit/"))
        return [_entry(stored.value) for stored in found if stored]

    def problems(self, records: Sequence[Deployment], exported: Sequence[Mapping[str, Any]] = ()) -> list[str]:
        """What is wrong with the chain and with the deployments' records; empty when all is as it was written.

        exported: entries of an earlier export, to compare with.
        """
        entries = self.entries()
        return [*self._chain(entries), *_records(entries, records), *_compared(entries, exported)]

    def _chain(self, entries: Sequence[Entry]) -> Iterator[str]:
        anchor, _ = self._mark("anchor")
        if anchor is None:
            yield "the anchor is not Hecate's: somebody wrote it"
        before = anchor or Mark()
        kept = [entry for entry in entries if entry.number > before.number]
        for entry in kept:
            if entry.number != before.number + 1:
                yield f"entries {before.number + 1} to {entry.number - 1} are missing"
            elif entry.previous != before.hash:
                yield f"entry {entry.number} does not follow the one before it: one of them was changed or replaced"
            if not self._is_signed(entry):
                yield f"entry {entry.number} was changed, or signed with another key"
            if entry.what.startswith(BROKEN):
                yield f"entry {entry.number} begins anew: the head was missing or false then"
            before = Mark(entry.number, entry.hash)
        yield from self._ends(before, {entry.number: entry.hash for entry in kept})

    def _ends(self, last: Mark, hashes: Mapping[int, str]) -> Iterator[str]:
        head, version = self._head()
        if head is None:
            yield "the head is missing" if version == ABSENT else "the head is not Hecate's: somebody wrote it"
        elif head.number > last.number:
            yield f"entries {last.number + 1} to {head.number} are missing"
        elif head.number and hashes.get(head.number, head.hash) != head.hash:
            yield f"entry {head.number} is not the one that the head names"
        elif last.number > head.number + 1:
            yield f"the head is an old one: it names entry {head.number} of {last.number}"
        seen = self._witness
        if seen.number > last.number:
            yield f"entries {last.number + 1} to {seen.number} are missing: this master has seen them"
        elif seen.number and hashes.get(seen.number, seen.hash) != seen.hash:
            yield f"entry {seen.number} is not the one that this master has seen"

    # Signing

    def _head(self) -> tuple[Mark | None, str]:
        """The head and its version; none where it can't be believed. A chain that has never begun has number 0."""
        head, version = self._mark("head")
        if version == ABSENT and self._store.keys(f"{self._base}/audit/"):
            first = self._entry(1)  # the very first may just have been put
            only = first is not None and self._is_signed(first) and not first.previous and self._entry(2) is None
            again, version = self._mark("head")
            head = head if only and version == ABSENT else again if version != ABSENT else None
        if head is not None and head.number < self._witness.number:
            return None, version  # an old copy: this master has seen it further on
        return head, version

    def _mark(self, name: str) -> tuple[Mark | None, str]:
        stored = self._store.get(f"{self._base}/audit-{name}")
        if stored is None:
            return Mark(), ABSENT
        try:
            mark = Mark(stored.value["number"], stored.value["hash"])
            good = hmac.compare_digest(self._marked(name, mark)["mac"], str(stored.value["mac"]))
        except (KeyError, TypeError):
            return None, stored.version
        return (mark if good else None), stored.version

    def _marked(self, name: str, mark: Mark) -> dict[str, Any]:
        return {**asdict(mark), "mac": self._mac({"what": name, **asdict(mark)})}

    def _signed(self, entry: Entry) -> Entry:
        return replace(entry, mac=self._mac(asdict(replace(entry, mac=""))))

    def _is_signed(self, entry: Entry) -> bool:
        return hmac.compare_digest(self._signed(entry).mac, entry.mac)

    def _mac(self, body: Mapping[str, Any]) -> str:
        return hmac.new(self._key(), _canonical({"environment": self._base, **body}), hashlib.sha256).hexdigest()

    def _entry(self, number: int) -> Entry | None:
        stored = self._store.get(self._entry_key(number))
        return _entry(stored.value) if stored else None

    def _entry_key(self, number: int) -> str:
        return f"{self._base}/audit/{number:010d}"

    @property
    def _head_key(self) -> str:
        return f"{self._base}/audit-head"

    @property
    def _anchor_key(self) -> str:
        return f"{self._base}/audit-anchor"


def _records(entries: Sequence[Entry], records: Sequence[Deployment]) -> Iterator[str]:
    """Deployments' records against the last entry that tells of each."""
    told = {entry.deployment: entry for entry in entries if entry.deployment}
    there = {record.id: record for record in records}
    oldest = max((entry.oldest for entry in entries), default=0)
    for name, entry in told.items():
        record = there.get(name)
        if record is None and entry.digest and entry.fence >= oldest and entry is not entries[-1]:
            yield f"the record of deployment {name} is missing"
        elif record and record.digest != entry.digest and not _is_cut_off(entries, entry, record):
            yield f"the record of deployment {name} was changed after entry {entry.number}"
    for record in records:
        if record.id not in told and record.fence >= oldest:
            yield f"deployment {record.id} has a record, and no entry tells of it"


def _is_cut_off(entries: Sequence[Entry], last: Entry, record: Deployment) -> bool:
    """Whoever wrote the very last entry was killed before he wrote the record: it is as the entry before tells."""
    earlier = [entry for entry in entries[:-1] if entry.deployment == record.id and entry.digest]
    return last is entries[-1] and bool(earlier) and earlier[-1].digest == record.digest


def _compared(entries: Sequence[Entry], exported: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """An export of an earlier day against today's chain. What was pruned since is not there any more."""
    now = {entry.number: entry for entry in entries}
    for row in exported:
        number = int(row["number"])
        if number in now and asdict(now[number]) != dict(row):
            yield f"entry {number} is not the one in the export"
        elif number not in now and (not entries or number > entries[0].number):
            yield f"entry {number} of the export is missing"


def _entry(value: Mapping[str, Any]) -> Entry:
    """Whatever stands there, as an entry: what has lost or won fields can't have the right signature."""
    known = Entry(0, 0, "", "", "")
    fields = {
        name: value.get(name, usual) if isinstance(value, Mapping) else usual for name, usual in asdict(known).items()
    }
    strange = sorted(set(value) - fields.keys()) if isinstance(value, Mapping) else ["all of it"]
    return Entry(**{**fields, "mac": "" if strange else str(fields["mac"])})


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
