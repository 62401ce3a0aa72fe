"""Keep the state of market data, for the beats and for METRICS_PORT, which another thread serves."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from marketswarm.metrics import Family, Histogram, MetricTable
from marketswarm.net.retry import Backoff
from marketswarm.text import format_names
from services.market.massive import ProtocolMachine, find_end
from services.market.records import Bar
from services.massive.market.gaps import GapTracker

Way = Literal["ws", "rest"]
"""How a bar came: over the stream, or by REST. It is the `source` of its entry."""
SHOWN: Final = 3
STREAMING: Final = "streaming"
CONNECTING: Final = "connecting"
STANDBY: Final = "stands by"
DEGRADING_FAILURES: Final = 3
"""The failures in a row that degrade the beats; a single cut that ends within seconds does not."""
USUAL_BACKOFF: Final = Backoff(first_sec=1.0, longest_sec=60.0)
SLOW_BACKOFFS: Final = {
    # a wrong key stays wrong
    **dict.fromkeys(("auth_failed", "http_401", "http_403"), Backoff(300.0, 300.0)),
    # the account allows one connection: two clients that reconnect at once would disconnect each other
    "max_connections": Backoff(60.0, 60.0),
}
"""The pauses after errors that a quick attempt would not mend, by reason."""
_HELP: Final = {
    "bars_total{source}": "Bars that this process put on the stream, by where they came from: ws, rest.",
    "market_streaming": "1 while the API streams to us, else 0.",
    "market_reconnects_total": "Connections after the first.",
    "market_gaps": "Symbols with bars that are still to be fetched.",
    "market_odd_total{kind}": (
        "What the API said and made no sense: malformed, unexpected, stranger, implausible."
    ),
    "market_newest_bar_timestamp_seconds": "When the newest bar that was streamed ended, in epoch seconds.",
    "market_lag_seconds": (
        "From the end of a streamed bar until it was on the bus; a delayed feed has 900 s of it."
    ),
}
_METRICS: Final = MetricTable("marketswarm_massive_", _HELP)


def backoff_sec(reason: str, failures: int, chance: float) -> float:
    """Return the seconds to wait after the `failures`th failure in a row: see `Backoff.pause_sec`."""
    return SLOW_BACKOFFS.get(reason, USUAL_BACKOFF).pause_sec(failures, chance)


class MarketStatus:
    """Hold the state of market data, which the source keeps up to date.

    Attributes:
        source: live or off.
        off_reason: why there is no market data although the truth wants it.
        refusal: why the key may not be sent to where the truth wants it.
        streaming: True while the API streams to us.
        machine: the protocol of the last connection; None before the first. `gaps` are its gaps.
        end_reason: why the last connection ended; `failures` counts those that failed in a row.
        publish_error: why the bus takes no bars, while it takes none.
        fill_error: why the last gap could not be filled.
        is_standby: True while another instance of massive streams.
        published: new bars by how they came. anomalies: what the API sent that made no sense, by kind.
        newest: the end of the newest bar that was streamed, in epoch milliseconds.
    """

    def __init__(self) -> None:
        self.reset("off")
        self.published: Counter[str] = Counter()
        self.connects = 0
        self.anomalies: Counter[str] = Counter()
        self.lag = Histogram(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 910.0, 960.0, 1800.0, 3600.0)
        self.newest: int | None = None

    def reset(self, source: str) -> None:
        """Set everything but the counters to its first value, for a source of the kind `source`."""
        self.source = source
        self.off_reason: str | None = None
        self.refusal: str | None = None
        self.streaming = False
        self.machine: ProtocolMachine | None = None
        self.gaps: GapTracker | None = None
        self.end_reason: str | None = None
        self.failures = 0
        self.publish_error: str | None = None
        self.fill_error: str | None = None
        self.is_standby = False

    def set_publish_error(self, problem: str | None) -> None:
        self.publish_error = problem

    @property
    def open_gaps(self) -> int:
        return 0 if self.gaps is None else self.gaps.open_count

    def stream_state(self) -> str | None:
        """Return `streaming`, or one word for why it does not stream; None if no stream is wanted."""
        if self.source != "live":
            return None
        if self.is_standby:
            return STANDBY
        return STREAMING if self.streaming else self.end_reason or CONNECTING

    def problem(self) -> str | None:
        """Return the reason why market data as a whole fails, for degraded beats; None if it does not."""
        if self.refusal:
            return f"market data: {self.refusal}"
        if self.publish_error:
            return f"bars not published: {self.publish_error}"
        if self.source != "live" or self.streaming or self.end_reason is None:
            return None
        if self.failures < DEGRADING_FAILURES and self.end_reason not in SLOW_BACKOFFS:
            return None
        return f"market data: {self.end_reason}, {_count(self.failures, 'time')} in a row"

    def detail(self) -> str | None:
        """Return the part of a beat's detail about market data; None if there is nothing to report."""
        if self.off_reason:
            return f"market data off: {self.off_reason}"
        if self.source != "live" or self.problem():
            return None
        if self.is_standby:
            return "market data: stands by"
        if not self.streaming or self.machine is None:
            return f"market data: connecting again after {self.end_reason}" if self.end_reason else None
        symbols, bars = len(self.machine.wanted or ()), self.published.total()
        parts = [f"market live: {_count(symbols, 'symbol')}, {_count(bars, 'bar')}"]
        if self.machine.unconfirmed:
            parts.append(f"not told yet: {format_names(self.machine.unconfirmed, SHOWN)}")
        if self.open_gaps and self.fill_error:
            parts.append(f"{_count(self.open_gaps, 'gap')} open: {self.fill_error}")
        return "; ".join(parts)

    def record_connected(self, machine: ProtocolMachine, gaps: GapTracker) -> None:
        """Record that the API streams to us; read from both what is confirmed and what is missing."""
        self.streaming, self.machine, self.gaps = True, machine, gaps
        self.connects += 1

    def record_disconnected(self, reason: str, *, steady: bool) -> None:
        """Record that a connection ended or could not be opened.

        `steady` is True if it had streamed for long, which resets the count of failures.
        """
        self.streaming, self.end_reason = False, reason
        self.failures = 1 if steady else self.failures + 1

    def record_published(self, bars: Sequence[Bar], way: Way, new: int, now_ms: float) -> None:
        """Record that `bars` that came in one way were published, `new` of them for the first time.

        Observe the lag of streamed bars at `now_ms` (epoch milliseconds).
        """
        if not bars:
            return
        self.published[way] += new
        if way == "ws":
            self.newest = max(self.newest or 0, *map(find_end, bars))
            for bar in bars:
                self.lag.observe(max(0.0, now_ms - find_end(bar)) / 1000)

    def collect(self) -> Iterator[Family]:
        return _METRICS.collect(
            bars_total=self.published,
            market_streaming=self.streaming,
            market_reconnects_total=max(0, self.connects - 1),
            market_gaps=self.open_gaps,
            market_odd_total=self.anomalies,
            market_newest_bar_timestamp_seconds=None if self.newest is None else self.newest / 1000,
            market_lag_seconds=self.lag,
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
