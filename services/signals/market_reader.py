"""Read checked bars from their stream, from its beginning on, into the market that ticks are decided on."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.bus.follower import StreamFollower
from marketswarm.bus.stream import FIRST_ID, StreamTypes
from marketswarm.truth import AccessPoint
from services.market.records import Timeframe
from services.market.universe import LoadedSymbol
from services.signals.cycle.market import MarketBars
from services.signals.metrics import SignalsMetrics
from services.signals.settings import SignalsSettings, find_bars, find_symbols

BATCH: Final = 2000
BLOCK_SEC: Final = 0.25
CHECK_SEC: Final = 1.0
"""How often it is asked whether a stream without new entries was created again."""
READ_SEC: Final = 60.0
"""A time limit beyond that of a request, and of a tick that is decided meanwhile."""


class MarketReader:
    """Follow the stream of checked bars by the truth in force. Every process does, so each may lead at once.

    After a reseed with other symbols, sources or another timeframe, the stream is read from its beginning.

    Attributes:
        market: the last bars of each symbol; read and changed under `lock` alone.
        symbols: what is decided on, with asset class and session.
        is_complete: whether the stream was read to its end since its beginning.
    """

    def __init__(
        self,
        me: Agent[Any],
        settings_now: Callable[[], SignalsSettings],
        metrics: SignalsMetrics,
    ) -> None:
        self._me, self._settings_now, self._metrics = me, settings_now, metrics
        self.lock = asyncio.Lock()
        self.symbols: Mapping[str, LoadedSymbol] = {}
        self.market = MarketBars("1m", ())
        self.is_complete = False
        self._types = StreamTypes()
        self._asked: tuple[AccessPoint, Timeframe, frozenset[str], tuple[str, ...]] | None = None
        self._follower: StreamFollower | None = None
        self._logged = set[str]()

    @property
    def problem(self) -> str | None:
        """Why nothing can be read; None while the stream can be."""
        return self._types.problem

    async def read_next(self) -> None:
        """Take the entries of one read. Raises BusError."""
        async with self._me.waiting(READ_SEC), self.lock:
            follower = self.follow()
        try:
            async with self._me.waiting(READ_SEC):
                if not await self._types.find_streams(follower.bus, [follower.stream]):
                    await asyncio.sleep(BLOCK_SEC)
                    return
                entries, loss = await follower.read(BATCH, BLOCK_SEC)
        except BusError as error:
            self._types.record(error)
            raise
        if loss is not None:
            upto = None if loss.oldest is None else loss.oldest.decode()
            self._me.log.warning("bars.lost", stream=follower.stream, after=loss.after.decode(), upto=upto)
        async with self._me.waiting(READ_SEC), self.lock:
            if follower is self._follower:
                now_ms = time.time_ns() // 1_000_000
                for entry in entries:
                    self._take(entry.fields, now_ms)
                self.is_complete = self.is_complete or len(entries) < BATCH

    def follow(self) -> StreamFollower:
        """Return the reader of the stream that the truth names; begin anew if it asks for other bars.

        Call it under `lock`. `market` and `symbols` are then by that truth.
        """
        settings, point = self._settings_now(), find_bars(self._me.section)
        symbols = find_symbols(settings, self._me.truth)
        timeframe = settings.settings.timeframe
        sources = settings.sources
        asked = point, timeframe, sources, tuple(symbols)
        self.symbols = symbols
        bus: Bus = self._me.bus(point.bus)
        if self._follower is None or asked != self._asked or self._follower.bus is not bus:
            self._asked, self.is_complete = asked, False
            self.market = MarketBars(timeframe, symbols, sources)
            self._follower = StreamFollower(bus, point.key, FIRST_ID, check_sec=CHECK_SEC)
        return self._follower

    def _take(self, fields: Mapping[bytes, bytes] | None, now_ms: int) -> None:
        """Take an entry; one that can't be a bar is counted, and each reason is logged once."""
        if fields is None:
            self._metrics.bars_total["oversized"] += 1
            return
        refused = self.market.refusals.total()
        outcome = self.market.take(fields, now_ms)
        self._metrics.bars_total[outcome] += 1
        if self.market.refusals.total() > refused:
            for why in self.market.refusals.keys() - self._logged:
                self._logged.add(why)
                self._me.log.warning("bars.refused", why=why)
