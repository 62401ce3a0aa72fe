"""Makes verdicts public: on the log, in the roster, in `health:`, and on the channel, in one step.

A verdict that a bus does not take waits here, in order, and is offered again until it does: only what was
accepted counts as told. Offering one twice is harmless, since the script looks whether it is already so.
While another listener leads, verdicts wait until the roster shows that it told them; see `untold.py`. What a
bus took and did not keep is told again, under the same id; see `lately.py`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.liveness import Verdict
from marketswarm.scripts import Script
from marketswarm.vigil.lately import Lately
from marketswarm.vigil.remember import field_of, read_entry
from marketswarm.vigil.untold import Entry, Pending, is_its_own, untold
from marketswarm.vigil.voice import NOT_THE_LEADER, UNFENCED, Fence, Voice

AT_ONCE: Final = 100
LOG_LENGTH: Final = 100_000
FIRST_PAUSE_SEC: Final = 0.1
LONGEST_PAUSE_SEC: Final = 1.0
COMPARE_EVERY_SEC: Final = 0.25
COMPLAIN_EVERY: Final = 30
"""Attempts between two log lines on a bus that takes nothing: one in half a minute."""

CHANNEL_REFUSED: Final = (2, 4)
"""What the script says of a verdict that is on the log, but could not be published."""
UNREADABLE: Final = (3, 4)
"""What it says of a verdict that it told although it could not read what the roster holds."""

_TELL: Final = Script.beside("marketswarm.vigil", "tell.lua")

log = logs.get("tell")


@dataclass(frozen=True, slots=True)
class Notice:
    """One verdict as the script takes it; see tell.lua for the meaning of each."""

    field: str
    verdict: str
    value: bytes
    event: bytes
    channel: str
    health_key: str
    health_sec: int
    assumed: Literal["unknown", "up"] = "unknown"
    mark: str = ""

    def args(self) -> list[str | bytes | float]:
        """The script's values, in its order."""
        names = (self.field, self.assumed, self.verdict, self.mark)
        return [*names, self.value, self.event, self.channel, self.health_sec]


