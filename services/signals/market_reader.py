"""Read checked bars and splits from the archive, then from their streams, into what ticks are decided on."""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.bus.follower import StreamFollower, read_streams
from marketswarm.bus.stream import FIRST_ID, StreamTypes, entry_sort_key
from marketswarm.net.retry import Backoff
from marketswarm.postgres.errors import PostgresAwayError
from services.market.records import DAY_MS
from services.market.universe import LoadedSymbol
from services.signals.cycle.market import (
    AHEAD,
    AHEAD_MS,
    TOO_MANY_AHEAD,
    WINDOW,
    ArchivedBar,
    BarOutcome,
    MarketBars,
)
from services.signals.metrics import SignalsMetrics
from services.signals.sessions import SessionBook
from services.signals.settings import (
    SignalsSettings,
    find_actions,
    find_bars,
    find_separate,
    find_source_bars,
    find_symbols,
)
from services.signals.store.windows import SYMBOLS_AT_ONCE, WindowTables, is_of_tables

BATCH: Final = 2000
BLOCK_SEC: Final = 0.25
AWAY_SEC: Final = 0.5
"""The pause after an attempt to read the archive while it is away."""
RETRY: Final = Backoff(60.0, 3600.0)
"""The first and the longest pause, while it is there and does not let us read: each is twice as long."""
READ_BARS: Final = 2 * WINDOW
"""The bars of a symbol that are read: those of another session, which it had before, are left out."""
CHECK_SEC: Final = 1.0
"""How often it is asked whether a stream without new entries was created again."""
_BARS, _ACTIONS = 0, 1  # the places of their readers; that of bars by source is the third
READ_SEC: Final = 60.0
"""A time limit beyond that of a request, and of a tick that is decided meanwhile."""


