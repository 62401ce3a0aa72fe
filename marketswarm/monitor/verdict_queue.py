"""Verdicts that are pending for a bus, and those that the bus took recently. Pure.

`VerdictQueue` holds pending verdicts, oldest first. A bus may refuse for a day while services flap. Up to
`limit` verdicts all are kept. Beyond that, the queue drops outages that began and ended while the bus took
nothing, because no reader knows of them. The rest is bounded by the number of services: the end of an outage
that people know of, the beginning of an outage that lasts, and a service that was dropped or seen for the
first time.

`find_unpublished` is for a process that stands by. It reaches the same verdicts as the leader, a moment
earlier or later, and keeps them until the roster shows that the leader published them. If the leader had the
time to publish a verdict and did not, the leader concluded otherwise, and its conclusion counts.

`RecentWrites` holds the verdicts that a bus took recently, because a failover or a crash loses the newest
writes. A bus that kept a write kept all earlier ones. So of the verdicts on one service those are lost that
came after the one that the roster holds now. They are published again, in their order, so that in the end the
roster holds the last of them. It does no harm to publish a verdict again that another process published.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from marketswarm.detector import Publication, State, Subject, Verdict
from marketswarm.monitor.encoder import deletes_entry, roster_field
from marketswarm.monitor.roster_entry import RosterEntry

MIN_QUEUE_LIMIT: Final = 10_000
GONE: Final = 0
"""The key of no verdict."""

LEADER_HAD_TIME_SEC: Final = 2.0
"""A leader that was alive this long after a verdict of ours had the time to publish the same."""
CLOCK_TOLERANCE_SEC: Final = 2.0
"""The greatest difference between the times of the same verdict in two healers."""

RECENT_SEC: Final = 60.0
"""A bus may lose writes that it took up to this long before a gap."""
KEPT_SEC: Final = 2 * RECENT_SEC
"""How long a write is kept here, because a gap is detected some time after it began."""


class PendingVerdict(NamedTuple):  # made in a third of the time of a frozen dataclass
    """A verdict and the time at which it was concluded, in monotonic seconds.

    `is_local_loss` is True for the loss of a bus that the leader still heard and wrote to, shortly before it
    was concluded or while it lasted: then only this process lost its connection to the bus.
    """

    verdict: Verdict
    at: float
    is_local_loss: bool = False


def compute_queue_limit(services: int) -> int:
    """Return the number of verdicts to keep for this number of services: two each, at least 10,000."""
    return max(MIN_QUEUE_LIMIT, 2 * services)


class VerdictQueue:
    """An ordered queue of pending verdicts. `superseded` counts the verdicts that were dropped at `limit`.

    While services come up faster than their verdicts are published, all of these are here. So what is kept
    beside each verdict is little: a number in the order, and the number of the last one by its field.
    """

    def __init__(self, limit: int = MIN_QUEUE_LIMIT) -> None:
        self.limit = limit
        self.superseded = 0
        self._pending: dict[int, PendingVerdict] = {}
        self._order: deque[int] = deque()  # their keys, oldest first, and keys of some that are gone
        # by roster field, the key of the verdict that was added last; `GONE` if only earlier ones are left
        self._last: dict[str, int] = {}
        self._more: Counter[str] = Counter()  # by field, how many there are beyond one
        self._offered: set[int] = set()  # the bus may have taken these, and its answer was lost
        self._key = 0

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[PendingVerdict]:
        return (self._pending[key] for key in self._keys())

    @property
    def fields(self) -> Collection[str]:
        """A live view of the roster fields of all pending verdicts."""
        return self._last.keys()

    def add(self, pending: PendingVerdict) -> None:
        """Add a verdict at the end; at the limit, drop it together with a last verdict that it cancels out.

        At the limit, a gap is dropped, too.
        """
        verdict = pending.verdict
        field = roster_field(verdict)
        if len(self._pending) >= self.limit:
            last = self._last.get(field, GONE)
            if verdict.gap_sec is not None:  # an outage that began and ended, published in retrospect
                self.superseded += 1
                return
            may_be_known = last == GONE or last in self._offered
            if not may_be_known and cancel_out(self._pending[last].verdict, verdict):
                self._remove([last])
                self.superseded += 2
                return
        self._order.append(self._store(field, pending))
        self._last[field] = self._key

    def add_first(self, pending: Iterable[PendingVerdict]) -> None:
        """Keep the order of the added verdicts."""
        for one in reversed(list(pending)):
            field = roster_field(one.verdict)
            self._order.appendleft(self._store(field, one))
            self._last[field] = self._last.get(field) or self._key

    def _store(self, field: str, pending: PendingVerdict) -> int:
        """Store a verdict under a new key, and return that; its place in the order is the caller's part."""
        self._key += 1
        self._pending[self._key] = pending
        if field in self._last:
            self._more[field] += 1
        return self._key

    def _keys(self) -> Iterator[int]:
        """Yield the keys of all verdicts, oldest first."""
        return (key for key in self._order if key in self._pending)

    def next_batch(self, at_most: int) -> list[Verdict]:
        """Return the oldest verdicts, `at_most` so many and only one for each roster field.

        Mark them as offered.

        If an answer is lost, the same batch is offered again. The script recognises each verdict as published
        already only if no later verdict on the same service was in the batch.
        """
        batch: dict[str, Verdict] = {}
        for key in islice(self._keys(), at_most):
            verdict = self._pending[key].verdict
            field = roster_field(verdict)
            if field in batch:
                break
            batch[field] = verdict
            self._offered.add(key)
        return list(batch.values())

    def pop_oldest(self, count: int) -> list[Verdict]:
        """Remove the oldest verdicts, so many, and return them, because the bus has them."""
        return self._remove(list(islice(self._keys(), count)))

    def adopt_reach_gap(self, entry: RosterEntry) -> None:
        """Replace each queued gap of reach that `entry` shows as published by the gap that is published.

        `entry` is what the roster of another bus holds. So the gap has the same id on both buses.
        """
        since, mark = entry.since, entry.mark
        if since is None or mark is None or entry.ts <= since:
            return
        for key, one in self._pending.items():
            if one.verdict.subject is Subject.REACH and _is_gap_published(one, entry):
                gap_sec = entry.ts - since
                verdict = one.verdict._replace(ts=entry.ts, since=since, gap_sec=gap_sec, event_id=mark)
                self._pending[key] = one._replace(verdict=verdict)

    def mark_local_losses(self, leader_heard_bus_at: Callable[[str], float]) -> None:
        """Mark the losses of buses that last, if the leader has heard the bus since they were concluded.

        `leader_heard_bus_at` returns when that was last, in monotonic seconds.
        """
        for key in self._last.values():
            if key == GONE:
                continue
            one = self._pending[key]
            is_loss = one.verdict.subject is Subject.BUS and one.verdict.state is State.DOWN
            if is_loss and not one.is_local_loss and leader_heard_bus_at(one.verdict.svc) > one.at:
                self._pending[key] = one._replace(is_local_loss=True)

    def remove(self, pending: Collection[PendingVerdict]) -> None:
        """Remove verdicts that another process published."""
        gone = {id(one) for one in pending}
        self._remove([key for key, one in self._pending.items() if id(one) in gone])

    def withdraw_miss(self, field: str) -> bool:
        """Remove the miss with this roster field; return False if it is not the only verdict with that."""
        key = self._last.get(field, GONE)
        if key == GONE or field in self._more or key in self._offered:
            return False
        if self._pending[key].verdict.state is not State.DOWN:
            return False
        self._remove([key])
        return True

    def _remove(self, keys: Sequence[int]) -> list[Verdict]:
        """Remove the verdicts that have these numbers in the queue, and return them."""
        removed = [self._pending.pop(key).verdict for key in keys]
        self._offered.difference_update(keys)
        for key, verdict in zip(keys, removed, strict=True):
            field = roster_field(verdict)
            if field not in self._more:
                del self._last[field]
                continue
            self._more[field] -= 1
            if not self._more[field]:
                del self._more[field]
            if self._last[field] == key:
                self._last[field] = GONE
        while self._order and self._order[0] not in self._pending:
            self._order.popleft()
        if len(self._order) > MIN_QUEUE_LIMIT + 2 * len(self._pending):
            self._order = deque(self._keys())
        if not self._pending:  # what had many entries stays as large until it is cleared
            self._order = deque()
            self._pending.clear()
            self._last.clear()
            self._more.clear()
            self._offered.clear()
        return removed


