"""Report the board's metrics on METRICS_PORT, which another thread serves; reading needs no lock."""

import time
from collections.abc import Iterator
from typing import Final

from marketswarm.metrics import Family, MetricTable
from marketswarm.web.guard import Guard
from marketswarm.web.tls_listener import TlsListener
from services.board.answer_times import AnswerTimes
from services.board.backtests.queue import BacktestQueue
from services.board.fleet.reader import FleetReader
from services.board.fleet.recorder import HistoryRecorder
from services.board.market.market import Market
from services.board.pings.writer import PingWriter

_HELP: Final = {
    "streams": "Browsers that follow the fleet live.",
    "streams_cut_off_total": "Streams that were ended, because their browser did not keep up.",
    "events_total": "Events that were put on the stream.",
    "responses_total{status}": "Answered requests, by HTTP status.",
    "answer_seconds{route}": "How long answers took until they began, by the class of their route.",
    "tls_refused_total": (
        "Connections over TLS that were closed before their handshake was complete, since there were too "
        "many; no value without TLS."
    ),
    "pings_total{kind}": "Pings over HTTP that a bus took, by what they say of their job.",
    "pings_waiting": "Pings over HTTP that wait for a bus.",
    "reading_seconds": "How long the last look at the buses took.",
    "history_events_total": "Events that were recorded.",
    "history_malformed_total": "Entries of the alert log that could not be parsed.",
    "history_failures_total": "Failures of a bus, after which the history was read again.",
    "history_conflicts_total": "Writes for which another board was first.",
    "history_behind_seconds": "How long ago the alert log was recorded to its end.",
    "market_feed_up": (
        "1 while the market can be read from its bus, 0 while it can't; no value without a market."
    ),
    "market_database_up": (
        "1 while the archive's database answers the board, 0 while it does not; no value without one."
    ),
    "market_query_seconds{kind}": "How long queries of the archive's database took, by the table they read.",
    "market_followers": "Clients that follow the market.",
    "market_followers_dropped_total": "Clients that were dropped, because they did not keep up.",
    "market_updates_total": "Updates of the market that were numbered.",
    "market_streams": "Arrow streams of many symbols that are open.",
    "market_malformed_total": "Entries of the streams of the market that could not be parsed.",
    "market_charts_total{origin}": (
        "Charts that were answered, by where their bars came from; an answer is one that was kept whole."
    ),
    "backtests_waiting": "Backtests that wait to be played.",
    "backtests_running": "Backtests that are played.",
    "backtests_total{outcome}": (
        "Backtests that ended: done, kept (no input had changed), deleted, or why they failed."
    ),
    "backtests_seconds_total": "How long all backtests took together.",
    "backtests_set_aside_total": "Files of backtests that could not be read, and were set aside.",
}
_METRICS: Final = MetricTable("marketswarm_board_", _HELP)


def collect_board(
    reader: FleetReader,
    guard: Guard,
    recorder: HistoryRecorder,
    pings: PingWriter,
    answers: AnswerTimes,
    *,
    tls: TlsListener | None,
) -> Iterator[Family]:
    """Yield the metrics of the board but those of the market, by what its parts have counted."""
    return _METRICS.collect(
        streams=len(reader.hub),
        streams_cut_off_total=reader.hub.cut_off,
        events_total=reader.hub.published,
        responses_total=guard.responses,
        answer_seconds=answers.seconds,
        tls_refused_total=None if tls is None else tls.refused,
        pings_total=pings.acknowledged,
        pings_waiting=pings.waiting,
        reading_seconds=reader.took_sec,
        history_events_total=recorder.recorded,
        history_malformed_total=recorder.malformed,
        history_failures_total=recorder.failures,
        history_conflicts_total=recorder.conflicts,
        history_behind_seconds=recorder.behind_sec(time.monotonic()),
    )


def collect_market(market: Market) -> Iterator[Family]:
    counts = market.charts.bases.counts
    return _METRICS.collect(
        market_feed_up=market.feed.problem is None if market.feed.has_market else None,
        market_database_up=market.archive.problem is None if market.archive.is_configured else None,
        market_query_seconds=market.archive.query_seconds,
        market_followers=len(market.hub),
        market_followers_dropped_total=market.hub.dropped,
        market_updates_total=market.hub.published,
        market_streams=len(market.streams),
        market_malformed_total=market.live.malformed,
        market_charts_total={
            "answer": market.answers.counts.memory,
            "memory": counts.memory,
            "redis": counts.redis,
            "archive": counts.source,
        },
    )


def collect_backtests(queue: BacktestQueue) -> Iterator[Family]:
    return _METRICS.collect(
        backtests_waiting=queue.waiting,
        backtests_running=queue.running,
        backtests_total=queue.finished,
        backtests_seconds_total=queue.took_sec,
        backtests_set_aside_total=queue.store.set_aside,
    )
