"""Hold what answers about the market are made from, and answer the questions that are asked most."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from marketswarm.agent import Agent
from marketswarm.bus import BusError
from marketswarm.keys import quote_key
from services.board.access.limits import RequestLimiter
from services.board.market.archive_reader import ArchiveReader, DatabaseAwayError
from services.board.market.bar_table import make_bars
from services.board.market.calendars import SymbolSessions
from services.board.market.charts import AnswerCache, ChartStore, EncodedAnswer, FoundChart, make_answer
from services.board.market.correlations import HeatMapStore
from services.board.market.feed import MarketFeed, MarketStates
from services.board.market.flight import SingleFlight
from services.board.market.limits import AccountView, LimitStore
from services.board.market.live import (
    MAX_QUOTES,
    Chart,
    LiveMarket,
    describe_bar,
    describe_quote,
    describe_values,
    is_quote,
)
from services.board.market.overview import PastStore
from services.board.market.query import ROWS, TableQuery
from services.board.market.updates import TopicKind, UpdateHub
from services.board.settings import BoardEnvironment, MarketView
from services.market.rows import QUOTE_CELLS, Cells

SNAPSHOT_BARS: Final = 5
"""How many of the newest bars of a chart a snapshot of `/ws` has: the API has the others."""
MAX_QUOTE_BYTES: Final = 4096
NO_QUOTE_SEC: Final = 5.0
"""For how long a symbol that has no quote is not looked for again."""
MAX_QUOTELESS: Final = 5000
QUOTED_SEC: Final = 60.0
"""How long the names of the symbols that have quotes in the database are kept: new ones are on the stream."""


@dataclass(frozen=True, slots=True)
class FoundQuotes:
    """Hold the quotes that were found, and why there may be more: what does not answer."""

    rows: Sequence[Cells]
    away: str | None = None


@dataclass(frozen=True, slots=True)
class FoundSymbols:
    """Hold the names of symbols in order, and why there may be more: what does not answer."""

    names: Sequence[str]
    away: str | None = None


@dataclass(frozen=True, slots=True)
class FoundLimits:
    """Hold the accounts of each source, one for each key, and why they can't be read."""

    accounts: Mapping[str, Sequence[AccountView]]
    away: str | None = None


