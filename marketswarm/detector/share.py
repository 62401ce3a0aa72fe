"""How much of the time a bus is heard, for one that is never away for long and yet hardly heard. Pure.

A session that is cut again and again proves a little after each cut, so no canary is ever missing for the
whole of a bus's timeout. Time is therefore cut into windows of that length: two in a row of which less than
half was proven make the bus deaf; one of which three quarters were proven ends that.
"""

from enum import StrEnum
from typing import Final

from marketswarm.detector.clock import ListeningClock, Moment

POOR_BELOW: Final = 0.5
GOOD_FROM: Final = 0.75
POOR_IN_A_ROW: Final = 2


class Window(StrEnum):
    """What a window came to."""

    GOOD = "good"
    FAIR = "fair"  # neither begins deafness nor ends it
    POOR = "poor"
    UNHEARD = "unheard"  # no canary at all came back: that is judged by the timeout itself


class ProvenShare:
    """The windows of one bus.

    Args:
        clock: what proves its listening.
        start: when the first window begins.
    """

    __slots__ = ("_begin", "_clock", "_overslept_sec", "_proven", "poor", "since")

    def __init__(self, clock: ListeningClock, start: Moment) -> None:
        self._clock = clock
        self.restart(start)

    @property
    def deaf(self) -> bool:
        """Whether the bus was heard for too little of the time, often enough in a row."""
        return self.poor >= POOR_IN_A_ROW

    def restart(self, now: Moment) -> None:
        """Begins a window, and forgets those before it."""
        self.poor = 0  # windows in a row of which too little was proven
        self.since = now  # when the first of them began
        self._begin_window(now)

    def look(self, window_sec: float, now: Moment) -> Window | None:
        """What the window came to that ends now; None while it lasts. To be called more than once a window.

        Time in which the listener itself did not run is part of no window.
        """
        elapsed_sec = now.mono - self._begin.mono - (self._clock.overslept_ever_sec - self._overslept_sec)
        if elapsed_sec < window_sec:
            return None
        share = (self._clock.proven - self._proven) / elapsed_sec
        found = Window.GOOD if share >= GOOD_FROM else Window.FAIR if share >= POOR_BELOW else Window.POOR
        if found is Window.POOR and self._clock.proof.mono <= self._begin.mono:
            found = Window.UNHEARD
        if found is Window.POOR:
            self.since = self.since if self.poor else self._begin
            self.poor += 1
        else:
            self.poor = 0
        self._begin_window(now)
        return found

    def _begin_window(self, now: Moment) -> None:
        self._begin = now
        self._proven = self._clock.proven
        self._overslept_sec = self._clock.overslept_ever_sec