def cancel_out(first: Verdict, second: Verdict) -> bool:
    """Return True if two verdicts in a row on one service need no publication, if neither is published.

    A miss and the ok after it cancel out, and so do the first verdict on a service and its removal. An ok and
    the miss after it do not, because the ok ends an outage that people know of.
    """
    if first.event_id is not None or second.event_id is not None:
        return False
    if second.state is State.UNWATCHED:
        return second.publication is not Publication.LOG and _is_first(first)
    return first.state is State.DOWN and second.state is State.UP and not _is_first(first)


def _is_first(verdict: Verdict) -> bool:
    if verdict.state is State.DOWN:
        return verdict.reason == "never_seen"
    return verdict.state is State.UP and verdict.down_sec is None


# -- standing by


def find_unpublished(
    pending: Sequence[PendingVerdict],
    entry: RosterEntry | None,
    *,
    compared_ts: float | None,
    leader_seen_at: float,
) -> list[PendingVerdict]:
    """Return those of the pending verdicts on one service or bus that the leader has not published yet.

    An ok is left out as well if the leader, after it had heard the same, has published that the service is
    down.

    Args:
        entry: what the roster holds of the service or bus now.
        compared_ts: the `ts` of the entry at the comparison before this one; None if there was none.
        leader_seen_at: when the leader was last seen alive, in monotonic seconds.
    """
    unpublished = [one for one in pending if one.verdict.event_id is None]
    gaps = [
        one
        for one in pending
        if one.verdict.event_id is not None
        and not _is_gap_published(one, entry)
        and leader_seen_at <= one.at + LEADER_HAD_TIME_SEC
    ]
    has_changed = _has_changed(unpublished, entry, compared_ts)
    if has_changed and len(unpublished) == 1 and _has_ended(unpublished[0].verdict, entry):
        unpublished = []
    elif unpublished and (has_changed or len(unpublished) == 1):
        # the entry may be the last of several transitions: those before it are published then, too
        last = max((n for n, one in enumerate(unpublished, 1) if _matches(one.verdict, entry)), default=0)
        unpublished = unpublished[last:]
    elif (
        unpublished
        and _matches(unpublished[-1].verdict, entry)
        and _leader_saw_nothing(unpublished, leader_seen_at)
    ):
        unpublished = []  # an outage that came and went
    if unpublished and entry is not None and _is_ok_outdated(unpublished[-1].verdict, entry):
        unpublished = []
    return sorted((*unpublished, *gaps), key=lambda one: one.at)


