"""Decide when each feed is due. Pure.

Times are in seconds; random numbers are passed in, in [0, 1). Each feed has a place of its own in its period,
by a hash of its URL, on a grid of the wall clock, so that a thousand feeds of one period are spread over it,
before and after a restart, on one instance or on three. The first reading of a feed does not wait for its
place; many first readings are only spread by FIRST_READS_PER_SEC.
"""

import hashlib
from typing import Final

from marketswarm.net.retry import Backoff

FIRST_READS_PER_SEC: Final = 20.0
JITTER: Final = 0.05
"""The share of a period by which a reading may be late, so that not all fleets read at the same moment."""
MAX_SLOWDOWN: Final = 8.0
"""The most periods between two readings of a feed that fails repeatedly."""
MAX_SLOWDOWN_SEC: Final = 3600.0
"""The most seconds between two readings of such a feed, unless its period is longer."""


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
