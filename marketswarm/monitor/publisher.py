"""Publishing of verdicts on one bus: log, roster, `health:` key and channel, in one step of a script.

A verdict that a bus does not take stays in the queue, in order, and is offered again until the bus takes it.
It does no harm to offer a verdict twice, because the script checks whether it is published already. While
another process leads, verdicts stay queued until the roster shows that the leader published them. A verdict
that a bus took and lost again is published again, under the same id (`verdict_queue.py`).

`LogLength` says how many events the log of alerts keeps: a death and a recovery of every service, and beyond
that what its readers have not stored, as any other stream (`bus/stream_length.py`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.outage import Outage, retrying
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import replace_unusable
from marketswarm.bus.stream_length import ARCHIVE_READERS, MAX_LENGTH_RATIO, StreamLength
from marketswarm.detector import Publication, Subject, Verdict
from marketswarm.keys import ALERT_LOG, NOTIFIER_GROUP, monitor_lease_key, roster_key
from marketswarm.monitor.encoder import EncodedVerdict, roster_field
from marketswarm.monitor.leadership import NOT_THE_LEADER, UNFENCED, CallNumbers, Fence, Leadership
from marketswarm.monitor.roster_entry import RosterEntry, parse_entry
from marketswarm.monitor.verdict_queue import (
    PendingVerdict,
    RecentWrites,
    VerdictQueue,
    compute_queue_limit,
    find_unpublished,
    is_local_loss,
)
from marketswarm.pages import split_pages
from marketswarm.time_slice import StepSize, TimeSlice

BATCH_SIZE: Final = 250
"""The most verdicts in one call of the script: some milliseconds of the server's time, and of ours."""
LEAST_BATCH: Final = 25
"""The fewest verdicts in one call while more are queued, however slow this machine is."""
COMPARE_EVERY_SEC: Final = 0.25
LIMIT_LOGGED_EVERY_SEC: Final = 30.0

PUBLISHED: Final = 1
"""The greatest outcome of a verdict that met with no trouble."""
CHANNEL_REFUSED: Final = (2, 4)
"""Outcomes of a verdict that is on the log, but could not be published on the channel."""
ENTRY_UNREADABLE: Final = (3, 4)
"""Outcomes of a verdict that was published although the roster's entry could not be read."""

PUBLISH_SCRIPT: Final = Script.beside("marketswarm.monitor", "publish.lua")

MIN_LOG_LENGTH: Final = 100_000
EVENTS_PER_SERVICE: Final = 3
"""Events kept per service: its miss, its ok, and room for another one."""
LOG_FULL_EVERY_SEC: Final = 30.0

# before Python 3.12 an attribute of an enum takes as long as a call, and these are read for each verdict
_BUS, _REACH, _NOWHERE = Subject.BUS, Subject.REACH, Publication.NONE

log = logs.get("publish")


class LogLength:
    """The length to which the log of alerts on one bus is trimmed.

    Its readers are the notifier, by its group, and archive, by its positions. Other groups don't count: a
    user's rights can't name a group, so anyone who reads the log may have left one.

    `services` is the number of services whose events the log is for.
    """

    def __init__(self, services: int = 0) -> None:
        self.services = services
        self._length = StreamLength(ARCHIVE_READERS, groups=(NOTIFIER_GROUP,))
        self._full_logged_at = float("-inf")

    @property
    def unread(self) -> int | None:
        """Events that the notifier has not acknowledged, when the bus was asked last.

        None if the server did not know: an entry that a group has not read was deleted by XDEL, which
        publish.lua does on a full bus.
        """
        return self._length.unread_of.get(NOTIFIER_GROUP, 0)

    @property
    def max_length(self) -> int:
        """The length beyond which even unread events are trimmed."""
        return MAX_LENGTH_RATIO * compute_log_length(self.services)

    @property
    def is_overflowing(self) -> bool:
        """True if events go that the notifier has not read; archive says itself what it lost."""
        return self.unread is not None and self.unread >= self.max_length

    async def compute_length(self, bus: Bus) -> int:
        """Return the length to trim the log to; log at most every 30 s that unread events go."""
        length = await self._length.compute(bus, ALERT_LOG, compute_log_length(self.services))
        now = time.monotonic()
        if self.is_overflowing and now - self._full_logged_at >= LOG_FULL_EVERY_SEC:
            self._full_logged_at = now
            log.error("publish.log_full", bus=bus.name, unread=self.unread, kept=self.max_length)
        return length


