"""What is on disk after a kill at any byte."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hecate.errors import JournalDamaged
from hecate.journal import Journal
from hecate.resource import Change, Resource

CHANGES = [
    Change(None, Resource("k", "a", {"v": 1}, ("k b",))),
    Change(Resource("k", "b", {"v": 1}), Resource("k", "b", {"v": 2})),
]


def journal(folder: Path) -> Journal:
    made = Journal(folder)
    with made.exclusive():
        for change in CHANGES:
            made.announce("t1", [change], shared=True)
    return made


def test_what_was_announced_can_be_read_again(tmp_path: Path) -> None:
    entry = journal(tmp_path).entry("t1")
    assert entry and entry.shared and list(entry.changes) == CHANGES


def test_of_very_many_only_what_was_there_is_kept_whole(tmp_path: Path) -> None:
    made = Journal(tmp_path)
    with made.exclusive():
        made.announce("t1", CHANGES, shared=False, brief=True)
    new, updated = made.entry("t1").changes  # type: ignore[union-attr]
    assert (new.before, new.subject.id, new.subject.needs, new.subject.spec) == (None, "k a", ("k b",), {})
    assert updated.before == CHANGES[1].before


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    journal(tmp_path / "journal")
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "journal" / "t1.jsonl").stat().st_mode) == 0o600


def test_cut_at_any_byte_it_is_readable_or_told_as_damaged(tmp_path: Path) -> None:
    made = journal(tmp_path)
    path = tmp_path / "t1.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        entry = made.entry("t1")
        assert entry is not None
        assert list(entry.changes) == (CHANGES[:1] if length >= first else [])


def test_a_damaged_line_touches_nothing(tmp_path: Path) -> None:
    made = journal(tmp_path)
    path = tmp_path / "t1.jsonl"
    path.write_text("{nonsense\n" + path.read_text())
    with pytest.raises(JournalDamaged, match=str(path)):
        made.open_entries()


def test_a_withdrawn_announcement_is_gone(tmp_path: Path) -> None:
    made = journal(tmp_path)
    made.withdraw("t1")
    assert made.entry("t1").changes == (CHANGES[0],)  # type: ignore[union-attr]
    made.withdraw("t1")
    assert made.entry("t1") is None


@pytest.mark.parametrize("name", ["../evil", "", "a/b", "a.b"])
def test_a_transaction_id_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="transaction id"):
        Journal(tmp_path).entry(name)


def test_old_ones_are_forgotten(tmp_path: Path) -> None:
    made = Journal(tmp_path)
    for number in range(30):
        with made.exclusive():
            made.announce(f"t{number}", CHANGES, shared=False)
        made.keep(f"t{number}")
    assert len(list(tmp_path.glob("*.done"))) == 20
