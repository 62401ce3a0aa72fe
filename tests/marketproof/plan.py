"""Say what is played: which symbols of which sources, with which vices, and what breaks how often. Pure."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final

from marketproof.market import ACTED, DAILY, HISTORY_DAYS, PlayedMarket
from services.market.records import DAY_MS, MINUTE_MS, TIMEFRAME_SEC
from support.market_prices import find_instrument
from support.market_view import Vice, ViceKind

SERVICES: Final = ("sources", "bars", "archive", "healer")
BOARD: Final = "board"
"""The service that only reads, which runs where connections are cut."""
BUSES: Final = ("system-redis", "market-redis")
DATABASE: Final = "postgres"
TARGETS: Final = (*SERVICES, *BUSES, DATABASE)
Link = tuple[str, str]
"""A service, and the bus or the database that it is connected to."""


class Fault(StrEnum):
    """Name how a connection breaks."""

    CUT = "cut"  # it is reset, and a new one is refused
    FROZEN = "frozen"  # it stays, and nothing gets through; the same with a new one


Cut = Mapping[Link, Fault]
"""The connections that break at the same time, and how."""
_OF_MARKET: Final = (("sources", "market-redis"), ("bars", "market-redis"), ("archive", "market-redis"))
CUTS: Final[tuple[Cut, ...]] = (
    dict.fromkeys(_OF_MARKET, Fault.CUT) | {(BOARD, DATABASE): Fault.FROZEN},
    dict.fromkeys(_OF_MARKET, Fault.FROZEN),
    # while others work: an archive that has nothing to write does not know that it can't
    dict.fromkeys((("archive", DATABASE), (BOARD, DATABASE)), Fault.CUT),
)
AUTUMN_WEEK: Final = date(2025, 10, 30)
"""A Thursday: Stockholm closes early on Friday, the month ends, and clocks in New York go back on Sunday.

Tokyo rests on Monday.
"""
CUT_SEC: Final = 8.0
"""About how long it takes until all services have reported that they are cut off, and that they are not."""
TIMEOUT_SEC: Final = 25
"""The silence after which a service counts as gone, and another one takes over its share."""
AFTER_MS: Final = 2 * DAY_MS
"""How long after its end the week is asked for, and every bar of it is over."""
LOADED_DAYS: Final = 12
"""How far back the first load of minutes goes."""
LATE_DAYS: Final = 3.5
"""When the truth gets the series that come after others of their symbols."""
LOAD_SEC: Final = 60.0
"""The time limit of a load, from its first request to the step in which it is published.

