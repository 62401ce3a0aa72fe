"""Whether the work keeps up: how fast it goes, how much waits, and for how long.

Pure; times are in seconds.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

OVER_SEC: Final = 60.0
WELL_AT: Final = 0.5
"""Of `behind_sec`: who was behind is well again below that, and does not waver at the edge."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The entries of a stream that wait. `unread` is -1 for very many; `lost` were trimmed off unread."""

    pending: int = 0
    unread: int = 0
    oldest_sec: float = 0.0
    lost: int = 0


class Rate:
    """The rate of entries per second, over the last minute."""

    def __init__(self) -> None:
        self._done: deque[tuple[float, int]] = deque()
        self._count = 0
        self._since: float | None = None

    def add(self, count: int, now: float) -> None:
        """Add entries that were processed at `now`."""
        self._since = now if self._since is None else self._since
        if count:
            self._done.append((now, count))
            self._count += count
        self._forget(now)

    def per_sec(self, now: float) -> float:
        """Return the rate at `now`, over the time there was if that is less than a minute."""
        self._forget(now)
        over = OVER_SEC if self._since is None else min(OVER_SEC, now - self._since)
        return self._count / max(1.0, over)

    def _forget(self, now: float) -> None:
        while self._done and self._done[0][0] < now - OVER_SEC:
            self._count -= self._done.popleft()[1]


class LagDetector:
    """Tell when the work has fallen behind, and when it has caught up."""

    def __init__(self) -> None:
        self.behind = False

    def check(self, backlogs: Mapping[str, Backlog], behind_sec: float) -> str | None:
        """Return how much waits in the stream that is behind most; None if the work keeps up."""
        oldest_sec = max((each.oldest_sec for each in backlogs.values()), default=0.0)
        self.behind = oldest_sec >= behind_sec * (WELL_AT if self.behind else 1.0) and oldest_sec > 0
        if not self.behind:
            return None
        key, worst = max(backlogs.items(), key=lambda item: item[1].oldest_sec)
        return (
            f"behind: {format_count(worst.unread)} unread in {key}, the oldest for {worst.oldest_sec:.0f} s"
        )


def summarize_backlogs(backlogs: Mapping[str, Backlog], per_sec: float) -> str:
    """Return `12.3/s, 40 unread (oldest 2 s), 3 taken`: the work of an instance that keeps up."""
    several = list(backlogs.values())
    unread = -1 if any(each.unread < 0 for each in several) else sum(each.unread for each in several)
    oldest_sec = max((each.oldest_sec for each in several), default=0.0)
    words = [
        f"{per_sec:.1f}/s",
        f"{format_count(unread)} unread" + (f" (oldest {oldest_sec:.0f} s)" if unread else ""),
    ]
    pending = sum(each.pending for each in several)
    lost = sum(each.lost for each in several)
    words += [f"{pending:,} taken"] if pending else []
    words += [f"{lost:,} trimmed off unread"] if lost else []
    return ", ".join(words)


def format_count(unread: int) -> str:
    """Return a number for people."""
    return "200 or more" if unread < 0 else f"{unread:,}"
