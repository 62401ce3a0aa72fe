"""A clock moved by hand, for tests of what takes the time as an argument or a clock as a value."""


class ManualClock:
    """Two clocks, in seconds, that stand still until moved: one only runs on, one can be set wrong."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_762_433_458.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        """As `time.monotonic()`."""
        return self._monotonic

    def time(self) -> float:
        """As `time.time()`."""
        return self._wall

    def advance(self, seconds: float) -> float:
        """Let time pass on both clocks; the new monotonic reading. Raises ValueError when it is negative."""
        if seconds < 0:
            raise ValueError("time does not run backwards; set_wall() sets the wall clock wrong")
        self._monotonic += seconds
        self._wall += seconds
        return self._monotonic

    def set_wall(self, epoch_sec: float) -> None:
        """Set the wall clock, as someone might at any moment."""
        self._wall = epoch_sec