class Outbox:
    """What is still to be told on one bus, oldest first.

    Args:
        bus: where it is told.
        listener: whose roster and lease there count: `healer`, `sentinel`.
        stream: the key of the durable log.
        write: makes a verdict's notice; only when it is offered, since very many may wait.
        told: called with each verdict that the bus has, be it from an earlier offer.
        voice: who may speak.
        take_over: called before the first offer after another one led, with what is untold; what it raises
            of a BusError puts off the offer.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        listener: str,
        stream: str,
        write: Callable[[Verdict], Notice],
        told: Callable[[Verdict], None],
        voice: Voice,
        take_over: Callable[[Fence, Collection[str]], Awaitable[None]],
    ) -> None:
        self.bus = bus
        self._roster = f"{listener}:roster"
        self._keys = [f"{listener}:lease", self._roster, stream]
        self._write = write
        self._told = told
        self._voice = voice
        self._take_over = take_over
        self._spoken: Fence | None = UNFENCED
        """The fence of the last taking over; who is alone has none to do."""
        self._waiting: deque[Pending] = deque()
        self._before: dict[str, float] = {}
        """By field: the `ts` of the entry that what is pending was held against last."""
        self._lately = Lately()
        self._gap: float | None = None
        """When the gap began after which nobody has looked yet what the bus still holds."""
        self._filled = asyncio.Event()
        self.retries = 0
        self.refusal: str | None = None  # why the bus takes nothing, while it takes nothing

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, verdict: Verdict) -> None:
        """Adds a verdict; never blocks and never drops one."""
        now = time.monotonic()
        its_own = is_its_own(verdict, self._voice.leader_hears(verdict.svc), now)
        self._waiting.append(Pending(verdict, now, its_own))
        self._filled.set()

    def wake(self) -> None:
        """Says that who leads here has changed."""
        self._filled.set()

    def doubt(self, gap: float) -> None:
        """Says that the bus is back; until `gap`, in monotonic seconds, it was known to be well."""
        self._gap = gap if self._gap is None else min(gap, self._gap)
        self._filled.set()

    def inherit(self, other: "Outbox") -> None:
        """Takes over what another outbox had still to tell: the bus's address has changed."""
        self._waiting.extendleft(reversed(other._waiting))  # noqa: SLF001 - of the same class
        if self._waiting:
            self._filled.set()

    async def run(self) -> None:
        """Tells until cancelled."""
        failures = 0
        while True:
            await self._filled.wait()
            try:
                await self._work_off()
            except BusError as error:
                if failures % COMPLAIN_EVERY == 0:
                    log.warning(
                        "tell.waiting", bus=self.bus.name, reason=error.reason, waiting=len(self._waiting)
                    )
                self.retries += 1
                self.refusal = error.reason
                await asyncio.sleep(min(FIRST_PAUSE_SEC * 2 ** min(failures, 8), LONGEST_PAUSE_SEC))
                failures += 1
            else:
                failures, self.refusal = 0, None

    async def _work_off(self) -> None:
        fence = self._voice.fence(self.bus.name)
        if fence != self._spoken:
            self._lately.forget()
        if fence is None:
            self._spoken = None
            await self._compare()
            if self._waiting:
                await asyncio.sleep(COMPARE_EVERY_SEC)
            else:
                self._filled.clear()
        elif fence != self._spoken:
            # only now is the roster what it is: whoever led before is fenced off
            await self._compare()
            await self._take_over(fence, {field_of(one.verdict) for one in self._waiting})
            self._before.clear()
            self._spoken = fence
        else:
            await self._look_back()
            await self._offer(fence)

    async def _look_back(self) -> None:
        """Puts what the bus took and did not keep before what waits."""
        gap, self._gap = self._gap, None
        if gap is None:
            return
        try:
            entries = await self._entries(self._lately.doubtful(gap))
        except BusError:
            self.doubt(gap)
            raise
        lost = self._lately.lost(entries, [one.verdict for one in self._waiting])
        if lost:
            log.warning("tell.lost", bus=self.bus.name, count=len(lost))
        now = time.monotonic()
        self._waiting.extendleft(Pending(verdict, now) for verdict in reversed(lost))

    async def _compare(self) -> None:
        """Drops what the leader told."""
        pending: dict[str, list[Pending]] = {}
        for one in self._waiting:
            pending.setdefault(field_of(one.verdict), []).append(one)
        told: set[int] = set()
        before, self._before = self._before, {}
        for field, entry in (await self._entries(list(pending))).items():
            left = self._left(pending[field], entry, before.get(field))
            told |= {id(one) for one in pending[field]} - {id(one) for one in left}
            if entry is not None and left:
                self._before[field] = entry.get("ts", 0.0)
        self._waiting = deque(one for one in self._waiting if id(one) not in told)

    async def _entries(self, fields: Sequence[str]) -> dict[str, Entry | None]:
        """What the roster holds of each."""
        found: dict[str, Entry | None] = {}
        for start in range(0, len(fields), AT_ONCE):
            some = fields[start : start + AT_ONCE]
            values = await self.bus.ask(self.bus.client.hmget(self._roster, some))
            found |= {
                field: None if value is None else read_entry(value)
                for field, value in zip(some, values, strict=True)
            }
        return found

    def _left(self, pending: list[Pending], entry: Entry | None, before: float | None) -> list[Pending]:
        seen = self._voice.leader_seen(self.bus.name)
        return untold(pending, entry, before=before, leader_seen=seen)

    async def _offer(self, fence: Fence) -> None:
        while self._waiting:
            some = [self._write(verdict) for verdict in self._next()]
            keys = [*self._keys, *(notice.health_key for notice in some)]
            args = [*fence, LOG_LENGTH, *(arg for notice in some for arg in notice.args())]
            outcomes = await self.bus.script(_TELL, keys, args)
            if outcomes == NOT_THE_LEADER:
                self._voice.turned_away(self.bus.name)
                return
            for notice, outcome in zip(some, outcomes, strict=True):
                verdict = self._waiting.popleft().verdict
                self._lately.take(verdict, time.monotonic())
                self._told(verdict)
                if outcome in CHANNEL_REFUSED:
                    log.error("tell.channel_refused", bus=self.bus.name, channel=notice.channel)
                if outcome in UNREADABLE:
                    log.error("tell.entry_unreadable", bus=self.bus.name, field=notice.field)
        self._filled.clear()

    def _next(self) -> list[Verdict]:
        """The oldest verdicts, but never two on one service or bus.

        An answer that got lost makes us offer a batch again; the script knows each of its verdicts as told
        only while no later one on the same went along.
        """
        some: dict[str, Verdict] = {}
        for one in islice(self._waiting, AT_ONCE):
            field = field_of(one.verdict)
            if field in some:
                break
            some[field] = one.verdict
        return list(some.values())
