"""Report the board's metrics on METRICS_PORT, which another thread serves; reading needs no lock."""

import time
from collections.abc import Iterator

from marketswarm.metrics.family import Family, counter, counters, gauge
from services.board.access.guard import Guard
from services.board.fleet.reader import FleetReader
from services.board.fleet.recorder import HistoryRecorder
from services.board.fleet.stream import StreamHub
from services.board.market.market import Market
from services.board.pings.writer import PingWriter


def collect_board(
    reader: FleetReader,
    hub: StreamHub,
    guard: Guard,
    recorder: HistoryRecorder,
    pings: PingWriter,
    *,
    market: Market | None = None,
) -> Iterator[Family]:
    counts = recorder.counts
    yield gauge("marketswarm_board_streams", "Browsers that follow the fleet live.", float(len(hub)))
    yield counter(
        "marketswarm_board_streams_cut_off_total",
        "Streams that were ended, because their browser did not keep up.",
        hub.cut_off,
    )
    yield counter("marketswarm_board_events_total", "Events that were put on the stream.", hub.published)
    yield counters(
        "marketswarm_board_responses_total",
        "Answered requests, by HTTP status.",
        guard.responses,
        ("status",),
    )
    yield counters(
        "marketswarm_board_pings_total",
        "Pings over HTTP that a bus took, by what they say of their job.",
        pings.acknowledged,
        ("kind",),
    )
    yield gauge(
        "marketswarm_board_pings_waiting", "Pings over HTTP that wait for a bus.", float(pings.waiting)
    )
    yield gauge(
        "marketswarm_board_reading_seconds", "How long the last look at the buses took.", reader.took_sec
    )
    yield counter("marketswarm_board_history_events_total", "Events that were recorded.", counts.recorded)
    yield counter(
        "marketswarm_board_history_malformed_total",
        "Entries of the alert log that could not be parsed.",
        counts.malformed,
    )
    yield counter(
        "marketswarm_board_history_failures_total",
        "Failures of a bus, after which the history was read again.",
        counts.failures,
    )
    yield counter(
        "marketswarm_board_history_conflicts_total",
        "Writes for which another board was first.",
        counts.conflicts,
    )
    yield gauge(
        "marketswarm_board_history_behind_seconds",
        "How long ago the alert log was recorded to its end.",
        recorder.behind_sec(time.monotonic()),
    )
    if market is not None:
        yield from collect_market(market)


def collect_market(market: Market) -> Iterator[Family]:
    hub, counts = market.hub, market.charts.bases.counts
    yield gauge(
        "marketswarm_board_market_feed_up",
        "1 while the market can be read from its bus, 0 while it can't; no value without a market.",
        float(market.feed.problem is None) if market.feed.has_market else None,
    )
    yield gauge(
        "marketswarm_board_market_database_up",
        "1 while the archive's database answers the board, 0 while it does not; no value without one.",
        float(market.archive.problem is None) if market.archive.is_configured else None,
    )
    yield gauge("marketswarm_board_market_followers", "Clients that follow the market.", float(len(hub)))
    yield counter(
        "marketswarm_board_market_followers_dropped_total",
        "Clients that were dropped, because they did not keep up.",
        hub.dropped,
    )
    yield counter(
        "marketswarm_board_market_updates_total", "Updates of the market that were numbered.", hub.published
    )
    yield counter(
        "marketswarm_board_market_malformed_total",
        "Entries of the streams of the market that could not be parsed.",
        market.live.malformed,
    )
    origins = {
        "answer": market.answers.counts.memory,
        "memory": counts.memory,
        "redis": counts.redis,
        "archive": counts.source,
    }
    yield counters(
        "marketswarm_board_market_charts_total",
        "Charts that were answered, by where their bars came from; an answer is one that was kept whole.",
        origins,
        ("origin",),
    )
