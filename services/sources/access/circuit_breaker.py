"""Leave a source alone that fails, or that an operator has paused. The breaker is on the bus.

`breaker.lua` makes each step one step on the bus: all instances leave the source alone together, and a
restart does not reset it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.keys import source_breaker_key

BREAKER: Final = Script.beside("services.sources.access", "breaker.lua")
OPEN_AFTER: Final = 3
"""The number of failures in a row that open a breaker."""
FIRST_OPEN_SEC: Final = 10.0
LONGEST_OPEN_SEC: Final = 600.0
TRIAL_SEC: Final = 30.0
"""For how long one instance may try a source; then another one does."""
BREAKER_OPEN: Final = "breaker_open"
PAUSED: Final = "paused"


class BreakerState(StrEnum):
    """Name the states of a source's breaker."""

    CLOSED = "closed"  # the source is asked
    OPEN = "open"  # it is not, for a while
    HALF_OPEN = "half_open"  # one instance tries it
    PAUSED = "paused"  # it is not asked, since an operator, or the medic for a while, took it out of service


_REFUSALS: Final = {BreakerState.OPEN: BREAKER_OPEN, BreakerState.PAUSED: PAUSED}


@dataclass(frozen=True, slots=True)
class BreakerReading:
    """Hold the state of a breaker, and the seconds until the source is tried: None if unknown."""

    state: BreakerState
    wait_sec: float | None = 0.0

    @property
    def refusal(self) -> str:
        """`breaker_open` or `paused`; empty if the source may be asked."""
        return _REFUSALS.get(self.state, "")

    @property
    def is_trial(self) -> bool:
        return self.state is BreakerState.HALF_OPEN


class CircuitBreaker:
    """Open, close and read the breaker of a source. Each method raises BusError."""

    def __init__(self, bus: Bus, source: str) -> None:
        self._bus, self._source = bus, source

    async def ask(self) -> BreakerReading:
        """Return whether the source may be asked; as a trial if the breaker is half open."""
        return await self._use("ask")

    async def read(self) -> BreakerReading:
        """Return the state of the breaker, and begin no trial."""
        return await self._use("read")

    async def is_paused(self) -> bool:
        return (await self.read()).state is BreakerState.PAUSED

    async def pause(self, sec: float | None) -> None:
        """Take the source out of service for so many seconds; with None, until `resume`."""
        await self._use("pause", -1 if sec is None else max(1, round(1000 * sec)))

    async def resume(self) -> None:
        await self._use("resume")

    async def record_success(self) -> None:
        await self._use("ok")

    async def record_failure(self, *, is_trial: bool = False) -> BreakerState:
        """Count a failure, and return the breaker's state.

        While the breaker is open only a failed trial counts: a request that was let through before tells
        nothing new.
        """
        return (await self._use("fail_trial" if is_trial else "fail")).state

    async def _use(self, word: str, pause_ms: int = 0) -> BreakerReading:
        """Run `breaker.lua`; return None as seconds for a source that waits for `resume`."""
        spans = (FIRST_OPEN_SEC, LONGEST_OPEN_SEC, TRIAL_SEC)
        limits = [OPEN_AFTER, *(round(1000 * sec) for sec in spans)]
        key = source_breaker_key(self._source)
        state, wait_ms = await self._bus.script(BREAKER, [key], [word, *limits, pause_ms])
        found = BreakerState(state.decode() if isinstance(state, bytes) else state)
        return BreakerReading(found, int(wait_ms) / 1000 if int(wait_ms) >= 0 else None)
