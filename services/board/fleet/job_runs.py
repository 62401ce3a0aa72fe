"""Put together what the page of a job shows: its last runs, its next ones, and how long they take.

The runs are read from the stream of the job's pings; what is made of them is pure.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from statistics import median
from typing import Final

from marketswarm.bus import Bus, BusError
from marketswarm.pings import JobRun
from marketswarm.status.job_runs import make_last_run, read_runs
from marketswarm.text import escape_lines
from marketswarm.truth import Schedule
from services.board.fleet.snapshot import LastRunView, copy_fields

SHOWN: Final = 10  # how many runs a page shows, the latest first
FIRST_LINES: Final = 3  # how many lines of a run's output are shown before all of it is asked for
FIRST_CHARS: Final = 300
NEXT: Final = 3  # how many runs that are to come are shown


@dataclass(frozen=True, slots=True)
class RunView:
    """A run of a job; times are epoch seconds, None if they are not known, `ok` is None until it ended.

    `text` is what is kept of its output, or its outcome in words; `first` are the first lines of that.
    """

    started_at: float | None
    ended_at: float | None
    took_sec: float | None
    ok: bool | None
    exit_code: int | None
    text: str = ""

    @property
    def first(self) -> str:
        lines = self.text.split("\n", FIRST_LINES)
        return "\n".join(lines[:FIRST_LINES])[:FIRST_CHARS]


@dataclass(frozen=True, slots=True)
class JobView:
    """The runs of a job, the latest first, and when it is to run next (epoch seconds, the earliest first).

    `usual_sec` is the median duration of the runs that ended well; None if none of them has one.
    """

    runs: tuple[RunView, ...] = ()
    next_at: tuple[float, ...] = ()
    usual_sec: float | None = None

    @property
    def timed(self) -> tuple[RunView, ...]:
        """The runs that have a duration, the oldest first."""
        return tuple(run for run in reversed(self.runs) if run.took_sec is not None)


def make_job_view(runs: Sequence[RunView], schedule: Schedule | None, now: float) -> JobView:
    """Return the view of a job with these runs, the latest first, at `now` (epoch seconds)."""
    next_at = () if schedule is None else tuple(islice(schedule.runs_after(now), NEXT))
    took = [run.took_sec for run in runs if run.ok and run.took_sec is not None]
    return JobView(tuple(runs), next_at, median(took) if took else None)


async def read_run_views(bus: Bus, svc: str, last_run: LastRunView | None) -> tuple[RunView, ...]:
    """Return the runs of a service, the latest first; the last one alone if the bus does not answer."""
    last = None if last_run is None else make_last_run(**asdict(last_run))
    try:
        runs = await read_runs(bus, svc, last)
    except BusError:
        runs = [] if last is None else [last]
    return tuple(view_run(run) for run in runs[:SHOWN])


def view_run(run: JobRun) -> RunView:
    return RunView(**copy_fields(run, RunView), text=escape_lines(run.output.strip()))
