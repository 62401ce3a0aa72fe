"""Implement `marketswarm runs`: the last runs of a job, how each ended, and what it wrote."""

import time
from collections.abc import Sequence
from typing import Annotated, Final

from marketswarm.bus.stored_values import read_strings
from marketswarm.cli import output
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, ask_fleet, needed
from marketswarm.cli.health import select_services
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import Data, Json, Svc, option
from marketswarm.cli.output import pick
from marketswarm.exit import Exit
from marketswarm.keys import last_run_key
from marketswarm.monitor.last_run import LastRun, parse_last_run
from marketswarm.pings import PINGS_KEPT, JobRun
from marketswarm.status.job_runs import make_last_run, read_runs
from marketswarm.text import extract_last_line, extract_line, format_duration

NO_RUNS: Final = 1
_IN_JSON: Final = ("rid", "started_at", "ended_at", "took_sec", "ok", "exit_code", "output")


def runs(
    svc: Svc,
    limit: Annotated[int, option("--limit", "N", "How many, the latest first.", min=1, max=PINGS_KEPT)] = 10,
    number: Annotated[
        int | None,
        option("--output", "N", "Print what is kept of the output of one; 1 is the latest.", min=1),
    ] = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the last runs of a job: when, how each ended, how long it took, a line that it wrote.

    That is the first one, and of a run that failed with an exit code the last one.

    `marketswarm exec` and pings over HTTP report them. Ends with 1 when no run, or no output of it, is kept.
    """
    found = ask_fleet(data, lambda fleet: _read(svc, fleet))
    if not found:
        raise Exit(NO_RUNS, f"no run of {svc} is on record: `marketswarm exec` and pings report them")
    if number is not None:
        _print_output(svc, found, number)
    else:
        last = [{"n": n, **pick(run, *_IN_JSON)} for n, run in enumerate(found[:limit], 1)]
        output.print_result(last, describe_runs(found[:limit], time.time()), as_json=as_json)


async def _read(svc: str, fleet: FleetView) -> list[JobRun]:
    select_services(svc, fleet)
    watched = {watch.svc: watch.bus for watch in fleet.truth.watched()}
    bus = fleet.bus(watched[svc] if svc in watched else fleet.truth.bus_of(svc))
    with needed(bus, "it keeps the runs"):
        [raw] = await read_strings(bus, [last_run_key(svc)])
        last = parse_last_run(raw)
        return await read_runs(bus, svc, None if last is None else _view(last))


def _view(last: LastRun) -> JobRun:
    return make_last_run(last.ts, last.took_sec, last.said or "", ok=last.ok, exit_code=last.code)


def _print_output(svc: str, found: Sequence[JobRun], number: int) -> None:
    if number > len(found):
        raise Exit(NO_RUNS, f"only {len(found)} runs of {svc} are on record")
    text = found[number - 1].output
    if not text.strip():
        raise Exit(NO_RUNS, f"nothing is kept of what run {number} of {svc} wrote")
    output.print_line(text)


def describe_runs(found: Sequence[JobRun], now: float) -> list[str]:
    """Return a line for each run (the latest first); times are those of this machine's zone."""
    rows = []
    for number, run in enumerate(found, 1):
        at = run.started_at if run.started_at is not None else run.ended_at
        took = "-" if run.took_sec is None else format_duration(run.took_sec)
        moment = "-" if at is None else format_moment(at, now)
        state = _describe_state(run, is_latest=number == 1)
        rows.append((str(number), moment, state, took, _find_line(run) or ""))
    return output.align(rows)


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
