"""The verdicts that a bus is still to take, oldest first, and how many of them are kept. Pure.

A bus may refuse for a day while services flap. Up to `limit` verdicts all are kept. Beyond that, what is
superseded goes: an outage that began and ended while the bus took nothing, of which nobody was told. What is
left is bounded by the number of services: the end of an outage that people know of, the beginning of one that
lasts, and a service that was dropped or seen for the first time.

What a bus took lately, should it forget: a failover, or a crash, loses the last of what was written. Pure.

What is written later is never there without what was written before it. So of the verdicts on one service
those are lost that came after the one that the roster holds now, and they may be told again, in their order:
in the end the roster holds the last of them, as it did. To tell again what somebody else told is harmless.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

from marketswarm.detector import Publication, State, Verdict
from marketswarm.monitor.standby import PendingVerdict
from marketswarm.monitor.store import Entry, field_of

LEAST: Final = 10_000


RECENT_SEC: Final = 60.0
"""How long before a gap a bus may have taken what it did not keep."""
KEPT_SEC: Final = 2 * RECENT_SEC
"""A gap begins before somebody notices it, and what was told meanwhile may be lost."""


def bound(services: int) -> int:
    """Return how many verdicts are kept of so many services: one death and one recovery of each."""
    return max(LEAST, 2 * services)


class VerdictQueue:
    """An ordered queue. `superseded` counts the verdicts that were dropped since others supersede them."""

    def __init__(self, limit: int = LEAST) -> None:
        self.limit = limit
        self.superseded = 0
        self._waiting: OrderedDict[int, PendingVerdict] = OrderedDict()
        self._fields: Counter[str] = Counter()  # how many verdicts there are by roster field
        self._last: dict[str, int] = {}  # by roster field, the key of what was added last
        self._offered: set[int] = set()  # the bus may have taken these, and its answer was lost
        self._key = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[PendingVerdict]:
        return iter(self._waiting.values())

    @property
    def fields(self) -> Collection[str]:
        """The roster fields of all that waits, as they are at any time: a view, no copy."""
        return self._fields.keys()

    def put(self, pending: PendingVerdict) -> None:
        """Add a verdict behind all others; at the limit, drop it with the one that it supersedes."""
        verdict = pending.verdict
        field = field_of(verdict)
        if len(self._waiting) >= self.limit:
            last = self._last.get(field)
            if verdict.gap_sec is not None:  # an outage that began and ended, told in retrospect
                self.superseded += 1
                return
            known = last is None or last in self._offered
            if last is not None and not known and cancels(self._waiting[last].verdict, verdict):
                self._remove(last)
                self.superseded += 2
                return
        self._key += 1
        self._waiting[self._key] = pending
        self._fields[field] += 1
        self._last[field] = self._key

    def put_first(self, pending: Iterable[PendingVerdict]) -> None:
        """Add verdicts, in their order, before all others."""
        for one in reversed(list(pending)):
            self._key += 1
            self._waiting[self._key] = one
            self._waiting.move_to_end(self._key, last=False)
            field = field_of(one.verdict)
            self._fields[field] += 1
            self._last.setdefault(field, self._key)

    def next(self, at_most: int) -> list[Verdict]:
        """Return the oldest verdicts, but never two on one service or bus, and note that they are offered.

        An answer that got lost makes us offer a batch again; the script knows each of its verdicts as told
        only while no later one on the same went along.
        """
        some: dict[str, Verdict] = {}
        for key, one in islice(self._waiting.items(), at_most):
            field = field_of(one.verdict)
            if field in some:
                break
            some[field] = one.verdict
            self._offered.add(key)
        return list(some.values())

    def taken(self) -> Verdict:
        """Remove the oldest one and return it: the bus has it."""
        key, one = next(iter(self._waiting.items()))
        self._remove(key)
        return one.verdict

    def drop(self, pending: Collection[PendingVerdict]) -> None:
        """Remove these: somebody else told them."""
        gone = {id(one) for one in pending}
        for key in [key for key, one in self._waiting.items() if id(one) in gone]:
            self._remove(key)

    def _remove(self, key: int) -> None:
        one = self._waiting.pop(key)
        self._offered.discard(key)
        field = field_of(one.verdict)
        self._fields[field] -= 1
        if not self._fields[field]:
            del self._fields[field]
        if self._last.get(field) == key:
            del self._last[field]


def cancels(first: Verdict, second: Verdict) -> bool:
    """Return True if two verdicts in a row on one thing leave nothing to tell when nobody knows the first.

    So it is with a miss and the ok that ends it, and with a service that was seen or missed for the first
    time and then dropped. An ok and the next miss are no such pair: the ok ends what people know of.
    """
    if first.event_id is not None or second.event_id is not None:
        return False
    if second.state is State.UNWATCHED:
        return second.publication is not Publication.LOG and _is_first(first)
    return first.state is State.DOWN and second.state is State.UP and not _is_first(first)


def _is_first(verdict: Verdict) -> bool:
    """Whether nothing was stored of the service before it."""
    if verdict.state is State.DOWN:
        return verdict.reason == "never_seen"
    return verdict.state is State.UP and verdict.down_sec is None


class RecentWrites:
    """Verdicts that one bus took, oldest first, with the monotonic time.

    At most `limit` are kept in mind; `dropped` counts those that went since there were more.
    """

    def __init__(self, limit: int = LEAST) -> None:
        self.limit = limit
        self.dropped = 0
        self._taken: deque[tuple[float, Verdict]] = deque()

    def take(self, verdict: Verdict, now: float) -> None:
        """The bus took it."""
        self._taken.append((now, verdict))
        while self._taken[0][0] < now - KEPT_SEC:
            self._taken.popleft()
        while len(self._taken) > self.limit:
            self._taken.popleft()
            self.dropped += 1

    def forget(self) -> None:
        """Somebody else speaks there."""
        self._taken.clear()

    def doubtful(self, gap: float) -> list[str]:
        """The roster's fields to be looked at, the bus having been well until `gap`."""
        while self._taken and self._taken[0][0] < gap - RECENT_SEC:
            self._taken.popleft()
        return list(_by_field(verdict for _, verdict in self._taken))

    def lost(self, entries: Mapping[str, Entry | None], waiting: Iterable[Verdict]) -> list[Verdict]:
        """What the bus took and does not hold, oldest first.

        Args:
            entries: what the roster holds now of each field that is doubtful.
            waiting: what it has yet to take; it may have taken that, and only the answer was lost.
        """
        later = _by_field(waiting)
        gone: set[int] = set()
        for field, taken in _by_field(verdict for _, verdict in self._taken).items():
            both = (*taken, *later.get(field, ()))
            known = max((n for n, one in enumerate(both, 1) if _holds(entries.get(field), one)), default=0)
            gone |= {id(verdict) for verdict in taken[known:]}
        return [verdict for _, verdict in self._taken if id(verdict) in gone]


def _by_field(verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(field_of(verdict), []).append(verdict)
    return found


def _holds(entry: Entry | None, verdict: Verdict) -> bool:
    if entry is None:  # or it never had one; but nobody asks after who is watched no more
        return verdict.state is State.UNWATCHED
    return entry.verdict is verdict.state and entry.ts == round(verdict.ts, 3)
