"""For `status`: the silences in force and how much could not be delivered, in a line or two."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from marketswarm.bus import Bus, BusError
from marketswarm.cli.silences import on
from marketswarm.cli.words import moment
from marketswarm.operator import DEAD, SILENCES, Silence, merged
from marketswarm.text import escape_text

_SHOWN = 3  # silences; more are counted


@dataclass(frozen=True, slots=True)
class Heeded:
    """What people should know who wonder why nothing is said."""

    silences: tuple[Silence, ...] = ()
    undelivered: int = 0
    at: float = 0.0

    def notes(self) -> list[str]:
        """Lines for a person; none when there is nothing."""
        notes = [
            f"silent until {moment(each.ends_at, self.at)}: {on(each)} "
            f"({escape_text(each.author)}: {escape_text(each.reason)})"
            for each in self.silences[:_SHOWN]
        ]
        if len(self.silences) > _SHOWN:
            notes.append(f"and {len(self.silences) - _SHOWN} more silences: marketswarm silences")
        if self.undelivered:
            messages = "message" if self.undelivered == 1 else "messages"
            notes.append(f"{self.undelivered} {messages} could not be delivered: marketswarm dead")
        return notes


async def heeded(buses: Sequence[Bus]) -> Heeded:
    """What the buses that answer hold."""
    held = await asyncio.gather(*map(_held, buses))
    now = time.time()
    active = [each for each in merged(each for each, _ in held).values() if each.active(now)]
    active.sort(key=lambda each: each.ends_at)
    return Heeded(tuple(active), max((count for _, count in held), default=0), now)


async def _held(bus: Bus) -> tuple[dict[bytes, bytes], int]:
    pipe = bus.pipeline()
    pipe.hgetall(SILENCES)
    pipe.xlen(DEAD)
    try:
        silences, count = await bus.ask(pipe.execute())
    except BusError:  # that it is away, or tells us nothing, is told elsewhere
        return {}, 0
    return silences, count
