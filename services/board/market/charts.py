"""Find the bars of a chart: from memory, Redis or the database, with the newest of the stream laid over them.

What is kept in Redis is what the database had, for five minutes. Bars that came later are known from the
stream; where those reach back far enough, the two together are what the database will have. Where they don't,
since the archive is far behind, a bar may be in neither, so nothing is kept, and nothing counts as missing
after the newest bar of the database.

Charts that were first asked for together are kept for the same five minutes, and all of them read again at
once would stop the board for seconds. So what is asked for when it becomes old is read again before it is too
old, one chart after the other, while all requests are answered from what is kept.
"""

import asyncio
import contextlib
import gzip
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from hashlib import blake2b
from operator import lt
from typing import Any, Final

import orjson

from marketswarm.bus import Bus
from marketswarm.keys import chart_key
from marketswarm.web.cache import Cached, RedisShelf
from services.board.market.archive_reader import ArchiveReader, DatabaseAwayError
from services.board.market.live import NEVER, Chart, LiveMarket, is_bar, merge_live
from services.board.market.query import ROWS, TableFormat, TableQuery
from services.board.market.tables import AnswerTable, encode_table
from services.market.adjust import Adjuster
from services.market.fields import MIN_MS
from services.tables.adjusted_bars import Adjust, adjust_rows, find_row_day
from services.tables.rows import BAR_CELLS, Cells
from services.tables.tables import BAR_TABLE

CHART_SEC: Final = 300  # how long the database's bars of a chart are kept
RENEW_SEC: Final = 200
"""After how many seconds the database's bars of a chart are read again if the chart is asked for."""
RENEW_PAUSE_SEC: Final = 0.1
"""The pause between two charts that are read again: MAX_BASES are done well before the oldest expires."""
PACK_LEVEL: Final = 1
MAX_CHART_BYTES: Final = 1024 * 1024
MAX_BASES: Final = 200


@dataclass(frozen=True, slots=True)
class ChartRequest:
    """Hold which bars are asked for: of a symbol and a timeframe, those of a query, on a basis.

    With `fill`, a row stands for each missing bar. `adjust` is the basis of the prices; None leaves each bar
    as its source gave it. As of an instant, that is the basis of its day.
    """

    chart: Chart
    query: TableQuery
    fill: bool = False
    adjust: Adjust | None = None

    @property
    def is_newest(self) -> bool:
        """Whether the newest bars are asked for, and not more of them than are kept."""
        return self.query.is_latest and self.query.limit <= ROWS


@dataclass(frozen=True, slots=True)
class ChartBase:
    """Hold what the database had of a chart at `made_at` (epoch seconds): newest rows, and asset class.

    It had each bar that was added to the stream before `archived_at` (epoch seconds of the bus).
    """

    made_at: float
    archived_at: float
    asset: str
    rows: Sequence[Cells]


@dataclass(frozen=True, slots=True)
class FoundChart:
    """Bars by their start, and the asset class, which is empty if it is not known.

    Up to `whole_until` (epoch milliseconds) no bar is missing in `rows`; None if none is at all. The answer
    may be kept until `keep_until` (epoch seconds) while no bar comes; 0 if it must not be kept.
    """

    rows: Sequence[Cells]
    asset: str
    whole_until: int | None = None
    keep_until: float = 0.0


