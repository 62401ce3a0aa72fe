"""Find the newest bars of a chart: from memory, Redis or the database, with the stream laid over them.

What is kept in Redis is what the database had, for five minutes. Bars that came later are known from the
stream; where those reach back far enough, the two together are what the database will have.
"""

import gzip
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final

import orjson

from marketswarm.bus import Bus, BusError
from marketswarm.keys import chart_key
from services.board.market.archive_reader import ArchiveReader
from services.board.market.flight import SingleFlight
from services.board.market.live import Chart, LiveMarket, Row, merge_live
from services.board.market.query import ROWS, TableFormat, TableQuery
from services.board.market.tables import AnswerTable, encode_table

CHART_SEC: Final = 300
"""How long the database's bars of a chart are kept."""
ARCHIVE_LAG_SEC: Final = 20.0
"""How far the database may be behind the stream while that is normal."""
ROW_CELLS: Final = 15
MAX_CHART_BYTES: Final = 1024 * 1024
PACK_LEVEL: Final = 4
MAX_BASES: Final = 200
MAX_ANSWERS: Final = 2000
ANSWER_BYTES: Final = 64 * 1024 * 1024
"""The most bytes of answers that are kept in memory."""


@dataclass(frozen=True, slots=True)
class ChartBase:
    """Hold what the database had of a chart at `made_at` (epoch seconds): newest rows, and asset class."""

    made_at: float
    asset: str
    rows: Sequence[Row]


@dataclass(slots=True)
class CacheCounts:
    """Count where answers came from."""

    memory: int = 0
    redis: int = 0
    archive: int = 0


class ChartStore:
    """Finds the newest bars of charts.

    Args:
        archive: reads the database.
        live: has the newest of the stream.
        find_bus: returns the bus that keeps charts; None if there is none.
    """

    def __init__(self, archive: ArchiveReader, live: LiveMarket, find_bus: Callable[[], Bus | None]) -> None:
        self.counts = CacheCounts()
        self._archive, self._live, self._find_bus = archive, live, find_bus
        self._bases: OrderedDict[Chart, ChartBase] = OrderedDict()
        self._flight: SingleFlight[ChartBase] = SingleFlight()

    async def find_rows(self, symbol: str, timeframe: str, limit: int) -> tuple[list[Row], str]:
        """Return the newest bars of a chart by their start, and its asset class. Raises DatabaseAwayError."""
        base = self._find_base((symbol, timeframe), time.time())
        if base is None:
            base = await self._flight.ask((symbol, timeframe), lambda: self._load(symbol, timeframe))
        chart = self._live.find_chart(symbol, timeframe)
        return merge_live(base.rows, chart.list_bars() if chart else (), limit), base.asset

    def is_current(self, symbol: str, timeframe: str, made_at: float, now: float) -> bool:
        """Return True if what was read of the database at `made_at` and the stream are all that there is."""
        return now - made_at < CHART_SEC and self._live.covers(symbol, timeframe, made_at - ARCHIVE_LAG_SEC)

    def _find_base(self, chart: Chart, now: float) -> ChartBase | None:
        """Return what is known of a chart in memory, unless it is too old."""
        base = self._bases.get(chart)
        if base is None or not self.is_current(*chart, base.made_at, now):
            return None
        self.counts.memory += 1
        self._bases.move_to_end(chart)
        return base

    async def _load(self, symbol: str, timeframe: str) -> ChartBase:
        """Return a chart from Redis or the database, and keep it. Raises DatabaseAwayError."""
        bus, now = self._find_bus(), time.time()
        key = chart_key(symbol, timeframe)
        base = None if bus is None else await _read_base(bus, key)
        if base is not None and base.made_at <= now and self.is_current(symbol, timeframe, base.made_at, now):
            self.counts.redis += 1
        else:
            self.counts.archive += 1
            async with self._archive.limit_answer():
                rows = await self._archive.read_bars(symbol, timeframe, TableQuery(limit=ROWS))
                base = ChartBase(now, await self._archive.find_asset(symbol) or "", rows)
            if bus is not None:
                await _write_base(bus, key, base)
        self._bases[symbol, timeframe] = base
        if len(self._bases) > MAX_BASES:
            self._bases.popitem(last=False)
        return base


