"""The whole deploy and its rollback, everybody with exactly the rights that `hecate.rights` prints, and one less."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests
from hecate.rights.text import policy_name

from lab import openbao

from .conftest import Estate
from .test_rollback import change_everything

pytestmark = pytest.mark.lab
Told = dict[str, dict[str, Any]]
Less = Callable[[Told], None]


def printed(estate: Estate) -> Told:
    code, text = estate.run("salt-run", "hecate.rights", "form=json", "--out=json")
    assert code == 0, text
    return json.loads(text[text.index("{") :])  # type: ignore[no-any-return]


@contextmanager
def nothing_but(estate: Estate, told: Told) -> Iterator[None]:
    """Every policy and role is as printed, until the end."""
    with ExitStack() as back:
        back.callback(_vault, estate, {minion: {"vault": {"hcl": openbao.ROOMY}} for minion in told})
        _vault(estate, told)
        rights = f"{estate.known['authentik']['url']}/_lab/rights"
        back.callback(requests.delete, rights, timeout=10)
        held = told["hecate-authentik"]["authentik"]["permissions"]
        names = [name.partition(".")[2] for name in held]
        requests.put(rights, json=names, timeout=10).raise_for_status()
        if consul := estate.known["consul"]:
            file = Path(estate.known["lab"]) / "secrets" / "consul"
            back.callback(file.write_text, consul["token"])
            file.write_text(_consul_token(consul, told["hecate-master"]["consul"]["hcl"]))
        yield


def _vault(estate: Estate, told: Told) -> None:
    known = estate.known["openbao"]
    client = hvac.Client(url=known["url"], token=known["token"], timeout=10)
    for minion in known["targets"]:
        rules = told.get(minion, {}).get("vault", {"hcl": "# nothing"})["hcl"]
        client.sys.create_or_update_policy(policy_name(minion), rules)


def _consul_token(consul: dict[str, Any], rules: str) -> str:
    headers, name = {"X-Consul-Token": consul["token"]}, f"rights-{secrets.token_hex(4)}"
    made = {"Name": name, "Rules": rules}
    requests.put(f"{consul['url']}/v1/acl/policy", json=made, headers=headers, timeout=10).raise_for_status()
    token = {"Policies": [{"Name": name}]}
    answer = requests.put(f"{consul['url']}/v1/acl/token", json=token, headers=headers, timeout=10)
    answer.raise_for_status()
    return str(answer.json()["SecretID"])


def test_what_is_printed_is_for_every_target_of_the_lab(estate: Estate) -> None:
    told = printed(estate)
    assert set(told) == {"hecate-master", *estate.known["salt"]["fleet"]}
    code, text = estate.run("salt-run", "hecate.rights", "hecate-dns")
    assert code == 0 and "bao policy write hecate-dns - <<'END'" in text and "Read & Write" in text
    code, text = estate.run("salt-run", "hecate.rights", "nobody")
    assert code == 1 and "hecate-edge-1" in text


def test_a_deploy_and_its_rollback_need_exactly_what_is_printed(estate: Estate) -> None:
    before = estate.everything()
    change_everything(estate)
    with nothing_but(estate, printed(estate)):
        code, text = estate.deploy()
        assert code == 0, text
        assert estate.plan()[0] == 0 and estate.everything() != before
        code, text = estate.run("salt-run", "hecate.rollback")
        assert code == 0, text
    assert estate.everything() == before


def no_token_of_hetzner(told: Told) -> None:
    told["hecate-dns"]["vault"]["hcl"] = "# nothing"


def no_adding_of_applications(told: Told) -> None:
    told["hecate-authentik"]["authentik"]["permissions"].remove("authentik_core.add_application")


@pytest.mark.parametrize(
    ("less", "named"),
    [
        (no_token_of_hetzner, 'path "secret/data/hecate/hetzner" { capabilities = ["read"] }'),
        (no_adding_of_applications, "add_application"),
    ],
)
def test_with_one_right_less_it_fails_names_it_and_is_undone(estate: Estate, less: Less, named: str) -> None:
    before = estate.everything()
    change_everything(estate)
    told = printed(estate)
    less(told)
    with nothing_but(estate, told):
        code, text = estate.deploy()
    assert code != 0 and named in text
    assert "everything is as it was before" in text
    assert estate.everything() == before
