"""The lab's command line: ``python -m lab up|down|env|status|restart``."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

from rich.console import Console
from rich.table import Table

from lab import environ, lifecycle
from lab.layout import REPO, Lab, LabError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    folder = pathlib.Path(options.dir).resolve()
    try:
        if options.command == "up":
            lifecycle.up(folder, pathlib.Path(options.pillar).resolve(), _say)
            _notes(folder)
        elif options.command == "down":
            lifecycle.down(folder, _say)
        elif options.command == "restart":
            lifecycle.restart(folder, options.service, _say)
        elif options.command == "env":
            document = environ.environment(folder)
            print(json.dumps(document, indent=2) if options.json else environ.as_shell(document))
        else:
            return _status(folder)
    except LabError as err:
        print(f"lab: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab", description="The whole platform on one machine, on loopback."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("up", "start everything and wait until it serves"),
        ("down", "stop everything and remove the folder"),
        ("env", 'what a shell needs: eval "$(python -m lab env)"'),
        ("status", "what runs; exit code 1 when something doesn't"),
        ("restart", "stop one service and start it again where it was"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--dir", default=".lab", help="the lab's folder (default %(default)s)")
        if name == "up":
            command.add_argument("--pillar", default=str(REPO / "pillar"), help="pillar folder (default: the example)")
        if name == "env":
            command.add_argument("--json", action="store_true", help="one JSON document instead of shell variables")
        if name == "restart":
            command.add_argument("service", help="as status names it")
    return parser


def _say(text: str) -> None:
    print(text, flush=True)


def _notes(folder: pathlib.Path) -> None:
    lab = Lab.load(folder)
    for note in lab.record["notes"] if lab else []:
        _say(f"note: {note}")


def _status(folder: pathlib.Path) -> int:
    lab = Lab.load(folder)
    if not lab:
        _say(f"no lab in {folder}")
        return 1
    states = lifecycle.states(lab)
    table = Table("service", "state", "pid", "address", box=None)
    for state in states:
        word = "[green]running[/]" if state.running else "[red]not running[/]"
        table.add_row(state.service, word, str(state.pid or ""), state.address)
    if not lab.record.get("consul"):
        table.add_row("consul", "none", "", "the embedded store serves")
    table.add_row("terraform", "on demand", "", environ.terraform())
    # A pipe has no width of its own: never cut a path short for one.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    _notes(folder)
    if lab.record["state"] != "up":
        _say("the lab never finished starting; python -m lab up clears it away and starts anew")
    return 0 if lab.record["state"] == "up" and all(state.running for state in states) else 1


if __name__ == "__main__":
    sys.exit(main())