def is_local_loss(verdict: Verdict, leader_heard_bus_at: float, now: float) -> bool:
    """Return True if a verdict is the loss of a bus that the leader still hears.

    If the bus were really away, the leader's last write would be a whole timeout old; a write within half a
    timeout proves that it is not.

    Args:
        leader_heard_bus_at: when the leader was last seen to write to the bus while it heard it.
        now: monotonic seconds, like `leader_heard_bus_at`.
    """
    is_loss = verdict.subject is Subject.BUS and verdict.state is State.DOWN
    return is_loss and verdict.timeout_sec is not None and now - leader_heard_bus_at < verdict.timeout_sec / 2


def _leader_saw_nothing(unpublished: Sequence[PendingVerdict], leader_seen_at: float) -> bool:
    """Return True if the leader had time to publish the outage and did not, or each loss in it was local."""
    losses = [one for one in unpublished if one.verdict.state is State.DOWN]
    had_time = leader_seen_at > unpublished[-1].at + LEADER_HAD_TIME_SEC
    return had_time or (bool(losses) and all(one.is_local_loss for one in losses))


def _has_changed(
    unpublished: Sequence[PendingVerdict], entry: RosterEntry | None, compared_ts: float | None
) -> bool:
    """Return True if the leader published a verdict on the service since our first pending verdict.

    A service without an entry, which never had one, has not changed, because a bus that was never lost has
    none either. If this entry was never compared before, compare its `ts` (the writer's wall clock) with our
    first pending verdict.
    """
    if any(one.verdict.state is State.UNWATCHED for one in unpublished):
        return True
    if entry is None:
        return compared_ts is not None
    if compared_ts is None:
        return bool(unpublished) and entry.ts >= unpublished[0].verdict.ts - CLOCK_TOLERANCE_SEC
    return entry.ts != compared_ts


def _is_gap_published(one: PendingVerdict, entry: RosterEntry | None) -> bool:
    """Return True if the roster shows that this gap is published, or that the leader listened during it."""
    if entry is None:
        return False
    # if a verdict was published since the gap began, its publisher listened then and knows better
    was_listened = one.verdict.since is not None and entry.ts > one.verdict.since
    return was_listened or entry.mark == one.verdict.event_id


