"""Implement `marketswarm init`: write a first truth.json, and explain it."""

import contextlib
import json
import shlex
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from marketswarm.cli import output
from marketswarm.exit import Code, Exit

STARTER_TRUTH: Final[dict[str, Any]] = {
    "version": 1,
    "services": {"healer": {"threshold": {"heartbeat_cadence": 30}}, "sentinel": {}, "notifier": {}},
}
"""A truth with which `marketswarm up` runs at once: only the agents that watch others."""

_TRUTH_SUMMARY: Final = """
What it says, key by key:

  services.healer      hears the beats of all services, and reports one that falls silent
    heartbeat_cadence  after 30 s of silence, unless the service has a timeout_sec of its own
  services.sentinel    watches the healer
  services.notifier    sends messages to people; WEBHOOK_URL names the first receiver

What is not said has a default, so {} is a whole section. To watch a program of yours, put its name, and how
often it beats, into "services":

  "my_svc": {"heartbeat": {"interval_sec": 10}}

What to type next:
"""
_NEXT_COMMANDS: Final = (
    ("up{truth}", "starts two Redis servers and these services; Ctrl-C ends them"),
    ("new prices{truth}", "writes a service in Python, with its test, and its section for this file"),
    ("add job backup --every 1d{truth}", "puts a job of yours into it, and prints the lines to paste"),
    ("validate{file}", "checks the file after an edit"),
    ("seed{file}", "gives the edited file to a fleet that runs"),
    ("beat my_svc --every 10s", "sends the beats of my_svc from a terminal"),
)


def init(
    truth: Annotated[
        Path, typer.Option("--truth", envvar="TRUTH_PATH", metavar="FILE", help="The file to write.")
    ] = Path("truth.json"),
) -> None:
    """Write a truth.json to begin with, and explain it. A file that is there is never changed."""
    _write_new(truth, json.dumps(STARTER_TRUTH, indent=2) + "\n")
    output.print_line(f"wrote {truth}")
    output.print_lines(_TRUTH_SUMMARY.splitlines())
    name = "" if truth == Path("truth.json") else f" {shlex.quote(str(truth))}"
    commands = [
        (f"marketswarm {words.format(file=name, truth=name and f' --truth{name}')}", what)
        for words, what in _NEXT_COMMANDS
    ]
    width = max(len(command) for command, _ in commands)
    for command, what in commands:
        output.print_line(f"  {command:<{width}}  {what}")


def _write_new(path: Path, text: str) -> None:
    """Write a new file, and delete what there is of it after an error. Raises Exit if one is there."""
    try:
        with path.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                with contextlib.suppress(OSError):
                    path.unlink()
                raise
    except FileExistsError:
        raise Exit(
            Code.CONFIGURATION,
            f"{path} is there already: it is not touched. `marketswarm validate {shlex.quote(str(path))}` "
            "checks it",
        ) from None
    except OSError as error:
        raise Exit(Code.CONFIGURATION, f"{path}: {error.strerror}; nothing was written") from None
