"""Follow the market on its bus: the streams of bars, indicators and quotes, and the states of the sources.

What comes goes into the memory of the board and to the followers of `/ws`. A bus that is away leaves the last
state standing, and says so; after that the streams continue where they were read to. A stream that was
created again meanwhile, or trimmed beyond that, is read as at the start. Others write all of this, so
whatever a value does to us, it is skipped, and the rest is followed.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.bus.backlog import read_backlog
from marketswarm.bus.follower import StreamFollower
from marketswarm.bus.stream import FIRST_ID, StreamEntry, find_entry_time, read_entries_before
from marketswarm.event import dump_compact
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
from marketswarm.truth import AccessPoint, Truth
from marketswarm.web.cache import RedisShelf
from marketswarm.web.updates import UpdateHub
from services.board.market.live import (
    NEVER,
    LiveMarket,
    describe_bar,
    describe_values,
    encode_quote,
    parse_quote,
)
from services.board.market.states import (
    BREAKER_FIELDS,
    GateState,
    StateCache,
    StoredBreaker,
    StoredSeries,
    StoredSource,
    add_breakers,
    parse_breaker,
    parse_gate,
)
from services.board.market.topics import TopicKind, name_topic
from services.board.settings import BoardEnvironment
from services.market.fields import EntryError, Fields
from services.tables.rows import BarRow, Cells, IndicatorRow, QuoteRow
from services.tables.tables import make_row

BATCH: Final = 1000  # the most entries of a stream that are read at once
SEED_ENTRIES: Final = 2000  # how many of the newest entries of each stream are read at the start
BLOCK_SEC: Final = 2.0
POLL_SEC: Final = 1.0
PAUSE_SEC: Final = 1.0
QUOTE_SEC: Final = 60  # how long the latest quote of a symbol is kept in Redis
QUOTES_AT_ONCE: Final = 2000
MAX_BREAKERS: Final = 500
DAY_SEC: Final = 86_400.0  # how far ahead of our clock the id of an entry may be: its writer chooses it
STATE_BYTES: Final = 32 * 1024 * 1024
PUBLISHED: Final = (CHECKED_BARS, MARKET_QUOTES, MARKET_SERIES)
"""A fleet has a market if a service of it publishes one of these."""
NO_MARKET: Final = "the truth has no service that publishes a market"
ARCHIVE: Final = "archive"  # the service that writes the streams into the database, and its group

FindPoint = Callable[[Truth], AccessPoint | None]
Parse = Callable[[StreamEntry, float], Any]
"""Returns what an entry says, as of now (epoch seconds). Raises EntryError for one that is malformed."""
Take = Callable[[Any, float], None]
"""Keeps what an entry of a stream says, and when that was added (epoch seconds)."""
log = logs.get("board")


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


def list_market_buses(truth: Truth) -> list[str]:
    """Return the names of the buses on which a service publishes a market, in the order of the truth."""
    points = (point for section in truth.services.values() for point in section.access_points.publish_to)
    return list(dict.fromkeys(point.bus for point in points if point.key in PUBLISHED))


def find_archive_group(truth: Truth) -> str:
    section = truth.services.get(ARCHIVE)
    group = None if section is None else section.settings.get("group")
    return group if isinstance(group, str) else ARCHIVE


class MarketFeed:
    """Follows the market, keeps the newest in `live`, and passes it on by `hub`.

    `problem` says why it can't, None if it can; `states` is what the sources said last; `kept_quotes` are
    the latest quotes in Redis.
    """

    def __init__(self, me: Agent[BoardEnvironment], live: LiveMarket, hub: UpdateHub) -> None:
        self.states = MarketStates()
        self.problem: str | None = None
        self._me, self._live, self._hub = me, live, hub
        self.kept_quotes = RedisShelf[str, Cells](
            self.find_bus, quote_key, encode_quote, parse_quote, QUOTE_SEC
        )
        self._fresh_quotes: dict[str, Cells] = {}
        self._more: dict[str, tuple[FindPoint, Parse, Take]] = {}
        self._unread: dict[str, str] = {}
        self._logged: set[tuple[str, str]] = set()
        self._known_series = StateCache(StoredSeries)
        self._known_sources = StateCache(StoredSource)

    @property
    def has_market(self) -> bool:
        return bool(list_market_buses(self._me.truth))

    def find_bus(self) -> Bus | None:
        """Return the bus of the market; None if the truth has none, or it has no URL."""
        return self._find_first(list_market_buses(self._me.truth))

    def _find_first(self, names: list[str]) -> Bus | None:
        try:
            return self._me.bus(names[0]) if names else None
        except BusError:
            return None

    def add_stream(self, stream: str, find: FindPoint, parse: Parse, take: Take) -> None:
        """Have one more stream followed by `run`, where the truth has it by `find`."""
        self._more[stream] = find, parse, take

    async def run(self) -> None:
        takers: dict[str, Take] = {
            CHECKED_BARS: self._take_bar,
            MARKET_QUOTES: self._take_quote,
            INDICATORS: self._take_values,
        }
        async with asyncio.TaskGroup() as group:
            streams: dict[str, tuple[Parse, Take]] = {
                stream: (partial(_parse_row, stream), take) for stream, take in takers.items()
            }
            streams |= {stream: (parse, take) for stream, (_, parse, take) in self._more.items()}
            for stream, (parse, take) in streams.items():
                group.create_task(self._follow(stream, parse, take), name=f"market {stream}")
            group.create_task(self._poll(), name="market states")

    def find_place(self, stream: str) -> tuple[Bus, str] | None:
        """Return on which bus a stream is, and its key there; None if the truth or the bus is missing."""
        if stream not in self._more:
            bus, key = self.find_bus(), stream
        else:
            point = self._more[stream][0](self._me.truth)
            bus, key = (None, "") if point is None else (self._find_first([point.bus]), point.key)
        return None if bus is None else (bus, key)

    async def _follow(self, stream: str, parse: Parse, take: Take) -> None:
        """Take each entry of a stream, from the newest at the start on, for ever."""
        known: tuple[Bus, str] | None = None
        follower: StreamFollower | None = None
        while True:
            place = self.find_place(stream)
            if place != known:
                known, follower = place, None
                self._unread.pop(stream, None)
                if stream == CHECKED_BARS:  # it was not read yet on this bus
                    self._live.began_at, self._live.archived_at = float("inf"), NEVER
            if place is None:
                await asyncio.sleep(POLL_SEC)
                continue
            try:
                if follower is None:
                    follower = await self._seed(*place, parse, take)
                entries, loss = await follower.read(BATCH, BLOCK_SEC)
            except BusError as error:
                self._unread[stream] = f"bus {error.bus} does not let {stream} be read: {error.reason}"
                await asyncio.sleep(PAUSE_SEC)
                continue
            except Exception as error:  # noqa: BLE001 - one stream must not end the board
                self._unread[stream] = self._note_failure(stream, error)
                await asyncio.sleep(PAUSE_SEC)
                continue
            self._unread.pop(stream, None)
            if loss is not None:
                follower = None
                self._hub.note_loss()
                continue
            self._take_all(stream, entries, parse, take)
            if entries:
                await asyncio.sleep(0)  # many entries must not keep requests waiting

    async def _seed(self, bus: Bus, stream: str, parse: Parse, take: Take) -> StreamFollower:
        """Take the newest entries of a stream, and follow it from the last on. Raises BusError."""
        entries = await _read_newest(bus, stream)
        self._take_all(stream, entries, parse, take)
        if stream == CHECKED_BARS:
            is_whole = not entries or await _has_all(bus, stream, len(entries))
            first_at = NEVER if is_whole else find_entry_time(entries[0].id)
            self._live.began_at = _bound_time(first_at, time.time())
        return StreamFollower(bus, stream, entries[-1].id if entries else FIRST_ID)

    def _take_all(self, stream: str, entries: list[StreamEntry], parse: Parse, take: Take) -> None:
        """Take entries, each with the time at which it was added; count those that are malformed."""
        now = time.time()
        for entry in entries:
            try:
                take(parse(entry, now), _bound_time(find_entry_time(entry.id), now))
            except EntryError as error:
                self._note_invalid(stream, entry, str(error))
            except Exception as error:  # noqa: BLE001 - one entry must not end the board
                self._note_invalid(stream, entry, type(error).__name__)

    def _note_invalid(self, stream: str, entry: StreamEntry, why: str) -> None:
        """Count an entry that is malformed; log the first one of each stream and reason."""
        self._live.malformed += 1
        if (stream, why) not in self._logged:
            self._logged.add((stream, why))
            log.warning("market.entry_invalid", stream=stream, entry=entry.id.decode(), why=why)

    def _note_failure(self, what: str, error: Exception) -> str:
        """Log an error of ours, the first one of its type; return in words what can't be read."""
        name = type(error).__name__
        if (what, name) not in self._logged:
            self._logged.add((what, name))
            log.error("market.feed_failed", of=what, exc_info=error)
        return f"{what} can't be read: {name}"

    def _take_bar(self, one: BarRow, at: float) -> None:
        if self._live.take_bar(one, at):
            topic = name_topic(TopicKind.BARS, one.symbol, one.timeframe)
            wider = name_topic(TopicKind.BARS, one.timeframe)
            body = dump_compact(describe_bar(one.cells))
            self._hub.publish(topic, body, subject=f"{topic}:{one.start}", wider=wider)

    def _take_quote(self, one: QuoteRow, _at: float) -> None:
        if self._live.take_quote(one, time.time()):
            topic = name_topic(TopicKind.QUOTES, one.symbol)
            self._hub.publish(topic, encode_quote(one.cells), wider=TopicKind.QUOTES)
            self._fresh_quotes[one.symbol] = one.cells

    def _take_values(self, one: IndicatorRow, _at: float) -> None:
        if self._live.take_values(one):
            topic = name_topic(TopicKind.INDICATORS, one.symbol, one.timeframe)
            self._hub.publish(topic, dump_compact(describe_values(one)), subject=f"{topic}:{one.start}")

    async def _poll(self) -> None:
        """Read the states every POLL_SEC; log when they can't be read, and when they can again."""
        while True:
            problem = await self._refresh_states()
            if self.problem is None and problem is not None and self.has_market:
                log.warning("market.feed_away", reason=problem)
            elif self.problem is not None and problem is None:
                log.info("market.feed_back")
            self.problem = problem
            await asyncio.sleep(POLL_SEC)

    async def _refresh_states(self) -> str | None:
        """Read the states, and keep fresh quotes in Redis; return why the market can't be followed."""
        names = list_market_buses(self._me.truth)
        if not names:
            self.states = MarketStates()
            return NO_MARKET
        try:
            bus = self._me.bus(names[0])
            await self._read_states(bus)
            fresh, self._fresh_quotes = self._fresh_quotes, {}
            await self.kept_quotes.write(dict(itertools.islice(fresh.items(), QUOTES_AT_ONCE)))
            with contextlib.suppress(BusError):  # no archive reads this bus: keep what is known of its lag
                backlog = await read_backlog(bus, CHECKED_BARS, find_archive_group(self._me.truth))
                self._live.archived_at = _bound_time(backlog.acknowledged_at, time.time())
        except BusError as error:
            return f"bus {error.bus} does not answer: {error.reason}"
        except Exception as error:  # noqa: BLE001 - what others wrote must not end the board
            return self._note_failure("the states of the market", error)
        if len(names) > 1:
            return (
                f"the market is on {' and '.join(names)}, and only {names[0]} is followed: put it on one bus"
            )
        return next(iter(self._unread.values()), None)

    async def _read_states(self, bus: Bus) -> None:
        """Read the states of series, sources and gate, and pass on what changed. Raises BusError."""
        pipe = bus.pipeline()
        pipe.hgetall(MARKET_SERIES)
        pipe.hgetall(MARKET_SOURCES)
        pipe.get(PRELOAD_STATUS)
        raw_series, raw_sources, raw_gate = await bus.ask(pipe.execute(), max_bytes=STATE_BYTES)
        series, broken = self._known_series.parse(raw_series)
        sources, more = self._known_sources.parse(raw_sources)
        breakers = await _read_breakers(bus, series, sources)
        sources = add_breakers(sources, breakers)
        broken += more
        if broken and not self.states.broken:
            log.warning("market.states_invalid", states=broken)
        by_symbol: dict[str, tuple[StoredSeries, ...]] = {}
        for one in (each for each in series if not each.is_separate):
            by_symbol[one.symbol] = (*by_symbol.get(one.symbol, ()), one)
        known = {one.id: one for one in self.states.series}
        for one in series:
            before = known.get(one.id)
            if before is not one and before != one:
                topic = TopicKind.SERIES
                self._hub.publish(topic, dump_compact(one.as_json()), subject=f"{topic}:{one.id}")
        self.states = MarketStates(series, sources, parse_gate(raw_gate), broken, time.time(), by_symbol)