def _is_ok_outdated(ok: Verdict, entry: RosterEntry) -> bool:
    """Return True if the entry is a miss that the leader concluded after it had heard what our ok is about.

    Beats that waited while this process stood still are dated when they are read, so their own numbers tell.
    Where the two are of different processes of the service, the times do, if they differ by more than the
    clocks of two healers may.
    """
    if ok.state is not State.UP or ok.subject is not Subject.SERVICE or entry.verdict is not State.DOWN:
        return False
    if entry.boot is None or entry.boot != ok.boot or entry.i is None or ok.i is None:
        return entry.ts > ok.ts + CLOCK_TOLERANCE_SEC
    # a failure may be noticed with the beat that ends it
    return entry.i > ok.i or (entry.i == ok.i and entry.reason() != "failed")


def _has_ended(miss: Verdict, entry: RosterEntry | None) -> bool:
    """Return True if the entry is the end of the outage that a miss of a job begins.

    Both are of one report or one scheduled time, by the clocks of two healers.
    """
    if entry is None or entry.ended is None or miss.down_since is None or miss.state is not State.DOWN:
        return False
    is_same = abs(entry.ended - miss.down_since) <= CLOCK_TOLERANCE_SEC
    return entry.verdict is State.UP and is_same and entry.ts >= miss.down_since


def _matches(verdict: Verdict, entry: RosterEntry | None) -> bool:
    """Return True if the roster's entry has the state of this verdict.

    Without an entry, return True if the verdict needs none.
    """
    if entry is None:
        # a service that is not watched has no entry, nor has a bus that was never lost
        return verdict.state is State.UNWATCHED or (
            verdict.subject is not Subject.SERVICE and verdict.state is State.UP
        )
    return entry.verdict is verdict.state


# -- recent writes


class RecentWrites:
    """Verdicts that one bus took recently, oldest first, with the monotonic times.

    At most `limit` are kept; `dropped` counts those that were dropped beyond that.
    """

    def __init__(self, limit: int = MIN_QUEUE_LIMIT) -> None:
        self.limit = limit
        self.dropped = 0
        self._trimmed: deque[tuple[Any, ...]] = deque()
        self._times: deque[float] = deque()  # of each of them; those of one batch share one value

    def record(self, verdicts: Sequence[Verdict], now: float) -> None:
        """Record that the bus took verdicts at `now`, in monotonic seconds; drop those that are too old."""
        self._trimmed += [verdict.trim() for verdict in verdicts]
        self._times += [now] * len(verdicts)
        self.drop_old(now)
        while len(self._trimmed) > self.limit:
            self._drop_oldest()
            self.dropped += 1

    def drop_old(self, now: float) -> None:
        """Drop the verdicts that the bus took more than 120 s ago."""
        self._drop_before(now - KEPT_SEC)

    def _drop_before(self, at: float) -> None:
        while self._times and self._times[0] < at:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._trimmed.popleft()
        self._times.popleft()

    def clear(self) -> None:
        """Drop all recorded verdicts, because another process writes to the bus now."""
        self._trimmed.clear()
        self._times.clear()

    def find_doubtful_fields(self, gap_began_at: float) -> list[str]:
        """Return the roster fields whose writes the bus may have lost in a gap that began at `gap_began_at`.

        Writes older than 60 s before the gap are dropped.
        """
        self._drop_before(gap_began_at - RECENT_SEC)
        return list(dict.fromkeys(roster_field(Verdict(*each)) for each in self._trimmed))

    def find_lost(
        self, entries: Mapping[str, RosterEntry | None], queued: Iterable[Verdict]
    ) -> list[Verdict]:
        """Return the verdicts that the bus took and does not hold, oldest first.

        Args:
            entries: the roster's present entry for each field in doubt.
            queued: the queued verdicts; the bus may have taken one whose answer was lost.
        """
        verdicts = [Verdict(*each) for each in self._trimmed]
        later = _group_by_field(queued)
        gone: set[int] = set()
        for field, taken in _group_by_field(verdicts).items():
            both = (*taken, *later.get(field, ()))
            known = max((n for n, one in enumerate(both, 1) if _holds(entries.get(field), one)), default=0)
            gone |= {id(verdict) for verdict in taken[known:]}
        return [verdict for verdict in verdicts if id(verdict) in gone]


def _group_by_field(verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(roster_field(verdict), []).append(verdict)
    return found


def _holds(entry: RosterEntry | None, verdict: Verdict) -> bool:
    """Return True if the roster's entry is that of this verdict; without an entry, if it needs none."""
    if entry is None:
        return deletes_entry(verdict)
    return entry.verdict is verdict.state and entry.ts == round(verdict.ts, 3)
