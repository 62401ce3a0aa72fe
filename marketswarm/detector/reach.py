"""Whether the healer reaches any bus at all. While it reaches none, its own network is in doubt first. Pure.

A bus that refuses for a reason of its own (`oom`, `auth`) is reached, and so is one that takes canaries and
brings none back. While none is reached, nothing is said of any bus; when one is back, one fact tells how long
none was, and the others have their whole timeout to follow.
"""

from collections.abc import Collection
from math import inf
from typing import Final

from marketswarm.detector.clock import OVERDUE_SEC, ListeningClock, Moment
from marketswarm.detector.verdict import Of, State, Told, Verdict
from marketswarm.detector.watched_bus import WatchedBus
from marketswarm.event import Kind
from marketswarm.truth import HEALER

ANSWERS: Final = frozenset({"auth", "loading", "readonly", "oom", "misconf"})
"""Reasons that only a server which was reached can give."""


class Reach:
    """The reach of one listener over all its buses."""

    def __init__(self) -> None:
        self._last: Moment | None = None  # when a bus was reached last, if ever
        self._overslept_sec = 0.0  # how long since then the listener itself did not run
        self._reached = False
        self._back_at = -inf  # when one was reached again after none had been, in monotonic seconds

    def look(self, buses: Collection[WatchedBus], now: Moment) -> Verdict | None:
        """Sees whether some bus is reached; returns the fact that none was, for too long, until now."""
        found = [at for bus in buses if (at := _reached_at(bus.clock, now)) is not None]
        was, self._reached = self._reached, bool(found)
        if not found:
            return None
        last, self._last = self._last, max(found, key=lambda at: at.mono)
        overslept_sec, self._overslept_sec = self._overslept_sec, 0.0
        if was:
            return None
        if last is None:
            self._back_at = now.mono
            return None
        if now.mono - last.mono - overslept_sec < min(bus.timeout_sec for bus in buses):
            return None
        self._back_at = now.mono
        for bus in buses:
            bus.share.restart(now)
        return _gap(last, now)

    def stalled(self, overslept_sec: float) -> None:
        """The listener itself did not run for so long."""
        self._overslept_sec += overslept_sec

    def may_blame(self, bus: WatchedBus, now: Moment) -> bool:
        """Whether a bus that is not heard is away, and not this listener."""
        return self._reached and now.mono - self._back_at >= bus.timeout_sec


def _reached_at(clock: ListeningClock, now: Moment) -> Moment | None:
    """When a bus that is reached now was known to be; None for one that is not reached.

    A canary whose answer is still out says nothing, so `deaf` counts only until the next answer is overdue.
    """
    if clock.listening:
        return clock.proof
    if clock.reason in ANSWERS:
        return now
    taken = clock.taken if clock.reason == "deaf" else None
    return taken if taken is not None and now.mono - taken.mono <= OVERDUE_SEC else None


def _gap(last: Moment, now: Moment) -> Verdict:
    mark = f"{Kind.REACH_GAP}.{HEALER}.{round(1000 * last.wall)}"
    gap_sec = now.mono - last.mono
    return Verdict(
        HEALER, State.UP, Told.ALERT, now.wall, of=Of.REACH, since=last.wall, gap_sec=gap_sec, mark=mark
    )
