"""Publish each bar (symbol, start) once, and store the marks up to which a symbol is complete.

Both are one step on the bus, so that a process may be killed anywhere. While the bus is down, the functions
here wait, and the beats say so. What the marks mean is in `gaps.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import orjson

from marketswarm.agent import Agent, point_like
from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import Script
from marketswarm.keys import MARKET_BARS, bar_marks_key, bars_seen_key
from marketswarm.truth import AccessPoint
from services.massive.market.bars import AHEAD_MS, Bar
from services.massive.market.gaps import Mark
from services.massive.market.settings import BACKFILL_AT_MOST_SEC
from services.massive.market.status import MarketStatus

PUBLISH: Final = Script.beside("services.massive.market", "publish.lua")
AT_ONCE: Final = 500
AGAIN_SEC: Final = 0.5
KEPT_SEC: Final = BACKFILL_AT_MOST_SEC + 2 * 86_400
"""What is known of a day outlives every bar of that day that may still come (`protocol.AGE_MS`)."""

T = TypeVar("T")


def place(me: Agent[Any]) -> AccessPoint:
    """Return the bus and key of the bars, by the truth in force."""
    return point_like(me.section.access_points.publish_to, "market-redis", MARKET_BARS)


class BarStore:
    """The stream of bars, with its marks and the bits that tell which bars are on it."""

    def __init__(
        self, me: Agent[Any], standing: MarketStatus, now_ms: Callable[[], float] = lambda: 1000 * time.time()
    ) -> None:
        self._me, self._standing, self._now_ms = me, standing, now_ms
        self.in_doubt = (
            False  # the bus forgot something, as one does that was killed: marks are to be read anew
        )

    async def put(self, bars: Sequence[Bar], marks: Sequence[Mark], keep: int) -> int:
        """Publish `bars` on a stream of about `keep` entries, then move `marks`; return how many were new.

        This waits for the bus as long as it takes. If it is cancelled, some bars may be published and no mark
        has moved; publishing all of them again repeats nothing.
        """
        new = 0
        for at in range(0, len(bars) or min(1, len(marks)), AT_ONCE):
            some = bars[at : at + AT_ONCE]
            moved = marks if at + AT_ONCE >= len(bars) else ()
            new += await self._patiently(partial(self._put, some, moved, keep))
        self._standing.told(bars, new, self._now_ms())
        return new

    async def marks(self, symbols: Sequence[str]) -> Mapping[str, int]:
        """Return the marks of the symbols that have one."""
        found = await self._patiently(partial(self._marks, "hmget", list(symbols)))
        return {sym: int(mark) for sym, mark in zip(symbols, found, strict=True) if mark and _is_mark(mark)}

    async def prune(self, before_ms: float) -> None:
        """Remove older marks, of symbols that were not wanted for so long."""
        found = await self._patiently(partial(self._marks, "hgetall"))
        old = [sym for sym, mark in found.items() if not _is_mark(mark) or int(mark) < before_ms]
        if old:
            await self._patiently(partial(self._marks, "hdel", *old))

    async def _marks(self, command: str, *words: Any) -> Any:
        bus, key = self._place()
        return await bus.ask(getattr(bus.client, command)(bar_marks_key(key), *words))

    async def _put(self, bars: Sequence[Bar], marks: Sequence[Mark], keep: int) -> int:
        bus, key = self._place()
        bits = list(dict.fromkeys(bars_seen_key(key, bar.sym, bar.day) for bar in bars))
        nth = {name: n for n, name in enumerate(bits, 3)}
        args: list[str | bytes | float] = [keep, KEPT_SEC, round(self._now_ms()) + AHEAD_MS, len(bars)]
        for bar in bars:
            pairs = [text for pair in bar.fields().items() for text in pair]
            args += [nth[bars_seen_key(key, bar.sym, bar.day)], bar.minute, orjson.dumps(pairs)]
        for mark in marks:
            args += [mark.sym, mark.was, mark.upto]
        new, behind = await bus.script(PUBLISH, [key, bar_marks_key(key), *bits], args)
        self.in_doubt = self.in_doubt or bool(behind)
        return int(new)

    def _place(self) -> tuple[Bus, str]:
        to = place(self._me)
        return self._me.bus(to.bus), to.key

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return the bus's answer, trying again until it comes."""
        while True:
            try:
                found = await work()
            except BusError as error:
                self._fails(f"{error.bus} {error.reason}")
                await asyncio.sleep(AGAIN_SEC)
            else:
                self._fails(None)
                return found

    def _fails(self, why: str | None) -> None:
        if why != self._standing.unpublished:
            if why is not None:
                self._me.log.warning("market.unpublished", why=why)
            self._standing.unpublished = why
            self._me.set_degraded(self._standing.trouble(), part="market")


def _is_mark(value: bytes) -> bool:
    return value.isdigit() and len(value) < 16
