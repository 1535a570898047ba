"""One source tree, both ways in which Salt users install an extension, each done for real."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from installs import WRONG_HOST, Install, install, session_packages
from packaging.requirements import Requirement

pytestmark = [pytest.mark.salt, pytest.mark.xdist_group("packaging")]

SYSTEMS = ("authentik", "caddy", "hetzner_dns", "nomad", "rfc2136", "terraform")
NEEDED = {
    "modules": {f"hecate_{system}" for system in SYSTEMS},
    "states": {f"hecate_{system}" for system in SYSTEMS},
    "proxy": {"hecate_authentik", "hecate_hetzner_dns"},
    "runners": {"hecate"},
    "pillar": {"hecate"},
    "engines": {"hecate_events"},
    "beacons": {"hecate_drift"},
    "output": {"hecate"},
}
ADAPTERS = {kind: {path.stem for path in (ROOT / f"_{kind}").glob("hecate*.py")} for kind in NEEDED}
SYNCED = ("_modules", "_states", "_runners", "_proxy", "_pillar", "_engines", "_beacons", "_output", "_utils")
DOMAIN = ("hecate", *(path.name for path in (ROOT / "_utils").glob("hecate_*.py")))
WHEEL_HOLDS = {*DOMAIN, "saltext"}
DEPENDENCIES = {"salt", "requests", "py-consul", "hvac", "pyyaml", "hcloud", "pydantic", "dnspython"}
REASON = "needs Hecate's domain package: salt-pip install saltext-hecate"


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packaging")


@pytest.fixture(scope="session")
def packages(room: Path) -> Path:
    return session_packages(room / "packages")


def build_options() -> list[str]:
    """The session's setuptools, if it can build a wheel by pyproject.toml; else pip fetches one."""
    major = int(metadata.version("setuptools").partition(".")[0]) if find_spec("setuptools") else 0
    able = major >= 71 or (major >= 68 and find_spec("wheel") is not None)
    return ["--no-build-isolation"] if able else []


