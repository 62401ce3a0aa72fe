"""The main loop of archive: a worker on each bus, a keeper beside them, and what the beats say of both.

What a worker does (read, make rows, commit, acknowledge) is in `worker.py`; what one instance of all does
beside that (partitions, sources, correlations, backups) is in `keeper.py`.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from marketswarm.agent import Agent, Code, Exit, agent
from marketswarm.bus import BusError
from services.archive.consumer import Backlog
from services.archive.database import Database
from services.archive.keeper import Keeper
from services.archive.metrics import ArchiveMetrics
from services.archive.settings import (
    ArchiveEnvironment,
    ArchiveSettings,
    SourceStream,
    find_streams,
    group_by_bus,
)
from services.archive.worker import Outage, Worker
from services.archive.writer import Writer

REPORT_EVERY_SEC: Final = 0.2
RETRY_SEC: Final = 1.0


async def main() -> int:
    """Run archive until it is asked to stop; return its exit code."""
    async with agent("archive", ArchiveEnvironment) as me:
        database = Database(require_url(me.settings))
        settings_now, metrics = me.config(ArchiveSettings), ArchiveMetrics()
        me.expose(metrics.collect)
        # what is there now stays; each batch makes many objects, and would have all of this looked through
        gc.collect()
        gc.freeze()
        writer = Writer(database)
        pool = WorkerPool(me, settings_now, writer, metrics)
        keeper = Keeper(me, settings_now, database, writer, metrics)
        me.task(keeper.run(), name="keeper")
        while True:
            pool.start_workers()
            metrics.backlogs, metrics.is_away = pool.backlogs, pool.outage is not None
            behind = describe_backlog(pool.backlogs, settings_now().settings.behind_sec)
            away = describe_outage(pool.outage, pool.backlogs, time.monotonic())
            me.set_degraded(away or pool.problem() or behind)
            me.set_detail(metrics.summary())
            # not `me.rest`: that would count as progress, which the workers alone report
            await asyncio.sleep(REPORT_EVERY_SEC)
    return me.exit_code


def require_url(settings: ArchiveEnvironment) -> str:
    """Return the URL of the database.

    Raises:
        Exit: code 2, if none is set.
    """
    if settings.database_url is None:
        raise Exit(
            Code.CONFIGURATION,
            "DATABASE_URL is not set: postgresql://user:password@host:port/database "
            "(`marketswarm up` sets it for a PostgreSQL that it runs)",
        )
    return settings.database_url


def describe_outage(outage: Outage | None, backlogs: Mapping[str, Backlog], now: float) -> str | None:
    """Return since when PostgreSQL is away, and how long the streams hold; None if it is not away.

    `now` is in seconds of the monotonic clock.
    """
    if outage is None:
        return None
    held = {stream: each.hold_sec for stream, each in backlogs.items() if each.hold_sec is not None}
    words = f"PostgreSQL away for {_format_sec(now - outage.since)} ({outage.reason[:80]}); "
    if not held:
        return words + "no stream is full yet"
    stream, least_sec = min(held.items(), key=lambda each: each[1])
    if least_sec <= 0:
        return words + f"{stream} loses entries"
    return words + f"{stream} holds {_format_sec(least_sec)} more"


def describe_backlog(backlogs: Mapping[str, Backlog], behind_sec: float) -> str | None:
    """Return which stream's oldest entry waits longest, if it waits for `behind_sec`; else None."""
    stream, worst = max(backlogs.items(), key=lambda each: each[1].oldest_sec, default=("", Backlog()))
    if worst.oldest_sec < behind_sec:
        return None
    return f"behind: {worst.unread:,} unread in {stream}, the oldest for {_format_sec(worst.oldest_sec)}"


def _format_sec(seconds: float) -> str:
    """Return a duration for people: `42 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class WorkerPool:
    """Run one worker for each bus that the truth names; one whose bus fails tries again after RETRY_SEC."""

    def __init__(
        self,
        me: Agent[ArchiveEnvironment],
        settings_now: Callable[[], ArchiveSettings],
        writer: Writer,
        metrics: ArchiveMetrics,
    ) -> None:
        self._me, self._settings_now, self._writer, self._metrics = me, settings_now, writer, metrics
        self._workers: dict[str, Worker] = {}
        self._failing: dict[str, str] = {}

    @property
    def backlogs(self) -> Mapping[str, Backlog]:
        """The last backlog that was read of each stream."""
        return {stream: each for worker in self._workers.values() for stream, each in worker.backlogs.items()}

    @property
    def outage(self) -> Outage | None:
        """The longest outage of PostgreSQL that a worker has met; None if there is none."""
        found = [worker.outage for worker in self._workers.values() if worker.outage is not None]
        return min(found, key=lambda each: each.since, default=None)

    def problem(self) -> str | None:
        """Return each failing bus with its reason; None if no bus fails."""
        return "; ".join(self._failing.values()) or None

    def start_workers(self) -> None:
        """Start a worker on each bus of the truth in force that has none."""
        for bus in group_by_bus(self._streams()).keys() - self._workers.keys():
            self._workers[bus] = worker = Worker(self._me, bus, self._writer, self._metrics)
            self._me.task(self._run(worker), name=f"work {bus}")

    def _streams(self) -> Iterable[SourceStream]:
        """Return the streams of the truth in force."""
        return find_streams(self._me.section.access_points.subscribe_to)

    async def _run(self, worker: Worker) -> None:
        """Write entries until the truth names no stream on the worker's bus; then close the worker."""
        try:
            while streams := group_by_bus(self._streams()).get(worker.bus):
                try:
                    await worker.process_next(streams, self._settings_now().settings)
                except BusError as error:
                    self._report_failure(worker.bus, error)
                    worker.reset()
                    await self._me.rest(RETRY_SEC)
                else:
                    self._failing.pop(worker.bus, None)
        finally:
            try:
                await worker.close()
            finally:
                self._failing.pop(worker.bus, None)
                del self._workers[worker.bus]

    def _report_failure(self, bus: str, error: BusError) -> None:
        """Record that a worker's bus fails; log the failure unless the last one was the same."""
        problem = f"{error.bus} {error.reason}"
        if self._failing.get(bus) != problem:
            self._me.log.warning("entries.unread", bus=error.bus, reason=error.reason)
        self._failing[bus] = problem
