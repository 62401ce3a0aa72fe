"""Keep the newest of the market in memory: the last quote of each symbol, the last bars of each chart. Pure.

What is kept is bounded, and never the only source of an answer: the database has the past, and it is behind
the streams, by moments or by hours. So a chart is the database's bars with the newest of the stream laid over
them; `covers` says whether the stream's part reaches back far enough for that. Times are those at which
entries were added to the streams, in epoch seconds by the clock of the bus.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from typing import Any, Final, NamedTuple, get_args, get_type_hints

import orjson

from services.market.entries import (
    MAX_MS,
    EntryError,
    check_bar,
    check_quote,
    parse_bar,
    parse_day,
    parse_entry,
    parse_flag,
)
from services.market.records import DAY_MS, Bar, Provenance, Quote, RecordKind

MAX_QUOTES: Final = 5000
MAX_CHARTS: Final = 20_000
RECENT_BARS: Final = 20
"""How many of the newest bars of a chart are kept in any case."""
KEPT_SEC: Final = 330.0
"""How long a bar is kept that the database has: a little longer than what was read of the database before."""
MAX_BARS: Final = 100_000
"""How many bars of all charts are kept, at about 550 bytes each."""
MAX_RANKS: Final = 20_000
"""Of how many bars the last revision of the indicators is known."""
NEVER: Final = float("-inf")
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
MAX_REV: Final = 2**31 - 1
MAX_VALUES: Final = 200
MAX_VALUES_BYTES: Final = 16 * 1024
_VALUE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")

Fields = Mapping[bytes, bytes]
Row = tuple[Any, ...]
Chart = tuple[str, str]
"""A symbol and a timeframe."""


class BarCells(NamedTuple):
    """The cells of a row of a bar, as the API names and orders them. Times are epoch milliseconds.

    A row that was read of the database or of Redis is a plain tuple of the same cells.
    """

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    vwap: float | None
    trades: int | None
    final: bool
    rev: int
    epoch: int
    source: str
    asked_at: int | None
    digest: str | None
    replay: bool
    day: str | None


class QuoteCells(NamedTuple):
    """The cells of a row of a quote, as `BarCells` are those of a bar."""

    symbol: str
    at: int
    price: float
    bid: float | None
    ask: float | None
    volume: float | None
    open_interest: float | None
    implied_volatility: float | None
    source: str
    asked_at: int | None
    digest: str | None
    replay: bool


BAR_NAMES: Final = BarCells._fields
QUOTE_NAMES: Final = QuoteCells._fields
CLOSE: Final = BAR_NAMES.index("close")
REPLAY: Final = BAR_NAMES.index("replay")


@dataclass(frozen=True, slots=True)
class LiveBar:
    """Hold a bar with its revision and where it came from.

    `day` is the date of a bar of a day, such as `2026-01-05`; None if its writer does not say it.
    """

    bar: Bar
    provenance: Provenance
    is_final: bool
    rev: int
    epoch: int = 0
    day: str | None = None

    @property
    def rank(self) -> tuple[int, int, bool]:
        """Which of two bars of one start counts: the greater one."""
        return self.epoch, self.rev, self.is_final

    @property
    def chart(self) -> Chart:
        """The chart that the bar belongs to."""
        return self.bar.symbol, self.bar.timeframe

    def make_row(self) -> BarCells:
        """Return the bar as a row of the API."""
        bar = self.bar
        return BarCells(
            bar.start_ms,
            bar.open,
            bar.high,
            bar.low,
            bar.close,
            bar.volume,
            bar.vwap,
            bar.trades,
            self.is_final,
            self.rev,
            self.epoch,
            *_make_origin(self.provenance),
            self.day,
        )


@dataclass(frozen=True, slots=True)
class LiveQuote:
    """Hold a quote and where it came from."""

    quote: Quote
    provenance: Provenance

    def make_row(self) -> QuoteCells:
        """Return the quote as a row of the API."""
        one = self.quote
        numbers = (one.price, one.bid, one.ask, one.volume, one.open_interest, one.implied_volatility)
        return QuoteCells(one.symbol, one.at_ms, *numbers, *_make_origin(self.provenance))


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
    is_replay: bool = False

    @property
    def rank(self) -> tuple[int, int]:
        """Which of two values of one bar counts: the greater one."""
        return self.epoch, self.rev

    def as_json(self) -> dict[str, Any]:
        """Return the values as `/ws` has them."""
        return {
            "start": self.start_ms,
            "rev": self.rev,
            "epoch": self.epoch,
            "final": self.is_final,
            "replay": self.is_replay,
            "values": dict(self.values),
        }


def _make_origin(origin: Provenance) -> tuple[str, int | None, str | None, bool]:
    """Return the last cells of a row: source, when it was asked, the digest, whether it is a replay."""
    asked_ms = round(1000 * origin.asked_at) if origin.asked_at else None
    return origin.source, asked_ms, origin.digest or None, origin.is_replay


def parse_live_bar(fields: Fields) -> LiveBar:
    """Return the bar of an entry of the checked bars. Raise EntryError unless the archive takes it, too."""
    rev, epoch = _parse_count(fields, b"rev", MAX_REV), _parse_count(fields, b"epoch", MAX_MS)
    bar, asset, origin = parse_entry(RecordKind.BARS, fields)
    assert isinstance(bar, Bar)  # noqa: S101 - by its kind
    check_bar(bar, asset)
    day = parse_day(fields, _find_date(bar.start_ms)) if bar.timeframe == "1d" else None
    is_final = parse_flag(fields, b"final")
    return LiveBar(bar, origin, is_final, rev, epoch, None if day is None else day.isoformat())


def parse_live_quote(fields: Fields) -> LiveQuote:
    """Return the quote of an entry. Raise EntryError unless the archive takes it, too."""
    quote, _, origin = parse_entry(RecordKind.QUOTES, fields)
    assert isinstance(quote, Quote)  # noqa: S101 - by its kind
    check_quote(quote)
    return LiveQuote(quote, origin)


def parse_live_values(fields: Fields) -> LiveValues:
    """Return the indicators of an entry. Raise EntryError if it has none."""
    given = fields.get(b"values", b"")
    try:
        values = orjson.loads(given) if len(given) <= MAX_VALUES_BYTES else None
    except orjson.JSONDecodeError:
        values = None
    if not isinstance(values, dict) or len(values) > MAX_VALUES:
        raise EntryError("values: no object")
    if not all(map(_VALUE_NAME.fullmatch, values)):
        raise EntryError("values: a name that is not allowed")
    if not all(each is None or type(each) in (int, float) for each in values.values()):
        raise EntryError("values: no numbers")
    # a bar with prices that nobody looks at checks the symbol, the timeframe and the start
    named = parse_bar({**fields, **dict.fromkeys((b"open", b"high", b"low", b"close"), b"1")})
    return LiveValues(
        named.symbol,
        named.timeframe,
        named.start_ms,
        _parse_count(fields, b"rev", MAX_REV),
        fields.get(b"final") == b"1",
        values,
        _parse_count(fields, b"epoch", MAX_MS),
        fields.get(b"replay") == b"1",
    )


def _find_date(epoch_ms: int) -> date:
    """Return the date of a time in UTC."""
    return date.fromordinal(_EPOCH_DAY + epoch_ms // DAY_MS)


def _parse_count(fields: Fields, name: bytes, most: int) -> int:
    """Return a count of at most `most`, 0 if it is absent. Raise EntryError if it is none."""
    text = fields.get(name, b"0")
    if not text.isdigit() or len(text) > 16 or int(text) > most:
        raise EntryError(f"{name.decode()}: no number")
    return int(text)


class RecentBars:
    """Keeps the newest bars of one chart.

    `version` is another one after each change. `dropped_at` is when the newest of the bars was added to the
    stream that are not kept any more; NEVER while all are kept.
    """

    __slots__ = ("_bars", "dropped_at", "version")

    def __init__(self, dropped_at: float = NEVER) -> None:
        self._bars: OrderedDict[int, tuple[LiveBar, float]] = OrderedDict()
        self.version = 0
        self.dropped_at = dropped_at

    def __len__(self) -> int:
        """Return how many bars are kept."""
        return len(self._bars)

    def take(self, one: LiveBar, at: float) -> bool:
        """Keep a bar that was added to the stream at `at`; return False if it is not news."""
        start = one.bar.start_ms
        known = self._bars.get(start)
        if known is not None and (known[0].rank > one.rank or known[0] == one):
            return False
        self._bars[start] = one, at
        self._bars.move_to_end(start)  # by arrival: what is dropped first is what the database has by now
        return True

    def drop(self, before: float) -> None:
        """Drop bars that were added before a time, but the newest RECENT_BARS."""
        while len(self._bars) > RECENT_BARS and next(iter(self._bars.values()))[1] < before:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Drop the bar that was added longest ago."""
        _, (_, at) = self._bars.popitem(last=False)
        self.dropped_at = max(self.dropped_at, at)

    def list_bars(self) -> list[LiveBar]:
        """Return the bars by their start."""
        return [self._bars[start][0] for start in sorted(self._bars)]

    @property
    def newest(self) -> LiveBar | None:
        """The bar with the latest start."""
        return self._bars[max(self._bars)][0] if self._bars else None

    @property
    def newest_at(self) -> float:
        """When the last bar was added; NEVER if none is kept."""
        return max((at for _, at in self._bars.values()), default=NEVER)


