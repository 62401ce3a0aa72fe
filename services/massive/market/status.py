"""The state of market data, for the beats and METRICS_PORT. It is read by another thread, too."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from marketswarm.metrics import Family, Histogram
from marketswarm.metrics.family import counter, gauge
from services.massive.market.bars import Bar
from services.massive.market.errors import AT_LEAST_SEC

SHOWN: Final = 3
STREAMING: Final = "streaming"
CONNECTING: Final = "connecting"
STANDS_BY: Final = "stands by"
FAILURES_BORNE: Final = 3
"""A connection that is cut comes back in a second or two; one that does not come back is worth a word."""


class MarketStatus:
    """The state of market data, kept by the source; `remark` and `trouble` are for the beats."""

    def __init__(self) -> None:
        self.clear("off")
        self.published: Counter[str] = Counter()  # new bars by source
        self.connects = self.reconnects = 0
        self.odd: Counter[str] = Counter()
        self.lag = Histogram(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 910.0, 960.0, 1800.0, 3600.0)
        self.newest: int | None = None  # end of the newest bar that was told live, epoch milliseconds

    def clear(self, source: str) -> None:
        """Start afresh for another source; counters stay."""
        self.source = source
        self.why_off: str | None = None
        self.streaming = False
        self.symbols = 0
        self.unheld: Sequence[str] = ()
        self.ended: str | None = None  # why the last connection did
        self.failures = 0  # in a row
        self.unpublished: str | None = None
        self.unfilled: str | None = None  # why a gap could not be
        self.gaps = 0
        self.recording: str | None = None  # how its playing goes
        self.unplayable: str | None = None
        self.stands_by = False  # another instance of massive streams

    def stream(self) -> str | None:
        """Return `streaming`, or a word for why not; None if no stream is wanted."""
        if self.source != "live":
            return None
        if self.stands_by:
            return STANDS_BY
        return STREAMING if self.streaming else self.ended or CONNECTING

    def trouble(self) -> str | None:
        """Return why market data as a whole fails, or None."""
        if self.unpublished:
            return f"bars not published: {self.unpublished}"
        if self.unplayable:
            return f"market replay: {self.unplayable}"
        if self.source != "live" or self.streaming or self.ended is None:
            return None
        if self.failures < FAILURES_BORNE and self.ended not in AT_LEAST_SEC:
            return None
        return f"market data: {self.ended}, {_count(self.failures, 'time')} in a row"

    def remark(self) -> str | None:
        """Return what is worth knowing; None if no market data is wanted."""
        if self.why_off:
            return f"market data off: {self.why_off}"
        if self.source == "replay":
            return f"market replay: {self.recording}" if self.recording else None
        if self.source != "live" or self.trouble():
            return None
        if self.stands_by:
            return "market data: stands by"
        if not self.streaming:
            return f"market data: connecting again after {self.ended}" if self.ended else None
        parts = [f"market live: {_count(self.symbols, 'symbol')}, {_count(self.published.total(), 'bar')}"]
        if self.unheld:
            more = f" and {len(self.unheld) - SHOWN} more" if len(self.unheld) > SHOWN else ""
            parts.append(f"not told yet: {', '.join(self.unheld[:SHOWN])}{more}")
        if self.gaps and self.unfilled:
            parts.append(f"{_count(self.gaps, 'gap')} open: {self.unfilled}")
        return "; ".join(parts)

    def began(self) -> None:
        """Note that a connection streams."""
        self.streaming = True
        self.connects += 1
        self.reconnects = self.connects - 1

    def over(self, reason: str, *, steady: bool) -> None:
        """Note that a connection ended or could not be opened; `steady` if it had been a good one."""
        self.streaming, self.ended = False, reason
        self.failures = 1 if steady else self.failures + 1

    def told(self, bars: Sequence[Bar], new: int, now_ms: float) -> None:
        """Note that bars were published, so many of them new."""
        if not bars:
            return
        self.published[bars[0].source] += new
        if bars[0].source == "ws":
            self.newest = max(self.newest or 0, *(bar.end for bar in bars))
            for bar in bars:
                self.lag.observe(max(0.0, now_ms - bar.end) / 1000)

    def collect(self) -> Iterator[Family]:
        """Yield every metric with its value now."""
        yield Family(
            "marketswarm_massive_bars_total",
            "counter",
            "Bars that this process put on the stream, by where they came from: ws, rest, replay.",
            [((source,), float(count)) for source, count in self.published.copy().items()],
            labels=("source",),
        )
        yield gauge(
            "marketswarm_massive_market_streaming", "1 while the API streams to us, else 0.", self.streaming
        )
        yield counter(
            "marketswarm_massive_market_reconnects_total", "Connections after the first.", self.reconnects
        )
        yield gauge(
            "marketswarm_massive_market_gaps",
            "Symbols of which something is still to be backfilled.",
            self.gaps,
        )
        yield Family(
            "marketswarm_massive_market_odd_total",
            "counter",
            "What the API said and made no sense: malformed, unexpected, stranger, implausible.",
            [((kind,), float(count)) for kind, count in self.odd.copy().items()],
            labels=("kind",),
        )
        yield gauge(
            "marketswarm_massive_market_newest_bar_timestamp_seconds",
            "When the newest bar that was streamed ended, in epoch seconds.",
            None if self.newest is None else self.newest / 1000,
        )
        yield Family(
            "marketswarm_massive_market_lag_seconds",
            "histogram",
            "From the end of a streamed bar until it was on the bus; a delayed feed has 900 s of it.",
            histogram=self.lag,
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
