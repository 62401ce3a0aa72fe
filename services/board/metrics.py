"""Report the board's metrics on METRICS_PORT.

Another thread than the event loop's reads them, which needs no lock.
"""

from collections.abc import Iterator

from marketswarm.metrics.family import Family, counter, gauge
from services.board.fleet_reader import FleetReader
from services.board.guard import Guard
from services.board.stream import StreamHub


class BoardMetrics:
    """Read the metrics from the reader, the stream and the guard."""

    def __init__(self, reader: FleetReader, hub: StreamHub, guard: Guard) -> None:
        self._reader, self._hub, self._guard = reader, hub, guard

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
        yield gauge(
            "marketswarm_board_reading_seconds",
            "How long the last look at the buses took.",
            self._reader.took_sec,
        )
