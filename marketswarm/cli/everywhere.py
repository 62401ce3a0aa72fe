"""One request to every bus of a fleet: done where it is taken, and told where it is not."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from marketswarm.bus import Bus, BusError
from marketswarm.exit import Code, Exit


async def everywhere(
    buses: Sequence[Bus], request: Callable[[Bus], Awaitable[Any]]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What each bus that took it answered, and why the others did not, by name.

    Raises:
        Exit: code 3, when none took it.
    """
    taken: dict[str, Any] = {}
    away: dict[str, str] = {}

    async def one(bus: Bus) -> None:
        try:
            taken[bus.name] = await bus.ask(request(bus))
        except BusError as error:
            away[bus.name] = error.reason

    await asyncio.gather(*(one(bus) for bus in buses))
    if not taken:
        raise Exit(Code.NO_BUS, f"no bus took it ({', '.join(f'{bus}: {why}' for bus, why in away.items())})")
    return taken, away


def missing(away: Mapping[str, str]) -> list[str]:
    """What a person should know of the buses that did not take it."""
    return [f"bus {bus} did not take it: {why}" for bus, why in away.items()]