The first one of a process computes the calendar of its exchange meanwhile.
"""
LONGEST_STALL_SEC: Final = 35.0
SLOW_SHARE: Final = 0.55
"""The part of the week in which sources have rows a day late."""
SLOW_MINUTES: Final = 20 * 60
REVISED_BARS: Final = 400
OBSERVED_DAYS: Final = 700
_HOUR_MS: Final = 60 * MINUTE_MS
_LATE: Final = Vice(ViceKind.LATE, minutes=8)


@dataclass(frozen=True, slots=True)
class Feed:
    """Hold where the bars of a symbol come from: the sources in their order, and whether by a stream, too.

    One that `is_late` is named in the truth LATE_DAYS after the week's beginning.
    """

    symbol: str
    sources: tuple[str, ...]
    timeframe: str = "1m"
    is_streamed: bool = False
    is_late: bool = False

    @property
    def asset(self) -> str:
        """The class of the symbol."""
        return str(find_instrument(self.symbol).asset)

    @property
    def session(self) -> str:
        """The session of the symbol."""
        return find_instrument(self.symbol).session

    @property
    def series(self) -> str:
        """The name of the series."""
        return f"{self.symbol}:bars:{self.timeframe}"

    @property
    def entry(self) -> dict[str, Any]:
        """The series as the truth has it, without what all have alike."""
        return {
            "symbol": self.symbol,
            "asset": self.asset,
            "session": self.session,
            "kind": "bars",
            "timeframe": self.timeframe,
            "from": self.sources,
            "stream": self.is_streamed,
        }


FEEDS: Final = (
    Feed("SPY", ("alpaca",)),
    Feed("EUR/USD", ("oanda",)),
    Feed("BTC/USDT", ("binance", "okx"), is_streamed=True),
    Feed("ETH/USDT", ("bybit", "okx")),
    Feed("BRK.B", ("alpaca",), is_late=True),  # its days come first, SPY's minutes do
    Feed("VOLV.ST", ("alpaca",)),
    Feed("7203.T", ("alpaca",)),
    Feed("CL", ("yahoo",)),
)
# of alpaca, days of stocks are those of one exchange, and days of coins New York's: neither are ours
DAILY_FEEDS: Final = tuple(Feed(symbol, ("massive",), "1d", is_late=symbol == "SPY") for symbol in DAILY)
BENCHMARK: Final = "AAPL"
"""The symbol that features compare the others with: one that has a year of days."""
QUOTED: Final = (("BTC/USDT", "binance"), ("ETH/USDT", "okx"))
OBSERVED: Final = ("US.10Y", "US.2Y", "US.UNRATE", "US.CPI")
VINTAGED: Final = ("US.UNRATE", "US.CPI")
"""The series that are revised, and of which each value has the day from which on it was known."""
OBSERVER: Final = "fred"
COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "alpaca": frozenset({"volume", "vwap", "trades"}),
    "oanda": frozenset(),
    "binance": frozenset({"volume", "trades"}),
    "bybit": frozenset({"volume"}),
    "okx": frozenset({"volume"}),
    "yahoo": frozenset({"volume"}),
}
"""What each source of minutes gives beside the prices."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold what is asked for.

    Attributes:
        kills: how many there are.
        seed: of all chance.
        every_sec: the mean time between two breaks, which are kills and cuts.
        week: its first day.
        days: how many of its days are played.
        symbols: how many of FEEDS are played.
        torn: the share of the kills of a bus that cost it the last second of its file as well.
        cuts: how many times connections between parts break.
    """

    kills: int = 100
    seed: int = 7
    every_sec: float = 6.0
    week: date = AUTUMN_WEEK
    days: int = 7
    symbols: int = len(FEEDS)
    torn: float = 0.0
    cuts: int = 0

    @property
    def minute_feeds(self) -> tuple[Feed, ...]:
        """Return the feeds of minutes that are played."""
        return FEEDS[: self.symbols]

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """Return all feeds that are played."""
        return (*self.minute_feeds, *DAILY_FEEDS)

    @property
    def late_ms(self) -> int:
        """Return when the late feeds are named, by the week's clock, in epoch milliseconds."""
        return self.market.begin_ms + round(min(LATE_DAYS, self.days / 2) * DAY_MS)

    @property
    def quoted(self) -> tuple[tuple[str, str], ...]:
        """Return the symbols that are played of which quotes are asked for, and of which source."""
        symbols = {feed.symbol for feed in self.minute_feeds}
        return tuple((symbol, source) for symbol, source in QUOTED if symbol in symbols)

    @property
    def sources(self) -> frozenset[str]:
        """Return the sources that are named."""
        named = {source for feed in self.feeds for source in feed.sources}
        return frozenset({*named, *(source for _, source in self.quoted), OBSERVER})

    @property
    def market(self) -> PlayedMarket:
        """Return the market of the week."""
        return PlayedMarket(self.week, self.days, has_vintages=True)

    @property
    def speed(self) -> float:
        """Return how fast the week is played, so that the breaks fall into all of it."""
        return self.days * 86_400 / ((self.kills + self.cuts) * self.every_sec + self.cuts * CUT_SEC)

    @property
    def uncorrected(self) -> frozenset[str]:
        """Return the timeframes of which a correction may come too late for indicators.

        They are computed again for the last 400 bars at the least. Whoever dies with a series in hand keeps
        it from being loaded for 10 seconds, and a source that fails rests as long or longer: at this speed
        those are so many bars.
        """
        late_sec = LONGEST_STALL_SEC * self.speed
        return frozenset(name for name, length in TIMEFRAME_SEC.items() if late_sec / length > REVISED_BARS)