async def _read_base(bus: Bus, key: str) -> ChartBase | None:
    """Return a chart that was kept in Redis; None if there is none, or it can't be read."""
    try:
        text = await bus.ask(bus.client.get(key), max_bytes=MAX_CHART_BYTES)
        return None if text is None else parse_base(text)
    except BusError:
        return None


def parse_base(text: bytes) -> ChartBase | None:
    """Return a chart as it was kept; None if the text is none."""
    try:
        value: Any = orjson.loads(text)
        made_at, asset, rows = float(value["made_at"]), str(value["asset"]), value["rows"]
        is_whole = all(len(row) == ROW_CELLS and type(row[0]) is int for row in rows)
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError, LookupError):
        return None
    return ChartBase(made_at, asset, [tuple(row) for row in rows]) if is_whole else None


def encode_base(base: ChartBase) -> bytes:
    """Return a chart as it is kept."""
    return orjson.dumps({"made_at": base.made_at, "asset": base.asset, "rows": base.rows})


async def _write_base(bus: Bus, key: str, base: ChartBase) -> None:
    """Keep a chart in Redis; without it, the next question asks the database."""
    try:
        await bus.ask(bus.client.set(key, encode_base(base), ex=CHART_SEC))
    except BusError:
        return


@dataclass(frozen=True, slots=True)
class EncodedAnswer:
    """Hold an encoded answer: its body, its media type, and the tag by which a client knows it again.

    `cursor` leads to the rows before a page: CSV and Arrow have no place for it. `packed` is the body as gzip
    has it, if the answer is kept.
    """

    body: bytes
    media_type: str
    etag: str
    cursor: str | None = None
    packed: bytes | None = None

    @property
    def size(self) -> int:
        """How many bytes it keeps in memory."""
        return len(self.body) + len(self.packed or b"")

    def pack(self) -> "EncodedAnswer":
        """Return the answer with its body packed as well, once for all who ask."""
        return replace(self, packed=gzip.compress(self.body, PACK_LEVEL, mtime=0))


def make_answer(table: AnswerTable, form: TableFormat) -> EncodedAnswer:
    """Return a table as an answer, with the tag of its content."""
    body, media_type = encode_table(table, form)
    return EncodedAnswer(body, media_type, make_tag(body), table.about.get("cursor"))


def make_tag(body: bytes) -> str:
    """Return the tag of a content: `W/"…"`, since it may be packed on its way."""
    return f'W/"{blake2b(body, digest_size=12).hexdigest()}"'


class AnswerCache:
    """Keeps encoded answers by what was asked, each as long as its version is the present one.

    `hits` and `misses` count the questions.
    """

    def __init__(self) -> None:
        self.hits = self.misses = 0
        self._answers: OrderedDict[Any, tuple[Any, float, EncodedAnswer]] = OrderedDict()
        self._bytes = 0

    def find(self, key: Any, version: Any, now: float) -> EncodedAnswer | None:
        """Return the answer to `key` if it is of this version and has not expired at `now` (monotonic)."""
        known = self._answers.get(key)
        if known is None or known[0] != version or known[1] <= now:
            self.misses += 1
            return None
        self.hits += 1
        self._answers.move_to_end(key)
        return known[2]

    def keep(self, key: Any, version: Any, expires_at: float, answer: EncodedAnswer) -> None:
        """Keep an answer until `expires_at` (monotonic)."""
        before = self._answers.pop(key, None)
        self._bytes += answer.size - (0 if before is None else before[2].size)
        self._answers[key] = version, expires_at, answer
        while len(self._answers) > MAX_ANSWERS or self._bytes > ANSWER_BYTES:
            self._bytes -= self._answers.popitem(last=False)[1][2].size
