"""The main loop of vexy_ai: keep a worker on each bus, and report how far behind the work is."""

import asyncio
import time
from typing import Final

from marketswarm.agent import agent
from marketswarm.agent.worker_pool import WorkerPool
from marketswarm.bus.outage import Outage
from marketswarm.time_slice import wait_until_due
from services.vexy_ai.digest_writer import DigestWriter
from services.vexy_ai.metrics import VexyMetrics
from services.vexy_ai.settings import VexyEnvironment, VexySettings, find_streams
from services.vexy_ai.worker import VexyWorker

REPORT_EVERY_SEC: Final = 1.0


async def main() -> int:
    """Run vexy_ai until it is asked to stop; return its exit code."""
    async with agent("vexy_ai", VexyEnvironment) as me:
        settings_now, metrics, reseeded = me.config(VexySettings), VexyMetrics(), asyncio.Event()
        me.on_reseed(lambda _truth: reseeded.set())
        me.expose(metrics.collect)
        me.task(DigestWriter(me, settings_now, metrics).run(), name="digests")
        pool = WorkerPool(
            me,
            streams_now=lambda: find_streams(me.section.access_points.subscribe_to),
            group_now=lambda: settings_now().settings.group,
            make_worker=lambda: VexyWorker(me, settings_now, metrics),
            make_outage=lambda: Outage(me.log, "items.unread", "items.read"),
        )
        while True:
            pool.start_workers()
            metrics.backlogs = pool.backlogs
            behind = metrics.lag.check(metrics.backlogs, settings_now().settings.behind_sec)
            me.set_degraded(pool.problem() or behind)
            me.set_detail(metrics.summary(time.time()))
            # not `me.rest`, because that would count as progress, which the workers alone report
            await wait_until_due(reseeded, REPORT_EVERY_SEC)
    return me.exit_code