class ChartFinder:
    """Finds the newest bars of charts: in the archive, in `live`, and on the bus that keeps charts."""

    def __init__(self, archive: ArchiveReader, live: LiveMarket, find_bus: Callable[[], Bus | None]) -> None:
        self._archive, self._live = archive, live
        shelf = RedisShelf[Chart, ChartBase](
            find_bus,
            lambda chart: chart_key(*chart),
            orjson.dumps,  # NEVER becomes null
            lambda _chart, text: parse_base(text),
            CHART_SEC,
            MAX_CHART_BYTES,
        )
        self.bases = Cached(CHART_SEC, MAX_BASES, shelf=shelf, is_current=self._is_current)
        self._due: dict[Chart, None] = {}
        self._is_due = asyncio.Event()

    async def renew_bases(self) -> None:
        """Read again what the database has of the charts that are due, one at a time, until cancelled.

        Writes each to memory and to Redis. One that can't be read stays as it is, and is due when it is asked
        for again.
        """
        while True:
            await self._is_due.wait()
            while self._due:
                symbol, timeframe = chart = next(iter(self._due))
                with contextlib.suppress(DatabaseAwayError):
                    await self.bases.renew(chart, partial(self._read_archive, symbol, timeframe))
                del self._due[chart]
                await asyncio.sleep(RENEW_PAUSE_SEC)
            self._is_due.clear()

    async def find_newest(self, symbol: str, timeframe: str, limit: int) -> FoundChart:
        base = await self.bases.find((symbol, timeframe), partial(self._read_archive, symbol, timeframe))
        return self._lay_over(base, symbol, timeframe, limit)

    def find_kept(self, symbol: str, timeframe: str, limit: int) -> FoundChart | None:
        """Return what `find_newest` would, if that needs nothing but memory."""
        base = self.bases.find_kept((symbol, timeframe))
        return None if base is None else self._lay_over(base, symbol, timeframe, limit)

    def _lay_over(self, base: ChartBase, symbol: str, timeframe: str, limit: int) -> FoundChart:
        rows = merge_live(base.rows, self._live.list_bars(symbol, timeframe), limit)
        if not self._live.covers(symbol, timeframe, base.archived_at):
            return FoundChart(rows, base.asset, _find_newest_start(base.rows))
        keep_until = base.made_at + RENEW_SEC  # so that the first request after it finds the base here
        if keep_until <= time.time():
            keep_until = base.made_at + CHART_SEC
            self._note_due((symbol, timeframe))
        return FoundChart(rows, base.asset, keep_until=keep_until)

    def _note_due(self, chart: Chart) -> None:
        """Have `renew_bases` read a chart; those that it has to read are as many as are kept at most."""
        if len(self._due) < MAX_BASES:
            self._due[chart] = None
            self._is_due.set()

    async def find_range(self, symbol: str, timeframe: str, query: TableQuery) -> FoundChart:
        """Return the page of bars that a query asks for. Raises DatabaseAwayError, QueryError."""
        archived_at = self._live.archived_at  # the database has more by the time it answers
        async with self._archive.limit_answer():
            archived = await self._archive.read_range(BAR_TABLE, (symbol, timeframe), query)
            asset = await self._archive.find_asset(symbol) or ""
        first, end, as_of = query.from_ms, query.before_ms, query.as_of_ms
        live = (
            one
            for one in self._live.list_bars(symbol, timeframe)
            if (first is None or one.start >= first)
            and (end is None or one.start < end)
            and (as_of is None or (one.known_at is not None and one.known_at <= as_of))
        )
        is_whole = self._live.covers(symbol, timeframe, archived_at)
        whole_until = None if is_whole else _find_newest_start(archived)
        return FoundChart(merge_live(archived, live, query.limit), asset, whole_until)

    def _is_current(self, chart: Chart, base: ChartBase) -> bool:
        is_young = 0 <= time.time() - base.made_at < CHART_SEC
        return is_young and self._live.covers(*chart, base.archived_at)

    async def _read_archive(self, symbol: str, timeframe: str) -> ChartBase:
        made_at, archived_at = time.time(), self._live.archived_at
        async with self._archive.limit_answer():
            newest = TableQuery(limit=ROWS)
            rows = await self._archive.read_range(BAR_TABLE, (symbol, timeframe), newest)
            return ChartBase(made_at, archived_at, await self._archive.find_asset(symbol) or "", rows)


def adjust_chart(
    asked: ChartRequest, found: FoundChart, adjuster: Adjuster, adjust: Adjust, day: date
) -> tuple[FoundChart, dict[str, Any]]:
    """Return bars on a basis as of a day, and what the answer says of it.

    `left_out` are the ex-days within the bars of actions that can't be applied.
    """
    rows = adjust_rows(found.rows, BAR_CELLS, adjuster, adjust.make_basis(day), asked.chart[1])
    first = find_row_day(rows[0][0], None) if rows else day
    left_out = [each.ex_day.isoformat() for each in adjuster.left_out if first < each.ex_day <= day]
    return replace(found, rows=rows), {"adjust": adjust.value, "left_out": left_out}


def _find_newest_start(rows: Sequence[Cells]) -> int:
    return int(rows[-1][0]) if rows else MIN_MS


def parse_base(text: bytes) -> ChartBase | None:
    try:
        value: Any = orjson.loads(text)
        until, rows = value["archived_at"], value["rows"]
        archived_at = NEVER if until is None else float(until)
        base = ChartBase(float(value["made_at"]), archived_at, str(value["asset"]), list(map(tuple, rows)))
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError):
        return None
    if not all(map(is_bar, base.rows)):
        return None
    starts = [row[0] for row in base.rows]
    return base if all(map(lt, starts, starts[1:])) else None


@dataclass(frozen=True, slots=True)
class EncodedAnswer:
    """Hold an encoded answer: its body in pieces, its media type, and its tag, by which a client knows it.

    `cursor` leads to the rows before a page: CSV and Arrow have no place for it. `packed` is the body as gzip
    has it, if the answer is kept, or was packed as it was encoded.
    """

    texts: Sequence[bytes]
    media_type: str
    etag: str
    cursor: str | None = None
    packed: bytes | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.texts)

    @property
    def size(self) -> int:
        return sum(map(len, self.texts)) + len(self.packed or b"")

    def pack(self) -> "EncodedAnswer":
        """Return the answer with its body packed as well, once for all who ask."""
        if self.packed is not None:
            return self
        return replace(self, packed=gzip.compress(self.body, PACK_LEVEL, mtime=0))


def make_answer(table: AnswerTable, form: TableFormat) -> EncodedAnswer:
    body, media_type = encode_table(table, form)
    return EncodedAnswer((body,), media_type, make_tag(body), table.about.get("cursor"))


def make_tag(body: bytes) -> str:
    """Return the tag of a content: `W/"…"`, since it may be packed on its way."""
    return f'W/"{blake2b(body, digest_size=12).hexdigest()}"'
