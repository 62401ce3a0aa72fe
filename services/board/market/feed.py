"""Follow the market on its bus: the streams of bars, indicators and quotes, and the states of the sources.

What comes goes into the memory of the board and to the followers of `/ws`. A bus that is away leaves the last
state standing, and says so; after that the streams go on where they were read to.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import orjson

from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.bus.stream import (
    StreamEntry,
    entry_sort_key,
    read_entries_after,
    read_entries_before,
    read_newest_id,
)
from marketswarm.keys import (
    CHECKED_BARS,
    INDICATORS,
    MARKET_QUOTES,
    MARKET_SERIES,
    MARKET_SOURCES,
    PRELOAD_STATUS,
    quote_key,
    source_breaker_key,
)
from marketswarm.market.entries import EntryError
from marketswarm.truth import Truth
from services.board.market.live import (
    LiveMarket,
    Row,
    parse_live_bar,
    parse_live_quote,
    parse_live_values,
)
from services.board.market.states import (
    BREAKER_FIELDS,
    GateState,
    StoredBreaker,
    StoredSeries,
    StoredSource,
    add_breakers,
    parse_breaker,
    parse_gate,
    parse_series,
    parse_sources,
)
from services.board.market.updates import ALL_QUOTES, SERIES, UpdateHub, name_topic
from services.board.settings import BoardEnvironment

BATCH: Final = 1000
"""The most entries of a stream that are read at once."""
SEED_ENTRIES: Final = 2000
"""How many of the newest entries of each stream are read at the start."""
BLOCK_SEC: Final = 2.0
POLL_SEC: Final = 1.0
PAUSE_SEC: Final = 1.0
QUOTE_SEC: Final = 60
"""How long the latest quote of a symbol is kept in Redis."""
QUOTES_AT_ONCE: Final = 2000
MAX_BREAKERS: Final = 500
STATE_BYTES: Final = 8 * 1024 * 1024
PUBLISHED: Final = (CHECKED_BARS, MARKET_QUOTES, MARKET_SERIES)
"""A fleet has a market if a service of it publishes one of these."""


@dataclass(frozen=True, slots=True)
class MarketStates:
    """Hold what the sources said last: of the series, of themselves, and of the gate.

    `read_at` is when, in epoch seconds; None if never. `broken` counts the states that could not be parsed.
    """

    series: tuple[StoredSeries, ...] = ()
    sources: tuple[StoredSource, ...] = ()
    gate: GateState | None = None
    broken: int = 0
    read_at: float | None = None
    by_symbol: dict[str, tuple[StoredSeries, ...]] = field(default_factory=dict)


def find_market_bus(truth: Truth) -> str | None:
    """Return the name of the bus on which the market is published; None if no service publishes any."""
    for section in truth.services.values():
        for point in section.access_points.publish_to:
            if point.key in PUBLISHED:
                return point.bus
    return None


class MarketFeed:
    """Follows the market, and passes it on.

    `problem` says why it can't, None if it can; `states` is what the sources said last.

    Args:
        me: the agent.
        live: keeps the newest.
        hub: passes it on.
    """

    def __init__(self, me: Agent[BoardEnvironment], live: LiveMarket, hub: UpdateHub) -> None:
        self.states = MarketStates()
        self.problem: str | None = None
        self._me, self._live, self._hub = me, live, hub
        self._fresh_quotes: dict[str, Row] = {}

    @property
    def has_market(self) -> bool:
        """Whether a service of the truth publishes a market."""
        return find_market_bus(self._me.truth) is not None

    def find_bus(self) -> Bus | None:
        """Return the bus of the market; None if the truth has none, or it has no URL."""
        name = find_market_bus(self._me.truth)
        try:
            return None if name is None else self._me.bus(name)
        except BusError:
            return None

    async def run(self) -> None:
        """Follow the market until cancelled."""
        takers: dict[str, Callable[[dict[bytes, bytes], float], None]] = {
            CHECKED_BARS: self._take_bar,
            MARKET_QUOTES: self._take_quote,
            INDICATORS: self._take_values,
        }
        async with asyncio.TaskGroup() as group:
            for stream, take in takers.items():
                group.create_task(self._follow(stream, take), name=f"market {stream}")
            group.create_task(self._poll(), name="market states")

    async def _follow(self, stream: str, take: Callable[[dict[bytes, bytes], float], None]) -> None:
        """Take each entry of a stream, from the newest at the start on, for ever."""
        last: bytes | None = None
        while True:
            bus = self.find_bus()
            if bus is None:
                await asyncio.sleep(POLL_SEC)
                continue
            try:
                if last is None:
                    last = await self._seed(bus, stream, take)
                entries = await read_entries_after(bus, stream, last, count=BATCH, block_sec=BLOCK_SEC)
                if not entries:
                    last = await self._check_place(bus, stream, last)
            except BusError:
                await asyncio.sleep(PAUSE_SEC)
                continue
            self._take_all(entries, take, time.time())
            if entries:
                last = entries[-1].id
                await asyncio.sleep(0)  # many entries must not keep requests waiting

    async def _seed(self, bus: Bus, stream: str, take: Callable[[dict[bytes, bytes], float], None]) -> bytes:
        """Take the newest entries of a stream; return the id of the last. Raises BusError."""
        entries = (await read_entries_before(bus, stream, b"+", count=SEED_ENTRIES))[::-1]
        for entry in entries:  # each as if it came when it was written
            self._take_all([entry], take, entry_sort_key(entry.id)[0] / 1000)
        if stream == CHECKED_BARS:
            # of a stream that was read as a whole nothing is unknown
            is_whole = len(entries) < SEED_ENTRIES
            self._live.began_at = 0.0 if is_whole else entry_sort_key(entries[0].id)[0] / 1000
        return entries[-1].id if entries else await read_newest_id(bus, stream)

    async def _check_place(self, bus: Bus, stream: str, last: bytes) -> bytes:
        """Return the id from which to read on: the start, if the stream was begun anew. Raises BusError."""
        newest = await read_newest_id(bus, stream)
        return newest if entry_sort_key(newest) < entry_sort_key(last) else last

    def _take_all(
        self, entries: list[StreamEntry], take: Callable[[dict[bytes, bytes], float], None], now: float
    ) -> None:
        """Take entries that arrived at `now` (epoch seconds); count those that are no records."""
        for entry in entries:
            try:
                if entry.fields is None:
                    raise EntryError("too long")  # noqa: TRY301 - counted with those that can't be parsed
                take(entry.fields, now)
            except EntryError:
                self._live.malformed += 1

    def _take_bar(self, fields: dict[bytes, bytes], now: float) -> None:
        """Keep a bar, and pass it on. Raises EntryError."""
        one = parse_live_bar(fields)
        if self._live.take_bar(one, now):
            symbol, timeframe = one.chart
            topic = name_topic("bars", symbol, timeframe)
            self._hub.publish(topic, encode_bar(one.make_row()), subject=f"{topic}:{one.bar.start_ms}")

    def _take_quote(self, fields: dict[bytes, bytes], _now: float) -> None:
        """Keep a quote, and pass it on. Raises EntryError."""
        one = parse_live_quote(fields)
        if self._live.take_quote(one):
            row = one.make_row()
            self._hub.publish(name_topic(ALL_QUOTES, one.quote.symbol), encode_quote(row), wider=ALL_QUOTES)
            self._fresh_quotes[one.quote.symbol] = row

    def _take_values(self, fields: dict[bytes, bytes], _now: float) -> None:
        """Keep indicators, and pass them on. Raises EntryError."""
        one = parse_live_values(fields)
        if self._live.take_values(one):
            topic = name_topic("indicators", one.symbol, one.timeframe)
            data = {
                "start": one.start_ms,
                "rev": one.rev,
                "epoch": one.epoch,
                "final": one.is_final,
                "values": one.values,
            }
            self._hub.publish(topic, orjson.dumps(data), subject=f"{topic}:{one.start_ms}")

    async def _poll(self) -> None:
        """Read the states again and again, and keep fresh quotes in Redis."""
        while True:
            bus = self.find_bus()
            if bus is None:
                self.problem = "the truth has no service that publishes a market"
                self.states = MarketStates()
            else:
                try:
                    await self._read_states(bus)
                    await self._keep_quotes(bus)
                    self.problem = None
                except BusError as error:
                    self.problem = f"bus {error.bus} does not answer: {error.reason}"
            await asyncio.sleep(POLL_SEC)

    async def _read_states(self, bus: Bus) -> None:
        """Read the states of series, sources and gate, and pass on what changed. Raises BusError."""
        pipe = bus.pipeline()
        pipe.hgetall(MARKET_SERIES)
        pipe.hgetall(MARKET_SOURCES)
        pipe.get(PRELOAD_STATUS)
        raw_series, raw_sources, raw_gate = await bus.ask(pipe.execute(), max_bytes=STATE_BYTES)
        series, broken = parse_series(raw_series)
        sources, more = parse_sources(raw_sources)
        breakers = await _read_breakers(bus, series, sources)
        sources = add_breakers(sources, breakers)
        found = MarketStates(series, sources, parse_gate(raw_gate), broken + more, time.time(), index(series))
        known = {one.id: one for one in self.states.series}
        for one in series:
            if known.get(one.id) != one:
                self._hub.publish(SERIES, encode_series(one), subject=f"{SERIES}:{one.id}")
        self.states = found

    async def _keep_quotes(self, bus: Bus) -> None:
        """Keep the latest quotes that came since the last time. Raises BusError."""
        fresh, self._fresh_quotes = self._fresh_quotes, {}
        if fresh:
            pipe = bus.pipeline()
            for symbol, row in list(fresh.items())[:QUOTES_AT_ONCE]:
                pipe.set(quote_key(symbol), encode_quote(row), ex=QUOTE_SEC)
            await bus.ask(pipe.execute())


async def _read_breakers(
    bus: Bus, series: tuple[StoredSeries, ...], sources: tuple[StoredSource, ...]
) -> dict[str, StoredBreaker | None]:
    """Return the breaker of each source that was asked, or that a series names. Raises BusError."""
    named = [one.name for one in sources] + [name for one in series for name in one.sources]
    names = list(dict.fromkeys(named))[:MAX_BREAKERS]
    if not names:
        return {}
    pipe = bus.pipeline()
    for name in names:
        pipe.hmget(source_breaker_key(name), BREAKER_FIELDS)
    return dict(zip(names, map(parse_breaker, await bus.ask(pipe.execute())), strict=True))


def index(series: tuple[StoredSeries, ...]) -> dict[str, tuple[StoredSeries, ...]]:
    """Return the series of each symbol."""
    found: dict[str, tuple[StoredSeries, ...]] = {}
    for one in series:
        found[one.symbol] = (*found.get(one.symbol, ()), one)
    return found


BAR_NAMES: Final = (
    *("start", "open", "high", "low", "close", "volume", "vwap", "trades", "final", "rev", "epoch"),
    *("source", "asked_at", "digest", "replay"),
)
QUOTE_NAMES: Final = (
    *("symbol", "at", "price", "bid", "ask", "volume", "open_interest", "implied_volatility"),
    *("source", "asked_at", "digest", "replay"),
)


def encode_bar(row: Row) -> bytes:
    """Return a row of a bar as JSON."""
    return orjson.dumps(dict(zip(BAR_NAMES, row, strict=True)))


def encode_quote(row: Row) -> bytes:
    """Return a row of a quote as JSON."""
    return orjson.dumps(dict(zip(QUOTE_NAMES, row, strict=True)))


def encode_series(one: StoredSeries) -> bytes:
    """Return the state of a series as JSON."""
    return orjson.dumps(one.as_json())