class Market:
    """The parts that answer about the market.

    Args:
        me: the agent.
        settings_now: returns the settings in force.
    """

    def __init__(self, me: Agent[BoardEnvironment], settings_now: Callable[[], MarketView]) -> None:
        url = me.settings.database_url
        self.settings_now = settings_now
        self.archive = ArchiveReader(None if url is None else url.get_secret_value())
        self.live = LiveMarket()
        self.hub = UpdateHub(
            me.boot,
            lambda: settings_now().max_followers,
            lambda: settings_now().max_followers_per_address,
        )
        self.feed = MarketFeed(me, self.live, self.hub)
        self.charts = ChartStore(self.archive, self.live, self.feed.find_bus)
        self.past = PastStore(self.archive)
        self.heat = HeatMapStore(self.archive)
        self.sessions = SymbolSessions(lambda: me.truth)
        self._limits = LimitStore()
        self._quoteless: dict[str, float] = {}
        self._quote_flight: SingleFlight[dict[str, Cells]] = SingleFlight()
        self._quoted: tuple[float, Sequence[str]] | None = None
        self._quoted_flight: SingleFlight[Sequence[str]] = SingleFlight()
        self.answers = AnswerCache()
        self.limiter = RequestLimiter(lambda: settings_now().requests_per_min)

    async def run(self) -> None:
        """Follow the market until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.sessions.prepare(), name="market calendars")
                group.create_task(self.feed.run(), name="market feed")
                group.create_task(self.archive.watch(), name="market database")
        finally:
            await self.archive.close()

    @property
    def states(self) -> MarketStates:
        """What the sources said last."""
        return self.feed.states

    @property
    def problem(self) -> str | None:
        """Why the market can't be shown as a whole; None if it can, or if the fleet has none."""
        found = self.feed.problem or self.archive.problem if self.feed.has_market else None
        return found and f"market: {found}"

    def close(self) -> None:
        """End all conversations."""
        self.hub.close()

    async def answer_chart(
        self, symbol: str, timeframe: str, query: TableQuery, *, fill: bool = False
    ) -> EncodedAnswer:
        """Return the bars that a query asks for, encoded. Raises DatabaseAwayError, QueryError.

        With `fill`, a row stands for each missing bar.
        """
        if not query.is_latest or query.limit > ROWS:
            found = await self.charts.find_range(symbol, timeframe, query)
            return await self._encode_chart((symbol, timeframe), found, query, fill=fill)
        key = symbol, timeframe, query.limit, query.format, fill, self.sessions.find_code(symbol, "")
        version = self.live.find_version(symbol, timeframe)
        known = self.answers.find(key, version, time.time())
        if known is not None:
            return known
        found = await self.charts.find_newest(symbol, timeframe, query.limit)
        answer = await self._encode_chart((symbol, timeframe), found, query, fill=fill)
        if found.keep_until:
            answer = answer.pack()
            self.answers.keep(key, version, found.keep_until, answer)
        return answer

    async def _encode_chart(
        self, chart: Chart, found: FoundChart, query: TableQuery, *, fill: bool
    ) -> EncodedAnswer:
        """Return a page of a chart, encoded. Raises QueryError."""
        found = replace(found, asset=self._find_named_asset(chart[0]) or found.asset)
        session = await self.sessions.find(chart[0], found.asset)
        return make_answer(make_bars(chart, found, query, session, fill=fill), query.format)

    def _find_named_asset(self, symbol: str) -> str:
        """Return the asset class that a symbol's series name; empty if none does."""
        return next((one.asset for one in self.states.by_symbol.get(symbol, ()) if one.asset), "")

    async def find_limits(self) -> FoundLimits:
        """Return what each source allows, and how much of that is left."""
        bus = self.feed.find_bus()
        if bus is None:
            return FoundLimits({})
        try:
            return FoundLimits(await self._limits.read(bus, (one.name for one in self.states.sources)))
        except BusError as error:
            return FoundLimits({}, f"bus {error.bus} does not let them be read: {error.reason}")

    async def find_quotes(self, symbols: Sequence[str]) -> FoundQuotes:
        """Return the latest quote of each symbol: from the stream, from Redis, else from the database."""
        quotes = self.live.quotes
        found: dict[str, Cells] = {name: quotes[name].cells for name in symbols if name in quotes}
        missing = tuple(name for name in symbols if name not in found)
        if not missing:
            return FoundQuotes([found[name] for name in symbols])
        try:
            found |= await self._quote_flight.ask(missing, lambda: self._read_quotes(missing))
        except DatabaseAwayError as error:
            found |= await self._read_kept_quotes(missing)
            return FoundQuotes([found[name] for name in symbols if name in found], str(error))
        return FoundQuotes([found[name] for name in symbols if name in found])

    async def find_quoted(self) -> FoundSymbols:
        """Return the symbols that have a quote, those of the database only up to MAX_QUOTES of them."""
        away: str | None = None
        kept: Sequence[str] = ()
        try:
            kept = await self._find_quoted_in_archive()
        except DatabaseAwayError as error:
            away = str(error)
        return FoundSymbols(sorted(self.live.quotes.keys() | set(kept)), away)

    async def _find_quoted_in_archive(self) -> Sequence[str]:
        """Return the symbols that have quotes in the database. Raises DatabaseAwayError."""
        if self._quoted is not None and time.monotonic() - self._quoted[0] < QUOTED_SEC:
            return self._quoted[1]
        return await self._quoted_flight.ask("", self._read_quoted)

    async def _read_quoted(self) -> Sequence[str]:
        """Read the symbols that have quotes in the database, and keep them. Raises DatabaseAwayError."""
        found = await self.archive.read_quoted_symbols(MAX_QUOTES)
        self._quoted = time.monotonic(), found
        return found

    async def _read_quotes(self, symbols: Sequence[str]) -> dict[str, Cells]:
        """Return the quotes of symbols that the stream does not know. Raises DatabaseAwayError.

        A symbol that has none anywhere is not looked for again within NO_QUOTE_SEC.
        """
        now = time.monotonic()
        wanted = [name for name in symbols if self._quoteless.get(name, 0.0) <= now]
        found = await self._read_kept_quotes(wanted) if wanted else {}
        missing = [name for name in wanted if name not in found]
        if missing:
            rows = await self.archive.read_latest_quotes(missing)
            found |= {row[0]: row for row in rows}
            await self._keep_quotes(rows)
            for name in missing:
                if name not in found:
                    self._quoteless[name] = now + NO_QUOTE_SEC
            while len(self._quoteless) > MAX_QUOTELESS:
                del self._quoteless[next(iter(self._quoteless))]
        return found

    async def _read_kept_quotes(self, symbols: Sequence[str]) -> dict[str, Cells]:
        """Return the quotes that are kept in Redis; none while it does not answer."""
        bus = self.feed.find_bus()
        if bus is None:
            return {}
        try:
            texts = await bus.ask(bus.client.mget([quote_key(name) for name in symbols]))
        except BusError:
            return {}
        pairs = zip(symbols, texts, strict=True)
        return {
            name: row for name, text in pairs if text is not None and (row := parse_quote_row(name, text))
        }

    async def _keep_quotes(self, rows: Iterable[Cells]) -> None:
        """Store quotes of the database in Redis for a minute. A failing bus is ignored."""
        bus = self.feed.find_bus()
        if bus is None:
            return
        pipe = bus.pipeline()
        for row in rows:
            pipe.set(quote_key(row[0]), orjson.dumps(describe_quote(row)), ex=60)
        if len(pipe):
            try:
                await bus.ask(pipe.execute())
            except BusError:
                return

    def find_snapshot(self, topic: str) -> Any:
        """Return what a topic of `/ws` is like now, as JSON can say it."""
        kind, _, rest = topic.partition(":")
        if kind == TopicKind.SERIES:
            return [one.as_json() for one in self.states.series]
        if kind == TopicKind.QUOTES:
            if not rest:
                return [describe_quote(one.cells) for one in self.live.quotes.values()]
            quote = self.live.quotes.get(rest)
            return None if quote is None else describe_quote(quote.cells)
        symbol, _, timeframe = rest.rpartition(":")
        if kind == TopicKind.BARS:
            return self._find_bars(symbol, timeframe)
        values = self.live.values.get((symbol, timeframe))
        return None if values is None else describe_values(values)

    def _find_bars(self, symbol: str, timeframe: str) -> Any:
        """Return the latest bars of a chart; of all symbols, if none is named, the latest bar by symbol."""
        if not symbol:
            newest = self.live.list_newest(timeframe)
            return {one.symbol: describe_bar(one.cells) for one in newest}
        chart = self.live.find_chart(symbol, timeframe)
        bars = () if chart is None else chart.list_bars()[-SNAPSHOT_BARS:]
        return [describe_bar(one.cells) for one in bars]


def parse_quote_row(symbol: str, text: bytes) -> Cells | None:
    """Return a quote as it is kept in Redis as a row; None if the text is none of this symbol."""
    try:
        value = orjson.loads(text) if len(text) <= MAX_QUOTE_BYTES else None
        row = None if value is None else tuple(value[name] for name in QUOTE_CELLS)
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return None
    return row if row is not None and row[0] == symbol and is_quote(row) else None
