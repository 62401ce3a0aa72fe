"""The verdicts that a bus is still to take, oldest first, and how many of them are kept. Pure.

A bus may refuse for a day while services flap. Up to `limit` verdicts all are kept. Beyond that, what is
superseded goes: an outage that began and ended while the bus took nothing, of which nobody was told. What is
left is bounded by the number of services: the end of an outage that people know of, the beginning of one that
lasts, and a service that was dropped or seen for the first time.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Final

from marketswarm.detector import Publication, State, Verdict
from marketswarm.monitor.remember import field_of
from marketswarm.monitor.untold import Pending

LEAST: Final = 10_000


def bound(services: int) -> int:
    """Return how many verdicts are kept of so many services: one death and one recovery of each."""
    return max(LEAST, 2 * services)


class Backlog:
    """An ordered queue. `superseded` counts the verdicts that were dropped since others supersede them."""

    def __init__(self, limit: int = LEAST) -> None:
        self.limit = limit
        self.superseded = 0
        self._waiting: OrderedDict[int, Pending] = OrderedDict()
        self._fields: Counter[str] = Counter()  # how many verdicts there are by roster field
        self._last: dict[str, int] = {}  # by roster field, the key of what was added last
        self._offered: set[int] = set()  # the bus may have taken these, and its answer was lost
        self._key = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Pending]:
        return iter(self._waiting.values())

    @property
    def fields(self) -> Collection[str]:
        """The roster fields of all that waits, as they are at any time: a view, no copy."""
        return self._fields.keys()

    def put(self, pending: Pending) -> None:
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

    def put_first(self, pending: Iterable[Pending]) -> None:
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

    def drop(self, pending: Collection[Pending]) -> None:
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
