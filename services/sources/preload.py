"""Load every series once, and decide whether enough came for the readers to start.

The gate is a one-shot, as bootstrap is: exit code 0 if enough series are loaded and all critical ones are
fresh, else 1 with a table of what failed and why. Another table has what each key that is not set would add.
Its state is on the bus (`preload:status`) while it works; a bar or log lines on stderr show how far it is.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from marketswarm import log as logs
from marketswarm.agent import Code, Exit, create_bus, find_truth_buses, load_truth, point_like
from marketswarm.agent.lifecycle import StopRequest
from marketswarm.agent.service_config import require_config
from marketswarm.bus import Bus, BusError, find_bus_url
from marketswarm.bus.outage import Outage, retry
from marketswarm.keys import MARKET_BARS, PRELOAD_STATUS
from marketswarm.settings import read_settings
from marketswarm.tasks import run_beside
from marketswarm.text import escape_text
from marketswarm.truth import Service, Truth
from services.sources.cascade.loader import (
    CLAIMED_PAUSE_SEC,
    LoadOutcome,
    SeriesLoader,
    load_concurrently,
    open_loader,
)
from services.sources.cascade.missing_keys import MissingKey
from services.sources.cascade.series import Series, list_series
from services.sources.cascade.state import WAITING, SeriesState, SeriesStatus, clean_reason
from services.sources.cascade.store import SeriesStore
from services.sources.replay.recording import RecordingError
from services.sources.settings import MARKET, SourcesEnvironment, SourcesSettings, WorkSettings

NAME: Final = "sources"
CLOSED_GATE: Final = 1
"""The exit code when too little is there."""
WRITE_EVERY_SEC: Final = 0.5
BUS_PATIENCE_SEC: Final = 30.0
"""How long a series is tried after its bus could not be asked for the first time."""
STATUS_SEC: Final = 30 * 86_400
WORST: Final = 10
"""How many of the series that failed the log names, critical ones first."""
GAIN_SHOWN: Final = 12
"""How many of the series that only a missing key would bring are named."""
LOG_EVERY_SEC: Final = 3.0
_PIPE_COLUMNS: Final = 1_000

log = logs.get(NAME)


@dataclass(frozen=True, slots=True)
class GateFailure:
    """Hold a series that is missing or not fresh, and why.

    `reason` is what its sources answered, which is foreign text. Without a series that is `critical` the gate
    stays closed. The state of the gate on the bus has these fields, as they are named here.
    """

    series: str
    source: str
    status: str
    reason: str
    critical: bool

    def describe(self) -> str:
        """Return the series and why it is missing, as `SPY:bars:1m late: yahoo limited (429)`."""
        return f"{self.series} {self.status}{self.reason and f': {self.reason}'}"


@dataclass(slots=True)
class GateProgress:
    """Hold how far the gate is: of each series that was tried its state, or why it has none, by its name."""

    total: int
    started_at: float
    found: dict[str, SeriesState | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateReport:
    """Hold what the gate found, and whether it opens."""

    is_open: bool
    loaded: int
    failures: tuple[GateFailure, ...]


def evaluate_gate(series: Sequence[Series], progress: GateProgress, share: float, now: float) -> GateReport:
    """Return whether enough series are loaded, and every critical one is fresh; and which ones are not.

    A series is loaded if it is fresh, which it also is while its market is closed and nothing newer can be
    there, or if a source answered in this run and there are records.
    """
    failures, loaded = [], 0
    for each in series:
        found = progress.found.get(each.id, "the time was over")
        state = WAITING if isinstance(found, str) else found
        is_fresh = state.newest_ms is not None and now <= state.fresh_until
        # records of a run long ago, which no source could add to, don't count
        loaded += is_fresh or (state.newest_ms is not None and state.loaded_at >= progress.started_at)
        if not is_fresh:
            failures.append(_describe_failure(each, found))
    critical = any(failure.critical for failure in failures)
    is_open = loaded >= share * len(series) and not critical
    failures.sort(key=lambda each: not each.critical)
    return GateReport(is_open, loaded, tuple(failures))


def _describe_failure(series: Series, state: SeriesState | str) -> GateFailure:
    if isinstance(state, str):
        return GateFailure(series.id, "", "not loaded", state, series.critical)
    reasons = (
        f"{name} {attempt.verdict}"
        + (f" ({clean_reason(attempt.reason)})" if attempt.reason not in ("", attempt.verdict) else "")
        for name in series.sources
        if (attempt := state.attempts.get(name)) is not None
    )
    status = SeriesStatus.LATE if state.newest_ms is not None else state.status
    return GateFailure(series.id, state.serving, status, ", ".join(reasons), series.critical)


async def load_series(loader: SeriesLoader, series: Series, patience_sec: float) -> SeriesState | str:
    """Load a series, or wait until another instance has; return its state, or the error. Raise BusError."""
    while True:
        before = (await loader.store.read_states([series.id], time.time()))[series.id]
        if before.newest_ms is not None and time.time() <= before.fresh_until:
            return before  # another instance loaded it, or it can't change now
        result = await loader.load(series, forced=True, patience_sec=patience_sec)
        if result.outcome is LoadOutcome.LOADED:
            return result.state
        if result.outcome is LoadOutcome.ERROR:
            return f"error ({result.reason})"
        await asyncio.sleep(CLAIMED_PAUSE_SEC)


async def load_within_time(
    loader: SeriesLoader, series: Sequence[Series], settings: WorkSettings, progress: GateProgress
) -> None:
    """Load all series, some at a time, within the gate's time; `progress` has what came of each."""
    outage = Outage(log, "gate.bus_away", "gate.bus_back")

    async def load(each: Series) -> None:
        """Load one series, and note its state or why it has none; a bus that is away may come back."""
        patience_sec = settings.gate.patience_sec
        try:
            progress.found[each.id] = await retry(
                outage, lambda: load_series(loader, each, patience_sec), BUS_PATIENCE_SEC
            )
        except BusError as error:
            progress.found[each.id] = f"{error.bus} {error.reason}"

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.gate.timeout_sec):
            await load_concurrently(series, settings.load.concurrency, load)


