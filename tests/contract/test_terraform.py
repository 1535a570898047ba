"""Terraform's own ways to go wrong."""

from __future__ import annotations

import pytest
from hecate.errors import ApplyFailed, Refused
from hecate.wiring import outputs

from .conftest import World

LATE = """
resource "terraform_data" "late" {
  depends_on = [terraform_data.edge]
  provisioner "local-exec" { command = "exit 7" }
}
"""


def _break(world: World) -> None:
    path = world.folder / "source" / "main.tf"
    path.write_text(path.read_text() + LATE)


def test_a_first_apply_that_breaks_off_half_way_leaves_nothing(terraform_world: World) -> None:
    _break(terraform_world)
    target = terraform_world.target(terraform_world.first)
    with pytest.raises(ApplyFailed, match="exit status 7|error executing") as caught:
        target.engine.apply(target.wish, "t1")
    assert caught.value.undone
    assert terraform_world.everything() == []


def test_a_later_apply_that_breaks_off_goes_back_to_the_former_configuration(terraform_world: World) -> None:
    first = terraform_world.target(terraform_world.first)
    first.engine.apply(first.wish, "t1")
    _break(terraform_world)
    second = terraform_world.target(terraform_world.second)
    with pytest.raises(ApplyFailed) as caught:
        second.engine.apply(second.wish, "t2")
    assert caught.value.undone
    assert terraform_world.everything() == ["192.0.2.1"]


def test_a_configuration_that_terraform_refuses_is_told_in_its_words(terraform_world: World) -> None:
    (terraform_world.folder / "source" / "main.tf").write_text("resource {")
    target = terraform_world.target(terraform_world.first)
    with pytest.raises(Refused, match="main.tf"):
        target.engine.plan(target.wish)


def test_outputs_are_those_of_what_was_applied(terraform_world: World) -> None:
    target = terraform_world.target(terraform_world.first)
    assert outputs(target) == {}
    target.engine.apply(target.wish, "t1")
    assert outputs(target) == {"address": "192.0.2.1"}
    assert not list((terraform_world.folder / "source").glob("*tfstate*")), "the source folder stays as it was"


def test_the_embedded_terraform_does_the_same(terraform_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hecate.clients.terraform.shutil.which", lambda name: None)
    target = terraform_world.target(terraform_world.first)
    target.engine.apply(target.wish, "t1")
    assert terraform_world.everything() == ["192.0.2.1"] and outputs(target) == {"address": "192.0.2.1"}
    target.engine.undo("t1")
    assert terraform_world.everything() == []
