"""The main loop of archive: a worker on each bus, maintenance beside them, and what the beats say of both.

What a worker does (read, make rows, commit, acknowledge) is in `worker.py`; what one instance of all does
beside that (partitions, sources, correlations, backups) is in `maintenance.py`.
"""

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from typing import Final

from marketswarm.agent import Code, Exit, agent
from marketswarm.agent.requests import RequestDesk
from marketswarm.agent.worker_pool import WorkerPool
from marketswarm.beat import MAX_DETAIL_CHARS
from marketswarm.bus.backlog import Backlog, format_unread
from marketswarm.bus.consumer import Consumer
from marketswarm.bus.outage import Outage
from marketswarm.operator.remedies import Remedy
from marketswarm.postgres.migrations import SchemaError
from marketswarm.postgres.pool import DatabaseAway
from services.archive.database import Database
from services.archive.maintenance import Maintenance
from services.archive.metrics import ArchiveMetrics
from services.archive.position_consumer import PositionConsumer
from services.archive.settings import ArchiveEnvironment, ArchiveSettings, find_streams
from services.archive.worker import ArchiveWorker
from services.archive.writer import Writer

REPORT_EVERY_SEC: Final = 0.2
MIGRATING_SEC: Final = 2.0
"""The seconds after which the beats speak of a migration; most take less than one."""
LAG_KNOWN_SEC: Final = 90.0
"""How long a backlog says something of now; a batch of a PostgreSQL that hangs takes a minute."""
_GC_OBJECTS: Final = 100_000
"""The new objects after which the garbage collector looks for cycles: a batch makes 50,000 without any."""


async def main() -> int:
    """Run archive until it is asked to stop; return its exit code."""
    async with agent("archive", ArchiveEnvironment) as me:
        url, settings_now = require_url(me.settings), me.config(ArchiveSettings)
        database = Database(
            url,
            timeout_sec=lambda: settings_now().settings.database_timeout_sec,
            slow_ms=me.settings.database_slow_ms,
        )
        makes_backups = me.settings.archive_backup_folder is not None
        metrics = ArchiveMetrics(makes_backups=makes_backups)
        me.expose(metrics.collect)
        if not makes_backups:
            me.log.warning("backup.off", why="ARCHIVE_BACKUP_FOLDER is not set")
        # what is there now stays; each batch makes many objects, and would have all of this looked through
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_OBJECTS)
        writer = Writer(database)

        def make_pool(make_consumer: type[Consumer], *, followed: bool) -> WorkerPool[ArchiveWorker]:
            return WorkerPool(
                me,
                streams_now=lambda: find_streams(me.section.access_points.subscribe_to, followed=followed),
                group_now=lambda: settings_now().settings.group,
                make_worker=lambda: ArchiveWorker(me, settings_now, writer, metrics),
                make_outage=lambda: Outage(me.log, "entries.unread", "entries.read"),
                make_consumer=make_consumer,
            )

        pools = make_pool(Consumer, followed=False), make_pool(PositionConsumer, followed=True)
        maintenance = Maintenance(me, settings_now, database, writer, metrics)
        me.task(maintenance.run(), name="maintenance")

        desk = RequestDesk(Remedy.RECONNECT, me, maintenance.reconnect)
        me.task(desk.run(), name="reconnect")
        while True:
            for pool in pools:
                pool.start_workers()
            workers = [worker for pool in pools for worker in pool.workers]
            outages = [each.outage for each in workers if each.outage is not None]
            outage = min(outages, key=lambda each: each.since, default=None)
            metrics.backlogs = {stream: each for pool in pools for stream, each in pool.backlogs.items()}
            now = time.monotonic()
            metrics.lag_sec = find_lag(workers, now)
            metrics.database_up = outage is None
            behind = describe_backlog(metrics.backlogs, settings_now().settings.behind_sec)
            away = describe_outage(outage, metrics.backlogs, now)
            me.set_degraded(
                describe_migration(database.migrating_since, now)
                or away
                or "; ".join(dict.fromkeys(filter(None, (pool.problem() for pool in pools))))
                or behind
            )
            me.set_detail(metrics.summary())
            # not `me.rest`, because that would count as progress, which the workers alone report
            await asyncio.sleep(REPORT_EVERY_SEC)
    return me.exit_code


def require_url(settings: ArchiveEnvironment) -> str:
    """Return the URL of the database. Raises Exit, code 2, if none is set."""
    if settings.database_url is None:
        raise Exit(
            Code.CONFIGURATION,
            "DATABASE_URL is not set: postgresql://user:password@host:port/database "
            "(`marketswarm up` sets it for a PostgreSQL that it runs)",
        )
    return settings.database_url


def describe_migration(since: float | None, now: float) -> str | None:
    """Return for how long a migration has run `since` (None: none runs); None if that is short."""
    if since is None or now - since < MIGRATING_SEC:
        return None
    return f"migrating the database to the schema of this release for {_format_sec(now - since)}"


def describe_outage(outage: DatabaseAway | None, backlogs: Mapping[str, Backlog], now: float) -> str | None:
    """Return None while PostgreSQL can be used. The text fits into the detail of a beat."""
    if outage is None:
        return None
    holds = _describe_hold(backlogs)
    if isinstance(outage.error, SchemaError):  # PostgreSQL is there, and the error says what to do
        return f"{outage.reason}; {holds}"
    words = f"PostgreSQL can't be used for {_format_sec(now - outage.since)}"
    room = MAX_DETAIL_CHARS - len(f"{words} (); {holds}")
    return f"{words} ({outage.reason[:room]}); {holds}"


def _describe_hold(backlogs: Mapping[str, Backlog]) -> str:
    held = {stream: each.hold_sec for stream, each in backlogs.items() if each.hold_sec is not None}
    if not held:
        return "no stream is full yet"
    stream, least_sec = min(held.items(), key=lambda each: each[1])
    if least_sec <= 0:
        return f"{stream} loses entries"
    return f"{stream} holds {_format_sec(least_sec)} more"


def describe_backlog(backlogs: Mapping[str, Backlog], behind_sec: float) -> str | None:
    """Return which stream's oldest entry waits longest, if it waits for `behind_sec`; otherwise None."""
    stream, worst = max(backlogs.items(), key=lambda each: each[1].oldest_sec, default=("", Backlog()))
    if worst.oldest_sec < behind_sec:
        return None
    unread, oldest = format_unread(worst.unread), _format_sec(worst.oldest_sec)
    return f"behind: {unread} unread in {stream}, the oldest for {oldest}"


def find_lag(workers: Sequence[ArchiveWorker], now: float) -> float | None:
    """Return how long the oldest unread entry has waited; None if a worker has not looked lately."""
    if any(now - each.backlogs_at > LAG_KNOWN_SEC for each in workers):
        return None
    return max((backlog.oldest_sec for each in workers for backlog in each.backlogs.values()), default=None)


def _format_sec(seconds: float) -> str:
    """Return `42 s`, `12 min` or `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