async def main() -> int:
    """Load every series once; return 0 if the readers may start, otherwise 1. Raise Exit."""
    settings = read_settings(SourcesEnvironment)
    logs.configure(NAME, settings)
    stop = StopRequest(lambda: None)
    with stop.handle_signals():
        try:
            return await run_gate(settings, os.environ)
        except asyncio.CancelledError:
            stop.end_body()
            raise Exit(CLOSED_GATE, f"stopped by {stop.signal or 'SIGINT'} before it was done") from None


async def run_gate(settings: SourcesEnvironment, environ: Mapping[str, str]) -> int:
    """Find the truth, load its series, and return the exit code. Raise Exit."""
    truth, section = await find_section(settings, environ)
    config = require_config(SourcesSettings, NAME, section)
    points = section.access_points.publish_to
    try:
        url = find_bus_url(point_like(points, MARKET, MARKET_BARS).bus, environ, truth)
    except BusError as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None
    bus = create_bus(MARKET, url)
    async with aclosing(bus):
        store = SeriesStore(lambda: bus, lambda key: point_like(points, MARKET, key).key)
        work = config.work
        async with open_loader(store, lambda: work, settings.sources_base_urls, environ) as loader:
            try:
                await loader.reader.follow_replay()
            except RecordingError as error:
                raise Exit(Code.CONFIGURATION, f"replay: {error}") from None
            return await pass_gate(loader, list_series(config), work, bus)


async def find_section(settings: SourcesEnvironment, environ: Mapping[str, str]) -> tuple[Truth, Service]:
    """Return the truth and its section for sources. Raise Exit."""
    buses = [create_bus(name, url) for url, name in find_truth_buses(settings, environ).items()]
    try:
        found = await load_truth(settings, buses, settings.truth_wait_sec)
    finally:
        await asyncio.gather(*(bus.aclose() for bus in buses))
    truth = found.loaded.truth
    section = truth.services.get(NAME)
    if section is None:
        raise Exit(Code.CONFIGURATION, f"the truth has no section for {NAME}: there is nothing to load")
    return truth, section


