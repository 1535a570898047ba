"""What is on disk after a kill at any byte."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hecate.errors import Fenced, HecateError, JournalDamaged
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


# Who may write here


def test_the_deploy_that_joined_last_alone_may_write(tmp_path: Path) -> None:
    made = Journal(tmp_path / "j")
    made.refuse_strangers("anybody")  # a target that no deploy has ever joined
    assert made.join("t1", 1, "alice on m1") == []
    made.refuse_strangers("t1")
    assert made.join("t1", 1, "alice on m1") == [], "an answer may be lost, and the question asked again"
    made.join("t2", 2, "bob on m2")
    with pytest.raises(Fenced, match="deploy t2 of bob on m2 has it"):
        made.refuse_strangers("t1")
    with pytest.raises(Fenced, match="fence 2"):
        made.join("t1", 1, "alice on m1")


@pytest.mark.parametrize("end", ["leave", "take_over"])
def test_a_membership_that_has_ended_stays_so(tmp_path: Path, end: str) -> None:
    made = Journal(tmp_path / "j")
    made.join("t1", 1, "alice on m1")
    made.leave("t1") if end == "leave" else made.take_over("t1", 1)
    with pytest.raises(Fenced, match="it was released"):
        made.refuse_strangers("t1")


def test_finishing_an_old_deploy_does_not_end_the_membership_of_the_new_one(tmp_path: Path) -> None:
    made = Journal(tmp_path / "j")
    made.join("t1", 1, "alice on m1")
    made.join("t2", 2, "bob on m2")
    made.take_over("t1", 2)
    made.leave("t1")
    made.refuse_strangers("t2")
    with pytest.raises(Fenced):
        made.take_over("t1", 1)


def test_open_transactions_of_others_are_told(tmp_path: Path) -> None:
    made = Journal(tmp_path / "j")
    made.join("t1", 1, "alice on m1")
    made.announce("t1", CHANGES, shared=True)
    made.announce("own", CHANGES, shared=False)
    assert made.join("t2", 2, "bob on m2") == ["t1"]


def test_a_journal_that_can_not_be_written_is_named_before_anything_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Journal(tmp_path / "j")
    made.join("t1", 1, "alice on m1")

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hecate.journal.write_whole", full)
    with pytest.raises(HecateError, match=f"{tmp_path}/j can't be written: No space left on device"):
        made.join("t2", 2, "bob on m2")
    monkeypatch.undo()
    made.refuse_strangers("t1")
    assert not [path for path in (tmp_path / "j").iterdir() if path.name.startswith("room")]


def test_a_damaged_fence_lets_nobody_in(tmp_path: Path) -> None:
    made = Journal(tmp_path / "j")
    made.join("t1", 1, "alice on m1")
    (tmp_path / "j" / "fence.json").write_text('{"fence"')
    with pytest.raises(JournalDamaged):
        made.refuse_strangers("t1")
    with pytest.raises(JournalDamaged):
        made.join("t2", 2, "bob on m2")