class LiveMarket:
    """Keeps the last quote of each symbol and the last bars and indicators of each chart.

    Attributes:
        quotes: the last quote by symbol.
        values: the indicators of the latest bar by chart.
        malformed: how many entries were no records.
        began_at: the time after which each entry of the stream of bars was read; NEVER if all were, infinity
            while it is not followed.
        archived_at: the time before which each entry of that stream is in the database; NEVER if nobody
            knows.
    """

    def __init__(self) -> None:
        self.quotes: OrderedDict[str, LiveQuote] = OrderedDict()
        self.values: OrderedDict[Chart, LiveValues] = OrderedDict()
        self.malformed = 0
        self.began_at = float("inf")
        self.archived_at = NEVER
        self._charts: OrderedDict[Chart, RecentBars] = OrderedDict()
        self._ranks: OrderedDict[tuple[str, str, int], tuple[int, int]] = OrderedDict()
        self._bars = self._changes = self._evictions = 0
        self._evicted_at = NEVER

    def take_bar(self, one: LiveBar, at: float) -> bool:
        """Keep a bar that was added to the stream at `at`; return False if it is not news."""
        chart = self._charts.get(one.chart)
        if chart is None:
            chart = self._charts[one.chart] = RecentBars(self._evicted_at)
        count = len(chart)
        if not chart.take(one, at):
            return False
        self._changes += 1
        chart.version = self._changes
        chart.drop(before=self.archived_at - KEPT_SEC)
        self._bars += len(chart) - count
        self._charts.move_to_end(one.chart)
        self._drop_excess(chart)
        return True

    def _drop_excess(self, chart: RecentBars) -> None:
        """Drop bars of a chart that has more than a few, or else of the charts that are quiet longest."""
        while self._bars > MAX_BARS and len(chart) > RECENT_BARS:
            chart.drop_oldest()
            self._bars -= 1
        while self._bars > MAX_BARS or len(self._charts) > MAX_CHARTS:
            _, evicted = self._charts.popitem(last=False)
            self._bars -= len(evicted)
            self._evictions += 1
            self._evicted_at = max(self._evicted_at, evicted.dropped_at, evicted.newest_at)

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
        """Keep indicators if they are of the latest bar; return False if a later revision of theirs is known.

        Those of an earlier bar are news, too: a bar was corrected.
        """
        chart = one.symbol, one.timeframe
        key, known = (*chart, one.start_ms), self.values.get(chart)
        if self._ranks.get(key, one.rank) > one.rank or known == one:
            return False
        self._ranks[key] = one.rank
        self._ranks.move_to_end(key)
        if len(self._ranks) > MAX_RANKS:
            self._ranks.popitem(last=False)
        if known is None or known.start_ms <= one.start_ms:
            self.values[chart] = one
            if len(self.values) > MAX_CHARTS:
                self.values.popitem(last=False)
        return True

    def find_chart(self, symbol: str, timeframe: str) -> RecentBars | None:
        """Return the newest bars of a chart."""
        return self._charts.get((symbol, timeframe))

    def list_newest(self, timeframe: str) -> list[LiveBar]:
        """Return the newest bar of each symbol in a timeframe."""
        charts = (chart for (_, frame), chart in self._charts.items() if frame == timeframe)
        return [bar for chart in charts if (bar := chart.newest) is not None]

    def find_version(self, symbol: str, timeframe: str) -> int:
        """Return a number that is another one whenever the newest bars of a chart changed."""
        chart = self._charts.get((symbol, timeframe))
        return -self._evictions if chart is None else chart.version

    def covers(self, symbol: str, timeframe: str, since: float) -> bool:
        """Return True if every bar of a chart is known here that was added at `since` or later."""
        chart = self._charts.get((symbol, timeframe))
        lost_at = max(self.began_at, self._evicted_at if chart is None else chart.dropped_at)
        return lost_at == NEVER or lost_at < since


