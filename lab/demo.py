"""Deploy the example estate in a lab that is up, and tell what is where and what to try next.

python -m lab.demo [--dir .lab]
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
from typing import Any

from lab.environ import environment

ACCOUNT = """
The estate is up: {routes} routes on {edges} edges, {records} DNS records, {applications} applications behind authentik,
{jobs} Nomad job, one Terraform configuration. Pillar: {pillar}

  Look around
    {python} -m lab status --dir {folder}          what runs where
    eval "$({python} -m lab env --dir {folder})"   then salt, salt-run and friends talk to this lab
    salt-run hecate.status | hecate.verify | hecate.history

  Reach it (edge 1 listens on {https}, edge 2 on {https2}; certificates are signed by each Caddy's internal CA)
    curl -sk --connect-to ::127.0.0.1:{https} https://cloud.estate.test/
    dig +short @127.0.0.1 -p {dns} cloud.estate.test   (DNS and the APIs of Hetzner, authentik and Nomad are emulators)
    In a browser: point cloud.estate.test and the others at 127.0.0.1 and use port {https}.

  Sign in to https://observe.estate.test (Grafana) or https://jenkins.estate.test
    alice, password {alice}     in platform-team, with a TOTP app: gets through to both
    bob, password {bob}       in platform-team, without a second factor: Grafana, but not Jenkins
    mallory, password {mallory}   in no group: neither
    salt hecate-authentik hecate_authentik.applications       who stands behind authentik, Nextcloud by OAuth2 too
    salt hecate-authentik hecate_authentik.access bob         what he may open, and why not the rest

  Try next
    1. Change an upstream in {pillar}/hecate/routes.sls, then
         salt-run hecate.plan                   what would change (exit code 2)
         salt-run hecate.deploy                 one write to each Caddy, nothing else; live, step by step
       The plan has a digest: hecate.deploy plan=DIGEST does exactly that, or refuses when something moved.
    2. Write nonsense there (a policy that does not exist, a port of 99999) and run hecate.plan again.
    3. Break something: make the DNS API fail, add a route with a record, deploy, and watch it roll back:
         curl -X PUT {hetzner}/_lab/faults -d '[{{"method": "WRITE", "kind": "status", "status": 500, "times": null}}]'
         salt-run state.orch hecate.deploy; echo "exit code $?"; salt-run hecate.history
         curl -X DELETE {hetzner}/_lab/faults
    4. Deploy it in one terminal and kill -9 that salt-run in the middle, from another. Look, and deploy again:
         salt-run hecate.status                 what has no end yet, and what to do
         salt-run hecate.deploy; salt-run hecate.audit
    5. salt-run hecate.drift                    what somebody changed by hand; docs/drift.md has how it is healed

  Stop it: make demo-down
"""
PARTS = {
    "routes": ("hecate-edge-1", "hecate_caddy.list"),
    "records": ("hecate-dns", "hecate_hetzner_dns.list"),
    "applications": ("hecate-authentik", "hecate_authentik.list"),
    "jobs": ("hecate-controller", "hecate_nomad.list"),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description=__doc__)
    parser.add_argument("--dir", default=".lab")
    folder = pathlib.Path(parser.parse_args(arguments).dir)
    known = environment(folder)
    print(
        "deploying: salt-run state.orch hecate.deploy "
        "(preflight, terraform, nomad, authentik, dns, caddy, dns deletions, verify)",
        flush=True,
    )
    if not deploy(known):
        return 1
    print(account(known, folder))
    return 0


def deploy(known: dict[str, Any]) -> bool:
    """Run the orchestration; its account is shown only when it failed."""
    command = [str(pathlib.Path(known["salt"]["bin"]) / "salt-run"), "state.orch", "hecate.deploy"]
    env = {**os.environ, "SALT_CONFIG_DIR": known["salt"]["config"]}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout + done.stderr)
        print(
            f"the deploy failed (exit code {done.returncode}) and was rolled back; logs: {known['logs']}",
            file=sys.stderr,
        )
    return done.returncode == 0


def account(known: dict[str, Any], folder: pathlib.Path) -> str:
    """What is there, as the systems themselves have it."""
    edges = known["edges"]
    users = known["authentik"]["users"]
    facts = {name: len(_ask(known, minion, function)) for name, (minion, function) in PARTS.items()}
    return ACCOUNT.format(
        **facts,
        edges=len(edges),
        pillar=known["pillar"],
        python=os.path.relpath(sys.executable),
        folder=folder,
        https=edges["hecate-edge-1"]["https"],
        https2=edges["hecate-edge-2"]["https"],
        dns=known["dns"]["port"],
        **{name: user["password"] for name, user in users.items()},
        hetzner=known["hetzner"]["url"],
    )


def _ask(known: dict[str, Any], minion: str, function: str) -> list[str]:
    import salt.client

    client = salt.client.get_local_client(str(pathlib.Path(known["salt"]["config"]) / "master"))
    try:
        answer = client.cmd(minion, function, timeout=30).get(minion)
    finally:
        client.destroy()
    if not isinstance(answer, list):
        raise SystemExit(f"{minion} did not answer {function}: {answer}")
    return answer


if __name__ == "__main__":
    sys.exit(main())
