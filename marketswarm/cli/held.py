"""The silences that a fleet's buses hold, as one set; and one more put on all of them."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any

from marketswarm.bus import Bus
from marketswarm.cli.everywhere import everywhere
from marketswarm.operator import SILENCES, Silence, behind, merged


@dataclass(frozen=True, slots=True)
class Held:
    """The silences by id, in the latest version that any bus has; what each bus has; who did not answer."""

    silences: dict[str, Silence]
    by_bus: dict[str, dict[bytes, bytes]]
    away: dict[str, str]


async def read(buses: Sequence[Bus]) -> Held:
    """Reads them from every bus. Raises Exit, code 3, when none answers."""
    by_bus, away = await everywhere(buses, lambda bus: bus.client.hgetall(SILENCES))
    return Held(merged(by_bus.values()), by_bus, away)


async def put(buses: Sequence[Bus], held: Held, silence: Silence, now: float) -> dict[str, str]:
    """Puts one there, and with it whatever a bus lacks; forgets the old. The buses that did not take it.

    Raises:
        Exit: code 3, when none took it.
    """
    there = {**held.silences, silence.id: silence}
    old = [key for key, each in there.items() if each.old(now)]
    wanted = {key: each for key, each in there.items() if key not in old}

    def write(bus: Bus) -> Awaitable[Any]:
        # one that did not answer just now may do so again
        lacks: dict[Any, Any] = dict(behind(held.by_bus.get(bus.name, {}), wanted))
        pipe = bus.pipeline(transaction=True)
        pipe.hset(SILENCES, mapping=lacks)
        if old:
            pipe.hdel(SILENCES, *old)
        return pipe.execute()

    _, away = await everywhere(buses, write)
    return away
