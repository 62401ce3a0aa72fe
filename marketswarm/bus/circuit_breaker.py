"""Leave something alone that fails, such as a source, or that an operator has paused.

The breaker is on the bus. `circuit_breaker.lua` makes each step one step there: all instances leave the
source alone together, and a restart does not reset it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketswarm.bus.bus import Bus
from marketswarm.bus.scripts import Script

BREAKER: Final = Script.beside("marketswarm.bus", "circuit_breaker.lua")
BREAKER_OPEN: Final = "breaker_open"
PAUSED: Final = "paused"


class BreakerState(StrEnum):
    """Name the states of a breaker."""

    CLOSED = "closed"  # the source is asked
    OPEN = "open"  # it is not, for a while
    HALF_OPEN = "half_open"  # one instance tries it
    PAUSED = "paused"  # it is not asked, since an operator, or the medic for a while, took it out of service


_REFUSALS: Final = {BreakerState.OPEN: BREAKER_OPEN, BreakerState.PAUSED: PAUSED}


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """Hold when a breaker opens, and for how long.

    Attributes:
        open_after: the number of failures in a row that open it.
        first_open_sec: how long it is open first; each failed trial doubles that, up to `longest_open_sec`.
        trial_sec: how long one instance may try; then another one does.
    """

    open_after: int = 3
    first_open_sec: float = 10.0
    longest_open_sec: float = 600.0
    trial_sec: float = 30.0


DEFAULT_LIMITS: Final = BreakerLimits()


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
    """Open, close and read the breaker of a source, kept under `key`. Each method raises BusError."""

    def __init__(self, bus: Bus, key: str, limits: BreakerLimits = DEFAULT_LIMITS) -> None:
        self._bus, self._key, self._limits = bus, key, limits

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
        """Run `circuit_breaker.lua`; return None as seconds for a source that waits for `resume`."""
        limits = self._limits
        spans = (limits.first_open_sec, limits.longest_open_sec, limits.trial_sec)
        args: list[str | bytes | float] = [word, limits.open_after, *(round(1000 * sec) for sec in spans)]
        state, wait_ms = await self._bus.script(BREAKER, [self._key], [*args, pause_ms])
        found = BreakerState(state.decode() if isinstance(state, bytes) else state)
        return BreakerReading(found, int(wait_ms) / 1000 if int(wait_ms) >= 0 else None)
