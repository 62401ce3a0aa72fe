"""What the host of a virtual machine leaves of its processors, and a gate for the tests that need them."""

import fcntl
import os
import time
from pathlib import Path


class StolenShare:
    """The share of the processors that the host of a virtual machine keeps for others, from look to look.

    With `keeps_start`, each look is about all of the time since the creation.
    """

    def __init__(self, *, keeps_start: bool = False) -> None:
        self._keeps_start = keeps_start
        self._before = _count_ticks()

    def measure(self) -> float:
        """Return the share since the last call, from 0 to 1; 0 where the system does not say."""
        now = _count_ticks()
        stolen, every = (later - earlier for later, earlier in zip(now, self._before, strict=True))
        self._before = self._before if self._keeps_start else now
        return stolen / every if every else 0.0


class ProcessorGate:
    """Lets fewer live tests run at once while the host of a virtual machine keeps processors for others.

    What tests start is timed by the product's own promises, and each needs its part of a processor to keep
    them. Of six workers four run a test while the host keeps a third. While it keeps more than half no test
    begins, until a worker has waited five minutes for that; then one always runs. A test that has begun goes
    on.

    Args:
        path: a file that the workers of a run share. A worker with a test holds a lock on one byte of it,
            which ends with the worker, however that ends. None: a run without workers.
        workers: how many there are.
    """

    LOOK_SEC = 0.5
    TOO_MUCH = 0.5
    """The share of the processors above which no test begins."""
    PATIENCE_SEC = 300.0
    """For how long a worker waits for that share to fall, in all."""

    def __init__(self, path: str | None, workers: int) -> None:
        self._file = None if path is None else os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._workers = workers
        self._processors = StolenShare()
        self._patience_sec = self.PATIENCE_SEC
        self.place: int | None = None
        """The place of the test that runs; None without one."""

    def enter(self) -> None:
        """Return once a test may begin."""
        while self._file is not None:
            stolen = self._processors.measure()
            if stolen > self.TOO_MUCH and self._patience_sec > 0:
                self._patience_sec -= self.LOOK_SEC
            elif any(self._take(place) for place in range(self.count_allowed(stolen))):
                return
            time.sleep(self.LOOK_SEC)

    def leave(self) -> None:
        """Let another test begin; do nothing if `enter` was not called."""
        if self._file is not None and self.place is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self.place)
            self.place = None

    def count_allowed(self, stolen: float) -> int:
        """Return how many tests may run at once while the host keeps this share, at least one."""
        return max(1, round(self._workers * (1 - stolen)))

    def _take(self, place: int) -> bool:
        """Take a place if no other worker has it; return True on success."""
        assert self._file is not None
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            return False
        self.place = place
        return True


def _count_ticks() -> tuple[int, int]:
    """Return how much the host kept since the machine started, and how much there was in all."""
    try:
        text = Path("/proc/stat").read_text(encoding="ascii")
    except OSError:
        return 0, 0
    ticks = [int(word) for word in text.split(maxsplit=9)[1:9]]  # the eighth is `steal`
    return ticks[7], sum(ticks)