def merge_live(rows: Sequence[Row], live: Iterable[LiveBar], limit: int) -> list[Row]:
    """Return the newest `limit` of rows of bars, in which newer revisions of `live` replace older ones.

    Rows have the cells of `BarCells`.
    """
    found = {row[0]: row for row in rows}
    for one in live:
        row = one.make_row()
        known = found.get(row.start)
        if known is None or _find_rank(known) <= _find_rank(row):
            found[row.start] = row
    return [found[start] for start in sorted(found)][-limit:]


def encode_bar(row: Row) -> bytes:
    """Return a row of a bar as JSON."""
    return orjson.dumps(dict(zip(BAR_NAMES, row, strict=True)))


def encode_quote(row: Row) -> bytes:
    """Return a row of a quote as JSON."""
    return orjson.dumps(dict(zip(QUOTE_NAMES, row, strict=True)))


_find_rank: Final = itemgetter(*map(BAR_NAMES.index, ("epoch", "rev", "final")))
"""Returns `LiveBar.rank` of a row."""


def _list_types(hint: Any) -> tuple[type, ...]:
    """Return the types that a cell of JSON may have: a number with a fraction may be without it."""
    kinds: tuple[type, ...] = get_args(hint) or (hint,)
    return (*kinds, int) if float in kinds else kinds


_BAR_TYPES: Final = tuple(map(_list_types, get_type_hints(BarCells).values()))
_QUOTE_TYPES: Final = tuple(map(_list_types, get_type_hints(QuoteCells).values()))


def is_bar_row(row: Row) -> bool:
    """Return True if each cell of a row that was read as JSON is one of `BarCells`."""
    return _has_types(row, _BAR_TYPES)


def is_quote_row(row: Row) -> bool:
    """Return True if each cell of a row that was read as JSON is one of `QuoteCells`."""
    return _has_types(row, _QUOTE_TYPES)


def _has_types(row: Row, types: Sequence[tuple[type, ...]]) -> bool:
    """Return True if each cell of a row has one of the types of its place."""
    return len(row) == len(types) and all(type(cell) in some for cell, some in zip(row, types, strict=True))
