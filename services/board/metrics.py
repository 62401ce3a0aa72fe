"""Report the board's metrics on METRICS_PORT.

Another thread than the event loop's reads them, which needs no lock.
"""

import time
from collections.abc import Iterator

from marketswarm.metrics.family import Family, counter, gauge
from services.board.access.guard import Guard
from services.board.fleet.reader import FleetReader
from services.board.fleet.recorder import HistoryRecorder
from services.board.fleet.stream import StreamHub
from services.board.market.market import Market
from services.board.market.metrics import collect_market
from services.board.pings.writer import PingWriter


class BoardMetrics:
    """Read the metrics from the reader, the stream, the guard, the recorder, the pings and the market."""

    def __init__(
        self,
        reader: FleetReader,
        hub: StreamHub,
        guard: Guard,
        recorder: HistoryRecorder,
        pings: PingWriter,
        *,
        market: Market | None = None,
    ) -> None:
        self._reader, self._hub, self._guard, self._recorder = reader, hub, guard, recorder
        self._pings, self._market = pings, market

    def collect(self) -> Iterator[Family]:
        """Yield every metric with its current value."""
        yield gauge(
            "marketswarm_board_streams", "Browsers that follow the fleet live.", float(len(self._hub))
        )
        yield counter(
            "marketswarm_board_streams_cut_off_total",
            "Streams that were ended, since their browser did not keep up.",
            self._hub.cut_off,
        )
        yield counter(
            "marketswarm_board_events_total", "Events that were put on the stream.", self._hub.published
        )
        yield Family(
            "marketswarm_board_responses_total",
            "counter",
            "Answered requests, by HTTP status.",
            [((str(status),), float(count)) for status, count in self._guard.responses.copy().items()],
            labels=("status",),
        )
        yield Family(
            "marketswarm_board_pings_total",
            "counter",
            "Pings over HTTP that a bus took, by what they say of their job.",
            [((kind,), float(count)) for kind, count in self._pings.acknowledged.copy().items()],
            labels=("kind",),
        )
        yield gauge(
            "marketswarm_board_pings_waiting",
            "Pings over HTTP that wait for a bus.",
            float(self._pings.waiting),
        )
        yield gauge(
            "marketswarm_board_reading_seconds",
            "How long the last look at the buses took.",
            self._reader.took_sec,
        )
        yield from self._collect_history()
        if self._market is not None:
            yield from collect_market(self._market)

    def _collect_history(self) -> Iterator[Family]:
        """Yield the metrics of the recorder."""
        counts = self._recorder.counts
        yield counter("marketswarm_board_history_events_total", "Events that were recorded.", counts.recorded)
        yield counter(
            "marketswarm_board_history_malformed_total",
            "Entries of the alert log that are no events.",
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
            self._recorder.behind_sec(time.monotonic()),
        )
