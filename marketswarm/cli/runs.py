"""Implement `marketswarm runs`: the last runs of a job, how each ended, and what it wrote."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from marketswarm.bus import BusError
from marketswarm.bus.stored_values import read_strings
from marketswarm.cli import event_loop, output
from marketswarm.cli.bus_trouble import add_remedy
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.cli.health import select_services
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import Data, Json, Svc
from marketswarm.exit import Code, Exit
from marketswarm.keys import last_run_key
from marketswarm.monitor.last_run import LastRun, parse_last_run
from marketswarm.pings import PINGS_KEPT, JobRun
from marketswarm.status.job_runs import make_last_run, read_runs
from marketswarm.text import extract_last_line, extract_line, format_duration

NO_RUNS: Final = 1


def runs(
    svc: Svc,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=PINGS_KEPT, help="How many, the latest first.")
    ] = 10,
    number: Annotated[
        int | None,
        typer.Option(
            "--output", metavar="N", min=1, help="Print what is kept of the output of one; 1 is the latest."
        ),
    ] = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the last runs of a job: when, how each ended, how long it took, a line that it wrote.

    That is the first one, and of a run that failed with an exit code the last one.

    `marketswarm exec` and pings over HTTP report them. Ends with 1 when no run, or no output of it, is kept.
    """
    found = event_loop.run(_read(svc, data))
    if not found:
        raise Exit(NO_RUNS, f"no run of {svc} is on record: `marketswarm exec` and pings report them")
    if number is not None:
        _print_output(svc, found, number)
    elif as_json:
        output.print_json([to_json(n, run) for n, run in enumerate(found[:limit], 1)])
    else:
        output.print_lines(describe_runs(found[:limit], time.time()))


async def _read(svc: str, data: Path) -> list[JobRun]:
    async with open_fleet(data) as fleet:
        select_services(svc, fleet)
        watched = {watch.svc: watch.bus for watch in fleet.truth.watched()}
        bus = fleet.bus(watched[svc] if svc in watched else fleet.truth.bus_of(svc))
        try:
            [raw] = await read_strings(bus, [last_run_key(svc)])
            last = parse_last_run(raw)
            return await read_runs(bus, svc, None if last is None else _view(last))
        except BusError as error:
            message = f"bus {bus.name} at {bus.where} does not answer ({error.reason}): it keeps the runs"
            raise Exit(Code.NO_BUS, add_remedy(message, bus.name, error.reason)) from None


def _view(last: LastRun) -> JobRun:
    return make_last_run(last.ts, last.took_sec, last.said or "", ok=last.ok, exit_code=last.code)


def _print_output(svc: str, found: Sequence[JobRun], number: int) -> None:
    if number > len(found):
        raise Exit(NO_RUNS, f"only {len(found)} runs of {svc} are on record")
    text = found[number - 1].output
    if not text.strip():
        raise Exit(NO_RUNS, f"nothing is kept of what run {number} of {svc} wrote")
    output.print_line(text)


def to_json(number: int, run: JobRun) -> dict[str, Any]:
    return {
        "n": number,
        "rid": run.rid,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "took_sec": run.took_sec,
        "ok": run.ok,
        "exit_code": run.exit_code,
        "output": run.output,
    }


def describe_runs(found: Sequence[JobRun], now: float) -> list[str]:
    """Return a line for each run (the latest first); times are those of this machine's zone."""
    rows = []
    for number, run in enumerate(found, 1):
        at = run.started_at if run.started_at is not None else run.ended_at
        took = "-" if run.took_sec is None else format_duration(run.took_sec)
        moment = "-" if at is None else format_moment(at, now)
        rows.append((str(number), moment, _describe_state(run, is_latest=number == 1), took))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row, run in zip(rows, found, strict=True):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([*cells, _find_line(run) or ""]).rstrip())
    return lines


def _find_line(run: JobRun) -> str | None:
    """Return the line of an output that says most, as the message about a failure has it."""
    is_command = run.ok is False and run.exit_code is not None
    return extract_last_line(run.output) if is_command else extract_line(run.output)


def _describe_state(run: JobRun, *, is_latest: bool) -> str:
    if run.ok is None:
        return "running" if is_latest and run.ended_at is None else "no end reported"
    if run.ok:
        return "succeeded"
    return "failed" if run.exit_code is None else f"failed, exit {run.exit_code}"
