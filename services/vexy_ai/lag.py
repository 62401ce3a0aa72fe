"""Measure whether the work keeps up: its rate, how many entries wait, and for how many seconds. Pure."""

from collections import deque
from collections.abc import Mapping
from typing import Final

from marketswarm.bus.backlog import Backlog, format_unread, sum_unread

RATE_WINDOW_SEC: Final = 60.0
CAUGHT_UP_SHARE: Final = 0.5
"""The work has caught up when the oldest entry waits for less than this share of `behind_sec`."""


class Rate:
    """Count processed entries per second over the last minute."""

    def __init__(self) -> None:
        self._done: deque[tuple[float, int]] = deque()
        self._count = 0
        self._since: float | None = None

    def add(self, count: int, now: float) -> None:
        self._since = now if self._since is None else self._since
        if count:
            self._done.append((now, count))
            self._count += count
        self._forget(now)

    def per_sec(self, now: float) -> float:
        """Return entries per second over the last minute, or since the first `add` if that is later."""
        self._forget(now)
        over = RATE_WINDOW_SEC if self._since is None else min(RATE_WINDOW_SEC, now - self._since)
        return self._count / max(1.0, over)

    def _forget(self, now: float) -> None:
        while self._done and self._done[0][0] < now - RATE_WINDOW_SEC:
            self._count -= self._done.popleft()[1]


class LagDetector:
    """Detect when the work falls behind, and when it has caught up; `behind` is the last result."""

    def __init__(self) -> None:
        self.behind = False

    def check(self, backlogs: Mapping[str, Backlog], behind_sec: float) -> str | None:
        """Return a line on the stream whose oldest entry waits longest; None if it waits for less."""
        oldest_sec = max((each.oldest_sec for each in backlogs.values()), default=0.0)
        self.behind = oldest_sec >= behind_sec * (CAUGHT_UP_SHARE if self.behind else 1.0) and oldest_sec > 0
        if not self.behind:
            return None
        key, worst = max(backlogs.items(), key=lambda item: item[1].oldest_sec)
        unread = format_unread(worst.unread)
        return f"behind: {unread} unread in {key}, the oldest for {worst.oldest_sec:.0f} s"


def summarize_backlogs(backlogs: Mapping[str, Backlog], per_sec: float) -> str:
    """Return the rate and all backlogs in a few words: `12.3/s, 40 unread (oldest 2 s), 3 taken`."""
    found = list(backlogs.values())
    unread = sum_unread(found)
    oldest_sec = max((each.oldest_sec for each in found), default=0.0)
    words = [
        f"{per_sec:.1f}/s",
        f"{format_unread(unread)} unread" + (f" (oldest {oldest_sec:.0f} s)" if unread != 0 else ""),
    ]
    pending = sum(each.pending for each in found)
    lost = sum(each.lost for each in found)
    words += [f"{pending:,} taken"] if pending else []
    words += [f"{lost:,} trimmed off unread"] if lost else []
    return ", ".join(words)