def _parse_row(stream: str, entry: StreamEntry, now: float) -> Any:
    """Return the row of the archive that an entry becomes. Raises EntryError."""
    return make_row(stream, entry.id, require_fields(entry), now)[1]


def require_fields(entry: StreamEntry) -> Fields:
    """Return the fields of an entry. Raises EntryError for one that is too long to be read."""
    if entry.fields is None:
        raise EntryError("too long")
    return entry.fields


async def _read_newest(bus: Bus, stream: str) -> list[StreamEntry]:
    entries: list[StreamEntry] = []
    before = b"+"
    while len(entries) < SEED_ENTRIES:
        page = await read_entries_before(bus, stream, before, count=SEED_ENTRIES - len(entries))
        if not page:
            break
        entries += page
        before = b"(" + page[-1].id
    return entries[::-1]


async def _has_all(bus: Bus, stream: str, count: int) -> bool:
    """Return True if no more than `count` entries were ever added to a stream; False if that is unknown."""
    try:
        found = await bus.ask(bus.client.xinfo_stream(stream))
    except BusError:  # it shows two entries, which may be of any length
        return False
    return int(found.get("entries-added", count + 1)) <= count


def _bound_time(at: float, now: float) -> float:
    """Return the time of an id; `now` for one that is far ahead, after which nothing would seem to be new."""
    return at if at <= now + DAY_SEC else now


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
