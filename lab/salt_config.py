"""Configurations of the Salt master, minions and proxies: each daemon in folders of its own, all on loopback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import pwd
import socket
import time
from collections.abc import Callable, Collection
from typing import Any

from lab.layout import REPO, Lab, LabError

EDGES = ("hecate-edge-1", "hecate-edge-2")
CONTROLLER = "hecate-controller"
MINIONS = (CONTROLLER, *EDGES)
PROXIES = ("hecate-authentik", "hecate-dns")
FLEET = (*MINIONS, *PROXIES)
MASTER_PATHS = (
    "autosign_file", "autoreject_file", "autosign_grains_dir", "token_dir", "syndic_dir", "sqlite_queue_dir",
    "ssh_log_file", "syndic_log_file",
)  # fmt: skip
"""What a master would otherwise look for, or write, in the machine's own folders."""
LOUD = ("-l", os.environ.get("LAB_SALT_LOG") or "warning")
"""``LAB_SALT_LOG=trace python -m lab up`` for all that Salt can tell."""


def master(lab: Lab) -> pathlib.Path:
    """Write the master's configuration; returns its folder, which ``SALT_CONFIG_DIR`` names."""
    settings = {
        **_common(lab, "master"),
        "publish_port": lab.port("salt-publish"),
        "ret_port": lab.port("salt-ret"),
        "auto_accept": True,
        "worker_threads": 3,
        **{name: str(lab.data("salt-master") / name) for name in MASTER_PATHS},
        "file_roots": {"base": [str(REPO / "states"), str(REPO / "orch"), str(REPO / "lab/salt/states")]},
        "pillar_roots": {"base": [str(lab.pillar)]},
        # hecate_lab first: what it says of the store is where hecate looks for Terraform's outputs.
        "pillar_dirs": [str(REPO / "lab/salt/pillar")],
        "ext_pillar": [{"hecate_lab": {"lab": str(lab.folder / "lab.json")}}, {"hecate": {}}],
        "state_output": "changes",
        "presence_events": False,
    }
    return _write(lab, "master", "master", settings)


def minion(lab: Lab, name: str) -> pathlib.Path:
    """Write a minion's configuration; returns its folder."""
    return _write(lab, name, "minion", _minion(lab, name))


def proxy(lab: Lab, name: str) -> pathlib.Path:
    """Write a proxy minion's configuration; returns its folder. Proxies that share one race for their keys."""
    return _write(lab, name, "proxy", _minion(lab, name))


def _minion(lab: Lab, name: str) -> dict[str, Any]:
    return {
        **_common(lab, name),
        "id": name,
        "master": "127.0.0.1",
        "master_port": lab.port("salt-ret"),
        # A master a moment late should cost a moment.
        "acceptance_wait_time": 1,
        "auth_timeout": 10,
        "auth_tries": 10,
        "recon_default": 100,
        "recon_max": 1000,
        "recon_randomize": False,
        "mine_enabled": True,
        # The adapters are installed: nothing to sync before each state run.
        "autoload_dynamic_modules": False,
    }


def _common(lab: Lab, name: str) -> dict[str, Any]:
    base = lab.data(f"salt-{name}")
    sockets = lab.sockets / name
    sockets.mkdir(mode=0o700, exist_ok=True)
    return {
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "interface": "127.0.0.1",
        # Salt puts its root before every path that isn't below it, sockets too, which would get too long for them.
        "root_dir": "/",
        "pki_dir": str(base / "pki"),
        "cachedir": str(base / "cache"),
        "sock_dir": str(sockets),
        "pidfile": str(base / "salt.pid"),
        "extension_modules": str(base / "extmods"),
        "log_file": str(base / "log"),
        "key_logfile": str(base / "key.log"),
        "log_level": "critical",  # For people at a command line; the daemons are started with LOUD.
        "log_level_logfile": "quiet",  # A daemon's own output is its log: one place to look.
        "enable_fqdns_grains": False,
        "enable_gpu_grains": False,
        "pillar_source_merging_strategy": "smart",
        "pillar_merge_lists": False,
    }


def _write(lab: Lab, name: str, file: str, settings: dict[str, Any]) -> pathlib.Path:
    """YAML takes JSON as it is."""
    folder = lab.config(f"salt-{name}")
    (folder / file).write_text(json.dumps(settings, indent=1) + "\n")
    return folder


def master_folder(lab: Lab) -> pathlib.Path:
    """The master's configuration folder."""
    return lab.config("salt-master")


def master_ready(lab: Lab) -> bool:
    """It takes returns and publishes."""
    for port in ("salt-ret", "salt-publish"):
        with socket.create_connection(("127.0.0.1", lab.port(port)), timeout=2):
            pass
    return True


def forget_pid(lab: Lab, service: str) -> None:
    """Of a daemon that has ended: Salt doesn't start beside what it takes for a running one.

    It does so of a killed process that nobody has waited for yet, and of any other that has its number by now.
    """
    for path in lab.data(f"salt-{service.partition('-')[2]}").rglob("salt.pid"):
        path.unlink()


def await_fleet(lab: Lab, check: Callable[[Collection[str]], None], patience: float = 60) -> None:
    """Wait until every minion and proxy answers ``test.ping``.

    check: called between pings with who is missing; raises when one of their processes has ended
    """
    import salt.client
    import salt.exceptions

    client = salt.client.get_local_client(str(master_folder(lab) / "master"))
    client.opts["gather_job_timeout"] = 1  # Whoever is late is asked again soon enough.
    missing = set(FLEET)
    end = time.monotonic() + patience
    try:
        while missing:
            check(missing)
            if time.monotonic() > end:
                raise LabError(f"no answer to test.ping in {patience:.0f} s from: {', '.join(sorted(missing))}")
            # The master listens before it answers (an error), and says on stdout when nobody has a key yet.
            with contextlib.suppress(salt.exceptions.SaltClientError), contextlib.redirect_stdout(io.StringIO()):
                answers = client.cmd(sorted(missing), "test.ping", tgt_type="list", timeout=2)
                missing -= {name for name, answer in answers.items() if answer is True}
            time.sleep(0.1)
    finally:
        client.destroy()
