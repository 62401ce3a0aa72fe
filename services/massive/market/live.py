"""Market data as it happens: connect, be let in, put what is told on the stream, fill what was missed.

One connection at a time, and one order of things in it: a frame is read when the one before is on the bus. So
a bus that is slow makes us slow, and never large; who is too slow is cut off, and what it missed is a gap.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from marketswarm.agent import Agent
from services.massive.market.errors import Ended, RestError, pause_sec
from services.massive.market.gaps import Gap, Gaps
from services.massive.market.protocol import AGE_MS, ProtocolMachine
from services.massive.market.publish import BarStore
from services.massive.market.settings import MarketSettings
from services.massive.market.status import MarketStatus

if TYPE_CHECKING:
    from services.massive.market.rest import Rest
    from services.massive.market.stream import StreamConnection

STEADY_SEC: Final = 30.0
GAPS_AT_ONCE: Final = 4
QUIET_LOOK_SEC: Final = 60.0
TOO_MANY: Final = "http_429"
ANSWER_WITHIN_SEC: Final = 10.0


def now_ms() -> float:
    """Milliseconds since the epoch, by this machine."""
    return 1000 * time.time()


class LiveSource:
    """The live source, until cancelled. `want` takes effect on the connection that is there."""

    def __init__(
        self,
        me: Agent[Any],
        wishes: MarketSettings,
        places: tuple[str, str],
        key: SecretStr,
        standing: MarketStatus,
    ) -> None:
        self._me, self._wishes, self._key, self._standing = me, wishes, key, standing
        self._rest_url, self._ws_url = places
        self._shelf = BarStore(me, standing, now_ms)
        self._gaps, self._idle, self._asked_ms = Gaps(0, 0, 0), False, 0.0
        self._changed, self._gap_opened = asyncio.Event(), asyncio.Event()

    def want(self, wishes: MarketSettings) -> None:
        """From now on these symbols; all else that `wishes` says is as it was."""
        self._wishes = wishes
        self._changed.set()

    async def run(self) -> None:
        """Connect, again and again."""
        from services.massive.market.rest import Rest  # noqa: PLC0415 - see these modules
        from services.massive.market.stream import StreamConnection  # noqa: PLC0415

        async with Rest(self._rest_url, self._key) as rest:
            while True:
                begun = asyncio.get_running_loop().time()
                try:
                    async with StreamConnection(self._ws_url, self._key) as wire:
                        reason = await self._connection(wire, rest)
                except Ended as ended:
                    reason = ended.reason
                steady = self._standing.streaming and asyncio.get_running_loop().time() - begun > STEADY_SEC
                self._standing.over(reason, steady=steady)
                self._say()
                pause = pause_sec(reason, self._standing.failures, random.random())
                self._me.log.warning("market.disconnected", reason=reason, again_sec=round(pause, 1))
                await asyncio.sleep(pause)

    async def _connection(self, wire: "StreamConnection", rest: "Rest") -> str:
        """One connection, from the greeting on; why it ended. Raises Ended."""
        from services.massive.market.stream import authenticate  # noqa: PLC0415 - loaded by now

        wishes = self._wishes
        machine = ProtocolMachine(wishes.symbols, odd=self._standing.odd)
        self._gaps = Gaps(1000 * wishes.delay_sec, 1000 * wishes.settle_sec, 1000 * wishes.backfill_sec)
        self._asked_ms = now_ms()
        await authenticate(wire, machine, ANSWER_WITHIN_SEC)
        self._standing.began()
        self._me.log.info("market.streaming", symbols=len(wishes.symbols), connects=self._standing.connects)
        self._changed.set()  # what was wished meanwhile
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._follow(wire, machine)),
                group.create_task(self._fill_gaps(rest)),
                group.create_task(self._mark_the_quiet()),
            ]
            reason = await self._hear(wire, machine)
            for task in beside:
                task.cancel()
        return reason

    async def _hear(self, wire: "StreamConnection", machine: ProtocolMachine) -> str:
        """Take what is told; why that ended."""
        while True:
            self._idle = True
            try:
                frame = await wire.read()
            except Ended as ended:
                return ended.reason
            self._idle = False
            heard = machine.receive(frame, now_ms())
            if heard.held:
                await self._hold(heard.held)
            if heard.bars:
                await self._shelf.put(heard.bars, self._gaps.heard(heard.bars), self._wishes.keep)
            if self._shelf.in_doubt:
                await self._hold(sorted(machine.held))
            self._say(machine)
            if heard.over:
                return heard.over

    async def _hold(self, symbols: Sequence[str]) -> None:
        """The bars of these are told from now on: what of them was missed?"""
        at, self._shelf.in_doubt = now_ms(), False
        marks = await self._shelf.marks(symbols)
        fresh = [self._gaps.held(sym, marks.get(sym), at, self._asked_ms) for sym in symbols]
        await self._shelf.put([], [mark for mark in fresh if mark is not None], self._wishes.keep)
        self._gap_opened.set()

    async def _follow(self, wire: "StreamConnection", machine: ProtocolMachine) -> None:
        """Ask for what the truth wants now."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._gaps.forget(sorted(machine.held.difference(self._wishes.symbols)))
            for ask in machine.want(self._wishes.symbols):
                self._asked_ms = now_ms()
                await wire.ask(ask)
            self._say(machine)

    async def _fill_gaps(self, rest: "Rest") -> None:
        """Fill what is due, a few at once."""
        await self._shelf.prune(now_ms() - AGE_MS)
        while True:
            await self._fill_due(rest)
            self._say()
            self._gap_opened.clear()
            try:
                async with asyncio.timeout(self._gaps.next_sec(now_ms())):
                    await self._gap_opened.wait()
            except TimeoutError:
                continue

    async def _fill_due(self, rest: "Rest") -> None:
        done, failures = Counter[str](), list[str]()
        while due := self._gaps.due(now_ms())[:GAPS_AT_ONCE]:
            await asyncio.gather(*(self._fill(rest, gap, done, failures) for gap in due))
        if failures:
            self._me.log.warning("market.unfilled", gaps=len(failures), reason=failures[-1])
        if done["filled"]:
            counts = {name: done[name] for name in ("bars", "new", "cut")}
            self._me.log.info("market.filled", gaps=done["filled"], **counts)

    async def _fill(self, rest: "Rest", gap: Gap, done: Counter[str], failures: list[str]) -> None:
        try:
            bars = [] if gap.is_empty else await rest.bars(gap)
        except RestError as error:
            pause = error.pause_sec or pause_sec(error.word, self._gaps.tries(gap) + 1, random.random())
            self._gaps.failed(gap, now_ms(), pause)
            if error.word == TOO_MANY:
                self._gaps.put_off(now_ms(), pause)
            self._standing.unfilled = error.word
            failures.append(error.word)
            return
        new = await self._shelf.put(bars, [], self._wishes.keep)
        await self._shelf.put([], self._gaps.filled(gap), self._wishes.keep)
        self._standing.unfilled = None
        done.update(filled=1, bars=len(bars), new=new, cut=gap.cut)

    async def _mark_the_quiet(self) -> None:
        """While nothing is told marks would grow old, and be forgotten."""
        while True:
            await asyncio.sleep(QUIET_LOOK_SEC)
            if self._idle:  # else there is something told that is not on the bus
                await self._shelf.put([], self._gaps.quiet(now_ms()), self._wishes.keep)

    def _say(self, machine: ProtocolMachine | None = None) -> None:
        if machine is not None:
            self._standing.symbols, self._standing.unheld = len(self._wishes.symbols), machine.unheld
        self._standing.gaps = self._gaps.open
        self._me.set_degraded(self._standing.trouble(), part="market")
