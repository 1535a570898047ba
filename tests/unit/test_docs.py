"""The generated pages are what the model makes, and the published schema takes what the parser takes."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hecate.model import problems_in

ROOT = Path(__file__).resolve().parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "pillar-reference"))
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]+)?\)")


@pytest.mark.parametrize("path", TOOL["files"](), ids=lambda p: p.name)
def test_the_reference_is_what_the_model_makes(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == TOOL["files"]()[path], "run: .venv/bin/python tools/pillar-reference"


def test_every_key_is_described() -> None:
    rows = [line for line in TOOL["reference"]().splitlines() if line.startswith("| `")]
    assert rows and not [row for row in rows if row.endswith("|  |")]


def test_every_link_inside_the_reference_leads_somewhere() -> None:
    page = TOOL["reference"]()
    headings = {TOOL["anchor"](line.removeprefix("## ")) for line in page.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= headings


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = [target for target, _ in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert not [target for target in targets if not (page.parent / target).exists()]


def schema() -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "pillar.schema.json").read_text(encoding="utf-8"))


GOOD = {
    "authentik": {"url": "https://auth.example.com", "token": "env:TOKEN"},
    "hetzner_dns": {"token": "file:/etc/token"},
    "routes": {
        "app.example.com": {"upstreams": ["10.0.0.5:3000", {"dial": "10.0.0.6:3000"}], "dns": {"A": "203.0.113.10"}},
        "b.example.com": {"upstreams": ["10.0.0.7:80"], "dns": {"A": "terraform:address"}},
        "c.example.com": {
            "upstreams": "web",
            "headers": {"X-Real-IP": "{http.request.remote.host}"},
            "auth_policy": "staff",
            "public_paths": "/assets/*",
            "access_log": True,
            "paths": {
                "/old": {"redirect": "/new", "headers": {"response": {"X-A": "b"}}},
                "POST /x/*": [{"when": {"X-V": "2"}, "upstreams": ["10.0.0.8:80"]}, {"maintenance": True}],
            },
        },
        "d.example.com": {"redirect": "https://c.example.com{http.request.uri}"},
    },
    "upstreams": {
        "web": {"upstreams": ["10.0.0.7:80", "10.0.0.9:80"], "balance": "least_conn", "health_check": "default"}
    },
    "health_checks": {"default": {"path": "/health", "unhealthy_status": 500}},
    "middleware": {"it": {"type": "headers", "config": {"set": {"X-A": "b"}}}, "gz": {"type": "encode"}},
    "auth_policies": [{"name": "staff", "groups": ["employees"]}],
    "dns": {"zones": {"example.com": {"policy": "sync", "records": {"@": {"TXT": "v=spf1 -all"}}}}},
}


def test_the_schema_takes_short_forms() -> None:
    assert problems_in({"hecate": GOOD}) == []
    assert list(jsonschema.Draft202012Validator(schema()).iter_errors({"hecate": GOOD})) == []


@pytest.mark.parametrize("wrong", [{"rutes": {}}, {"routes": {"a.example.com": {}}}, {"environment": ["x"]}], ids=repr)
def test_the_schema_sees_a_slip(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"hecate": {**GOOD, **wrong}}, schema())
