"""The main loop of sources: follow the truth and the other instances, start due loads, report."""

import asyncio
import contextlib
import os
import time
from typing import Any, Final

from marketswarm.agent import Agent, agent, point_like
from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import SOURCES
from marketswarm.agent.requests import RequestDesk
from marketswarm.bus import BusError
from marketswarm.keys import MARKET_BARS
from marketswarm.operator.remedies import Remedy
from marketswarm.truth import AccessPoint
from services.sources.cascade.loader import open_loader
from services.sources.cascade.series import list_series
from services.sources.cascade.store import SeriesStore
from services.sources.dispatcher import SeriesDispatcher
from services.sources.metrics import SourcesMetrics
from services.sources.refresh import Refresh
from services.sources.refresh_requests import RefreshDesk
from services.sources.replay.recording import RecordingError
from services.sources.settings import MARKET, SourcesEnvironment, SourcesSettings
from services.sources.streams import SeriesStreams

NAME: Final = "sources"
HEALTH_SEC: Final = 15.0
"""The time between two looks at the sources, for the metrics."""


async def main() -> int:
    """Run sources until it is asked to stop; return its exit code.

    Follow the settings and this instance's share of the series, start the loads that are due, and report.
    """
    async with agent(NAME, SourcesEnvironment) as me:
        settings, share, metrics = me.config(SourcesSettings), me.share("series"), SourcesMetrics()
        me.expose(metrics.collect)
        store = SeriesStore(
            lambda: me.bus(find_point(me, MARKET_BARS).bus), lambda key: find_point(me, key).key
        )
        urls = me.settings.sources_base_urls
        async with open_loader(store, lambda: settings().work, urls, os.environ) as loader:
            dispatcher = SeriesDispatcher(me, loader, start_alerts(me, store), metrics)
            point = find_point(me, MARKET_BARS)
            dispatcher.follow_sources(list_series(settings()), settings().work.load.miss_after)
            streams = SeriesStreams(dispatcher, urls)
            refresh = Refresh(dispatcher, settings, point.bus)
            me.task(refresh.run(), name="refresh")
            me.task(RefreshDesk(me, refresh).run(), name="refresh requests")
            desk = RequestDesk(
                Remedy.RELOAD_SERIES,
                me,
                lambda: dispatcher.reload_stale(settings().work.load.concurrency),
            )
            me.task(desk.run(), name="reload")
            me.task(follow_health(dispatcher), name="source health")
            await share.known()
            while True:
                await follow_replay(dispatcher)
                series = {each.id: each for each in list_series(settings())}
                dispatcher.follow_sources(series.values(), settings().work.load.miss_after)
                await dispatcher.follow(series[name] for name in share.mine(series))
                streams.follow(dispatcher.series)
                dispatcher.start_due(time.time(), settings().settings.load.concurrency)
                dispatcher.record_left()
                await dispatcher.read_states()
                report(dispatcher)
                await me.rest(dispatcher.rest_sec(time.time()))
    return me.exit_code


def find_point(me: Agent[Any], key: str) -> AccessPoint:
    return point_like(me.section.access_points.publish_to, MARKET, key)


def start_alerts(me: Agent[Any], store: SeriesStore) -> OutageAlerts:
    """Alert on sources; degrade while the bus of the alerts can't be used."""

    def degrade(problem: str | None) -> None:
        me.set_degraded(problem and f"events not sent: {problem}", part="events")

    return OutageAlerts.start(me, SOURCES, degrade=degrade, on_states=store.write_verdicts)


async def follow_replay(dispatcher: SeriesDispatcher) -> None:
    """Play the recording that the settings name; degrade if it can't be read."""
    problem = None
    try:
        await dispatcher.loader.reader.follow_replay()
    except RecordingError as error:
        problem = f"replay: {error}"
    except BusError as error:
        problem = f"replay: {error.bus} {error.reason}"
    dispatcher.me.set_degraded(problem, part="replay")


async def follow_health(dispatcher: SeriesDispatcher) -> None:
    """Read the health of this instance's sources for the metrics, until cancelled."""
    while True:
        names = {name for each in dispatcher.series.values() for name in each.sources}
        with contextlib.suppress(BusError):  # the metrics stay what they were
            dispatcher.metrics.note_health(await dispatcher.loader.reader.read_health(names))
        await asyncio.sleep(HEALTH_SEC)


def report(dispatcher: SeriesDispatcher) -> None:
    """Set the detail of the beats; degrade while a critical series is not fresh or the bus can't be used."""
    now = time.time()
    dispatcher.log_changes(now)
    dispatcher.me.set_degraded(dispatcher.find_problem(now))
    dispatcher.me.set_detail(dispatcher.summarize(now))
