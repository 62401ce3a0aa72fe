"""Hears a channel while a block lasts: for what may be missed, by those who look from time to time anyway."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final

from marketswarm.bus import Bus
from marketswarm.bus.subscriber import subscribe

if TYPE_CHECKING:
    from marketswarm.agent.member import Agent

_CANCEL_EVERY_SEC: Final = 0.1


@contextlib.asynccontextmanager
async def hearing(
    me: "Agent[Any]", bus: Bus, channel: str, heard: Callable[[bytes | None], None]
) -> AsyncIterator[None]:
    """Call `heard(payload)` for each message on `channel`; `heard(None)`: some may have been missed."""
    task = me.task(
        subscribe(
            bus,
            channels=(channel,),
            heard=lambda _channel, payload: heard(payload),
            joined=lambda: heard(None),
            lost=lambda _error: None,
        ),
        name=f"{channel} on {bus.name}",
    )
    try:
        yield
    finally:
        await _ended(task)


async def _ended(task: asyncio.Task[None]) -> None:
    """End a task that may lose a cancellation: on Python 3.11 a client library can."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_EVERY_SEC)
