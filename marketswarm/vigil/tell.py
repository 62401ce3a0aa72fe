"""Makes verdicts public: on the log, in the roster, in `health:`, and on the channel, in one step.

A verdict that a bus does not take waits here, in order, and is offered again until it does: only what was
accepted counts as told. Offering one twice is harmless, since the script looks whether it is already so.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError, Script
from marketswarm.liveness import Of, Verdict

AT_ONCE: Final = 100
LOG_LENGTH: Final = 100_000
FIRST_PAUSE_SEC: Final = 0.1
LONGEST_PAUSE_SEC: Final = 1.0
COMPLAIN_EVERY: Final = 30
"""Attempts between two log lines on a bus that takes nothing: one in half a minute."""

CHANNEL_REFUSED: Final = 2
"""What the script says of a verdict that is on the log, but could not be published."""

_TELL: Final = Script.beside("marketswarm.vigil", "tell.lua")

log = logs.get("tell")


@dataclass(frozen=True, slots=True)
class Notice:
    """One verdict as the script takes it; see tell.lua for the meaning of each."""

    field: str
    verdict: str
    value: bytes
    event: bytes
    channel: str
    health_key: str
    health_sec: int
    assumed: Literal["unknown", "up"] = "unknown"
    mark: str = ""

    def args(self) -> list[str | bytes | float]:
        """The script's values, in its order."""
        written = [self.field, self.assumed, self.verdict, self.mark, self.value, self.event, self.channel]
        return [*written, self.health_sec]


class Outbox:
    """What is still to be told on one bus, oldest first.

    Args:
        bus: where it is told.
        roster: the key of the hash that remembers verdicts.
        stream: the key of the durable log.
        write: makes a verdict's notice; only when it is offered, since very many may wait.
        told: called with each verdict that the bus has, be it from an earlier offer.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        roster: str,
        stream: str,
        write: Callable[[Verdict], Notice],
        told: Callable[[Verdict], None],
    ) -> None:
        self.bus = bus
        self._keys = [roster, stream]
        self._write = write
        self._told = told
        self._waiting: deque[Verdict] = deque()
        self._filled = asyncio.Event()
        self.retries = 0
        self.refusal: str | None = None  # why the bus takes nothing, while it takes nothing

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, verdict: Verdict) -> None:
        """Adds a verdict; never blocks and never drops one."""
        self._waiting.append(verdict)
        self._filled.set()

    def inherit(self, other: "Outbox") -> None:
        """Takes over what another outbox had still to tell: the bus's address has changed."""
        self._waiting.extendleft(reversed(other._waiting))  # noqa: SLF001 - of the same class
        if self._waiting:
            self._filled.set()

    async def run(self) -> None:
        """Tells until cancelled."""
        failures = 0
        while True:
            await self._filled.wait()
            try:
                await self._offer()
            except BusError as error:
                if failures % COMPLAIN_EVERY == 0:
                    log.warning(
                        "tell.waiting", bus=self.bus.name, reason=error.reason, waiting=len(self._waiting)
                    )
                self.retries += 1
                self.refusal = error.reason
                await asyncio.sleep(min(FIRST_PAUSE_SEC * 2 ** min(failures, 8), LONGEST_PAUSE_SEC))
                failures += 1
            else:
                failures, self.refusal = 0, None

    async def _offer(self) -> None:
        while self._waiting:
            some = [self._write(verdict) for verdict in self._next()]
            keys = [*self._keys, *(notice.health_key for notice in some)]
            args = [LOG_LENGTH, *(arg for notice in some for arg in notice.args())]
            outcomes = await self.bus.script(_TELL, keys, args)
            for notice, outcome in zip(some, outcomes, strict=True):
                self._told(self._waiting.popleft())
                if outcome == CHANNEL_REFUSED:
                    log.error("tell.channel_refused", bus=self.bus.name, channel=notice.channel)
        self._filled.clear()

    def _next(self) -> list[Verdict]:
        """The oldest verdicts, but never two on one service or bus.

        An answer that got lost makes us offer a batch again; the script knows each of its verdicts as told
        only while no later one on the same went along.
        """
        some: dict[tuple[str, Of], Verdict] = {}
        for verdict in islice(self._waiting, AT_ONCE):
            if (verdict.svc, verdict.of) in some:
                break
            some[verdict.svc, verdict.of] = verdict
        return list(some.values())
