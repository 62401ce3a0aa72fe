"""What a bus took lately, should it forget: a failover, or a crash, loses the last of what was written. Pure.

What is written later is never there without what was written before it. So of the verdicts on one service
those are lost that came after the one that the roster holds now, and they may be told again, in their order:
in the end the roster holds the last of them, as it did. To tell again what somebody else told is harmless.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from marketswarm.detector import State, Verdict
from marketswarm.monitor.backlog import LEAST
from marketswarm.monitor.remember import Entry, field_of

LATELY_SEC: Final = 60.0
"""How long before a gap a bus may have taken what it did not keep."""
KEPT_SEC: Final = 2 * LATELY_SEC
"""A gap begins before somebody notices it, and what was told meanwhile may be lost."""


class Lately:
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
        while self._taken and self._taken[0][0] < gap - LATELY_SEC:
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
