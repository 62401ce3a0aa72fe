"""What a bus holds of the truth, and what it takes to make it hold that again.

One script does all that a seeding asks of a bus (`seeding.lua`); this is its reading side. Not here: what
follows from it (`plan.py`), and the writing (`writing.py`).
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.bus import Bus, BusError, ClusterError
from marketswarm.bus.scripts import Script
from marketswarm.exit import Code
from marketswarm.seeding.plan import Standing

SCRIPT: Final = Script.beside("marketswarm.seeding", "seeding.lua")
BACK: Final = Script.beside("marketswarm.seeding", "back.lua")


class Unseeded(Exception):  # noqa: N818 - it says what is the case, as BusError does
    """A truth could not be seeded; the buses are as before, but for those in `left`.

    `bus` and `reason` name the first that failed; the reason is a BusError's, or `moved` (others seeded at
    the same time, again and again).
    """

    def __init__(self, bus: str, reason: str, detail: str = "", left: Sequence[str] = ()) -> None:
        message = f"{bus}: {reason}" + (f" ({detail})" if detail else "")
        if left:
            message += f"; could not be put back on {', '.join(left)}: seed again once it answers"
        super().__init__(message)
        self.bus, self.reason, self.detail, self.left = bus, reason, detail, tuple(left)

    @property
    def code(self) -> Code:
        """What a program ends with that seeds: it may help to try again, or nothing does."""
        return Code.CONFIGURATION if isinstance(self.__cause__, ClusterError) else Code.NO_BUS


@dataclass(frozen=True, slots=True)
class Seen:
    """A bus as it was at one moment, and what it takes to make it so again."""

    bus: Bus
    keys: tuple[str, str, str]
    standing: Standing
    token: bytes
    at_ms: int  # the server's clock
    at: float  # ours
    before: tuple[Any, ...]  # as `back.lua` takes it


async def look_at_all(places: Iterable[tuple[Bus, tuple[str, str, str]]]) -> list[Seen]:
    """Every bus with its keys (document, meta, history), all at once. Raises Unseeded."""
    outcomes = await asyncio.gather(*(_look(bus, keys) for bus, keys in places), return_exceptions=True)
    seen = []
    for outcome in outcomes:
        if isinstance(outcome, BusError):
            raise Unseeded(outcome.bus, outcome.reason, outcome.detail) from outcome
        if isinstance(outcome, BaseException):
            raise outcome
        seen.append(outcome)
    return seen


async def _look(bus: Bus, keys: tuple[str, str, str]) -> Seen:
    reply = await bus.script(SCRIPT, keys, ["look"])
    at_ms, token, document, revision, sha256, seeded_at, seeded_by, *rest = reply
    last_revision, last_sha256, newest, meta, *keys_before = rest
    standing = Standing(
        bus=bus.name,
        document=document,
        revision=_number(revision),
        sha256=_word(sha256),
        seeded_at=_word(seeded_at),
        seeded_by=_word(seeded_by),
        last_revision=_number(last_revision),
        last_sha256=_word(last_sha256),
    )
    clock = asyncio.get_running_loop().time
    before = (document or b"", newest, len(meta), *meta, *(value for each in keys_before for value in each))
    return Seen(bus, keys, standing, token, at_ms, clock(), before)


def _number(value: bytes | None) -> int:
    return int(value) if value is not None and value.isdigit() and len(value) < 16 else 0


def _word(value: bytes | None) -> str:
    return value.decode("utf-8", "replace") if value is not None else ""
