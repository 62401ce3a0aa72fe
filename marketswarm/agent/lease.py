"""A lease: what only one process of a fleet may do at a time, as one process sees it and asks for it.

The bus decides who has it and when it ends; no clock is compared with another machine's. Who has it reckons
its end from before the request was sent, so it is over here before the bus gives it to another one. Not here:
what becomes of the block that holds it (`leasing.py`), and who leads among healers and notifiers, which go by
several buses.
"""

import asyncio
import contextlib
import re
import secrets
import time
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import WITHIN_SEC, Bus, BusError
from marketswarm.bus.scripts import Script

RENEWALS: Final = 3
"""How often a lease is renewed in its life."""
LOOKS: Final = 8
"""How often who waits looks at it in its life, or more often: it hears when the lease is given back."""
TRIES: Final = 12
"""How often in its life a renewal is tried again while the bus is away."""
LEAST_SEC: Final = 0.1
MOST_SEC: Final = 86_400.0
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}")
GIVE_WITHIN_SEC: Final = 0.5
_LOOK_AT_LEAST_EVERY_SEC: Final = 10.0
_JUST_AFTER_SEC: Final = 0.005
_LEAST_WITHIN_SEC: Final = 0.01
_NEVER: Final = float("-inf")
_TURN: Final = Script.beside("marketswarm.agent", "lease.lua")

log = logs.get("lease")


def clock() -> float:
    """Seconds of a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """What `me.lease` gives: `epoch` is greater than that of everyone who held it before.

    A process that slept through the end and does not know it yet can still do harm: what it writes to should
    refuse an epoch lower than one that it has seen.

    Raises:
        ValueError: such a name, or such a life, is not possible.
    """

    def __init__(self, name: str, life_sec: float, bus: Bus, svc: str, boot: str) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} names no lease: a letter or digit, then up to 99 more or _ . : / -")
        if not LEAST_SEC <= life_sec <= MOST_SEC:
            raise ValueError(f"a lease of {life_sec} s: from {LEAST_SEC} to {MOST_SEC} s are possible")
        self.name, self.life_sec, self.bus = name, life_sec, bus
        self.epoch = 0
        self.holder = ""
        """Who else has it, as far as is known: its service and boot."""
        self._until = _NEVER
        self._free_in_sec = life_sec
        # an answer that was lost is found again by the first; two blocks of one process are two
        self._who = (f"{boot}.{secrets.token_hex(4)}", boot, svc)

    @property
    def key(self) -> str:
        """Its key on the bus, and the channel on which it is told that it was given back."""
        return f"lease:{self.name}"

    @property
    def held(self) -> bool:
        """Whether it is still ours, by our own clock: worth asking right before what cannot be undone."""
        return clock() < self._until

    def look_in_sec(self, chance: float) -> float:
        """When to ask again for one that is somebody's. `chance`, in [0, 1), keeps those who wait apart."""
        every_sec = min(self.life_sec / LOOKS, _LOOK_AT_LEAST_EVERY_SEC) * (1 - chance / 2)
        return min(every_sec, self._free_in_sec + _JUST_AFTER_SEC * (1 + chance))

    async def take(self) -> bool:
        """Ask for it; whether it is ours now. Raises BusError."""
        self._free_in_sec = self.life_sec
        await self._ask("take", min(WITHIN_SEC, self.life_sec / RENEWALS))
        return self.held

    async def keep(self) -> str:
        """Renew it for as long as that can be done; why it could not any longer."""
        pause_sec, why = self.life_sec / RENEWALS, "it was not renewed in time"
        while True:
            await asyncio.sleep(min(pause_sec, max(0.0, self._until - clock())))
            left_sec = self._until - clock()
            if left_sec <= 0:
                return why
            try:
                await self._ask("renew", min(left_sec, self.life_sec / RENEWALS))
            except BusError as error:
                pause_sec, why = self.life_sec / TRIES, f"{error.bus} {error.reason}"
            else:
                pause_sec = self.life_sec / RENEWALS
                if self._until == _NEVER:
                    return f"{self.holder} has it" if self.holder else "it is gone from the bus"

    async def give(self) -> None:
        """Let another one have it at once; where the bus does not answer it ends by itself."""
        if self.epoch and not self.held:
            return  # it was lost
        self._until = _NEVER
        with contextlib.suppress(BusError):
            await self._ask("give", GIVE_WITHIN_SEC)

    async def _ask(self, word: str, within_sec: float) -> None:
        sent_at = clock()
        epoch, left_ms, holder, unusable = await self.bus.script(
            _TURN,
            [self.key, f"lease-epoch:{self.name}"],
            [word, *self._who, round(1000 * self.life_sec)],
            max(_LEAST_WITHIN_SEC, within_sec),
        )
        if unusable:
            log.warning("lease.unusable", lease=self.name, found=unusable.decode("utf-8", "replace"))
        self._free_in_sec = int(left_ms) / 1000
        if int(epoch):
            self.epoch, self._until, self.holder = int(epoch), sent_at + self.life_sec, ""
        else:
            self._until, self.holder = _NEVER, holder.decode("utf-8", "replace")
