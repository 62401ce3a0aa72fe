"""Generate a market of our own: what was traded in each minute of a week, and what economic series said.

Everything follows from the symbol and the first day, so two processes have the same market. The sessions are
written by hand, not taken from the library that the product uses: what is generated here is held against it.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from functools import cache
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from services.market.records import DAY_MS, MINUTE_MS, TIMEFRAME_SEC, AssetClass, Bar, Observation

DST_WEEK: Final = date(2026, 3, 5)
"""A Thursday: clocks in New York go forward in the night to Sunday, the 8th."""
EARLY_CLOSE_WEEK: Final = date(2026, 11, 23)
"""A Monday: New York rests on Thursday, and closes at 13:00 on Friday."""
NEW_YORK: Final = ZoneInfo("America/New_York")
_ZONES: Final = {"XNYS": "America/New_York", "XSTO": "Europe/Stockholm", "XTKS": "Asia/Tokyo"}
HISTORY_DAYS: Final = 800
"""How long before the first day the economic series begin."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """Hold what is traded.

    Attributes:
        symbol: as the product spells it.
        asset: its class.
        session: XNYS, XSTO, XTKS, us_futures, 24x5 or 24x7.
        price: about what it costs.
        decimals: of its prices.
        quiet: the share of minutes without a trade.
        volatility: the standard deviation of a minute's return.
        discount: by how much less than that it costs: the price may be negative then.
    """

    symbol: str
    asset: AssetClass
    session: str
    price: float
    decimals: int = 2
    quiet: float = 0.0
    volatility: float = 0.0004
    discount: float = 0.0

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of its days."""
        return ZoneInfo(_ZONES.get(self.session, "UTC"))


@dataclass(frozen=True, slots=True)
class Series:
    """Hold what is observed: a value a business day, or a month."""

    symbol: str
    asset: AssetClass
    value: float
    decimals: int = 2
    is_monthly: bool = False


_STOCK, _FOREX, _CRYPTO, _ECONOMIC = (
    AssetClass.STOCKS,
    AssetClass.FOREX,
    AssetClass.CRYPTO,
    AssetClass.ECONOMIC,
)
INSTRUMENTS: Final = (
    Instrument("SPY", _STOCK, "XNYS", 661.0),
    Instrument("AAPL", _STOCK, "XNYS", 232.5),
    Instrument("MSFT", _STOCK, "XNYS", 498.0),
    Instrument("BRK.B", _STOCK, "XNYS", 492.0, quiet=0.2),
    Instrument("EUR/USD", _FOREX, "24x5", 1.0951, 5, volatility=0.00006),
    Instrument("GBP/USD", _FOREX, "24x5", 1.2745, 5, volatility=0.00006),
    Instrument("USD/JPY", _FOREX, "24x5", 149.21, 3, volatility=0.00007),
    Instrument("BTC/USD", _CRYPTO, "24x7", 91_000.0, 1, volatility=0.0008),
    Instrument("BTC/USDT", _CRYPTO, "24x7", 91_010.0, 2, volatility=0.0008),
    Instrument("ETH/USD", _CRYPTO, "24x7", 3_010.0, 2, quiet=0.05, volatility=0.001),
    Instrument("ETH/USDT", _CRYPTO, "24x7", 3_011.0, 2, volatility=0.001),
    Instrument("VIX", AssetClass.VOLATILITY, "XNYS", 18.4, volatility=0.002),
    Instrument("VOLV.ST", _STOCK, "XSTO", 274.1),
    Instrument("7203.T", _STOCK, "XTKS", 3_120.0, 1),
    # oil cost less than nothing in April 2020
    Instrument("CL", AssetClass.COMMODITIES, "us_futures", 61.0, discount=60.5),
)
SERIES: Final = (
    Series("US.3M", _ECONOMIC, 3.9),
    Series("US.2Y", _ECONOMIC, 3.6),
    Series("US.10Y", _ECONOMIC, 4.1),
    Series("US.UNRATE", _ECONOMIC, 4.3, 1, is_monthly=True),
    Series("US.CPI", _ECONOMIC, 321.5, 3, is_monthly=True),
    Series("EU.DEPOSIT_RATE", _ECONOMIC, 2.0),
    Series("GB.BANKRATE", _ECONOMIC, 4.0),
    Series("EUR/USD", _FOREX, 1.0951, 4),
    Series("EUR/GBP", _FOREX, 0.8711, 4),
    Series("EUR/JPY", _FOREX, 163.4, 2),
    Series("GBP/USD", _FOREX, 1.2745, 4),
)