PublishedVerdict = tuple[Verdict, bytes]
"""A verdict that the bus has, and its alert event as JSON.

The event is empty for a verdict that has none, and for one that is published nowhere.
"""


@dataclass(eq=False)
class Publisher:
    """Publishes verdicts on one bus, oldest first.

    Args:
        listener: the program whose roster and lease count on the bus: `healer` or `sentinel`.
        calls: numbers the calls of the script; all publishers of a process share it.
        encode: encodes a verdict; called only when the verdict is offered, since very many may be queued.
        take_over: called before the first offer after another process led, with the queued verdicts. A
            BusError that it raises postpones the offer.
        adopt_reach_gap: called before the first offer of a gap of reach under a fence, with the queued
            verdicts. A BusError that it raises postpones the offer.
    """

    bus: Bus
    listener: InitVar[str]
    log_length: LogLength
    calls: CallNumbers
    encode: Callable[[Verdict], EncodedVerdict]
    leadership: Leadership
    take_over: Callable[[Fence, VerdictQueue], Awaitable[None]]
    adopt_reach_gap: Callable[[VerdictQueue], Awaitable[None]]
    queue: VerdictQueue = field(default_factory=VerdictQueue)
    recent: RecentWrites = field(default_factory=RecentWrites)
    retries: int = 0
    """The number of failed attempts to publish on the bus, since the process began."""
    _is_gap_new: bool = False  # a gap of reach may be queued that was not offered under this fence
    _fence_in_use: Fence | None = UNFENCED
    """The fence under which the roster was taken over last; a sole leader has nothing to take over."""
    _step: StepSize = field(default_factory=lambda: StepSize(LEAST_BATCH, BATCH_SIZE))
    _compared: dict[str, float] = field(default_factory=dict)
    """By roster field, the `ts` of the entry that pending verdicts were compared with last."""
    _gap_began_at: float | None = None
    """When the gap began after which recent writes are yet to be compared (monotonic), or None."""
    _has_work: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while a step is due; only the beginning of a step clears it."""
    _limit_logged_at: float = float("-inf")
    _limit_logged: tuple[int, int] = (0, 0)  # superseded and forgotten verdicts in the last line about them

    def __post_init__(self, listener: str) -> None:
        self._roster = roster_key(listener)
        self._keys = [monitor_lease_key(listener), self._roster, ALERT_LOG]
        self._outage = Outage(log, "publish.waiting", "publish.resumed", waiting=self.queue.__len__)

    @property
    def refusal(self) -> str | None:
        """The reason of the last failed attempt, as `BusError` gives it; None after a successful one."""
        return self._outage.reason

    def __len__(self) -> int:
        return len(self.queue)

    def set_service_count(self, services: int) -> None:
        """Set the limits of the queue and of the recent writes for this number of services."""
        self.queue.limit = self.recent.limit = compute_queue_limit(services)

    def enqueue(self, verdict: Verdict) -> None:
        """Add a verdict to the queue, which never blocks and drops only superseded verdicts."""
        now = time.monotonic()
        subject = verdict.subject
        is_local = subject is _BUS and is_local_loss(
            verdict, self.leadership.leader_heard_bus_at(verdict.svc), now
        )
        self.queue.add(PendingVerdict(verdict, now, is_local))
        self._is_gap_new = self._is_gap_new or subject is _REACH
        self._has_work.set()
        if self.queue.superseded != self._limit_logged[0]:
            self._log_limits(now)

    def wake(self) -> None:
        """Check leadership and queue again, because the leadership on this bus has changed."""
        self._has_work.set()

    def check_after_gap(self, gap_began_at: float) -> None:
        """Have recent writes compared with the roster: the bus was away since `gap_began_at` (monotonic)."""
        before = self._gap_began_at
        self._gap_began_at = gap_began_at if before is None else min(gap_began_at, before)
        self._has_work.set()

    def take_over_queue(self, other: "Publisher") -> None:
        """Put the verdicts queued in another publisher before our own: the bus's address has changed."""
        self.queue.add_first(other.queue)
        if self.queue:
            self._has_work.set()

    async def run(self) -> AsyncIterator[list[PublishedVerdict]]:
        """Publish until cancelled.

        Yield the verdicts of each batch that the bus has now, from this offer or an earlier one.
        """
        async for attempt in retrying(self._outage):
            await self._has_work.wait()
            with attempt:
                try:
                    async for published in self.publish_queued():
                        yield published
                except BusError as error:
                    self.retries += 1
                    lease, roster, stream = self._keys
                    kinds = {lease: "hash", roster: "hash", stream: "stream"}
                    await replace_unusable(error, self.bus, kinds)
                    raise

    async def publish_queued(self) -> AsyncIterator[list[PublishedVerdict]]:
        """Take one step: offer the queue, take over as leader, or compare the queue with the leader's roster.

        Yield the verdicts of each batch that the bus has now. Raise BusError; verdicts that are not published
        stay queued.
        """
        fence = self.leadership.fence(self.bus.name)
        # first, so that what comes while this step waits for the bus is another step's
        self._has_work.clear()
        try:
            if fence != self._fence_in_use:
                self.recent.clear()
            if fence is None:
                self._fence_in_use = None
                self._gap_began_at = None  # the bus can have lost nothing of ours
                await self._drop_published()
                if self.queue:
                    await asyncio.sleep(COMPARE_EVERY_SEC)
            elif fence != self._fence_in_use:
                # the roster is final only now: the writes of the leader before are refused
                await self._drop_published()
                await self.take_over(fence, self.queue)
                self._compared.clear()
                self._fence_in_use, self._is_gap_new = fence, True
            else:
                await self._requeue_lost()
                async for published in self._offer_queue(fence):
                    yield published
        finally:
            if self.queue or self._gap_began_at is not None or fence != self._fence_in_use:
                self._has_work.set()

    async def _offer_queue(self, fence: Fence) -> AsyncIterator[list[PublishedVerdict]]:
        """Offer the queue, batch by batch, until it is empty or the bus knows another leader."""
        while self.queue:
            length = await self.log_length.compute_length(self.bus)
            if self._is_gap_new:
                await self._compare_gap()
            began = time.thread_time()  # what other programs take meanwhile, smaller steps would not spare
            batch = [self.encode(verdict) for verdict in self.queue.next_batch(self._step.size)]
            keys: list[str | bytes] = [*self._keys]
            args: list[str | bytes | float] = [*fence, self.calls.boot, self.calls.take(), length]
            for encoded in batch:
                keys.append(encoded.health_key)
                args += encoded[:-1]
            # half of a step's work comes after the answer
            self._step.note_step(len(batch), 2 * (time.thread_time() - began))
            outcomes = await self.bus.script(PUBLISH_SCRIPT, keys, args)
            if outcomes == NOT_THE_LEADER:
                self.leadership.deny_leadership(self.bus.name)
                return
            if isinstance(outcomes, bytes):  # a publisher of another bus on the same server was faster
                self.calls.skip(int(outcomes))
                return
            if max(outcomes) > PUBLISHED:
                for encoded, outcome in zip(batch, outcomes, strict=True):
                    if outcome in CHANNEL_REFUSED:
                        log.error("publish.channel_refused", bus=self.bus.name, channel=encoded.channel)
                    if outcome in ENTRY_UNREADABLE:
                        log.error("publish.entry_unreadable", bus=self.bus.name, field=encoded.field)
            now, verdicts = time.monotonic(), self.queue.pop_oldest(len(batch))
            self.recent.record(verdicts, now)
            self._log_limits(now)
            yield [
                (verdict, b"" if verdict.publication is _NOWHERE else encoded.event)
                for verdict, encoded in zip(verdicts, batch, strict=True)
            ]
            await asyncio.sleep(0)  # the turns of other tasks come between the end of a step and the next one

    async def _requeue_lost(self) -> None:
        """After a gap, put the verdicts that the bus took and lost before the queued ones. Raise BusError."""
        gap_began_at, self._gap_began_at = self._gap_began_at, None
        if gap_began_at is None:
            return
        try:
            entries = await self.load_entries(self.recent.find_doubtful_fields(gap_began_at))
        except BusError:
            self.check_after_gap(gap_began_at)
            raise
        lost = self.recent.find_lost(entries, [one.verdict for one in self.queue])
        if lost:
            log.warning("publish.lost", bus=self.bus.name, count=len(lost))
        now = time.monotonic()
        self.queue.add_first([PendingVerdict(verdict, now) for verdict in lost])

    async def _drop_published(self) -> None:
        """Drop the queued verdicts that the leader published, by its roster. Raise BusError."""
        self.queue.mark_local_losses(self.leadership.leader_heard_bus_at)
        pending: dict[str, list[PendingVerdict]] = {}
        for one in self.queue:
            pending.setdefault(roster_field(one.verdict), []).append(one)
        published: list[PendingVerdict] = []
        entries = await self.load_entries(list(pending))
        before, self._compared, time_slice = self._compared, {}, TimeSlice()
        for key, entry in entries.items():
            await time_slice.pause()
            left = find_unpublished(
                pending[key],
                entry,
                compared_ts=before.get(key),
                leader_seen_at=self.leadership.leader_seen_at(self.bus.name),
            )
            still = {id(one) for one in left}
            published += [one for one in pending[key] if id(one) not in still]
            if entry is not None and left:
                self._compared[key] = entry.ts
        self.queue.remove(published)

    async def _compare_gap(self) -> None:
        """Have a queued gap of reach compared with those that other healers published. Raise BusError."""
        self._is_gap_new = False
        try:
            await self.adopt_reach_gap(self.queue)
        except BusError:
            self._is_gap_new = True
            raise

    async def load_entries(self, fields: Sequence[str]) -> dict[str, RosterEntry | None]:
        """Read these fields of the roster of this bus; None for one that is missing or has no usable verdict.

        Raises BusError.
        """
        found: dict[str, RosterEntry | None] = {}
        for batch in split_pages(fields, BATCH_SIZE):
            values = await self.bus.ask(self.bus.client.hmget(self._roster, batch))
            found |= {
                key: None if value is None else parse_entry(self.bus.name, self._roster, key, value)
                for key, value in zip(batch, values, strict=True)
            }
        return found

    def _log_limits(self, now: float) -> None:
        """Log that verdicts were dropped at a limit, at once, and again every 30 s while more are."""
        dropped = self.queue.superseded, self.recent.dropped
        if dropped != self._limit_logged and now - self._limit_logged_at >= LIMIT_LOGGED_EVERY_SEC:
            self._limit_logged, self._limit_logged_at = dropped, now
            log.warning(
                "publish.bound_reached",
                bus=self.bus.name,
                waiting=len(self.queue),
                superseded=self.queue.superseded,
                forgotten=self.recent.dropped,
            )


def compute_log_length(services: int) -> int:
    """Return the events that the log keeps for so many services: three for each, at least 100,000."""
    return max(MIN_LOG_LENGTH, EVENTS_PER_SERVICE * services)
