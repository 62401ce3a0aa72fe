"""What the host of a virtual machine leaves of its processors, and a gate that holds tests back meanwhile."""

import time
from pathlib import Path


class StolenShare:
    """The share of the processors that the host of a virtual machine keeps for others, from look to look."""

    def __init__(self) -> None:
        self._before = _count_ticks()

    def measure(self) -> float:
        """Return the share since the last call, from 0 to 1; 0 where the system does not say."""
        before, self._before = self._before, _count_ticks()
        stolen, every = (later - earlier for later, earlier in zip(self._before, before, strict=True))
        return stolen / every if every else 0.0


class ProcessorGate:
    """Holds tests back while the host of a virtual machine keeps much of its processors for others.

    What they start is timed by the product's own promises, which no program keeps that does not run. The gate
    has a budget in seconds: once that is used up, it holds nobody back any more.
    """

    MOST_STOLEN = 0.3
    LOOK_SEC = 1.0

    def __init__(self, budget_sec: float) -> None:
        self._budget_sec = budget_sec
        self._processors = StolenShare()

    def wait(self) -> None:
        """Return once the host has left enough since the last call, or else for a second."""
        while self._processors.measure() > self.MOST_STOLEN and self._budget_sec > 0:
            time.sleep(self.LOOK_SEC)
            self._budget_sec -= self.LOOK_SEC


def _count_ticks() -> tuple[int, int]:
    """Return how much the host kept since the machine started, and how much there was in all."""
    try:
        text = Path("/proc/stat").read_text(encoding="ascii")
    except OSError:
        return 0, 0
    ticks = [int(word) for word in text.split(maxsplit=9)[1:9]]  # the eighth is `steal`
    return ticks[7], sum(ticks)
