"""Makes verdicts public: on the log, in the roster, in `health:`, and on the channel, in one step.

A verdict that a bus does not take waits here, in order, and is offered again until it does: only what was
accepted counts as told. Offering one twice is harmless, since the script looks whether it is already so.
While another listener leads, verdicts wait until the roster shows that it told them; see `untold.py`. What a
bus took and did not keep is told again, under the same id; see `lately.py`.

How many events the log of alerts keeps: a death and a recovery of all services, and what is unread.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import is_wrong_type, replace_wrong_types
from marketswarm.detector import Verdict
from marketswarm.keys import monitor_lease_key, roster_key
from marketswarm.monitor.leadership import NOT_THE_LEADER, UNFENCED, Fence, Leadership
from marketswarm.monitor.standby import PendingVerdict, find_unpublished, is_its_own
from marketswarm.monitor.store import Entry, field_of, parse_entry
from marketswarm.monitor.verdict_queue import RecentWrites, VerdictQueue, bound
from marketswarm.net.retry import Backoff
from marketswarm.time_slice import TimeSlice

AT_ONCE: Final = 100
BACKOFF: Final = Backoff(first_sec=0.1, longest_sec=1.0)
COMPARE_EVERY_SEC: Final = 0.25
SAY_EVERY_SEC: Final = 30.0
COMPLAIN_EVERY: Final = 30
"""Attempts between two log lines on a bus that takes nothing: one in half a minute."""

CHANNEL_REFUSED: Final = (2, 4)
"""What the script says of a verdict that is on the log, but could not be published."""
UNREADABLE: Final = (3, 4)
"""What it says of a verdict that it told although it could not read what the roster holds."""

_TELL: Final = Script.beside("marketswarm.monitor", "publish.lua")

log = logs.get("tell")


LEAST: Final = 100_000
EVENTS_EACH: Final = 3
"""Per service: its miss, its ok, and room for what else happens meanwhile."""
MOST: Final = 2
"""Times the length without unread events; a group of readers that never comes back must not fill the bus."""
ROOM: Final = 1_000
ASK_EVERY_SEC: Final = 1.0
ASK_WITHIN_SEC: Final = 0.5
COMPLAIN_EVERY_SEC: Final = 30.0


@dataclass(frozen=True, slots=True)
class EncodedVerdict:
    """One verdict as the script takes it; see publish.lua for the meaning of each."""

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


class LogLength:
    """The length of the log on one bus, as the services and the unread events want it."""

    def __init__(self, stream: str, services: int = 0) -> None:
        self.services = services
        self.unread = 0
        """Events that the group with the most of them has not acknowledged, when it was asked last."""
        self._stream = stream
        self._asked_at = float("-inf")
        self._said_at = float("-inf")

    @property
    def most(self) -> int:
        """The length beyond which unread events are trimmed, too."""
        return MOST * length_for(self.services)

    @property
    def overflows(self) -> bool:
        """Whether unread events are being trimmed."""
        return self.unread >= self.most

    async def current(self, bus: Bus) -> int:
        """Return the length to trim the log to; asks the bus for its groups of readers once a second."""
        now = time.monotonic()
        if now - self._asked_at >= ASK_EVERY_SEC:
            self._asked_at = now
            self.unread = await self._ask(bus)
            if self.overflows and now - self._said_at >= COMPLAIN_EVERY_SEC:
                self._said_at = now
                log.error("tell.log_full", bus=bus.name, unread=self.unread, kept=self.most)
        return min(max(length_for(self.services), self.unread + ROOM), self.most)

    async def _ask(self, bus: Bus) -> int:
        try:
            groups = await bus.ask(bus.client.xinfo_groups(self._stream), ASK_WITHIN_SEC)
            return max(map(_unread, groups), default=0)
        except BusError:
            return self.unread  # there is no log yet, or the offer that follows tells why not


class Publisher:
    """What is still to be told on one bus, oldest first.

    Args:
        bus: where it is told.
        listener: whose roster and lease there count: `healer`, `sentinel`.
        stream: the key of the durable log.
        log_length: how long that log is to be.
        write: makes a verdict's notice; only when it is offered, since very many may wait.
        told: called with each verdict that the bus has, be it from an earlier offer.
        voice: who may speak.
        take_over: called before the first offer after another one led, with a view of the roster fields of
            all that is untold at any time; what it raises of a BusError puts off the offer.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        listener: str,
        stream: str,
        log_length: LogLength,
        write: Callable[[Verdict], EncodedVerdict],
        told: Callable[[Verdict], None],
        leadership: Leadership,
        take_over: Callable[[Fence, Collection[str]], Awaitable[None]],
    ) -> None:
        self.bus = bus
        self._roster = roster_key(listener)
        self._keys = [monitor_lease_key(listener), self._roster, stream]
        self.log_length = log_length
        self._write = write
        self._told = told
        self._leadership = leadership
        self._take_over = take_over
        self._spoken: Fence | None = UNFENCED
        """The fence of the last taking over; who is alone has none to do."""
        self._backlog = VerdictQueue()
        self._before: dict[str, float] = {}
        """By field: the `ts` of the entry that what is pending was held against last."""
        self._lately = RecentWrites()
        self._gap: float | None = None
        """When the gap began after which nobody has looked yet what the bus still holds."""
        self._filled = asyncio.Event()
        self._said_at = float("-inf")
        self._said = (0, 0)  # how many verdicts had been superseded and forgotten when that was logged
        self.retries = 0
        self.refusal: str | None = None  # why the bus takes nothing, while it takes nothing

    def __len__(self) -> int:
        return len(self._backlog)

    @property
    def superseded(self) -> int:
        """How many verdicts were dropped, since too many waited and later ones made up for them."""
        return self._backlog.superseded

    @property
    def forgotten(self) -> int:
        """How many verdicts that the bus took lately can't be told again, should it have lost them."""
        return self._lately.dropped

    def keep_for(self, services: int) -> None:
        """Keep as many verdicts in mind as so many services need."""
        self._backlog.limit = self._lately.limit = bound(services)

    def put(self, verdict: Verdict) -> None:
        """Add a verdict; never blocks, and drops none that is not superseded."""
        now = time.monotonic()
        its_own = is_its_own(verdict, self._leadership.leader_heard_bus_at(verdict.svc), now)
        self._backlog.put(PendingVerdict(verdict, now, its_own))
        self._filled.set()
        self._complain_of_bounds(now)

    def _complain_of_bounds(self, now: float) -> None:
        """Log that a bound is reached, at once and again while it is."""
        lost = self.superseded, self.forgotten
        if lost != self._said and now - self._said_at >= SAY_EVERY_SEC:
            self._said, self._said_at = lost, now
            log.warning(
                "tell.bound_reached",
                bus=self.bus.name,
                waiting=len(self._backlog),
                superseded=self.superseded,
                forgotten=self.forgotten,
            )

    def wake(self) -> None:
        """Says that who leads here has changed."""
        self._filled.set()

    def check_after_gap(self, gap: float) -> None:
        """Says that the bus is back; until `gap`, in monotonic seconds, it was known to be well."""
        self._gap = gap if self._gap is None else min(gap, self._gap)
        self._filled.set()

    def inherit(self, other: "Publisher") -> None:
        """Takes over what another outbox had still to tell: the bus's address has changed."""
        self._backlog.put_first(other._backlog)  # noqa: SLF001 - of the same class
        if self._backlog:
            self._filled.set()

    async def run(self) -> None:
        """Tells until cancelled."""
        failures = 0
        while True:
            await self._filled.wait()
            try:
                await self._work_off()
            except BusError as error:
                await self._replace_wrong_types(error)
                if failures % COMPLAIN_EVERY == 0:
                    log.warning(
                        "tell.waiting", bus=self.bus.name, reason=error.reason, waiting=len(self._backlog)
                    )
                self.retries += 1
                self.refusal = error.reason
                failures += 1
                await asyncio.sleep(BACKOFF.pause_sec(failures))
            else:
                failures, self.refusal = 0, None

    async def _replace_wrong_types(self, error: BusError) -> None:
        """If what somebody put under our keys keeps us from writing, remove it."""
        if is_wrong_type(error):
            lease, roster, stream = self._keys
            with contextlib.suppress(BusError):
                await replace_wrong_types(self.bus, {lease: "hash", roster: "hash", stream: "stream"})

    async def _work_off(self) -> None:
        fence = self._leadership.fence(self.bus.name)
        if fence != self._spoken:
            self._lately.forget()
        if fence is None:
            self._spoken = None
            await self._compare()
            if self._backlog:
                await asyncio.sleep(COMPARE_EVERY_SEC)
            else:
                self._filled.clear()
        elif fence != self._spoken:
            # only now is the roster what it is: whoever led before is fenced off
            await self._compare()
            await self._take_over(fence, self._backlog.fields)
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
            self.check_after_gap(gap)
            raise
        lost = self._lately.lost(entries, [one.verdict for one in self._backlog])
        if lost:
            log.warning("tell.lost", bus=self.bus.name, count=len(lost))
        now = time.monotonic()
        self._backlog.put_first([PendingVerdict(verdict, now) for verdict in lost])

    async def _compare(self) -> None:
        """Drops what the leader told."""
        pending: dict[str, list[PendingVerdict]] = {}
        for one in self._backlog:
            pending.setdefault(field_of(one.verdict), []).append(one)
        told: list[PendingVerdict] = []
        entries = await self._entries(list(pending))
        before, self._before, time_slice = self._before, {}, TimeSlice()
        for field, entry in entries.items():
            await time_slice.pause()
            left = self._left(pending[field], entry, before.get(field))
            still = {id(one) for one in left}
            told += [one for one in pending[field] if id(one) not in still]
            if entry is not None and left:
                self._before[field] = entry.ts
        self._backlog.drop(told)

    async def _entries(self, fields: Sequence[str]) -> dict[str, Entry | None]:
        """What the roster holds of each."""
        found: dict[str, Entry | None] = {}
        for start in range(0, len(fields), AT_ONCE):
            some = fields[start : start + AT_ONCE]
            values = await self.bus.ask(self.bus.client.hmget(self._roster, some))
            found |= {
                field: None if value is None else parse_entry(self.bus.name, self._roster, field, value)
                for field, value in zip(some, values, strict=True)
            }
        return found

    def _left(
        self, pending: list[PendingVerdict], entry: Entry | None, before: float | None
    ) -> list[PendingVerdict]:
        seen = self._leadership.leader_seen_at(self.bus.name)
        return find_unpublished(pending, entry, before=before, leader_seen_at=seen)

    async def _offer(self, fence: Fence) -> None:
        while self._backlog:
            length = await self.log_length.current(self.bus)
            some = [self._write(verdict) for verdict in self._next()]
            keys = [*self._keys, *(notice.health_key for notice in some)]
            args = [
                *fence,
                length,
                *(arg for notice in some for arg in notice.args()),
            ]
            outcomes = await self.bus.script(_TELL, keys, args)
            if outcomes == NOT_THE_LEADER:
                self._leadership.deny_leadership(self.bus.name)
                return
            for notice, outcome in zip(some, outcomes, strict=True):
                verdict = self._backlog.taken()
                now = time.monotonic()
                self._lately.take(verdict, now)
                self._complain_of_bounds(now)
                self._told(verdict)
                if outcome in CHANNEL_REFUSED:
                    log.error("tell.channel_refused", bus=self.bus.name, channel=notice.channel)
                if outcome in UNREADABLE:
                    log.error("tell.entry_unreadable", bus=self.bus.name, field=notice.field)
        self._filled.clear()

    def _next(self) -> list[Verdict]:
        return self._backlog.next(AT_ONCE)


def length_for(services: int) -> int:
    """Return the length of the log for a truth with so many services."""
    return max(LEAST, EVENTS_EACH * services)


def _unread(group: dict[str, Any]) -> int:
    lag, pending = group.get("lag"), group.get("pending")
    return sum(count for count in (lag, pending) if isinstance(count, int))
