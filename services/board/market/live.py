"""Keep the newest of the market in memory: the last quote of each symbol, the last bars of each chart. Pure.

What is kept is bounded, and never the only source of an answer; the database has the past, and it is behind
the streams, by moments or by hours. So a chart is the database's bars with the newest of the stream laid over
them; `covers` says whether the stream's part reaches back far enough for that. Times are those at which
entries were added to the streams, in epoch seconds by the clock of the bus.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, get_args, get_type_hints

import orjson

from marketswarm.bus.stored_values import is_ahead, parse_object
from marketswarm.event import dump_compact
from services.tables.rows import BAR_CELLS, QUOTE_CELLS, BarRow, Cells, IndicatorRow, QuoteRow
from services.tables.tables import BAR_TABLE, INDICATOR_TABLE

MAX_QUOTES: Final = 10_000
MAX_QUOTE_BYTES: Final = 4096
MAX_CHARTS: Final = 20_000
RECENT_BARS: Final = 20  # how many of the newest bars of a chart are kept in any case
KEPT_SEC: Final = 330.0  # how long a bar is kept that the database has; longer than what was read of it is
MAX_BARS: Final = 100_000  # how many bars of all charts are kept, at about 700 bytes each
MAX_RANKS: Final = 20_000  # the most bars whose last revision of the indicators is known
NEVER: Final = float("-inf")
CLOSE: Final = BAR_CELLS.index("close")
REPLAY: Final = BAR_CELLS.index("replay")
ADJUSTMENT: Final = BAR_CELLS.index("adjustment")

Chart = tuple[str, str]  # A symbol and a timeframe


def describe_bar(cells: Cells) -> dict[str, Any]:
    return dict(zip(BAR_CELLS, cells, strict=True))


def describe_quote(cells: Cells) -> dict[str, Any]:
    return dict(zip(QUOTE_CELLS, cells, strict=True))


def encode_quote(cells: Cells) -> bytes:
    return dump_compact(describe_quote(cells))


def describe_values(one: IndicatorRow) -> dict[str, Any]:
    named = dict(zip(INDICATOR_TABLE.answered, one.cells, strict=True))
    return named | {"values": orjson.Fragment(one.values)}


class RecentBars:
    """Keeps the newest bars of one chart.

    `version` is another one after each change. `dropped_at` is when the newest of the bars was added to the
    stream that are not kept any more; NEVER while all are kept.
    """

    __slots__ = ("_bars", "dropped_at", "version")

    def __init__(self, dropped_at: float = NEVER) -> None:
        self._bars: OrderedDict[int, tuple[BarRow, float]] = OrderedDict()
        self.version = 0
        self.dropped_at = dropped_at

    def __len__(self) -> int:
        return len(self._bars)

    def take(self, one: BarRow, at: float) -> bool:
        """Keep a bar that arrived `at`; return False if the same or a later version of it is kept."""
        known = self._bars.get(one.start)
        if known is not None:
            is_old = BAR_TABLE.rank_of(known[0]) > BAR_TABLE.rank_of(one)
            if is_old or known[0].cells == one.cells:
                return False
        self._bars[one.start] = one, at
        self._bars.move_to_end(one.start)  # by arrival: what is dropped first is what the database has by now
        return True

    def drop(self, before: float) -> None:
        """Drop bars that were added before a time, but the newest RECENT_BARS."""
        while len(self._bars) > RECENT_BARS and next(iter(self._bars.values()))[1] < before:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        _, (_, at) = self._bars.popitem(last=False)
        self.dropped_at = max(self.dropped_at, at)

    def list_bars(self) -> list[BarRow]:
        return [self._bars[start][0] for start in sorted(self._bars)]

    @property
    def newest(self) -> BarRow | None:
        return self._bars[max(self._bars)][0] if self._bars else None

    @property
    def newest_at(self) -> float:
        """When the last bar was added; NEVER if none is kept."""
        return max((at for _, at in self._bars.values()), default=NEVER)


class LiveMarket:
    """Keeps the last quote of each symbol, and the last bars and indicators (`values`) of each chart.

    Each entry of the stream of bars after `began_at` was read (NEVER: all were, infinity: it is not
    followed), and each before `archived_at` is in the database (NEVER: that is not known).
    """

    def __init__(self) -> None:
        self.quotes: OrderedDict[str, QuoteRow] = OrderedDict()
        self.values: OrderedDict[Chart, IndicatorRow] = OrderedDict()
        self.malformed = 0
        self.began_at = float("inf")
        self.archived_at = NEVER
        self._charts: OrderedDict[Chart, RecentBars] = OrderedDict()
        self._ranks: OrderedDict[tuple[str, str, int], tuple[Any, ...]] = OrderedDict()
        self._bars = self._changes = self._evictions = 0
        self._evicted_at = NEVER

    def take_bar(self, one: BarRow, at: float) -> bool:
        """Keep a bar that was added to the stream at `at`; return False if it is not news."""
        name = one.symbol, one.timeframe
        chart = self._charts.get(name)
        if chart is None:
            chart = self._charts[name] = RecentBars(self._evicted_at)
        count = len(chart)
        if not chart.take(one, at):
            return False
        self._changes += 1
        chart.version = self._changes
        chart.drop(before=self.archived_at - KEPT_SEC)
        self._bars += len(chart) - count
        self._charts.move_to_end(name)
        self._drop_excess(chart)
        return True

    def _drop_excess(self, chart: RecentBars) -> None:
        """Drop bars of a chart that has more than a few, then the charts that are quiet longest."""
        while self._bars > MAX_BARS and len(chart) > RECENT_BARS:
            chart.drop_oldest()
            self._bars -= 1
        while self._bars > MAX_BARS or len(self._charts) > MAX_CHARTS:
            _, evicted = self._charts.popitem(last=False)
            self._bars -= len(evicted)
            self._evictions += 1
            self._evicted_at = max(self._evicted_at, evicted.dropped_at, evicted.newest_at)

    def take_quote(self, one: QuoteRow, now: float) -> bool:
        """Keep a quote; return False if a newer one is known that is not ahead of `now` (epoch seconds).

        One that is ahead was dated by a clock that was set back since: any other replaces it.
        """
        known = self.quotes.get(one.symbol)
        if known is not None and known.at > one.at and not is_ahead(known.at / 1000, now):
            return False
        self.quotes[one.symbol] = one
        if len(self.quotes) > MAX_QUOTES:
            self.quotes.popitem(last=False)
        return known is None or known.cells != one.cells

    def take_values(self, one: IndicatorRow) -> bool:
        """Keep indicators of any bar, since bars are corrected; return False if a later revision is known."""
        chart, rank = (one.symbol, one.timeframe), INDICATOR_TABLE.rank_of(one)
        key, known = (*chart, one.start), self.values.get(chart)
        if self._ranks.get(key, rank) > rank or (known is not None and known.cells == one.cells):
            return False
        self._ranks[key] = rank
        self._ranks.move_to_end(key)
        if len(self._ranks) > MAX_RANKS:
            self._ranks.popitem(last=False)
        if known is None or known.start <= one.start:
            self.values[chart] = one
            if len(self.values) > MAX_CHARTS:
                self.values.popitem(last=False)
        return True

    def find_chart(self, symbol: str, timeframe: str) -> RecentBars | None:
        return self._charts.get((symbol, timeframe))

    def list_bars(self, symbol: str, timeframe: str) -> list[BarRow]:
        chart = self.find_chart(symbol, timeframe)
        return [] if chart is None else chart.list_bars()

    @property
    def is_followed(self) -> bool:
        """True once the stream of bars was read."""
        return self.began_at != float("inf")

    def list_symbols(self) -> set[str]:
        """Return the symbols that have bars or quotes here."""
        return {symbol for symbol, _ in self._charts} | self.quotes.keys()

    def list_newest(self, timeframe: str) -> list[BarRow]:
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


def merge_live(rows: Sequence[Cells], live: Iterable[BarRow], limit: int) -> list[Cells]:
    """Return the newest `limit` of rows of bars, in which newer revisions of `live` replace older ones.

    Rows have the cells of BAR_CELLS, and are in ascending order, as those of `live` are.
    """
    newer = list(live)
    if not newer:
        return list(rows[-limit:])
    first = bisect_left(rows, newer[0].start, key=itemgetter(0))  # those before it are looked at no more
    found = {row[0]: row for row in rows[first:]}
    for one in newer:
        known = found.get(one.start)
        if known is None or _find_rank(known) <= _find_rank(one.cells):
            found[one.start] = one.cells
    return [*rows[:first], *(found[start] for start in sorted(found))][-limit:]


_find_rank: Final = itemgetter(*map(BAR_CELLS.index, ("epoch", "rev", "final")))
"""Returns the rank of a bar by its cells, which have no position in the stream."""


def _list_types(row: type[BarRow | QuoteRow], names: Iterable[str]) -> list[tuple[type, ...]]:
    """Return the types that each of some cells may have in JSON, where 1.0 may be 1."""
    hints = get_type_hints(row)
    found = [get_args(hints[name]) or (hints[name],) for name in names]
    return [(*kinds, int) if float in kinds else kinds for kinds in found]


_BAR_TYPES: Final = _list_types(BarRow, BAR_CELLS)
_QUOTE_TYPES: Final = _list_types(QuoteRow, QUOTE_CELLS)


def is_bar(cells: Cells) -> bool:
    """Return True if cells that were read as JSON are those of BAR_CELLS."""
    return _has_types(cells, _BAR_TYPES)


def _has_types(cells: Cells, types: Sequence[tuple[type, ...]]) -> bool:
    return len(cells) == len(types) and all(
        type(cell) in some for cell, some in zip(cells, types, strict=True)
    )


def parse_quote(symbol: str, text: bytes) -> Cells | None:
    """Return a quote as it is kept in Redis; None if the text is not a quote of this symbol."""
    row = tuple(map(parse_object(text, MAX_QUOTE_BYTES).get, QUOTE_CELLS))
    return row if row[0] == symbol and _has_types(row, _QUOTE_TYPES) else None
