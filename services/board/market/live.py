"""Keep the newest of the market in memory: the last quote of each symbol, the last bars of each chart. Pure.

What is kept is bounded, and never the only source of an answer: the database has the past, and it is a little
behind the streams. So a chart is the database's bars with the newest of the stream laid over them; `covers`
says whether the stream's part reaches back far enough for that.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from marketswarm.market.entries import MAX_MS, EntryError, parse_bar, parse_provenance, parse_quote
from marketswarm.market.records import Bar, Provenance, Quote

MAX_QUOTES: Final = 5000
MAX_CHARTS: Final = 20_000
RECENT_BARS: Final = 20
"""How many of the newest bars of a chart are kept."""
MAX_REV: Final = 2**31 - 1
MAX_VALUES: Final = 200
MAX_VALUES_BYTES: Final = 16 * 1024

Fields = Mapping[bytes, bytes]
Row = tuple[Any, ...]
Chart = tuple[str, str]
"""A symbol and a timeframe."""


@dataclass(frozen=True, slots=True)
class LiveBar:
    """Hold a bar with its revision and where it came from."""

    bar: Bar
    provenance: Provenance
    is_final: bool
    rev: int
    epoch: int = 0

    @property
    def rank(self) -> tuple[int, int, bool]:
        """Which of two bars of one start counts: the greater one."""
        return self.epoch, self.rev, self.is_final

    @property
    def chart(self) -> Chart:
        """The chart that the bar belongs to."""
        return self.bar.symbol, self.bar.timeframe

    def make_row(self) -> Row:
        """Return the bar as a row of the API."""
        bar, origin = self.bar, self.provenance
        prices = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades)
        return (bar.start_ms, *prices, self.is_final, self.rev, self.epoch, *_make_origin(origin))


@dataclass(frozen=True, slots=True)
class LiveQuote:
    """Hold a quote and where it came from."""

    quote: Quote
    provenance: Provenance

    def make_row(self) -> Row:
        """Return the quote as a row of the API."""
        one = self.quote
        numbers = (one.price, one.bid, one.ask, one.volume, one.open_interest, one.implied_volatility)
        return (one.symbol, one.at_ms, *numbers, *_make_origin(self.provenance))


@dataclass(frozen=True, slots=True)
class LiveValues:
    """Hold the indicators of one bar."""

    symbol: str
    timeframe: str
    start_ms: int
    rev: int
    is_final: bool
    values: Mapping[str, float | None]
    epoch: int = 0

    @property
    def rank(self) -> tuple[int, int, int]:
        """Which of two values of one chart counts: the greater one."""
        return self.start_ms, self.epoch, self.rev


def _make_origin(origin: Provenance) -> tuple[str, int | None, str | None, bool]:
    """Return the last cells of a row: source, when it was asked, the digest, whether it is a replay."""
    asked_ms = round(1000 * origin.asked_at) if origin.asked_at else None
    return origin.source, asked_ms, origin.digest or None, origin.is_replay


def parse_live_bar(fields: Fields) -> LiveBar:
    """Return the bar of an entry of the checked bars. Raise EntryError if it is none."""
    rev, epoch = _parse_count(fields, b"rev", MAX_REV), _parse_count(fields, b"epoch", MAX_MS)
    return LiveBar(parse_bar(fields), parse_provenance(fields), fields.get(b"final") == b"1", rev, epoch)


def parse_live_quote(fields: Fields) -> LiveQuote:
    """Return the quote of an entry. Raise EntryError if it is none."""
    return LiveQuote(parse_quote(fields), parse_provenance(fields))


def parse_live_values(fields: Fields) -> LiveValues:
    """Return the indicators of an entry. Raise EntryError if it has none."""
    given = fields.get(b"values", b"")
    try:
        values = orjson.loads(given) if len(given) <= MAX_VALUES_BYTES else None
    except orjson.JSONDecodeError:
        values = None
    if not isinstance(values, dict) or len(values) > MAX_VALUES:
        raise EntryError("values: no object")
    if not all(each is None or type(each) in (int, float) for each in values.values()):
        raise EntryError("values: no numbers")
    # a bar with prices that nobody looks at checks the symbol, the timeframe and the start
    place = parse_bar({**fields, **dict.fromkeys((b"open", b"high", b"low", b"close"), b"1")})
    return LiveValues(
        place.symbol,
        place.timeframe,
        place.start_ms,
        _parse_count(fields, b"rev", MAX_REV),
        fields.get(b"final") == b"1",
        values,
        _parse_count(fields, b"epoch", MAX_MS),
    )


def _parse_count(fields: Fields, name: bytes, most: int) -> int:
    """Return a count of at most `most`, 0 if it is absent. Raise EntryError if it is none."""
    text = fields.get(name, b"0")
    if not text.isdigit() or len(text) > 16 or int(text) > most:
        raise EntryError(f"{name.decode()}: no number")
    return int(text)


class RecentBars:
    """Keeps the newest bars of one chart.

    `version` grows with each change. `dropped_at` is the time (epoch seconds) at which the newest of the bars
    arrived that are not kept any more; negative infinity while nothing was dropped.
    """

    __slots__ = ("_bars", "dropped_at", "version")

    def __init__(self) -> None:
        self._bars: OrderedDict[int, tuple[LiveBar, float]] = OrderedDict()
        self.version = 0
        self.dropped_at = float("-inf")

    def take(self, one: LiveBar, now: float) -> bool:
        """Keep a bar that arrived at `now` (epoch seconds); return False if a newer revision is known."""
        start = one.bar.start_ms
        known = self._bars.get(start)
        if known is not None and known[0].rank > one.rank:
            return False
        if known is not None and known[0] == one:
            return False
        self._bars[start] = one, now
        self._bars.move_to_end(start)  # by arrival: what is dropped first is what the database has by now
        if len(self._bars) > RECENT_BARS:
            _, (_, self.dropped_at) = self._bars.popitem(last=False)
        self.version += 1
        return True

    def list_bars(self) -> list[LiveBar]:
        """Return the bars by their start."""
        return [self._bars[start][0] for start in sorted(self._bars)]

    @property
    def newest(self) -> LiveBar | None:
        """The bar with the latest start."""
        return self._bars[max(self._bars)][0] if self._bars else None


class LiveMarket:
    """Keeps the last quote of each symbol and the last bars and indicators of each chart.

    `malformed` counts entries that were no records.
    """

    def __init__(self) -> None:
        self.quotes: OrderedDict[str, LiveQuote] = OrderedDict()
        self.values: OrderedDict[Chart, LiveValues] = OrderedDict()
        self.malformed = 0
        self._charts: OrderedDict[Chart, RecentBars] = OrderedDict()
        self._evicted_at = float("-inf")
        self.began_at = float("inf")
        """The time (epoch seconds) since which the streams are followed without a gap."""

    def take_bar(self, one: LiveBar, now: float) -> bool:
        """Keep a bar that arrived at `now` (epoch seconds); return False if it is not news."""
        chart = self._charts.get(one.chart)
        if chart is None:
            chart = self._charts[one.chart] = RecentBars()
            if len(self._charts) > MAX_CHARTS:
                self._charts.popitem(last=False)
                self._evicted_at = now
        return chart.take(one, now)

    def take_quote(self, one: LiveQuote) -> bool:
        """Keep a quote; return False if a newer one is known."""
        known = self.quotes.get(one.quote.symbol)
        if known is not None and known.quote.at_ms > one.quote.at_ms:
            return False
        self.quotes[one.quote.symbol] = one
        if len(self.quotes) > MAX_QUOTES:
            self.quotes.popitem(last=False)
        return known != one

    def take_values(self, one: LiveValues) -> bool:
        """Keep indicators; return False if those of a later bar or revision are known."""
        chart = one.symbol, one.timeframe
        known = self.values.get(chart)
        if known is not None and known.rank > one.rank:
            return False
        self.values[chart] = one
        if len(self.values) > MAX_CHARTS:
            self.values.popitem(last=False)
        return known != one

    def find_chart(self, symbol: str, timeframe: str) -> RecentBars | None:
        """Return the newest bars of a chart."""
        return self._charts.get((symbol, timeframe))

    def find_version(self, symbol: str, timeframe: str) -> int:
        """Return a number that grows whenever the newest bars of a chart change."""
        chart = self._charts.get((symbol, timeframe))
        return 0 if chart is None else chart.version

    def covers(self, symbol: str, timeframe: str, since: float) -> bool:
        """Return True if every bar of a chart that arrived after `since` (epoch seconds) is known here."""
        if since < self.began_at or since <= self._evicted_at:
            return False
        chart = self._charts.get((symbol, timeframe))
        return chart is None or chart.dropped_at < since


def merge_live(rows: Sequence[Row], live: Iterable[LiveBar], limit: int) -> list[Row]:
    """Return the newest `limit` of rows of bars, in which newer revisions of `live` replace older ones.

    Rows are those of `LiveBar.make_row`, whose first cell is the start.
    """
    found = {row[0]: row for row in rows}
    for one in live:
        row = one.make_row()
        known = found.get(row[0])
        if known is None or _rank(known) <= _rank(row):
            found[row[0]] = row
    return [found[start] for start in sorted(found)][-limit:]


def _rank(row: Row) -> tuple[int, int, bool]:
    """Return `LiveBar.rank` of a row: its epoch, its rev, and whether it is final."""
    return row[10], row[9], row[8]
