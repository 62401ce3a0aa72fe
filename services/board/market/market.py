"""Hold what answers about the market are made from, and answer the questions that are asked most."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Final, TypeVar

from marketswarm.agent import Agent
from marketswarm.agent.requests import RequestDesk
from marketswarm.bus import BusError
from marketswarm.operator.remedies import Remedy
from marketswarm.web.cache import Cached
from marketswarm.web.limits import RequestLimiter
from marketswarm.web.responses import PageModel
from marketswarm.web.updates import MAX_TOPICS, UpdateHub
from services.board.market.archive_reader import (
    MAX_ASSETS,
    ArchiveReader,
    DatabaseAwayError,
    try_archive,
)
from services.board.market.arrow_response import StreamPlaces
from services.board.market.bar_table import make_bars
from services.board.market.calendars import SymbolSessions
from services.board.market.charts import (
    CHART_SEC,
    MAX_BASES,
    ChartFinder,
    ChartRequest,
    EncodedAnswer,
    FoundChart,
    adjust_chart,
    make_answer,
    make_tag,
)
from services.board.market.correlations import HEAT_SEC, HeatMap, read_heat_map
from services.board.market.feed import MarketFeed, MarketStates
from services.board.market.growing_table import GrowingTable, encode_growing
from services.board.market.limits import FRESH_SEC, AccountView, read_accounts
from services.board.market.live import (
    MAX_QUOTES,
    LiveMarket,
    describe_bar,
    describe_quote,
    describe_values,
)
from services.board.market.names import NameDirectory
from services.board.market.news import NEWS_SEC, NO_NOTES, NewsItem, explain_bus, find_notes, read_notes
from services.board.market.past import PastMarket, make_past
from services.board.market.quality import DayQuality, Rejections, read_rejections
from services.board.market.query import TableFormat
from services.board.market.states import StoredSeries
from services.board.market.tables import JSON_TYPE
from services.board.market.topics import TopicKind, find_symbol
from services.board.settings import BoardEnvironment, MarketView
from services.market.adjust import Adjuster
from services.market.records import TIMEFRAME_SEC
from services.market.sessions import Session
from services.tables.adjusted_bars import find_day_as_of
from services.tables.rows import Cells

SNAPSHOT_BARS: Final = 5  # of a chart, in a snapshot of `/ws`: the API has the others

MAX_ANSWERS: Final = 2000
ANSWER_BYTES: Final = 64 * 1024 * 1024  # the most bytes of answers that are kept in memory
ADJUSTER_SEC: Final = 60.0
"""How long the splits and dividends of a symbol are kept in memory."""
MAX_ADJUSTERS: Final = 1000
PAST_SEC: Final = 20.0  # how long the past of tiles is kept in memory: what is newer comes from the streams
MAX_PAST: Final = 64
MAX_PASTS: Final = 8  # how many instants of the past have their symbols in memory, up to 20,000 each
CLOSES_SEC: Final = 60.0  # how long the closes of a year are kept in memory
SHOWN_SEC: Final = 3600.0  # how long it is kept of what a tile was made; each page of the tile renews it
CALENDARS_SEC: Final = 2.0  # how long an answer waits for calendars that are not computed yet
LOOK_SEC: Final = 5.0  # how long a symbol that is not on the stream is not looked for again
MAX_LOOKS: Final = 10_000
QUOTED_SEC: Final = 60.0
"""How long the names of the symbols that have quotes in the database are kept; new ones are on the stream."""

MakeBox = Callable[[str, int | None], Awaitable[PageModel | None]]
"""Makes a part of the page of a symbol as of an instant (epoch milliseconds; None: now), or nothing."""
V = TypeVar("V")
Found = tuple[V, str | None]
"""What was found, and why it may lack something: what does not answer."""


class Market:
    """The parts that answer about the market; `settings_now` returns the settings in force."""

    def __init__(self, me: Agent[BoardEnvironment], settings_now: Callable[[], MarketView]) -> None:
        url = me.settings.database_url
        self.archive = (
            ArchiveReader(None)
            if url is None
            else ArchiveReader(url.get_secret_value(), me.settings.database_slow_ms)
        )
        self._desk = RequestDesk(Remedy.RECONNECT, me, self.archive.reconnect)
        self.live = LiveMarket()
        self.hub = UpdateHub(
            me.boot, lambda: settings_now().max_followers, lambda: settings_now().max_followers_per_address
        )
        self.feed = MarketFeed(me, self.live, self.hub)
        self.charts = ChartFinder(self.archive, self.live, self.feed.find_bus)
        self.past = Cached[Any, Any](PAST_SEC, MAX_PAST)  # of the tiles of some series
        self.shown = Cached[str, tuple[StoredSeries, Any]](SHOWN_SEC, MAX_TOPICS)
        """By symbol, the series and the past of which the last tile of it was made for a page."""
        self.closes = Cached[Any, Any](CLOSES_SEC, MAX_PAST)
        """The closes of trading days, and the values of economic series, of some symbols."""
        self.qualities = Cached[Any, Sequence[DayQuality]](CLOSES_SEC, MAX_PAST)
        self._rejections = Cached[Any, Rejections](CLOSES_SEC)
        self._notes = Cached[Any, Sequence[NewsItem]](NEWS_SEC)
        self._heat = Cached[int | None, HeatMap](HEAT_SEC, MAX_PASTS)
        self._pasts = Cached[int, PastMarket](CLOSES_SEC, MAX_PASTS)
        self.sessions = SymbolSessions(lambda: me.truth)
        self._me = me
        self.names = NameDirectory(self.archive, lambda: me.truth, lambda: self.feed.states, self.live)
        self._limits = Cached[Any, Mapping[str, Sequence[AccountView]]](FRESH_SEC)
        self._quotes = Cached(LOOK_SEC, MAX_LOOKS, shelf=self.feed.kept_quotes)
        self._quoted = Cached[str, Sequence[str]](QUOTED_SEC)
        self.answers = Cached[Any, EncodedAnswer](
            CHART_SEC, MAX_ANSWERS, measure=lambda answer: answer.size, max_size=ANSWER_BYTES
        )
        self._growing = Cached[Any, GrowingTable](CHART_SEC, MAX_BASES)
        self._adjusters = Cached[str, Adjuster](ADJUSTER_SEC, MAX_ADJUSTERS)
        self.more_topics: dict[str, Callable[[str], Any]] = {}
        """By kind, what returns the state of a topic for its symbol, or an empty text: as JSON can say it."""
        self.boxes: list[MakeBox] = []
        """What makes further parts of the page of a symbol."""
        self.limiter = RequestLimiter(lambda: settings_now().requests_per_min)
        self.streams = StreamPlaces()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.sessions.prepare(), name="market calendars")
                group.create_task(self.feed.run(), name="market feed")
                group.create_task(self.archive.watch(), name="market database")
                group.create_task(self.charts.renew_bases(), name="market charts")
                group.create_task(self._desk.run(), name="market reconnect")
        finally:
            await self.archive.close()

    @property
    def caches(self) -> dict[str, Cached[Any, Any]]:
        """By kind, the answers that are kept in memory, and that can all be made again."""
        return {
            "answers": self.answers,
            "charts": self.charts.bases,
            "rows": self._growing,
            "quotes": self._quotes,
            "quoted": self._quoted,
            "tiles": self.past,
            "closes": self.closes,
            "adjusters": self._adjusters,
            "quality": self.qualities,
            "quarantine": self._rejections,
            "news": self._notes,
            "correlations": self._heat,
            "past": self._pasts,
            "limits": self._limits,
            "names": self.names.archived,
            "assets": self.archive.assets,
        }

    @property
    def states(self) -> MarketStates:
        return self.feed.states

    @property
    def problem(self) -> str | None:
        """Why the market can't be shown as a whole; None if it can, or if the fleet has none."""
        found = self.feed.problem or self.archive.problem if self.feed.has_market else None
        return found and f"market: {found}"

    async def answer_chart(self, asked: ChartRequest) -> EncodedAnswer:
        """Return the bars that a request asks for, encoded.

        Raises DatabaseAwayError, QueryError, UnknownNameError.
        """
        known = self.find_kept_chart(asked)
        if known is not None:
            return known
        key = self._find_key(asked) if asked.is_newest else None
        if key is None:
            found = await self.charts.find_range(*asked.chart, asked.query)
        else:
            found = await self.charts.find_newest(*asked.chart, asked.query.limit)
        if not found.rows and not found.asset:
            await self.names.require_symbols(asked.chart[:1])
        found = self._name_asset(asked, found)
        session = await self.sessions.find(asked.chart[0], found.asset)
        adjuster = None if asked.adjust is None else await self._find_adjuster(asked)
        return self._encode_chart(asked, found, session, adjuster, key)

    def find_kept_chart(self, asked: ChartRequest) -> EncodedAnswer | None:
        """Return the answer to a request if it is kept, and still right."""
        return self.answers.find_kept(*self._find_key(asked)) if asked.is_newest else None

    def make_kept_chart(self, asked: ChartRequest) -> EncodedAnswer | None:
        """Return the answer to a request for the newest bars, made again since they changed, and keep it.

        Return None if the answer needs more than what is in memory.
        """
        found = self.charts.find_kept(*asked.chart, asked.query.limit) if asked.is_newest else None
        if found is None or not found.rows:
            return None
        found = self._name_asset(asked, found)
        session = self.sessions.find_kept(asked.chart[0], found.asset)
        adjuster = None if asked.adjust is None else self._adjusters.find_kept(asked.chart[0])
        if session is None or (adjuster is None and asked.adjust is not None):
            return None
        return self._encode_chart(asked, found, session, adjuster, self._find_key(asked))

    def _find_key(self, asked: ChartRequest) -> tuple[Hashable, int]:
        """Return the key of a chart's answer, and the version of its newest bars."""
        symbol, timeframe = asked.chart
        code = self.sessions.find_code(symbol, "")
        key = symbol, timeframe, asked.query.limit, asked.query.format, asked.fill, asked.adjust, code
        return key, self.live.find_version(symbol, timeframe)

    def _name_asset(self, asked: ChartRequest, found: FoundChart) -> FoundChart:
        """Return a chart with the asset class that the series of its symbol name, if one does."""
        named = (one.asset for one in self.states.by_symbol.get(asked.chart[0], ()))
        return replace(found, asset=next(filter(None, named), found.asset))

    async def _find_adjuster(self, asked: ChartRequest) -> Adjuster:
        """Return the splits and dividends by which bars are adjusted. Raises DatabaseAwayError."""
        symbols, as_of_ms = asked.chart[:1], asked.query.as_of_ms
        if as_of_ms is None:
            reading = self._adjusters.find_each(symbols, self.archive.read_adjusters)
        else:
            reading = self.archive.read_adjusters(symbols, None, as_of_ms)
        return (await reading)[asked.chart[0]]

    def _encode_chart(
        self,
        asked: ChartRequest,
        found: FoundChart,
        session: Session | None,
        adjuster: Adjuster | None,
        key: tuple[Hashable, int] | None,
    ) -> EncodedAnswer:
        """Return bars encoded; with a `key`, keep the answer, and encode no row that its last one had.

        `adjuster` is None for bars as their sources gave them. Raises QueryError.
        """
        about: dict[str, Any] = {}
        if adjuster is not None and asked.adjust is not None:
            at_ms = round(1000 * time.time()) if asked.query.as_of_ms is None else asked.query.as_of_ms
            day = find_day_as_of(at_ms, session)
            found, about = adjust_chart(asked, found, adjuster, asked.adjust, day)
        table = make_bars(asked.chart, found, asked.query, session, fill=asked.fill)
        table = replace(table, about={**table.about, **about})
        if key is None:
            return make_answer(table, asked.query.format)
        question, version = key
        if asked.query.format is TableFormat.JSON:
            step_ms = 1000 * TIMEFRAME_SEC[asked.chart[1]]
            grown = encode_growing(table, step_ms, self._growing.find_kept(question))
            self._growing.keep(question, grown)
            cursor, tag = table.about.get("cursor"), make_tag(grown.digests)
            answer = EncodedAnswer(grown.texts, JSON_TYPE, tag, cursor, grown.packed)
        else:
            answer = make_answer(table, asked.query.format)
        if found.keep_until:
            answer = answer.pack()
            kept_sec = CHART_SEC if asked.adjust is None else ADJUSTER_SEC
            self.answers.keep(question, answer, version, min(kept_sec, found.keep_until - time.time()))
        return answer

    async def find_symbol_day(self, symbol: str, at_ms: int) -> date:
        """Return the last day whose splits and dividends have come in a symbol's market at an instant.

        Raises DatabaseAwayError.
        """
        assets = await self.names.find_assets((symbol,))
        return find_day_as_of(at_ms, await self.sessions.find(symbol, assets.get(symbol, "")))

    async def find_sessions(self, symbols: Collection[str]) -> dict[str, Session | None]:
        """Return the session of each symbol; None for one that has none, or whose calendar takes long.

        Such a calendar is there for the next who asks. Raises DatabaseAwayError.
        """
        assets = await self.names.find_assets(symbols)
        wanted = {symbol: assets.get(symbol, "") for symbol in symbols}
        found, _ = await self.sessions.find_soon(wanted, CALENDARS_SEC)
        return {symbol: found.get(symbol) for symbol in wanted}

    async def find_days(self, symbols: Collection[str], as_of_ms: int | None) -> dict[str, date]:
        """Return by symbol the last day whose splits and dividends have come, now or as of an instant.

        Raises DatabaseAwayError.
        """
        at_ms = round(1000 * time.time()) if as_of_ms is None else as_of_ms
        found = await self.find_sessions(symbols)
        return {symbol: find_day_as_of(at_ms, session) for symbol, session in found.items()}

    async def find_limits(self) -> Found[Mapping[str, Sequence[AccountView]]]:
        """Return, by source, what the accounts of its keys may still ask; and why not, if the bus is away."""
        bus = self.feed.find_bus()
        if bus is None:
            return {}, None
        try:
            names = tuple(one.name for one in self.states.sources)
            return await self._limits.find((bus, names), lambda: read_accounts(bus, names)), None
        except BusError as error:
            return {}, f"bus {error.bus} does not let them be read: {error.reason}"

    async def find_quotes(self, symbols: Sequence[str]) -> Found[Sequence[Cells]]:
        """Return the latest quote of each symbol, from the stream, from Redis or from the database."""
        quotes, away = self.live.quotes, None
        found: dict[str, Cells] = {name: quotes[name].cells for name in symbols if name in quotes}
        missing = tuple(name for name in symbols if name not in found)
        try:
            found |= await self._quotes.find_each(missing, self._read_quotes)
        except DatabaseAwayError as error:
            found |= await self.feed.kept_quotes.read(missing)
            away = str(error)
        return [found[name] for name in symbols if name in found], away

    async def find_quoted(self) -> Found[Sequence[str]]:
        """Return the symbols that have a quote, those of the database only up to MAX_QUOTES of them."""
        reading = self._quoted.find("", lambda: self.archive.read_quoted_symbols(MAX_QUOTES))
        kept, away = await try_archive(reading, ())
        return sorted(self.live.quotes.keys() | set(kept)), away

    async def _read_quotes(self, symbols: Sequence[str]) -> dict[str, Cells]:
        return {row[0]: row for row in await self.archive.read_latest_quotes(symbols)}

    async def find_news(self) -> Found[Sequence[NewsItem]]:
        """Return the newest notes about items of feeds; and why not, if the bus is away or there are none."""
        place = find_notes(self._me.truth)
        if place is None:
            return (), NO_NOTES
        name, key = place
        try:
            bus = self._me.bus(name)
            return await self._notes.find((bus, key), lambda: read_notes(bus, key)), None
        except BusError as error:
            return (), explain_bus(error)

    async def find_rejections(self) -> Found[Rejections]:
        """Return how many records are in quarantine, by symbol and day; and why not, if the bus is away."""
        bus = self.feed.find_bus()
        if bus is None:
            return Rejections(), None
        try:
            return await self._rejections.find(bus, lambda: read_rejections(bus)), None
        except BusError as error:
            return Rejections(), f"bus {error.bus} does not let the quarantine be read: {error.reason}"

    async def find_heat_map(self, as_of_ms: int | None = None) -> HeatMap:
        return await self._heat.find(as_of_ms, lambda: read_heat_map(self.archive, as_of_ms))

    async def find_past(self, as_of_ms: int) -> PastMarket:
        """Return which symbols the market had at an instant. Raises DatabaseAwayError."""

        async def read() -> PastMarket:
            async with self.archive.limit_answer():
                since = await self.archive.read_universe_since()
                if since is not None and as_of_ms >= since:
                    found = await self.archive.read_universe(None, None, MAX_ASSETS, as_of_ms)
                    rows = [row[:4] for row in found]
                else:
                    found = await self.archive.read_symbols(None, None, MAX_ASSETS, as_of_ms)
                    rows = [(*row[:2], None, None) for row in found]
            return make_past(as_of_ms, since, rows, self.states.by_symbol)

        return await self._pasts.find(as_of_ms, read)

    async def prepare_snapshots(self, topics: Sequence[str]) -> None:
        """Look for the quotes of topics of `/ws` that are not in memory, and keep them for a moment.

        Raises UnknownNameError for a topic of a symbol that is not known.
        """
        named = [one for one in map(find_symbol, topics) if one]
        await self.names.require_symbols_without_archive(named)
        parted = (topic.partition(":") for topic in topics)
        if wanted := [symbol for kind, _, symbol in parted if kind == TopicKind.QUOTES and symbol]:
            found, _ = await self.find_quotes(wanted)
            for cells in found:
                self._quotes.keep(cells[0], cells)

    def find_snapshot(self, topic: str) -> Any:
        """Return what a topic of `/ws` is like now, as JSON can say it; of a quote, as it was prepared."""
        kind, _, rest = topic.partition(":")
        if kind == TopicKind.CELLS:
            return None  # the page has them
        if kind in self.more_topics:
            return self.more_topics[kind](rest)
        if kind == TopicKind.SERIES:
            return [one.as_json() for one in self.states.series]
        if kind == TopicKind.QUOTES:
            if not rest:
                return [describe_quote(one.cells) for one in self.live.quotes.values()]
            quote = self.live.quotes.get(rest)
            cells = self._quotes.find_kept(rest) if quote is None else quote.cells
            return None if cells is None else describe_quote(cells)
        symbol, _, timeframe = rest.rpartition(":")
        if kind == TopicKind.BARS:
            return self._find_bars(symbol, timeframe)
        values = self.live.values.get((symbol, timeframe))
        return None if values is None else describe_values(values)

    def _find_bars(self, symbol: str, timeframe: str) -> Any:
        if not symbol:
            newest = self.live.list_newest(timeframe)
            return {one.symbol: describe_bar(one.cells) for one in newest}
        bars = self.live.list_bars(symbol, timeframe)[-SNAPSHOT_BARS:]
        return [describe_bar(one.cells) for one in bars]
