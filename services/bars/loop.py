"""The main loop of bars: follow the truth, read entries, build bars of them, and commit both."""

import gc
import time
from typing import Final

from marketswarm.agent import Code, Exit, agent
from marketswarm.bus.outage import Outage, retrying
from marketswarm.settings import CommonSettings
from marketswarm.truth import Service
from services.bars.feature_writer import FeatureWriter
from services.bars.metrics import BarsMetrics
from services.bars.settings import BarsSettings, find_other_bus
from services.bars.worker import BarsWorker

COLLECT_SEC: Final = 10.0
"""The time from one collection of garbage to the next, while nothing is to be done."""


class IdleCollector:
    """Collect garbage while nothing is to be done.

    Half a million objects live as long as their bars. Left alone, Python's collector looks at all of them
    whenever it likes, for a quarter of a second. So what is alive when nothing is to be done is set aside: a
    collection looks at what came since. What was set aside is still freed when nothing refers to it.
    """

    def __init__(self) -> None:
        self._collected_at = 0.0

    def collect(self, now: float) -> None:
        """Collect garbage at the time `now` in monotonic seconds, if the last time is long ago."""
        if now - self._collected_at >= COLLECT_SEC:
            gc.collect()
            gc.freeze()
            self._collected_at = now


async def main() -> int:
    """Run bars until it is asked to stop; return its exit code."""
    async with agent("bars", CommonSettings) as me:
        require_one_bus(me.section)
        # a truth without a section for this agent leaves the last one in force
        me.on_reseed(
            lambda _truth: None, check=lambda truth: require_one_bus(truth.services.get(me.name, me.section))
        )
        settings_now, metrics = me.config(BarsSettings), BarsMetrics()
        me.expose(metrics.collect)
        features = FeatureWriter(me, settings_now, metrics)
        me.task(features.run(), name="features")
        worker, collector = BarsWorker(me, settings_now, metrics), IdleCollector()
        outage = Outage(me.log, "bars.bus_failed", "bars.bus_back", degrade=me.set_degraded)
        await me.share().known()
        has_entries = False
        async for attempt in retrying(outage, me.rest):
            with attempt:
                has_entries = await worker.process_next()
            if outage.error is not None:
                worker.reset(outage.error)
                continue
            behind = describe_delay(metrics.behind_seconds, settings_now().settings.behind_sec)
            me.set_degraded(worker.problem or features.problem or behind)
            me.set_detail(metrics.summary())
            me.progress()
            if not has_entries:
                collector.collect(time.monotonic())
    return me.exit_code


def require_one_bus(section: Service) -> None:
    """Raise Exit if the truth puts the streams of bars on different buses."""
    if (why := find_other_bus(section)) is not None:
        raise Exit(Code.CONFIGURATION, f"access_points: {why}")


def describe_delay(waited_sec: float, behind_sec: float) -> str | None:
    """Return how long the entry read last had waited, if that is `behind_sec` or longer; else None."""
    return f"behind: the entry read last waited for {waited_sec:.0f} s" if waited_sec >= behind_sec else None
