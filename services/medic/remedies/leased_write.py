"""Write on a bus while a lease lasts: the bus itself refuses what reaches it later.

A medic may stand still just before it sends a request. When it continues, another medic may lead.
"""

from collections.abc import Sequence
from typing import Final

from marketswarm.agent.lease import clock
from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import read_time

WRITE: Final = Script.beside("services.medic.remedies", "leased_write.lua")
_NEVER_MS: Final = 1e15


class TooLateError(Exception):
    """The lease had ended when a request reached the bus: nothing was written by it."""


class LeasedWriter:
    """Write on one bus until the lease ends, by the clock of that bus."""

    def __init__(self, bus: Bus, ends_ms: float) -> None:
        self._bus, self._ends_ms = bus, ends_ms

    @classmethod
    async def begin(cls, bus: Bus, until: float | None) -> "LeasedWriter":
        """Ask the bus for its time, and return a writer that may write until `until`, by the clock of leases.

        The time that the answer took is taken off: its end here is never later than that of the lease. None
        is a lease without an end. Raises BusError.
        """
        if until is None:
            return cls(bus, _NEVER_MS)
        return cls(bus, 1000 * (await read_time(bus) + until - clock()))

    async def write(self, command: str, keys: Sequence[str | bytes], *args: str | bytes) -> int:
        """Run a command on each key, in one step; return the sum of the answers.

        Raises BusError, and TooLateError once the lease has ended.
        """
        return await self.run(WRITE, keys, command, *args)

    async def run(self, script: Script, keys: Sequence[str | bytes], *args: str | bytes) -> int:
        """Run a script that compares its first argument with the clock of the bus (`in_time.lua`).

        Return its answer. Raises BusError, and TooLateError once the lease has ended.
        """
        answer = int(await self._bus.script(script, keys, [f"{self._ends_ms:.3f}", *args]))
        if answer < 0:
            raise TooLateError
        return answer
