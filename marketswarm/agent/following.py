"""Follows the truth while the agent runs: a reseed is in force within a second, a bad one never is.

It listens to `truth:changed` on every bus that may hold the truth, and glances at them with each beat, so
that a message that got lost shows then. Deciding (`choose`) is pure; acting is the caller's `apply`.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm import log
from marketswarm.agent.finding import CHANGED, Found, Seen, first, glance, look_for_first, reasons
from marketswarm.bus import Bus, BusError
from marketswarm.bus.subscriber import subscribe

LOOK_WITHIN_SEC: Final = 1.0
LOOK_PAUSE_SEC: Final = 0.05  # a flood on `truth:changed` costs at most twenty looks a second
LOOK_EVERY: Final = 30  # glances until the buses are looked at again, changed or not
BYTES_A_SEC: Final = 100e6
"""What all agents together read of a new document. Each reads it at a moment of its own within the time that
this takes: a fleet of 500 services has a reseed in force within a second."""
LONGEST_SPREAD_SEC: Final = 10.0


class Refused(Exception):  # noqa: N818 - an answer, not an accident
    """Raised by `apply`: this agent can't go by that truth, and why."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What follows from a look: a truth to put in force, if any, and what is wrong, if anything."""

    found: Found | None
    trouble: str | None


def choose(force: Found, seen: Sequence[Seen]) -> Choice:
    """The truth to go by, given the one in force and what the buses hold, best bus first.

    The best bus is believed whatever it holds. A lesser one is believed only when it is ahead: it may have
    missed a seeding, and the last good truth is better than an older one.
    """
    best = first(seen)
    if best is None:
        stays = f"; revision {force.revision} stays" if force.revision is not None else ""
        return Choice(None, f"no valid truth: {', '.join(reasons(seen))}{stays}")
    trouble = f"truth from {best.bus.name}: {', '.join(best.passed)}" if best.passed else None
    same = best.loaded.sha256 == force.loaded.sha256
    if same and best.revision in (None, force.revision):
        return Choice(None, trouble)
    if best.passed and not same and (best.revision or 0) <= (force.revision or 0):
        return Choice(None, trouble)
    return Choice(best, trouble)


class Following:
    """Keeps `apply` told of new truths; `trouble` is what is wrong with the truth now, or `None`."""

    def __init__(self, buses: Sequence[Bus], key: str, force: Found, apply: Callable[[Found], None]) -> None:
        self.trouble = f"truth from {force.bus.name}: {', '.join(force.passed)}" if force.passed else None
        self._buses, self._key, self._force, self._apply = buses, key, force, apply
        self._refused: dict[str, str] = {}  # sha256 to why: one document at most
        self._look, self._glance = asyncio.Event(), asyncio.Event()
        self._glances: list[object] = []
        self._unheard: set[str] = set()
        self._log = log.get("truth")

    def beaten(self) -> None:
        """A beat went out: time for a glance."""
        self._glance.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            for bus in self._buses:
                group.create_task(self._listen(bus), name=f"truth:changed on {bus.name}")
            group.create_task(self._glance_on_beats(), name="truth glances")
            group.create_task(self._look_when_asked(), name="truth looks")

    async def _listen(self, bus: Bus) -> None:
        await subscribe(
            bus,
            channels=(CHANGED,),
            heard=lambda _channel, _payload: self._look.set(),
            joined=lambda: self._joined(bus),
            lost=self._lost,
        )

    def _joined(self, bus: Bus) -> None:
        self._unheard.discard(bus.name)
        self._look.set()

    def _lost(self, error: BusError) -> None:
        if error.bus not in self._unheard:
            self._unheard.add(error.bus)
            self._log.info("truth.unheard", bus=error.bus, reason=error.reason)

    async def _look_when_asked(self) -> None:
        while True:
            await self._look.wait()
            self._look.clear()
            self._decide(
                await look_for_first(
                    self._buses, self._key, self._force.loaded, LOOK_WITHIN_SEC, self._spread_sec
                )
            )
            await asyncio.sleep(LOOK_PAUSE_SEC)

    def _spread_sec(self, size: int) -> float:
        """When to read a document of that size: not in the moment in which every agent does."""
        readers = len(self._force.loaded.truth.services)
        return random.random() * min(LONGEST_SPREAD_SEC, readers * size / BYTES_A_SEC)

    async def _glance_on_beats(self) -> None:
        count = 0
        while True:
            await self._glance.wait()
            self._glance.clear()
            count += 1
            looks = (glance(bus, self._key, LOOK_WITHIN_SEC) for bus in self._buses)
            glances: list[object] = await asyncio.gather(*looks)
            if self.trouble or glances != self._glances or count % LOOK_EVERY == 0:
                self._look.set()
            self._glances = glances

    def _decide(self, seen: Sequence[Seen]) -> None:
        choice = choose(self._force, seen)
        trouble = choice.trouble
        if choice.found is not None:
            refused = self._put_in_force(choice.found)
            trouble = refused or trouble
        if trouble != self.trouble:
            if trouble:
                self._log.warning("truth.trouble", why=trouble, revision=self._force.revision)
            else:
                self._log.info("truth.well", revision=self._force.revision)
        self.trouble = trouble

    def _put_in_force(self, found: Found) -> str | None:
        sha256 = found.loaded.sha256
        if sha256 not in self._refused:
            self._refused.clear()
            try:
                self._apply(found)
            except Refused as error:
                self._refused[sha256] = f"truth revision {found.revision} refused: {error}"
            else:
                self._force = found
        return self._refused.get(sha256)
