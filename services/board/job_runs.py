"""Read the runs of a job for its page: what its pings over HTTP reported, else its last run."""

from dataclasses import dataclass
from typing import Any, Final

from marketswarm.bus import Bus, BusError
from marketswarm.keys import pings_key
from marketswarm.pings import MAX_BODY_BYTES, PINGS_KEPT, JobRun, find_runs, parse_pings
from marketswarm.text import escape_lines, escape_text
from services.board.snapshot import LastRunView

SHOWN: Final = 20
"""How many runs a page shows, the latest first."""
MAX_CHARS: Final = 2000
"""How much is shown of the last thing that a run said."""
_REPLY_BYTES: Final = 2 * PINGS_KEPT * (MAX_BODY_BYTES + 1000)


@dataclass(frozen=True, slots=True)
class RunView:
    """A run of a job; times are epoch seconds, None if they are not known, `ok` is None until it ended.

    `text` is the last thing that it said, or its outcome in words.
    """

    started_at: float | None
    ended_at: float | None
    took_sec: float | None
    ok: bool | None
    exit_code: int | None
    rid: str = ""
    text: str = ""


async def read_runs(bus: Bus, svc: str, last_run: LastRunView | None) -> tuple[RunView, ...]:
    """Return the runs of a service, the latest first; none if the bus does not answer.

    A command under `marketswarm exec` sends no pings: of that only the last run is known.
    """
    try:
        key = pings_key(svc)
        entries: Any = await bus.ask(bus.client.xrevrange(key, count=PINGS_KEPT), max_bytes=_REPLY_BYTES)
    except BusError:
        entries = []
    runs = find_runs(parse_pings(entries))
    if runs:
        return tuple(view_run(run) for run in runs[: -SHOWN - 1 : -1])
    return () if last_run is None else (view_last_run(last_run),)


def view_run(run: JobRun) -> RunView:
    """Return a run as a page shows it: everything that it said is escaped."""
    said = escape_lines(run.bodies[-1].strip()) if run.bodies else ""
    return RunView(
        run.started_at,
        run.ended_at,
        run.took_sec,
        run.ok,
        run.exit_code,
        escape_text(run.rid or ""),
        said if len(said) <= MAX_CHARS else f"…{said[1 - MAX_CHARS :]}",
    )


def view_last_run(run: LastRunView) -> RunView:
    """Return the last run of a command."""
    known = run.ended_at is not None and run.took_sec is not None
    started_at = (run.ended_at or 0.0) - (run.took_sec or 0.0) if known else None
    return RunView(started_at, run.ended_at, run.took_sec, run.ok, run.exit_code, text=run.text)
