"""Looks at a bus once a second: which silences there are, whether it still has the state, what others left.

Not here: what silences mean (`router/`), and reading the log (`reading.py`).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from marketswarm.attention import GROUP, SILENCES, STATE, Silence, behind, merged
from marketswarm.bus import Bus, BusError
from marketswarm.monitor.agreed import LOG
from notifier.reading import Reader
from notifier.store import SEQ, Store

EVERY_SEC: Final = 1.0


class Silences:
    """Those of all buses together; `changed` is told when they are others than before."""

    def __init__(self, changed: Callable[[Sequence[Silence]], None]) -> None:
        self._changed = changed
        self._held: dict[str, dict[bytes, bytes]] = {}
        self._silences: dict[str, Silence] = {}

    def saw(self, bus: str, held: dict[bytes, bytes]) -> dict[str, bytes]:
        """Takes note of what a bus holds; what is to be written there, so that it has the latest of each."""
        if self._held.get(bus) != held:
            self._held[bus] = held
            found = merged(self._held.values())
            if found != self._silences:
                self._silences = found
                self._changed(list(found.values()))
        return behind(held, self._silences)


class Sweep:
    """Sweeps one bus until cancelled.

    Args:
        reader: who reads that bus, and claims what others left there.
        store: which is told what state the bus has.
        silences: those of all buses.
        consumer: what this instance is called in the group.
    """

    def __init__(self, reader: Reader, store: Store, silences: Silences, consumer: str) -> None:
        self._bus: Bus = reader.bus
        self._reader, self._store, self._silences = reader, store, silences
        self._consumer = consumer.encode()

    async def run(self) -> None:
        """Sweeps until cancelled. What a bus does not answer is asked again."""
        while True:
            with contextlib.suppress(BusError):  # its reader says so
                await self._sweep()
            await asyncio.sleep(EVERY_SEC)

    async def look_at_silences(self) -> None:
        """Takes note of those that there are: nobody is to be told of anything before that."""
        with contextlib.suppress(BusError):
            held = await self._bus.ask(self._bus.client.hgetall(SILENCES), EVERY_SEC)
            self._silences.saw(self._bus.name, held)

    async def _sweep(self) -> None:
        pipe = self._bus.pipeline()
        pipe.hgetall(SILENCES)
        pipe.hget(STATE, SEQ)
        pipe.xpending(LOG, GROUP)
        held, seq, pending = await self._bus.ask(pipe.execute(raise_on_error=False))
        if not isinstance(seq, Exception):
            self._store.seen(self._bus.name, seq)
        if isinstance(held, dict):
            await self._heal(held)
        if isinstance(pending, dict) and self._others(pending):
            self._reader.request_claim()

    def _others(self, pending: dict[str, Any]) -> bool:
        return any(each["name"] != self._consumer for each in pending["consumers"])

    async def _heal(self, held: dict[bytes, bytes]) -> None:
        now = time.time()
        newer: dict[Any, Any] = {
            key: raw for key, raw in self._silences.saw(self._bus.name, held).items() if not _old(raw, now)
        }
        if newer:
            await self._bus.ask(self._bus.client.hset(SILENCES, mapping=newer))
        if old := [key for key, raw in held.items() if _old(raw, now)]:
            await self._bus.ask(self._bus.client.hdel(SILENCES, *old))


def _old(raw: bytes, now: float) -> bool:
    silence = Silence.parse(raw)
    return silence is not None and silence.old(now)
