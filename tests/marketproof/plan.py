"""Say what is played: which symbols of which sources, with which vices, and how often is killed. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from marketswarm.market.records import DAY_MS, MINUTE_MS, TIMEFRAME_SEC
from support.market_prices import DST_WEEK, Market, find_instrument
from support.market_view import Vice, ViceKind

SERVICES: Final = ("sources", "bars", "archive")
BUSES: Final = ("system-redis", "market-redis")
DATABASE: Final = "postgres"
TARGETS: Final = (*SERVICES, *BUSES, DATABASE)
AFTER_MS: Final = 2 * DAY_MS
"""How long after its end the week is asked for, and every bar of it is over."""
HISTORY_DAYS: Final = 12
LONGEST_STALL_SEC: Final = 22.0
REVISED_BARS: Final = 400
OBSERVED_DAYS: Final = 700
_HOUR_MS: Final = 60 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Feed:
    """Hold where the minutes of a symbol come from: the sources in their order."""

    symbol: str
    sources: tuple[str, ...]

    @property
    def entry(self) -> dict[str, Any]:
        """Return the series for the truth."""
        asset = str(find_instrument(self.symbol).asset)
        return {"symbol": self.symbol, "asset": asset, "kind": "bars", "from": self.sources, "stream": False}


FEEDS: Final = (
    Feed("SPY", ("alpaca",)),
    Feed("EUR/USD", ("oanda",)),
    Feed("BTC/USDT", ("binance", "okx")),
    Feed("BRK.B", ("alpaca",)),
    Feed("ETH/USDT", ("binance", "okx")),
)
QUOTED: Final = (("BTC/USDT", "binance"), ("ETH/USDT", "okx"))
OBSERVED: Final = ("US.10Y", "US.2Y")
COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "alpaca": frozenset({"volume", "vwap", "trades"}),
    "oanda": frozenset(),
    "binance": frozenset({"volume", "trades"}),
    "okx": frozenset({"volume"}),
}
"""What each source gives beside the prices."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold what is asked for.

    Attributes:
        kills: how many there are.
        seed: of all chance.
        every_sec: the mean time between two kills.
        week: its first day.
        days: how many of its days are played.
        symbols: how many of FEEDS are played.
        torn: the share of the kills of a bus that cost it the last second of its file as well.
    """

    kills: int = 100
    seed: int = 7
    every_sec: float = 6.0
    week: date = DST_WEEK
    days: int = 7
    symbols: int = len(FEEDS)
    torn: float = 0.0

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """Return the feeds that are played."""
        return FEEDS[: self.symbols]

    @property
    def market(self) -> Market:
        """Return the market of the week."""
        return Market(self.week, self.days)

    @property
    def speed(self) -> float:
        """Return how fast the week is played, so that the kills fall into all of it."""
        return self.days * 86_400 / (self.kills * self.every_sec)

    @property
    def uncorrected(self) -> frozenset[str]:
        """Return the timeframes of which a correction may come too late for indicators.

        They are computed again for the last 400 bars at the least. Whoever dies with a series in hand keeps
        it from being loaded for 10 seconds, and a source that fails rests as long or longer: at this speed
        those are so many bars.
        """
        late_sec = LONGEST_STALL_SEC * self.speed
        return frozenset(name for name, length in TIMEFRAME_SEC.items() if late_sec / length > REVISED_BARS)


def make_truth(plan: Plan, speed: float) -> dict[str, Any]:
    """Return the truth of the station, for a clock that is `speed` times as fast.

    Bars and quotes are loaded about once a second, however fast the clock is: what is due is due at once, but
    the service rests for as many seconds of a clock that is not played.
    """
    beats = {"interval_sec": 1, "timeout_sec": 30}
    usual = {"every_sec": 1.0, "max_age_sec": 86_400}
    symbols = {feed.symbol for feed in plan.feeds}
    series = [feed.entry | usual | {"history_days": HISTORY_DAYS} for feed in plan.feeds]
    series += [
        {"symbol": symbol, "asset": "crypto", "kind": "quotes", "from": [source], **usual}
        for symbol, source in QUOTED
        if symbol in symbols
    ]
    observed = {"kind": "observations", "asset": "economic", "from": ["fred"], "history_days": OBSERVED_DAYS}
    series.append({"symbols": OBSERVED, **observed, "every_sec": min(86_400, 5 * speed)})
    keep = dict.fromkeys(("bars", "quotes", "observations", "downloads"), 1_000_000)
    groups = [
        {"symbols": [feed.symbol], "asset": str(find_instrument(feed.symbol).asset)} for feed in plan.feeds
    ]
    return {
        "services": {
            "sources": {
                "heartbeat": beats,
                "endpoints": series,
                "settings": {"keep": keep, "load": {"patience_sec": 1}},
            },
            "bars": {
                "heartbeat": beats,
                "endpoints": groups,
                "settings": {"keep": 2_000_000, "benchmark": "SPY"},
            },
            "archive": {"heartbeat": beats, "settings": {"claim_sec": 2.0, "batch": 500}},
        }
    }


def list_vices(plan: Plan) -> dict[str, tuple[Vice, ...]]:
    """Return the vices of each source: what is young will be corrected, and at times no answer is good."""
    begin_ms = plan.market.begin_ms
    late = Vice(ViceKind.LATE, minutes=8)
    binance, oanda, alpaca = [late], [late], [late]
    for day in range(plan.days):
        midnight = begin_ms + day * DAY_MS
        binance.append(_between(ViceKind.LIMITED, midnight, 5, 7, retry_after="1"))
        binance.append(_between(ViceKind.DUPLICATED, midnight, 9, 15))
        binance.append(_between(ViceKind.HTML, midnight, 16, 16.5))
        oanda.append(_between(ViceKind.UNORDERED, midnight, 3, 9))
        oanda.append(_between(ViceKind.CUT, midnight, 12, 12.5))
        alpaca.append(_between(ViceKind.PARTIAL, midnight, 15, 17))
        alpaca.append(_between(ViceKind.DUPLICATED, midnight, 18, 20))
    return {"binance": tuple(binance), "oanda": tuple(oanda), "alpaca": tuple(alpaca)}


def _between(kind: ViceKind, midnight: int, begin: float, end: float, **more: Any) -> Vice:
    """Return a vice between two hours of a day."""
    since, until = (midnight + round(hour * _HOUR_MS) for hour in (begin, end))
    return Vice(kind, since, until, minutes=8, **more)


def list_series(plan: Plan) -> Iterator[str]:
    """Yield the names of the series whose last record is known, as `market:series` has them."""
    yield from (f"{feed.symbol}:bars:1m" for feed in plan.feeds)
    yield from (f"{symbol}:observations" for symbol in OBSERVED)
