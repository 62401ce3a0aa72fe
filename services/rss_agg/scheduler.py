"""Decide when each feed is due, and how many requests one host gets at a time. Pure.

Times are in seconds; random numbers are passed in, in [0, 1). Each feed has a place of its own in its period,
by a hash of its URL, on a grid of the wall clock, so that a thousand feeds of one period are spread over it,
before and after a restart, on one instance or on three. The first reading of a feed does not wait for its
place; many first readings are only spread by FIRST_READS_PER_SEC.
"""

import hashlib
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from marketswarm.due_queue import NEVER
from marketswarm.net.retry import Backoff

FIRST_READS_PER_SEC: Final = 20.0
JITTER: Final = 0.05
"""The share of a period by which a reading may be late, so that not all fleets read at the same moment."""
MAX_SLOWDOWN: Final = 8.0
"""The most periods between two readings of a feed that fails repeatedly."""
MAX_SLOWDOWN_SEC: Final = 3600.0
"""The most seconds between two readings of such a feed, unless its period is longer."""
MAX_HOSTS: Final = 2_000


def phase_of(feed: str) -> float:
    """Return a feed's place in its period, from 0 to below 1, by a hash of its URL."""
    return int.from_bytes(hashlib.sha256(feed.encode("utf-8", "replace")).digest()[:6]) / 2**48


def next_read_at(feed: str, read_at: float, every_sec: float, random: float) -> float:
    """Return when the reading after the one at `read_at` is due: half to one and a half periods later.

    Jitter adds up to JITTER of a period. Both times are in epoch seconds; `random` is from 0 to below 1.
    """
    offset = (read_at + every_sec / 2 - phase_of(feed) * every_sec) % every_sec
    return read_at + every_sec / 2 + (every_sec - offset) % every_sec + JITTER * random * every_sec


def slow_down(every_sec: float, failures: int) -> float:
    """Return the seconds between two reads of a feed that failed `failures` times in a row."""
    longest_sec = max(every_sec, min(MAX_SLOWDOWN * every_sec, MAX_SLOWDOWN_SEC))
    return Backoff(every_sec, longest_sec).pause_sec(failures)


@dataclass(slots=True)
class _Host:
    """Hold the number of readings in progress of one host, when the next may begin, and its waiting feeds."""

    active: int = 0
    free_at: float = 0.0
    queue: deque[str] = field(default_factory=deque)


class HostQueues:
    """Queue the feeds that wait for each host. After the reading of what `take` returned, call `release`."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._waiting: OrderedDict[str, None] = OrderedDict()  # hosts with a queue, the next one first

    def __len__(self) -> int:
        return len(self._hosts)

    def enqueue(self, host: str, feed: str) -> None:
        self._hosts.setdefault(host, _Host()).queue.append(feed)
        self._waiting.setdefault(host)

    def take(self, now: float, host_at_once: int, spacing_sec: float) -> tuple[str, str] | None:
        """Take the next feed that may be read now; return its host and the feed, or None if there is none.

        The hosts take turns. A host has at most `host_at_once` readings, which begin `spacing_sec` apart.
        """
        for name in self._waiting:
            host = self._hosts[name]
            if host.active < host_at_once and host.free_at <= now:
                host.active += 1
                host.free_at = now + spacing_sec
                feed = host.queue.popleft()
                self._waiting.move_to_end(name)
                if not host.queue:
                    del self._waiting[name]
                return name, feed
        return None

    def release(self, host: str, now: float, pause_sec: float = 0.0) -> None:
        """Record that a reading of this host is over, and that none may begin for `pause_sec`."""
        found = self._hosts.setdefault(host, _Host(active=1))
        found.active -= 1
        found.free_at = max(found.free_at, now + pause_sec) if pause_sec else found.free_at
        if len(self._hosts) > MAX_HOSTS:
            self._hosts = {
                name: each
                for name, each in self._hosts.items()
                if each.active or each.queue or each.free_at > now
            }

    def next_at(self, now: float, host_at_once: int) -> float:
        """Return when the first pause ends that a feed waits for; NEVER if no feed waits for a pause."""
        pauses = (
            max(now, self._hosts[name].free_at)
            for name in self._waiting
            if self._hosts[name].active < host_at_once
        )
        return min(pauses, default=NEVER)

    def clear(self) -> None:
        for host in self._hosts.values():
            host.queue.clear()
        self._waiting.clear()
