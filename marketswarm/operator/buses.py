"""Send one request to every bus."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from marketswarm.bus import Bus, BusError, NoBusError


async def ask_buses(
    buses: Sequence[Bus], request: Callable[[Bus], Awaitable[Any]]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Send one request to each bus; return the answers and the reasons of failures, by bus.

    Raises NoBusError if every bus failed.
    """
    answers: dict[str, Any] = {}
    failed: dict[str, str] = {}

    async def ask_one(bus: Bus) -> None:
        try:
            answers[bus.name] = await bus.ask(request(bus))
        except BusError as error:
            failed[bus.name] = error.reason

    await asyncio.gather(*(ask_one(bus) for bus in buses))
    if not answers:
        raise NoBusError(failed)
    return answers, failed
