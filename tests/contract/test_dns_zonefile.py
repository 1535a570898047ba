"""Zonefiles: kept before every change, restored, exported, brought into pillar."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hecate import model, wiring, zonefile
from hecate.errors import ApplyFailed, Faulty, HecateError
from hecate.zonefile import Set
from hecate.zones import KEPT, Zonefiles

from lab.emulators.base import Fault

from .dns_lab import ZONE, DnsLab, dns_lab

FIRST = {
    "www": {"A": ["192.0.2.1", "192.0.2.2"], "ttl": 120},
    "text": {"TXT": "v=spf1 -all"},
    "old": {"CNAME": f"www.{ZONE}"},
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DnsLab]:
    with dns_lab(tmp_path, monkeypatch) as made:
        made.stranger("mail", "A", "192.0.2.25", ttl=600)
        yield made


def restore(lab: DnsLab, name: str, *, strangers: bool = False, write: bool = True) -> list[str]:
    """Ids that were (or would be) changed."""
    made = wiring.zoned(lab.target({}), ZONE)
    text = wiring.zonefiles(lab.place).read(ZONE, name)
    engine, wish = wiring.restoring(made, lab.place, text, strangers)
    plan = engine.apply(wish, "restore").plan if write else engine.plan(wish)
    return [change.id for change in plan.changes]


def test_the_zonefile_is_kept_once_before_an_apply_that_changes_the_zone(lab: DnsLab) -> None:
    target = lab.target(FIRST)
    target.engine.apply(target.wish, "t1")
    assert lab.calls().count(f"GET /zones/{lab.emulator.state.find_zone(ZONE)['id']}/zonefile") == 1  # type: ignore[index]
    kept = lab.folder / "hecate" / "zonefiles" / ZONE / "t1.zone"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    before = zonefile.parse(kept.read_text(), ZONE)
    assert "mail/A" in before.sets and "www/A" not in before.sets, "as it was before"
    lab.emulator.calls.clear()
    target.engine.apply(target.wish, "t2")
    assert not [call for call in lab.calls() if "zonefile" in call], "nothing changed, so nothing is kept"
    assert wiring.zonefiles(lab.place).names(ZONE) == ["t1.zone"]


def test_nothing_is_written_to_a_zone_that_could_not_be_kept(lab: DnsLab) -> None:
    before = lab.held()
    lab.faults(Fault(path="zonefile", status=500, times=None))
    target = lab.target(FIRST)
    with pytest.raises(Faulty):
        target.engine.apply(target.wish, "t1")
    assert lab.held() == before


def test_only_the_newest_are_kept_and_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    files = Zonefiles(tmp_path)
    for number in range(KEPT + 3):
        files.keep(ZONE, f"t{number:03}", "x")
    assert files.names(ZONE) == [f"t{number:03}.zone" for number in range(3, KEPT + 3)]
    for zone, name in ((ZONE, "../../secret.zone"), ("..", "t003.zone"), ("/etc", "t003.zone"), (ZONE, "gone.zone")):
        with pytest.raises(HecateError):
            files.read(zone, name)


def test_a_restore_brings_back_what_is_hecates_and_leaves_strangers(lab: DnsLab) -> None:
    first = lab.target(FIRST)
    first.engine.apply(first.wish, "t1")
    then = lab.held()
    second = lab.target({"www": {"A": "192.0.2.9"}, "new": {"A": "192.0.2.7"}})
    second.engine.apply(second.wish, "t2")
    lab.stranger("later", "A", "192.0.2.77")
    wanted = {f"dns.rrset {ZONE}/{key}" for key in ("www/A", "text/TXT", "old/CNAME", "new/A")}
    now = lab.held()
    assert set(restore(lab, "t2.zone", write=False)) == wanted and lab.held() == now, "a test writes nothing"
    assert set(restore(lab, "t2.zone")) == wanted
    assert lab.held() == {**then, "later/A": now["later/A"]}
    assert restore(lab, "t2.zone") == [], "a second one finds nothing to do"


def test_a_restore_of_all_brings_strangers_back_too_but_touches_neither_apex_nor_challenges(lab: DnsLab) -> None:
    first = lab.target(FIRST)
    first.engine.apply(first.wish, "t1")
    then = lab.held()
    second = lab.target({"www": {"A": "192.0.2.9"}})
    second.engine.apply(second.wish, "t2")
    lab.stranger("later", "A", "192.0.2.77")
    lab.stranger("_acme-challenge", "TXT", '"proof"')
    challenge = lab.held()["_acme-challenge/TXT"]
    sets = lab.emulator.state.rrsets[lab.emulator.state.find_zone(ZONE)["id"]]  # type: ignore[index]
    del sets["mail", "A"]
    sets["@", "NS"]["records"] = [{"value": "ns.elsewhere.test."}]
    restore(lab, "t2.zone", strangers=True)
    moved = {"_acme-challenge/TXT": challenge, "@/NS": lab.held()["@/NS"]}
    assert lab.held() == {**then, **moved} and lab.held()["@/NS"]["records"] == ["ns.elsewhere.test."]


def test_a_restore_that_fails_is_undone_like_any_apply(lab: DnsLab) -> None:
    first = lab.target(FIRST)
    first.engine.apply(first.wish, "t1")
    second = lab.target({"www": {"A": "192.0.2.9"}})
    second.engine.apply(second.wish, "t2")
    before = lab.held()
    lab.faults(Fault(method="WRITE", status=500, skip=1))
    with pytest.raises(ApplyFailed) as caught:
        restore(lab, "t2.zone")
    assert caught.value.undone and lab.held() == before


def test_an_exported_zone_reads_back_as_it_is_and_a_foreign_file_is_refused(lab: DnsLab) -> None:
    target = lab.target(FIRST)
    target.engine.apply(target.wish, "t1")
    text = wiring.exported(wiring.zoned(target, ZONE))
    made = zonefile.parse(text, ZONE)
    assert zonefile.differences(made, zonefile.parse(zonefile.write(ZONE, made.ttl, made.sets.values()), ZONE)) == []
    for wrong, why in (
        ("@ IN A 1.2.3.4.5", "not a zonefile"),
        ("$ORIGIN b.test.\n@ IN A 192.0.2.1", "of b.test, not of estate.test"),
    ):
        with pytest.raises(HecateError, match=why):
            zonefile.parse(wrong, ZONE)
    with pytest.raises(HecateError, match="hecate:dns:zones"):
        wiring.zoned(target, "other.test")


def test_two_zonefiles_differ_by_what_they_say_and_not_by_how(lab: DnsLab) -> None:
    old = zonefile.parse("$TTL 300\na 300 IN A 192.0.2.1\nb IN TXT one two\nc IN MX 10 m\nz IN A 192.0.2.9\n", ZONE)
    same = '$TTL 60\na 300 IN A 192.0.2.1\nb 300 IN TXT "one" "two"\nc 300 IN MX 10 m.estate.test.\n'
    new = zonefile.parse(same + "d IN A 192.0.2.4\n", ZONE)
    assert zonefile.differences(old, new) == ["+ d/A: 192.0.2.4", "- z/A: 192.0.2.9"]
    louder = zonefile.parse(same.replace("300 IN A", "900 IN A"), ZONE)
    assert [line for line in zonefile.differences(old, louder) if line.startswith("~")] == [
        "~ a/A: 192.0.2.1 (ttl 300) -> 192.0.2.1 (ttl 900)"
    ]


def test_whose_a_set_was_is_read_back_from_a_kept_file() -> None:
    text = zonefile.write(ZONE, 300, [Set("a", "A", {"192.0.2.1": "by hand"}), Set("b", "A", {"192.0.2.2": ""}, 60)])
    kept = zonefile.parse(zonefile.with_owners(text, "why\nnot", [Set("b", "A", {}, 60, "production")]), ZONE)
    assert [(s.owner, s.ttl, dict(s.records)) for s in kept.sets.values()] == [
        ("", None, {"192.0.2.1": "by hand"}),
        ("production", 60, {"192.0.2.2": ""}),
    ]


def test_an_imported_zone_is_adopted_without_a_change_of_its_values(lab: DnsLab) -> None:
    key = "v=DKIM1; k=rsa; p=" + "A" * 300
    lab.stranger("_dkim", "TXT", f'"{key[:255]}" "{key[255:]}"')
    lab.stranger("www", "CNAME", f"mail.{ZONE}.")
    lab.stranger("@", "MX", f"10 mail.{ZONE}.", f"20 mail2.{ZONE}.")
    lab.stranger("_acme-challenge", "TXT", '"proof"')
    before = lab.held()
    pillar, adopt, left = wiring.importable(wiring.zoned(lab.target({}), ZONE))
    assert set(adopt) == {f"dns.rrset {ZONE}/{key}" for key in ("_dkim/TXT", "www/CNAME", "@/MX", "mail/A")}
    assert [line.partition(":")[0] for line in left] == [
        f"{ZONE}/{key}" for key in ("@/NS", "@/SOA", "_acme-challenge/TXT")
    ]
    pasted = yaml.safe_load(yaml.safe_dump(pillar))["hecate"]
    zone = pasted["dns"]["zones"][ZONE]
    whole = lab.pillar(zone["records"], zone={"ttl": zone["ttl"]}, adopt=pasted["adopt"], safety={"updates": 100})
    target = wiring.target(
        "hetzner_dns", model.parse({"hecate": whole}), wiring.Place("dns", lab.folder, allow=[f"apex:{ZONE}/@/MX"])
    )
    target.engine.apply(target.wish, "t1")
    after = lab.held()
    assert {k: v["records"] for k, v in after.items()} == {k: v["records"] for k, v in before.items()}
    assert {k for k, v in after.items() if v["labels"]} == {"_dkim/TXT", "www/CNAME", "@/MX", "mail/A"}


def test_the_execution_functions_tell_first_and_write_when_told(lab: DnsLab) -> None:
    import hecate_salt

    def site(records: dict[str, object]) -> hecate_salt.Site:
        opts = {"id": "dns", "cachedir": str(lab.folder)}
        return hecate_salt.Site(opts, {}, {"hecate": lab.pillar(records)})

    hecate_salt.applied(site(FIRST), "hetzner_dns")
    then = lab.held()
    now = site({"www": {"A": "192.0.2.9"}})
    hecate_salt.applied(now, "hetzner_dns")
    first, second = hecate_salt.zone_files(now, ZONE)
    told = hecate_salt.zone_restored(now, "hetzner_dns", ZONE, second, test=True, strangers=False, allow=())
    assert told["changes"] == {} and f"~ dns.rrset {ZONE}/www/A" in told["plan"] and lab.held() != then
    assert any(line.startswith("~ www/A: 192.0.2.9") for line in told["diff"])
    done = hecate_salt.zone_restored(now, "hetzner_dns", ZONE, second, test=False, strangers=False, allow=())
    assert f"dns.rrset {ZONE}/www/A" in done["changes"] and lab.held() == then
    assert "mail" in hecate_salt.zone_exported(now, "hetzner_dns", ZONE)
    assert hecate_salt.zone_imported(now, "hetzner_dns", ZONE)["adopt"] == [f"dns.rrset {ZONE}/mail/A"]
    assert isinstance(hecate_salt.zone_serials(now)[ZONE], int) and hecate_salt.zone_drift(now) == {}
    assert first in hecate_salt.zone_files(now, ZONE)