def make_truth(plan: Plan, speed: float, *, is_whole: bool = True) -> dict[str, Any]:
    """Return the truth of the station for a clock that is `speed` times as fast, with late feeds or without.

    Minutes and quotes are loaded about once a second, however fast the clock is: what is due is due at once,
    but the service rests for as many seconds of a clock that is not played.
    """
    usual = {"every_sec": 1.0, "max_age_sec": 86_400}
    seldom = {"every_sec": min(86_400, 5 * speed)}
    days = {"1m": LOADED_DAYS, "1d": HISTORY_DAYS + 10}
    series = [
        feed.entry
        | usual
        | (seldom if feed.timeframe == "1d" else {})
        | {"history_days": days[feed.timeframe]}
        for feed in plan.feeds
        if is_whole or not feed.is_late
    ]
    series.append({"symbols": ACTED, "kind": "actions", "from": ["alpaca"], **seldom})
    series += [
        {"symbol": symbol, "asset": "crypto", "kind": "quotes", "from": [source], **usual}
        for symbol, source in plan.quoted
    ]
    observed = {"kind": "observations", "asset": "economic", "from": [OBSERVER]}
    series.append({"symbols": OBSERVED, **observed, **seldom, "history_days": OBSERVED_DAYS})
    keep = dict.fromkeys(("bars", "quotes", "observations", "actions", "downloads"), 1_000_000)
    load = {"patience_sec": 1, "timeout_sec": LOAD_SEC}
    # those of the files are of minutes and hours of the machine's clock, in which weeks are played
    limits = {source: {"per_second": 50} for source in sorted(plan.sources)}
    groups = [
        {"symbols": [symbol], "asset": feed.asset, "session": feed.session}
        for symbol, feed in {feed.symbol: feed for feed in plan.feeds}.items()
    ]
    sections: dict[str, dict[str, Any]] = {
        "sources": {"endpoints": series, "settings": {"keep": keep, "load": load, "limits": limits}},
        "bars": {
            "access_points": {"publish_to": [{"bus": "market-redis", "key": "bars:bars"}]},
            "endpoints": groups,
            "settings": {"keep": 2_000_000, "benchmark": BENCHMARK},
        },
        # all is kept: retention goes by the clock of the machine, for which the week is long over
        "archive": {"settings": {"claim_sec": 2.0, "batch": 500, "keep_days": {}}},
        "healer": {},
    }
    if plan.cuts:
        sections[BOARD] = {"settings": {"market": {"requests_per_min": 0}}}
    beats = {"heartbeat": {"interval_sec": 1, "timeout_sec": TIMEOUT_SEC}}
    return {"services": {name: section | beats for name, section in sections.items()}}


def choose_breaks(plan: Plan, chance: random.Random) -> list[str | Cut]:
    """Return what is to be broken, in this order: the names of parts to be killed, and cuts.

    The first cuts are those of CUTS, so that few are of all kinds; then some of their connections break.
    """
    breaks: list[str | Cut] = [chance.choice(TARGETS) for _ in range(plan.kills)]
    for number in range(plan.cuts):
        cut = CUTS[number % len(CUTS)]
        count = len(cut) if number < len(CUTS) else chance.randint(1, len(cut))
        breaks.append(dict(chance.sample(list(cut.items()), count)))
    chance.shuffle(breaks)
    return breaks


def describe_cut(cut: Cut) -> list[str]:
    """Return what breaks in words, one entry a connection."""
    return [f"{service} {fault} from {target}" for (service, target), fault in cut.items()]


def list_vices(plan: Plan) -> dict[str, tuple[Vice, ...]]:
    """Return the vices of each source: what is young will be corrected, and at times no answer is good.

    In the first days of the week some rows also come, or are corrected, a day later, and some are no numbers.
    """
    slow = _list_slow(plan)
    vices: dict[str, list[Vice]] = {
        source: [_LATE, *slow] for source in ("bybit", "oanda", "alpaca", "massive", "yahoo")
    }
    vices |= {"binance": [*slow], "okx": [*slow], "binance_stream": [*slow]}
    for day in range(plan.days):
        midnight = plan.market.begin_ms + day * DAY_MS
        for source in ("binance", "bybit"):
            vices[source] += (
                _between(ViceKind.LIMITED, midnight, 5, 7, retry_after="1"),
                _between(ViceKind.DUPLICATED, midnight, 9, 15),
                _between(ViceKind.HTML, midnight, 16, 16.5),
            )
        vices["binance_stream"] += (
            _between(ViceKind.CUT, midnight, 11, 11.5),
            _between(ViceKind.WRONG_JSON, midnight, 20, 21),
        )
        vices["oanda"] += (
            _between(ViceKind.UNORDERED, midnight, 3, 9),
            _between(ViceKind.CUT, midnight, 12, 12.5),
        )
        for source in ("alpaca", "massive"):
            vices[source] += (
                _between(ViceKind.PARTIAL, midnight, 15, 17),
                _between(ViceKind.DUPLICATED, midnight, 18, 20),
            )
    return {source: tuple(found) for source, found in vices.items()}


def _list_slow(plan: Plan) -> list[Vice]:
    """Return the vices of rows that are put right a day later, while bars may still be corrected.

    They end early enough for a source whose market has closed for the weekend when the week is over.
    """
    until_ms = plan.market.begin_ms + round(plan.days * SLOW_SHARE * DAY_MS)
    return [
        Vice(kind, None, until_ms, minutes=SLOW_MINUTES, every=every)
        for kind, every in ((ViceKind.HELD, 211), (ViceKind.REVISED, 173), (ViceKind.NOT_A_NUMBER, 97))
    ]


def _between(kind: ViceKind, midnight: int, begin: float, end: float, **more: Any) -> Vice:
    """Return a vice between two hours of a day."""
    since, until = (midnight + round(hour * _HOUR_MS) for hour in (begin, end))
    return Vice(kind, since, until, minutes=8, **more)