class MarketReader:
    """Follow the streams of checked bars and of corporate actions by the truth in force.

    Where a voter is held to a source whose bars are loaded for themselves, follow the stream of those, too.

    Every process does, so each may lead at once. At first, and after a reseed with other symbols, sources or
    another timeframe, windows begin with the last bars of the archive, and the streams are read from their
    beginning: they hold less than a window of long bars. So they are once this machine's clock was behind, as
    before it was set after a boot, and has passed the bars that were left out as ahead of it: as many as a
    window holds wait for it.

    Attributes:
        market: the last bars of each symbol; read and changed under `lock` alone.
        symbols: what is decided on, with asset class and session.
        is_complete: whether the archive was read, and the streams to their ends since their beginnings.
    """

    def __init__(
        self,
        me: Agent[Any],
        settings_now: Callable[[], SignalsSettings],
        metrics: SignalsMetrics,
        windows: WindowTables,
    ) -> None:
        self._me, self._settings_now, self._metrics = me, settings_now, metrics
        self._windows, self._sessions = windows, SessionBook()
        self._separate: Collection[tuple[str, str]] = ()
        self._is_filled = False
        self._away: str | None = None
        self._unread, self._retry_at = 0, math.inf  # failures in a row while we may not read
        self.lock = asyncio.Lock()
        self.symbols: Mapping[str, LoadedSymbol] = {}
        self.market = MarketBars("1m", ())
        self.is_complete = False
        self._types = StreamTypes()
        self._asked: tuple[object, ...] | None = None
        self._followers: tuple[StreamFollower, ...] = ()  # of bars, of actions, maybe of bars by source
        self._logged = set[str]()
        self._ahead_ms = 0  # until when the clock is behind the bars that were refused; 0 if it is not

    @property
    def problem(self) -> str | None:
        """Why nothing can be read; None while the archive, where it is wanted, and the streams can be."""
        return self._away or self._types.problem

    async def read_next(self) -> None:
        """Take the entries of one read, and of earlier ones the bars that are known by now. Raises BusError.

        This does not wait for a tick: a process that stands by has none, and only so many bars may wait.
        """
        async with self._me.waiting(READ_SEC), self.lock:
            followers = self.follow()
        if not self._is_filled and not await self._fill(followers):
            await asyncio.sleep(AWAY_SEC)
            return
        await self._retry_archive()
        try:
            async with self._me.waiting(READ_SEC):
                keys = [each.stream for each in followers]
                usable = await self._types.find_streams(followers[0].bus, keys)
                reading = [each for each in followers if each.stream in usable]
                if not reading:
                    await asyncio.sleep(BLOCK_SEC)
                    return
                pages = await read_streams(reading, BATCH, BLOCK_SEC)
        except BusError as error:
            self._types.record(error)
            raise
        for follower, (_, loss) in zip(reading, pages, strict=True):
            if loss is not None:
                upto = None if loss.oldest is None else loss.oldest.decode()
                self._me.log.warning(
                    "bars.lost", stream=follower.stream, after=loss.after.decode(), upto=upto
                )
        async with self._me.waiting(READ_SEC), self.lock:
            if followers is self._followers:
                now_ms = time.time_ns() // 1_000_000
                for follower, (entries, _) in zip(reading, pages, strict=True):
                    place = followers.index(follower)
                    for entry in entries:
                        refused, added_ms = self._count_ahead(), entry_sort_key(entry.id)[0]
                        self._take(place, entry.fields, now_ms, added_ms)
                        if self._count_ahead() > refused:
                            self._note_ahead(added_ms, now_ms)
                self.market.advance(now_ms)
                is_behind = any(len(entries) >= BATCH for entries, _ in pages)
                is_whole = len(reading) == len(followers) and not is_behind
                self.is_complete = self.is_complete or is_whole

    def follow(self) -> tuple[StreamFollower, ...]:
        """Return the readers of bars, of actions and, where a voter sees such, of bars of one source.

        Begin anew if the truth asks for other ones, or bars are known by now that were refused as ahead. Call
        it under `lock`. `market` and `symbols` are then by that truth.
        """
        self._forget_position(time.time_ns() // 1_000_000)
        settings, point = self._settings_now(), find_bars(self._me.section)
        symbols, actions = find_symbols(settings, self._me.truth), find_actions(self._me.section)
        timeframe = settings.settings.timeframe
        sources = settings.sources
        separate = find_separate(settings, self._me.truth, symbols)
        own = (find_source_bars(self._me.section),) if separate else ()
        streams = point.key, actions, *own
        asked = point, streams, timeframe, sources, separate, tuple(symbols)
        self.symbols = symbols
        bus: Bus = self._me.bus(point.bus)
        if not self._followers or asked != self._asked or self._followers[0].bus is not bus:
            self._asked, self.is_complete, self._is_filled = asked, False, False
            self._separate, self._ahead_ms = separate, 0
            self.market = MarketBars(timeframe, symbols, sources, separate)
            self._followers = tuple(
                StreamFollower(bus, stream, FIRST_ID, check_sec=CHECK_SEC) for stream in streams
            )
        return self._followers

    def _forget_position(self, now_ms: int) -> None:
        """Have all read from the beginning once the clock has passed the bars refused as ahead of it."""
        if 0 < self._ahead_ms <= now_ms:
            self._me.log.info("bars.read_again", refused=self._count_ahead())
            self._asked = None

    def _count_ahead(self) -> int:
        return self.market.refusals[AHEAD] + self.market.refusals[TOO_MANY_AHEAD]

    def _note_ahead(self, at_ms: int, now_ms: int) -> None:
        """Note when the bus added a bar that was refused as ahead, or since when one of the archive is known.

        If that is ahead of the clock, too, this machine's clock is behind, and the bar is wanted once it has
        passed that. The writer of an entry chooses its id, so a later time than in a day counts as that.
        """
        if at_ms > now_ms + AHEAD_MS:
            self._ahead_ms = max(self._ahead_ms, min(at_ms, now_ms + DAY_MS))

    async def _fill(self, followers: tuple[StreamFollower, ...]) -> bool:
        """Have the windows of `followers` begin with bars of the archive; return False if it is away.

        If the archive does not let us read them, they begin with the streams alone, until it does.
        """
        try:
            await self._begin_windows(followers)
        except PostgresAwayError as error:
            if self._away is None:
                self._me.log.warning("windows.unread", why=str(error))
            self._away = f"bars of the archive not read: {error}"
            if not is_of_tables(error):
                return False
            self._unread += 1
            self._retry_at = time.monotonic() + RETRY.pause_sec(self._unread)
        else:
            if self._away is not None:
                self._away = None
                self._me.log.info("windows.read")
            self._unread, self._retry_at = 0, math.inf
        self._is_filled = followers is self._followers
        return True

    async def _begin_windows(self, followers: tuple[StreamFollower, ...]) -> None:
        """Read the last bars of the archive, and put them in their places. Raises PostgresAwayError."""
        market, symbols = self.market, dict(self.symbols)
        async with self._me.waiting(READ_SEC):
            await self._sessions.prepare({each.session or "" for each in symbols.values()})
        for at in range(0, len(market.symbols), SYMBOLS_AT_ONCE):
            some = market.symbols[at : at + SYMBOLS_AT_ONCE]
            separate = [each for each in self._separate if each[0] in some]
            async with self._me.waiting(READ_SEC):
                splits = await self._windows.read_splits(some)
            async with self._me.waiting(READ_SEC):
                bars = await self._windows.read_bars(some, market.timeframe, READ_BARS)
            async with self._me.waiting(READ_SEC):
                own = await self._windows.read_source_bars(separate, market.timeframe, READ_BARS)
            async with self._me.waiting(READ_SEC), self.lock:
                if followers is not self._followers:
                    return  # a reseed asks for other ones, which are not filled yet
                for symbol, ex_day in splits:
                    market.begin_with_split(symbol, ex_day)
                self._begin_with(bars, symbols, is_separate=False)
                self._begin_with(own, symbols, is_separate=True)

    async def _retry_archive(self) -> None:
        """If windows began without the archive, have them begin anew once it lets us read what they want."""
        if time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + RETRY.pause_sec(self._unread)
        timeframe, some = self.market.timeframe, self.market.symbols[:1]
        try:
            async with self._me.waiting(READ_SEC):
                await self._windows.read_splits(some)
            async with self._me.waiting(READ_SEC):
                await self._windows.read_bars(some, timeframe, 1)
            async with self._me.waiting(READ_SEC):
                await self._windows.read_source_bars((), timeframe, 1)
        except PostgresAwayError:
            return
        self._asked, self._retry_at = None, math.inf

    def _begin_with(
        self, bars: Sequence[ArchivedBar], symbols: Mapping[str, LoadedSymbol], *, is_separate: bool
    ) -> None:
        """Take archived bars, but none of days of another session, which a symbol may have had before."""
        now_ms, market = time.time_ns() // 1_000_000, self.market
        for each in bars:
            code = symbols[each.bar.symbol].session
            end_ms = self._sessions.find_end(code, each.bar.start_ms, market.timeframe)
            if end_ms is None:
                continue
            outcome = market.begin_with(each, end_ms, now_ms, is_separate=is_separate)
            if outcome is BarOutcome.REFUSED:
                self._note_ahead(max(end_ms, each.known_ms or end_ms), now_ms)

    def _take(self, place: int, fields: Mapping[bytes, bytes] | None, now_ms: int, added_ms: int) -> None:
        """Take an entry that came at `now_ms` (wall clock) of the stream at a place of `follow`.

        The bus added it at `added_ms`. One that can't be read is counted, and each reason is logged once.
        """
        if fields is None:
            self._metrics.bars_total["oversized"] += 1
            return
        refused = self.market.refusals.total()
        if place == _ACTIONS:
            outcome = self.market.take_action(fields)
        else:
            take = self.market.take if place == _BARS else self.market.take_separate
            outcome = take(fields, now_ms, added_ms)
        self._metrics.bars_total[outcome] += 1
        if self.market.refusals.total() > refused:
            for why in self.market.refusals.keys() - self._logged:
                self._logged.add(why)
                self._me.log.warning("bars.refused", why=why)
