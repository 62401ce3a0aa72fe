"""Provide a clock that is moved by hand, to test code that takes the time or a clock as an argument."""


class ManualClock:
    """A monotonic and a wall clock, in seconds, that stand still until they are moved."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_762_433_458.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        """Return the monotonic time in seconds, in place of `time.monotonic()`."""
        return self._monotonic

    def time(self) -> float:
        """Return the wall time in epoch seconds, in place of `time.time()`."""
        return self._wall

    def advance(self, seconds: float) -> float:
        """Move both clocks forward by `seconds`; return the monotonic time. Raise ValueError if negative."""
        if seconds < 0:
            raise ValueError("time does not run backwards; set_wall() sets the wall clock wrong")
        self._monotonic += seconds
        self._wall += seconds
        return self._monotonic

    def set_wall(self, epoch_sec: float) -> None:
        """Set the wall clock to `epoch_sec` and leave the monotonic clock, as NTP might do at any moment."""
        self._wall = epoch_sec