async def pass_gate(loader: SeriesLoader, series: Sequence[Series], settings: WorkSettings, bus: Bus) -> int:
    """Load the series, report, and return the exit code."""
    missing = loader.reader.keys.list_missing(series)
    series = [each for each in series if not loader.reader.is_excused(each)]
    progress = GateProgress(len(series), time.time())
    with show_progress(len(series)) as show:
        async with run_beside(write_while_loading(bus, progress, settings.gate.share, show)):
            await load_within_time(loader, series, settings, progress)
        show(len(progress.found))
    report = evaluate_gate(series, progress, settings.gate.share, time.time())
    try:
        await write_status(bus, progress, settings.gate.share, report)
    except BusError as error:
        raise Exit(Code.NO_BUS, f"{error.bus} {error.reason}") from None
    took_sec = round(time.time() - progress.started_at, 1)
    if report.failures:
        print_failures(report.failures)
    if missing:
        print_missing_keys(missing)
    if report.is_open:
        log.info("gate.open", loaded=report.loaded, total=progress.total, sec=took_sec)
        return Code.DONE
    log.error(
        "gate.closed",
        loaded=report.loaded,
        total=progress.total,
        needed=settings.gate.share,
        critical=[each.series for each in report.failures if each.critical][:WORST],
        worst=[each.describe() for each in report.failures[:WORST]],
        sec=took_sec,
    )
    return CLOSED_GATE


async def write_while_loading(
    bus: Bus, progress: GateProgress, share: float, show: Callable[[int], None]
) -> None:
    """Show how far the gate is, and write it to the bus, until cancelled."""
    unwritten = Outage(log, "gate.unwritten", "gate.written")
    while True:
        show(len(progress.found))
        with unwritten:
            await write_status(bus, progress, share, None)
        await asyncio.sleep(WRITE_EVERY_SEC)


async def write_status(bus: Bus, progress: GateProgress, share: float, report: GateReport | None) -> None:
    """Write the gate's state; `report` is None while it works. Raise BusError."""
    status: dict[str, Any] = {
        "state": "loading" if report is None else "open" if report.is_open else "closed",
        "started_at": progress.started_at,
        "ended_at": None if report is None else time.time(),
        "total": progress.total,
        "done": len(progress.found),
        "share": share,
        "loaded": None if report is None else report.loaded,
        "failed": [] if report is None else report.failures[:500],
    }
    await bus.ask(bus.client.set(PRELOAD_STATUS, orjson.dumps(status), ex=STATUS_SEC))


# -- what people see


@contextlib.contextmanager
def show_progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes how many series are done.

    It draws a bar if stderr is a terminal. Else it logs `gate.loading` every few seconds, so that the log of
    a fleet shows progress, too.
    """
    if not sys.stderr.isatty():
        logged_at = time.monotonic()

        def log_progress(done: int) -> None:
            nonlocal logged_at
            if time.monotonic() >= logged_at + LOG_EVERY_SEC:
                logged_at = time.monotonic()
                log.info("gate.loading", done=done, total=total)

        yield log_progress
        return
    columns = (TextColumn("loading the market"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("series", total=total)
        yield lambda done: progress.update(task, completed=done)


def print_failures(failures: Sequence[GateFailure]) -> None:
    """Print a table of the series that are not there or not fresh."""
    rows = [
        (failure.series, failure.status, failure.reason, "critical" if failure.critical else "")
        for failure in failures
    ]
    _print_table(("series", "is", "why", ""), rows)


def print_missing_keys(missing: Sequence[MissingKey]) -> None:
    """Print a table of the keys that are not set, and what each would add."""
    rows = [(" and ".join(each.variables), each.source, describe_gain(each)) for each in missing]
    _print_table(("missing key", "of", "would add"), rows)


def describe_gain(missing: MissingKey) -> str:
    """Return what a key would add: series that nothing else serves, critical ones first, and other series."""
    names = [
        f"{each.id} (critical)" if each.critical else each.id
        for each in sorted(missing.alone, key=lambda each: not each.critical)
    ]
    more = f" and {len(names) - GAIN_SHOWN} more" if len(names) > GAIN_SHOWN else ""
    parts = [f"{', '.join(names[:GAIN_SHOWN])}{more}"] if names else []
    if missing.further:
        parts.append(f"one more source of {missing.further} series")
    return "; ".join(parts)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(escape_text, row))
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()
