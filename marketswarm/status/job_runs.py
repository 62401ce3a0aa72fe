"""Read the last runs of a job: those that its pings and `marketswarm exec` report, and `run:<svc>`."""

from collections.abc import Sequence
from typing import Any, Final

from marketswarm.bus import Bus
from marketswarm.keys import pings_key
from marketswarm.pings import MAX_BODY_BYTES, PINGS_KEPT, JobRun, find_runs, parse_pings

_REPLY_BYTES: Final = 2 * PINGS_KEPT * (MAX_BODY_BYTES + 1000)
_ROUNDING_SEC: Final = 0.002


async def read_runs(bus: Bus, svc: str, last: JobRun | None) -> list[JobRun]:
    """Return the runs of a service, the latest first; `last` is that of `run:<svc>`. Raises BusError."""
    key = pings_key(svc)
    entries: Any = await bus.ask(bus.client.xrevrange(key, count=PINGS_KEPT), max_bytes=_REPLY_BYTES)
    return _add_last(find_runs(parse_pings(entries)), last)[::-1]


def make_last_run(
    ended_at: float | None, took_sec: float | None, text: str, *, ok: bool | None, exit_code: int | None
) -> JobRun:
    """Return the run that `run:<svc>` describes; `text` is its outcome in words."""
    started_at = None if ended_at is None or took_sec is None else ended_at - took_sec
    return JobRun(
        rid=None, started_at=started_at, ended_at=ended_at, ok=ok, exit_code=exit_code, bodies=(text,)
    )


def _add_last(runs: Sequence[JobRun], last: JobRun | None) -> list[JobRun]:
    """Return runs (oldest first) with the last one, unless they report it, or a later one, already."""
    if last is None or (runs and last.ended_at is None):
        return list(runs)
    ends = [run.ended_at for run in runs if run.ended_at is not None]
    is_known = last.ended_at is not None and any(end > last.ended_at - _ROUNDING_SEC for end in ends)
    return list(runs) if is_known else [*runs, last]
