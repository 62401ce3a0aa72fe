"""When each feed is due. Pure; times are in seconds, chance is passed in as numbers in [0, 1).

Each feed has a place of its own in its period, by a hash of what it is, on a grid of the wall clock: a
thousand feeds of one period are spread over it, before and after a restart, on one instance or on three.
A first reading does not wait for that; only many first readings keep apart.

Who waits for which host, and whose turn it is: a few at once, a pause between. Pure; times in seconds.
"""

import hashlib
import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

FIRSTS_PER_SEC: Final = 20.0
JITTER: Final = 0.05
"""Of a period: so much later by chance, so that the grid of a thousand fleets is nobody's burst."""
SLOWEST: Final = 8.0
"""A feed that fails again and again is read so many periods apart at most,"""
SLOWEST_SEC: Final = 3600.0
"""or so many seconds, if that is not less than its period."""


def place_of(feed: str) -> float:
    """Where in its period a feed is read, in [0, 1)."""
    return int.from_bytes(hashlib.sha256(feed.encode("utf-8", "replace")).digest()[:6]) / 2**48


def next_at(feed: str, read_at: float, every_sec: float, chance: float) -> float:
    """When the reading after the one at `read_at` is due: half to one and a half periods later.

    Both in epoch seconds.
    """
    behind = (read_at + every_sec / 2 - place_of(feed) * every_sec) % every_sec
    return read_at + every_sec / 2 + (every_sec - behind) % every_sec + JITTER * chance * every_sec


def slowed(every_sec: float, fails: int) -> float:
    """The period of a feed that failed so many times in a row."""
    most = max(every_sec, min(SLOWEST * every_sec, SLOWEST_SEC))
    return float(min(every_sec * 2 ** min(max(0, fails - 1), 10), most))


@dataclass(frozen=True, slots=True, order=True)
class _Due:
    at: float
    feed: str


class Schedule:
    """What is due, soonest first. Each feed is in it once: what is put again replaces what was there."""

    def __init__(self) -> None:
        self._heap: list[_Due] = []
        self._at: dict[str, float] = {}

    def __contains__(self, feed: str) -> bool:
        return feed in self._at

    def put(self, feed: str, at: float) -> None:
        """This feed is due then."""
        self._at[feed] = at
        heapq.heappush(self._heap, _Due(at, feed))

    def due(self, now: float) -> list[str]:
        """Takes out what is due."""
        found = []
        while self._heap and (self._heap[0].at <= now or self._is_stale(self._heap[0])):
            first = heapq.heappop(self._heap)
            if not self._is_stale(first):
                del self._at[first.feed]
                found.append(first.feed)
        return found

    def next_at(self) -> float:
        """When the next one is due; infinity when there is none."""
        while self._heap and self._is_stale(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0].at if self._heap else float("inf")

    def keep(self, feeds: Iterable[str]) -> None:
        """Forgets all others."""
        kept = set(feeds)
        self._at = {feed: at for feed, at in self._at.items() if feed in kept}
        self._heap = [_Due(at, feed) for feed, at in self._at.items()]
        heapq.heapify(self._heap)

    def _is_stale(self, one: _Due) -> bool:
        return self._at.get(one.feed) != one.at


NEVER: Final = float("inf")
REMEMBERED: Final = 2_000


@dataclass(slots=True)
class _Host:
    busy: int = 0
    free_at: float = 0.0
    waiting: deque[str] = field(default_factory=deque)


class Hosts:
    """The queues of all hosts. Whatever is handed out by `take` comes back by `done`."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._waiting: OrderedDict[str, None] = OrderedDict()  # the next host first

    def wait(self, host: str, feed: str) -> None:
        """A feed wants its turn."""
        self._hosts.setdefault(host, _Host()).waiting.append(feed)
        self._waiting.setdefault(host)

    def take(self, now: float, at_once: int, spacing_sec: float) -> tuple[str, str] | None:
        """The next feed that may be read now, after its host; or None."""
        for name in self._waiting:
            host = self._hosts[name]
            if host.busy < at_once and host.free_at <= now:
                host.busy += 1
                host.free_at = now + spacing_sec
                feed = host.waiting.popleft()
                self._waiting.move_to_end(name)
                if not host.waiting:
                    del self._waiting[name]
                return name, feed
        return None

    def done(self, host: str, now: float, pause_sec: float = 0.0) -> None:
        """A reading of this host is over; the host wants to be left alone for so long."""
        found = self._hosts.setdefault(host, _Host(busy=1))
        found.busy -= 1
        found.free_at = max(found.free_at, now + pause_sec) if pause_sec else found.free_at
        if len(self._hosts) > REMEMBERED:
            self._hosts = {
                name: one for name, one in self._hosts.items() if one.busy or one.waiting or one.free_at > now
            }

    def next_at(self, now: float, at_once: int) -> float:
        """When a pause ends that someone waits for; NEVER when nobody waits for a pause alone."""
        pauses = (
            max(now, self._hosts[name].free_at) for name in self._waiting if self._hosts[name].busy < at_once
        )
        return min(pauses, default=NEVER)

    def forget(self) -> None:
        """Nobody waits any more; pauses and what is under way stay."""
        for host in self._hosts.values():
            host.waiting.clear()
        self._waiting.clear()