# -- sessions


def epoch_ms(moment: datetime) -> int:
    """Return a time in epoch milliseconds."""
    return round(moment.timestamp() * 1000)


def midnight_ms(day: date, zone: ZoneInfo) -> int:
    """Return when a day begins in a time zone, in epoch milliseconds."""
    return epoch_ms(datetime.combine(day, clock_time(), zone))


def find_easter(year: int) -> date:
    """Return Easter Sunday of the Gregorian calendar, by the paschal full moon."""
    century, place = year // 100, year % 19
    skipped, drift = century - century // 4, (8 * century + 13) // 25
    epact = (19 * place + skipped - drift + 15) % 30
    moon = epact - (epact // 28) * (1 - (29 // (epact + 1)) * ((21 - place) // 11))
    sunday = moon - (year + year // 4 + moon + 2 - skipped) % 7
    return date(year, 3, 28) + timedelta(days=sunday)


def _nth_weekday(year: int, month: int, weekday: int, number: int) -> date:
    """Return the first (1), second … such weekday of a month; Monday is 0."""
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (number - 1))


def _observed(day: date) -> date:
    """Return the weekday on which a holiday of a fixed date is kept."""
    return day + timedelta(days={5: -1, 6: 1}.get(day.weekday(), 0))


@cache
def closed_days(year: int) -> frozenset[date]:
    """Return the holidays of a year in New York, weekends aside, by the exchange's rules since 2022."""
    new_year = date(year, 1, 1)
    fixed = (date(year, 6, 19), date(year, 7, 4), date(year, 12, 25))
    return frozenset(
        {
            new_year if new_year.weekday() == 5 else _observed(new_year),  # on a Saturday it is not kept
            _nth_weekday(year, 1, 0, 3),
            _nth_weekday(year, 2, 0, 3),
            find_easter(year) - timedelta(days=2),
            _nth_weekday(year, 6, 0, 1) - timedelta(days=7),
            *map(_observed, fixed),
            _nth_weekday(year, 9, 0, 1),
            _nth_weekday(year, 11, 3, 4),
        }
    )


@cache
def early_closes(year: int) -> frozenset[date]:
    """Return the days of a year on which the exchange of New York closes at 13:00."""
    eves = {date(year, 7, 3), date(year, 12, 24)} - closed_days(year)
    return frozenset(
        {eve for eve in eves if eve.weekday() < 4} | {_nth_weekday(year, 11, 3, 4) + timedelta(1)}
    )


TOKYO_CLOSED: Final = frozenset({date(2025, 11, 3), date(2025, 11, 24), date(2026, 3, 20)})
"""The holidays of Tokyo in the weeks that are played."""
STOCKHOLM_EARLY: Final = frozenset({date(2025, 10, 31), date(2026, 10, 30)})
"""The days on which Stockholm closes at 13:00, in the weeks that are played."""
_FUTURES_EARLY: Final = frozenset(
    {date(2025, 11, 27), date(2025, 11, 28), date(2026, 11, 26), date(2026, 11, 27)}
)
"""The days on which the futures of the CME are traded until 13:00 in New York, in those weeks."""


def session_hours(session: str, day: date) -> tuple[int, int] | None:
    """Return from when until when is traded on a day, in epoch milliseconds; None if nobody trades.

    A day of an exchange is one of its own, any other one of UTC. Between the two may be a pause: see
    `session_spans`.
    """
    spans = session_spans(session, day)
    return (spans[0][0], spans[-1][1]) if spans else None


def session_spans(session: str, day: date) -> list[tuple[int, int]]:
    """Return the times of a day between which is traded, in order, in epoch milliseconds.

    Currencies are traded from Sunday until Friday, 17:00 in New York; futures also, but for an hour from
    17:00 on. Tokyo has a lunch break.
    """
    if session in _ZONES:
        hours = _list_hours(session, day)
        return [] if day.weekday() >= 5 else _place_spans(day, session, *hours)
    begins = midnight_ms(day, ZoneInfo("UTC"))
    if session == "24x7":
        return [(begins, begins + DAY_MS)]
    if session not in ("24x5", "us_futures"):
        raise ValueError(f"no session {session!r}")
    is_futures = session == "us_futures"
    close = clock_time(13 if is_futures and day in _FUTURES_EARLY else 17)
    change = epoch_ms(datetime.combine(day, close, NEW_YORK))
    resumed = epoch_ms(datetime.combine(day, clock_time(18 if is_futures else 17), NEW_YORK))
    before, after = (begins, change), (resumed, begins + DAY_MS)
    if day.weekday() == 5:
        return []
    if day.weekday() in (4, 6):
        return [before if day.weekday() == 4 else after]
    return [before, after] if resumed > change else [(begins, begins + DAY_MS)]


def _list_hours(session: str, day: date) -> tuple[tuple[clock_time, clock_time], ...]:
    """Return the hours of an exchange on a weekday; none on a holiday."""
    match session:
        case "XNYS":
            close = clock_time(13) if day in early_closes(day.year) else clock_time(16)
            return () if day in closed_days(day.year) else ((clock_time(9, 30), close),)
        case "XSTO":
            return ((clock_time(9), clock_time(13) if day in STOCKHOLM_EARLY else clock_time(17, 30)),)
    halves = (clock_time(9), clock_time(11, 30)), (clock_time(12, 30), clock_time(15, 30))
    return () if day in TOKYO_CLOSED else halves


def _place_spans(day: date, session: str, *spans: tuple[clock_time, clock_time]) -> list[tuple[int, int]]:
    zone = ZoneInfo(_ZONES[session])
    return [
        (epoch_ms(datetime.combine(day, begin, zone)), epoch_ms(datetime.combine(day, end, zone)))
        for begin, end in spans
    ]


def week_days(first_day: date, days: int = 7) -> Iterator[date]:
    """Yield the days of a week."""
    return (first_day + timedelta(days=number) for number in range(days))


def session_minutes(session: str, first_day: date, days: int = 7) -> list[int]:
    """Return when each minute of a week begins in which a market is open, in epoch milliseconds."""
    begin = midnight_ms(first_day, ZoneInfo("UTC"))
    end = begin + days * DAY_MS
    around = week_days(first_day - timedelta(1), days + 2)  # a day of Tokyo begins on the day before in UTC
    spans = (span for day in around for span in session_spans(session, day))
    return [minute for span in spans for minute in range(*span, MINUTE_MS) if begin <= minute < end]


# -- bars


def find_instrument(symbol: str) -> Instrument:
    """Return the instrument of a symbol. Raise KeyError if nobody trades it."""
    return _BY_SYMBOL[symbol]


_BY_SYMBOL: Final = {each.symbol: each for each in INSTRUMENTS}


def make_bars(instrument: Instrument, first_day: date, days: int = 7) -> tuple[Bar, ...]:
    """Return the minutes of a week in which an instrument was traded, the oldest first."""
    draw = _seeded(f"{instrument.symbol} {first_day}")
    minutes = np.array(session_minutes(instrument.session, first_day, days), dtype=np.int64)
    minutes = minutes[draw.random(len(minutes)) >= instrument.quiet]
    count = len(minutes)
    path = instrument.price * np.exp(np.cumsum(draw.normal(0.0, instrument.volatility, count + 1)))
    path = np.maximum(np.round(path, instrument.decimals), 10.0**-instrument.decimals)
    path = np.round(path - instrument.discount, instrument.decimals)
    opens, closes = path[:-1], path[1:]
    reach = np.abs(draw.normal(0.0, instrument.volatility, (2, count)))
    scale = instrument.price if instrument.discount else np.maximum(opens, closes)
    highs = np.round(np.maximum(opens, closes) + scale * reach[0], instrument.decimals)
    scale = instrument.price if instrument.discount else np.minimum(opens, closes)
    lows = np.round(np.minimum(opens, closes) - scale * reach[1], instrument.decimals)
    trades = draw.integers(1, 900, count)
    volumes = _make_volumes(instrument, draw, count)
    numbers = (column.tolist() for column in (minutes, opens, highs, lows, closes, volumes, trades))
    return tuple(
        _with_vwap(Bar(instrument.symbol, "1m", *row[:6], None, row[6]), instrument)
        if instrument.asset in (_STOCK, _CRYPTO)
        else Bar(instrument.symbol, "1m", *row[:5])
        for row in zip(*numbers, strict=True)
    )


def _seeded(name: str) -> np.random.Generator:
    """Return a source of random numbers that is the same in every process."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))


def _make_volumes(instrument: Instrument, draw: np.random.Generator, count: int) -> np.ndarray:
    """Return a volume a minute: whole shares, or coins with four decimals."""
    if instrument.asset is _STOCK:
        return draw.integers(1, 90_000, count).astype(float)
    return np.round(draw.gamma(2.0, 3.0, count) + 0.0001, 4)


def _with_vwap(bar: Bar, instrument: Instrument) -> Bar:
    """Return a minute with a volume-weighted average price, which lies between low and high."""
    return replace(bar, vwap=round((bar.high + bar.low + bar.close) / 3, instrument.decimals + 1))


def begin_bar(bar: Bar, share: float) -> Bar:
    """Return a bar as it stood when a share of its time was over: it has not reached its ends yet."""
    close, high, low = (bar.open + (price - bar.open) * share for price in (bar.close, bar.high, bar.low))
    decimals = max(len(repr(price).partition(".")[2]) for price in (bar.open, bar.high, bar.low, bar.close))
    close, high, low = (round(price, decimals) for price in (close, high, low))
    return replace(
        bar,
        high=max(bar.open, high, close),
        low=min(bar.open, low, close),
        close=close,
        volume=None if bar.volume is None else _share_volume(bar.volume, share),
        vwap=None if bar.vwap is None else close,
        trades=None if bar.trades is None else int(bar.trades * share),
    )


def _share_volume(volume: float, share: float) -> float:
    """Return a share of a volume: whole shares of stocks."""
    return float(int(volume * share)) if volume.is_integer() else round(volume * share, 4)


def begin_of_bar(minute: int, timeframe: str, instrument: Instrument) -> int:
    """Return when the bar of a timeframe begins that a minute is in, in epoch milliseconds.

    The hours of an exchange are counted from its opening, and any other bar from midnight of UTC; a day of an
    exchange begins at its own midnight.
    """
    length = 1000 * TIMEFRAME_SEC[timeframe]
    if instrument.session != "XNYS" or length < 3_600_000:
        return minute // length * length
    day = datetime.fromtimestamp(minute / 1000, NEW_YORK).date()
    if timeframe == "1d":
        return midnight_ms(day, NEW_YORK)
    opens = epoch_ms(datetime.combine(day, clock_time(9, 30), NEW_YORK))
    return opens + (minute - opens) // length * length


def join_minutes(minutes: Iterable[Bar], timeframe: str, instrument: Instrument) -> list[Bar]:
    """Return minutes as bars of another timeframe, the oldest first; of a cut one what there is of it."""
    groups: dict[int, list[Bar]] = {}
    for bar in minutes:
        groups.setdefault(begin_of_bar(bar.start_ms, timeframe, instrument), []).append(bar)
    return [_join(start, timeframe, group) for start, group in groups.items()]


def _join(start: int, timeframe: str, group: Sequence[Bar]) -> Bar:
    """Return the bar of its minutes."""
    volumes = [bar.volume for bar in group if bar.volume is not None]
    volume = round(sum(volumes), 4) if volumes else None
    turnover = sum(bar.vwap * bar.volume for bar in group if bar.vwap is not None and bar.volume)
    return Bar(
        group[0].symbol,
        timeframe,
        start,
        group[0].open,
        max(bar.high for bar in group),
        min(bar.low for bar in group),
        group[-1].close,
        volume,
        round(turnover / volume, 4) if volume and turnover else None,
        sum(bar.trades for bar in group if bar.trades is not None) if volumes else None,
    )


# -- economic series


def make_observations(series: Series, first_day: date, days: int = 7) -> tuple[Observation, ...]:
    """Return the values of a series until the end of a week, the oldest first; none for holidays."""
    draw = _seeded(f"{series.symbol} {first_day} observed")
    begun, end = first_day - timedelta(days=HISTORY_DAYS), first_day + timedelta(days=days)
    dates = [
        day
        for day in week_days(begun, (end - begun).days)
        if (day.day == 1 if series.is_monthly else day.weekday() < 5 and day not in closed_days(day.year))
    ]
    values = series.value * np.exp(np.cumsum(draw.normal(0.0, 0.003, len(dates))))
    rounded = np.round(values, series.decimals).tolist()
    utc = ZoneInfo("UTC")
    return tuple(
        Observation(series.symbol, midnight_ms(day, utc), value)
        for day, value in zip(dates, rounded, strict=True)
    )


def published_ms(observation: Observation, series: Series) -> int:
    """Return when a value gets known: in the evening, or ten days after the end of its month."""
    if not series.is_monthly:
        return observation.start_ms + 18 * 3_600_000
    begun = datetime.fromtimestamp(observation.start_ms / 1000, UTC)
    after = (begun + timedelta(days=32)).replace(day=1)
    return epoch_ms(after) + 10 * DAY_MS


@dataclass(frozen=True, slots=True)
class Vintage:
    """Hold a value that a period had from a day on, and since when its source shows it."""

    start_ms: int
    value: float
    day: date
    shown_ms: int


def make_vintages(observation: Observation, series: Series) -> list[Vintage]:
    """Return the first print of a monthly value and, of two months in three, its revision a month later."""
    first = datetime.fromtimestamp(published_ms(observation, series) / 1000, UTC).date()
    days = [first, first + timedelta(days=31)]
    values = [round(observation.value + 10.0**-series.decimals, series.decimals), observation.value]
    if datetime.fromtimestamp(observation.start_ms / 1000, UTC).month % 3 == 0:
        days, values = days[:1], values[1:]
    chicago = ZoneInfo("America/Chicago")
    return [
        Vintage(observation.start_ms, value, day, midnight_ms(day, chicago) + 8 * 3_600_000)
        for day, value in zip(days, values, strict=True)
    ]


# -- corporate actions


@dataclass(frozen=True, slots=True)
class Action:
    """Hold a split, by its ratio, or a dividend, by its amount: on which day, and until when it is named.

    `until_ms` is when its source withdraws it; None if never.
    """

    symbol: str
    kind: str
    ex_day: date
    value: float
    until_ms: int | None = None


# -- the market


class Market:
    """Hold what was traded and observed in a week. Nothing of it ever changes."""

    def __init__(
        self,
        first_day: date = EARLY_CLOSE_WEEK,
        days: int = 7,
        instruments: Sequence[Instrument] = INSTRUMENTS,
        series: Sequence[Series] = SERIES,
        actions: Sequence[Action] = (),
        *,
        has_vintages: bool = False,
    ) -> None:
        self.has_vintages = has_vintages
        self.first_day, self.days, self.actions = first_day, days, tuple(actions)
        self.instruments: Mapping[str, Instrument] = {each.symbol: each for each in instruments}
        self.series: Mapping[str, Series] = {each.symbol: each for each in series}
        self.begin_ms = midnight_ms(first_day, ZoneInfo("UTC"))
        self.end_ms = self.begin_ms + days * DAY_MS
        # each symbol is made once, when somebody asks for it
        self.bars: Callable[[str, str], tuple[Bar, ...]] = cache(self._make_bars)
        self.starts: Callable[[str, str], tuple[int, ...]] = cache(self._find_starts)
        self.observations: Callable[[str], tuple[Observation, ...]] = cache(self._make_observations)

    def _make_bars(self, symbol: str, timeframe: str) -> tuple[Bar, ...]:
        """Return all bars of a symbol, the oldest first. Raise KeyError if there is no such symbol."""
        instrument = self.instruments[symbol]
        if timeframe == "1m":
            return make_bars(instrument, self.first_day, self.days)
        return tuple(join_minutes(self.bars(symbol, "1m"), timeframe, instrument))

    def _find_starts(self, symbol: str, timeframe: str) -> tuple[int, ...]:
        """Return when each bar of a symbol begins."""
        return tuple(bar.start_ms for bar in self.bars(symbol, timeframe))

    def _make_observations(self, symbol: str) -> tuple[Observation, ...]:
        """Return all values of a series, the oldest first. Raise KeyError if there is no such series."""
        return make_observations(self.series[symbol], self.first_day, self.days)

    def list_actions(self, symbol: str) -> tuple[Action, ...]:
        """Return the splits and dividends of a symbol, announced ones, too."""
        return tuple(each for each in self.actions if each.symbol == symbol)

    def find_known(self, symbol: str, timeframe: str, now_ms: int) -> list[Bar]:
        """Return the bars that have begun until now, the last one as far as it goes."""
        bars, length = self.bars(symbol, timeframe), 1000 * TIMEFRAME_SEC[timeframe]
        count = bisect_left(self.starts(symbol, timeframe), now_ms)
        known = list(bars[:count])
        if not known or known[-1].start_ms + length <= now_ms:
            return known
        if timeframe == "1m":
            known[-1] = begin_bar(known[-1], (now_ms - known[-1].start_ms) / length)
            return known
        minutes = self.find_known(symbol, "1m", now_ms)
        first = bisect_left(minutes, known[-1].start_ms, key=lambda bar: bar.start_ms)
        # a day begins at midnight, and has no bar before its first trade
        return known[:-1] + join_minutes(minutes[first:], timeframe, self.instruments[symbol])


def truth_bars(market: Market, timeframe: str = "1m", until_ms: int | None = None) -> dict[str, list[Bar]]:
    """Return what the market truly had, by symbol: the bars that were over at `until_ms`, or all."""
    length = 1000 * TIMEFRAME_SEC[timeframe]
    until_ms = market.end_ms if until_ms is None else until_ms
    return {
        symbol: [bar for bar in market.bars(symbol, timeframe) if bar.start_ms + length <= until_ms]
        for symbol in market.instruments
    }


def write_truth(market: Market, path: Path, until_ms: int | None = None) -> int:
    """Write the true minutes as CSV, for a computation that shares no code with the product; return how many.

    The columns are symbol, asset, session, start_ms, open, high, low, close, volume, vwap and trades.
    """
    lines = ["symbol,asset,session,start_ms,open,high,low,close,volume,vwap,trades"]
    for symbol, bars in truth_bars(market, until_ms=until_ms).items():
        instrument = market.instruments[symbol]
        for bar in bars:
            numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades)
            texts = ("" if number is None else repr(number) for number in numbers)
            lines.append(
                ",".join((symbol, str(instrument.asset), instrument.session, str(bar.start_ms), *texts))
            )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines) - 1