@pytest.fixture(scope="session")
def wheel(room: Path) -> Path:
    """Built from a copy, since a build leaves its rubbish in the tree."""
    if find_spec("pip") is None:
        pytest.skip("for want of a tool: pip is not installed; run make test")
    tree = room / "tree"
    rubbish = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=rubbish)
    words = [sys.executable, "-m", "pip", "wheel", "--no-deps", *build_options(), "-w", str(room / "dist"), str(tree)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    if "Installing build dependencies: finished with status 'error'" in done.stdout:
        pytest.skip("for want of a tool: setuptools 68 or newer cannot be fetched")
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (room / "dist").glob("saltext_hecate-*.whl")
    return built


@pytest.fixture(scope="session")
def from_wheel(room: Path, packages: Path, wheel: Path) -> Install:
    """Salt's interpreter after `salt-pip install` of the wheel; nothing synced."""
    made = install(room / "from-wheel", packages, pip=True)
    done = made.run("-m", "pip", "install", "--no-deps", "--no-index", str(wheel))
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def file_root(folder: Path, *names: str) -> Path:
    """What the guide tells users to serve: links to the underscore folders of a checkout."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="session")
def synced(room: Path, packages: Path) -> Install:
    """The domain package importable but without a loader entry point; adapters from the fileserver."""
    domain = room / "domain"
    domain.mkdir()
    for name in DOMAIN:
        source = ROOT / "_utils" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, domain / name)
    made = install(room / "synced", domain, packages, file_roots=[file_root(room / "sync-root", *SYNCED)])
    assert not any(made.loaded()["found"].values()), "adapters are there before they were synced"
    return made


@pytest.fixture(scope="session")
def adapters_only(room: Path, packages: Path) -> Install:
    roots = [file_root(room / "bare-root", "_modules", "_states")]
    (room / "bare-root" / "edge.sls").write_text("proxy: {hecate_caddy.managed: []}\n")
    made = install(room / "adapters-only", packages, file_roots=roots)
    assert "modules.hecate_caddy" in made.data("salt-call", "saltutil.sync_all")["modules"]
    return made


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def tells_the_pillar_problem(made: Install) -> None:
    """A state through the whole chain: loader, glue, domain, and back as a state return."""
    (ret,) = made.data("salt-call", "state.single", "hecate_caddy.managed", "name=x", "test=True").values()
    assert ret["result"] is False and ret["changes"] == {}
    assert WRONG_HOST in ret["comment"] and ret["comment"].endswith("nothing was written")


def test_the_tree_has_an_adapter_for_every_system() -> None:
    assert all(names <= ADAPTERS[kind] for kind, names in NEEDED.items())


# Way one


def test_the_wheel_holds_the_extension_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert {name.partition("/")[0] for name in names} == WHEEL_HOLDS
    assert all(name.endswith(".py") for name in names)
    domain = {str(path.relative_to(ROOT / "_utils")) for path in (ROOT / "_utils").rglob("*.py")}
    adapters = {f"saltext/hecate/{kind}/{path.name}" for kind in ADAPTERS for path in (ROOT / f"_{kind}").glob("*.py")}
    assert set(names) == domain | adapters


def test_the_wheel_depends_on_what_it_imports_and_nothing_else(wheel: Path) -> None:
    declared = [Requirement(line) for line in metadata_of(wheel).get_all("Requires-Dist")]
    needed = {r.name.lower(): r for r in declared if r.marker is None}
    assert set(needed) == DEPENDENCIES
    assert {str(part) for part in needed["salt"].specifier} == {">=3006.28", "<3009"}


def test_an_installed_wheel_loads_through_its_entry_point(from_wheel: Install) -> None:
    seen = from_wheel.loaded()
    assert {kind: set(found) for kind, found in seen["found"].items()} == ADAPTERS
    files = [seen["domain"], *(file for found in seen["found"].values() for file in found.values())]
    assert all(Path(file).is_relative_to(from_wheel.site) for file in files), files


def test_an_installed_wheel_answers_salt_call(from_wheel: Install) -> None:
    modules = [f"hecate_{system}" for system in SYSTEMS]
    functions = set(from_wheel.data("salt-call", "sys.list_functions", *modules))
    assert {f"{module}.{verb}" for module in modules for verb in ("plan", "apply", "list")} <= functions
    tells_the_pillar_problem(from_wheel)


# Way two


@pytest.fixture(scope="session")
def minion_sync(synced: Install) -> dict[str, list[str]]:
    return dict(synced.data("salt-call", "saltutil.sync_all"))


@pytest.fixture(scope="session")
def master_sync(synced: Install) -> dict[str, list[str]]:
    return dict(synced.data("salt-run", "saltutil.sync_all"))


def test_a_minion_syncs_its_adapters(minion_sync: dict[str, list[str]]) -> None:
    for kind, told in {"modules": "modules", "states": "states", "proxy": "proxymodules", "beacons": "beacons"}.items():
        assert {f"{kind}.{name}" for name in ADAPTERS[kind]} <= set(minion_sync[told])
    assert {"utils.hecate_salt", "utils.hecate_estate", "utils.hecate.engine"} <= set(minion_sync["utils"])


def test_a_master_syncs_runner_and_pillar(master_sync: dict[str, list[str]], synced: Install) -> None:
    assert "runners.hecate" in master_sync["runners"] and "pillar.hecate" in master_sync["pillar"]
    assert "engines.hecate_events" in master_sync["engines"] and "output.hecate" in master_sync["output"]
    answer = synced.data("salt-run", "hecate.validate")
    assert answer["retcode"] == 1 and WRONG_HOST in answer["error"]


def test_synced_adapters_load_beside_the_domain_package(
    minion_sync: dict[str, list[str]], master_sync: dict[str, list[str]], synced: Install
) -> None:
    seen = synced.loaded()
    assert {kind: set(found) for kind, found in seen["found"].items()} == ADAPTERS
    files = [Path(file) for found in seen["found"].values() for file in found.values()]
    assert all(file.is_relative_to(synced.folder) and "extmods" in file.parts for file in files), files
    assert Path(seen["domain"]) == synced.folder.parent / "domain" / "hecate" / "__init__.py"


def test_synced_adapters_answer_salt_call(minion_sync: dict[str, list[str]], synced: Install) -> None:
    assert "hecate_caddy.plan" in synced.data("salt-call", "sys.list_functions", "hecate_caddy")
    tells_the_pillar_problem(synced)


# Adapters alone


def test_without_the_domain_package_nothing_loads(adapters_only: Install) -> None:
    seen = adapters_only.loaded()
    assert seen["domain"] == "" and not any(seen["found"].values())
    assert adapters_only.data("salt-call", "sys.list_functions", "hecate_caddy") == []


def test_without_the_domain_package_the_reason_is_told(adapters_only: Install) -> None:
    for function in ("hecate_caddy.plan", "hecate_authentik.plan"):
        done = adapters_only.salt("salt-call", function)
        module = function.partition(".")[0]
        assert done.returncode != 0
        assert f"'{module}' __virtual__ returned False: {module} {REASON}" in done.stdout + done.stderr
    done = adapters_only.salt("salt-call", "state.apply", "edge", "test=True")
    assert done.returncode != 0
    assert f"Reason: 'hecate_caddy' __virtual__ returned False: hecate_caddy {REASON}" in done.stdout
