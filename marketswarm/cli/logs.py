"""Implement `marketswarm logs`: show what the agents of an embedded fleet logged, ended ones included."""

import os
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Final

import typer

from marketswarm.bus.stored_values import parse_object
from marketswarm.cli import output
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.event_loop import INTERRUPTED
from marketswarm.cli.options import Data, Json, flag, service_argument
from marketswarm.exit import Exit, Mistake
from marketswarm.fleet.agent_logs import find_logs
from marketswarm.fleet.output import LogFormatter
from marketswarm.log_follower import LogFollower
from marketswarm.text import escape_text
from marketswarm.truth import suggest_name

_POLL_EVERY_SEC: Final = 0.2
_TIME_FORMAT: Final = "%Y-%m-%d %H:%M:%S"

_Line = tuple[str, bytes]
"""The name of an agent and a line of its log."""


def logs(
    svcs: Annotated[list[str] | None, service_argument("[SVC]...", "The services; by default all.")] = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, metavar="N", help="How many lines of each process.")
    ] = 50,
    follow: Annotated[bool, flag("--follow", "Show each new line, until Ctrl-C.", "-f")] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the last lines that the agents of `marketswarm up` logged, in the order of their times.

    `rss_agg` means all processes of that service, `rss_agg/2` the second one; `fleet` is `up` itself. Logs
    are kept in .marketswarm/logs/: of each agent 15 MB, of agents that crashed and fleets that ended too.
    """
    wanted = svcs or []
    known = find_logs(data)
    _require_known(wanted, known, data)
    followers = {name: LogFollower(path) for name, path in known.items() if _is_wanted(name, wanted)}
    tails = {name: follower.read_tail(lines) for name, follower in followers.items()}
    said = _say_refused(followers.values(), set())
    _print_lines(_merge_by_time(tails), known, as_json=as_json)
    if follow:
        try:
            _follow(followers, wanted, data, said, as_json=as_json)
        except KeyboardInterrupt:
            raise Exit(INTERRUPTED, "") from None


def _follow(
    followers: dict[str, LogFollower], wanted: Sequence[str], data: Path, said: set[Path], *, as_json: bool
) -> None:
    while True:
        known = find_logs(data)
        for name, path in known.items():
            if _is_wanted(name, wanted) and name not in followers:
                followers[name] = LogFollower(path)
        news = {name: follower.read_new() for name, follower in followers.items()}
        said = _say_refused(followers.values(), said)
        _print_lines(_merge_by_time(news), known, as_json=as_json)
        time.sleep(_POLL_EVERY_SEC)


def _say_refused(followers: Iterable[LogFollower], said: set[Path]) -> set[Path]:
    """Say of each file that can't be read why, once as long as it can't; `said` are those of before."""
    refused = {path: why for each in followers for path, why in each.refused.items()}
    for path in sorted(refused.keys() - said):
        output.print_error(f"{escape_text(str(path))} is not read: {refused[path]}")
    return set(refused)


def _is_wanted(name: str, wanted: Sequence[str]) -> bool:
    """Return True if the log `name` belongs to a wanted service or instance; without `wanted`, each does."""
    svc = name.partition("/")[0]
    return not wanted or svc in wanted or name in wanted or (name == svc and f"{svc}/1" in wanted)


def _require_known(wanted: Sequence[str], known: Collection[str], data: Path) -> None:
    place = data.absolute() / "logs"
    if not known:
        raise Mistake(
            f"there are no logs in {place}\n"
            "  `marketswarm up` writes them; another folder: --data DIR\n"
            "  a fleet in containers: make logs; under systemd: journalctl",
        )
    for svc in wanted:
        if not any(_is_wanted(name, [svc]) for name in known):
            hint = suggest_name(svc, known, "there are logs of")
            raise Mistake(f"there is no log of {svc} in {place}; {hint}")


def _merge_by_time(logs_by_name: dict[str, list[bytes]]) -> list[_Line]:
    """Return the lines of several logs in the order of their times; lines of one log keep their order."""
    dated = []
    for name, lines in logs_by_name.items():
        ts = ""
        for line in lines:
            found = parse_object(line).get("ts")
            ts = max(ts, found) if isinstance(found, str) else ts
            dated.append((ts, name, line))
    return [(name, line) for _, name, line in sorted(dated, key=itemgetter(0))]


def _print_lines(lines: Iterable[_Line], names: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        for _, line in lines:
            output.print_json_bytes(line)
        return
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    formatter = LogFormatter(tuple(names), colours=colours, verbose=True, time_format=_TIME_FORMAT)
    for name, line in lines:
        text = formatter.format_line(name, line, 0.0)
        if text is not None:
            sys.stdout.write(text + "\n")
    sys.stdout.flush()
