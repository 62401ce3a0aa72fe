"""A lease: a named right that only one process of a fleet holds at a time.

`me.lease()` runs a block under it.

    async with me.lease("nightly-report") as lease:
        await report(fence=lease.epoch)

Entering the block waits until the process holds the lease. A side task renews the lease while the block runs;
if the lease is lost, the block is cancelled. At the end of the block the lease is released.

The bus decides who holds the lease and when it expires; clocks of two machines are never compared. The holder
counts the lease's life from before the request was sent, so the lease ends here before the bus gives it to
another process. The leases of healer and notifier, which are decided on several buses, are elsewhere.
"""

import asyncio
import contextlib
import random
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final

from marketswarm import log as logs
from marketswarm.agent.tasks import CancelScope, hearing
from marketswarm.bus import WITHIN_SEC, Bus, BusError
from marketswarm.bus.lease import CHECKS, RELEASE_WITHIN_SEC, RENEWALS, wait_until_due
from marketswarm.bus.scripts import Script
from marketswarm.keys import lease_epoch_key, lease_key

if TYPE_CHECKING:
    from marketswarm.agent.member import Agent

TRIES: Final = 12
"""Attempts to renew within the life of a lease while the bus does not answer."""
LEAST_SEC: Final = 0.1
MOST_SEC: Final = 86_400.0
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}")
_LOOK_AT_LEAST_EVERY_SEC: Final = 10.0
_JUST_AFTER_SEC: Final = 0.005
_LEAST_WITHIN_SEC: Final = 0.01
_NEVER: Final = float("-inf")
_TURN: Final = Script.beside("marketswarm.agent", "lease.lua")

log = logs.get("lease")


def clock() -> float:
    """Return the seconds of CLOCK_BOOTTIME, which runs while the machine sleeps, or of the monotonic one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """A lease as one process sees it.

    `epoch` is greater than that of every holder before, 0 before the first.

    A process that slept past the end of its lease, and does not know it yet, can still do harm. So a store to
    which it writes should reject an epoch lower than one that the store has seen.

    Raises:
        ValueError: if the name has other characters, or `life_sec` is not 0.1 to 86,400 s.
    """

    def __init__(self, name: str, life_sec: float, bus: Bus, svc: str, boot: str) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} names no lease: a letter or digit, then up to 99 more or _ . : / -")
        if not LEAST_SEC <= life_sec <= MOST_SEC:
            raise ValueError(f"a lease of {life_sec} s: from {LEAST_SEC} to {MOST_SEC} s are possible")
        self.name, self.life_sec, self.bus = name, life_sec, bus
        self.epoch = 0
        self.holder = ""
        """The service and boot of another process that held the lease at the last answer; empty for none."""
        self._until = _NEVER
        self._free_in_sec = life_sec
        # the claim finds a lease again whose answer was lost; two blocks of one process have two claims
        self._who = (f"{boot}.{secrets.token_hex(4)}", boot, svc)

    @property
    def key(self) -> str:
        """Return the lease's key on the bus, which is also the channel on which its release is published."""
        return lease_key(self.name)

    @property
    def held(self) -> bool:
        """Return True while this process holds the lease, by its own clock.

        Read it right before an action that can't be undone.
        """
        return clock() < self._until

    def look_in_sec(self, chance: float) -> float:
        """Return the seconds until the next request for a lease that another process holds.

        `chance`, in [0, 1), spreads the requests of the waiting processes.
        """
        every_sec = min(self.life_sec / CHECKS, _LOOK_AT_LEAST_EVERY_SEC) * (1 - chance / 2)
        return min(every_sec, self._free_in_sec + _JUST_AFTER_SEC * (1 + chance))

    async def take(self) -> bool:
        """Request the lease; return True if this process holds it now. Raise BusError if the bus fails."""
        self._free_in_sec = self.life_sec
        await self._ask("take", min(WITHIN_SEC, self.life_sec / RENEWALS))
        return self.held

    async def keep(self) -> str:
        """Renew the lease again and again until it is lost, and return the reason for the loss."""
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
        """Release the lease. If the bus does not answer, the lease expires by itself."""
        if self.epoch and not self.held:
            return  # it was lost
        self._until = _NEVER
        with contextlib.suppress(BusError):
            await self._ask("give", RELEASE_WITHIN_SEC)

    async def _ask(self, word: str, within_sec: float) -> None:
        """Run lease.lua with `word` (`take`, `renew` or `give`) and store the answer.

        Raise BusError if the bus fails.
        """
        sent_at = clock()
        epoch, left_ms, holder, unusable = await self.bus.script(
            _TURN,
            [self.key, lease_epoch_key(self.name)],
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


_SPREAD_SEC: Final = 0.02  # the longest random pause before a request, once a lease was released


class LeaseHeld(Exception):  # noqa: N818 - an answer, not an accident
    """Another process held the lease, or the bus failed, for all of `wait_sec`."""


class LeaseLost(Exception):  # noqa: N818 - as above
    """The lease ended while its block ran, so the block was cancelled.

    Another process may hold the lease now.
    """


@contextlib.asynccontextmanager
async def leased(me: "Agent[Any]", lease: Lease, wait_sec: float | None) -> AsyncIterator[Lease]:
    """Wait for the lease, run the block while it is renewed, and release it: the body of `Agent.lease`.

    Raises LeaseHeld after `wait_sec` seconds without the lease (None: wait for ever), and LeaseLost when it
    is lost inside the block.
    """
    try:
        with _on_purpose(me):
            await _turn(me, lease, wait_sec)
        me.log.info("lease.held", lease=lease.name, epoch=lease.epoch)
        async with _kept(me, lease):
            yield lease
    finally:
        await lease.give()  # also if the bus may have granted the lease and its answer was lost


async def _turn(me: "Agent[Any]", lease: Lease, wait_sec: float | None) -> None:
    """Wait until this process holds the lease. Raise LeaseHeld after `wait_sec` seconds (None: never)."""
    ends_at = float("inf") if wait_sec is None else clock() + wait_sec
    why = await _refused(me, lease)
    if why is None:
        return
    freed = asyncio.Event()
    async with hearing(me, lease.bus, lease.key, lambda _: freed.set()):
        while why is not None:
            left_sec = ends_at - clock()
            if left_sec <= 0:
                raise LeaseHeld(f"{lease.name}: {why}")
            if await wait_until_due(freed, min(left_sec, lease.look_in_sec(random.random()))):
                await asyncio.sleep(_SPREAD_SEC * random.random())
            why = await _refused(me, lease)


async def _refused(me: "Agent[Any]", lease: Lease) -> str | None:
    """Request the lease once; return why it was refused, or None if it is held now.

    While the bus fails, the agent is degraded.
    """
    trouble, taken = None, False
    try:
        taken = await lease.take()
    except BusError as error:
        trouble = f"{error.bus} {error.reason}"
    me.set_degraded(trouble and f"waits for the lease {lease.name}: {trouble}", part=lease.key)
    return None if taken else trouble or f"{lease.holder} has it"


@contextlib.asynccontextmanager
async def _kept(me: "Agent[Any]", lease: Lease) -> AsyncIterator[None]:
    """Renew the lease beside the block, and cancel the block when the lease is lost. Raise LeaseLost then."""
    scope = CancelScope()
    lost = "it was not renewed in time"

    async def keep() -> None:
        """Renew the lease; when it is lost, log the reason and cancel the block."""
        nonlocal lost
        lost = await lease.keep()
        me.log.warning("lease.lost", lease=lease.name, epoch=lease.epoch, why=lost)
        scope.cancel()

    keeping = me.task(keep(), name=lease.key)
    try:
        yield
    except asyncio.CancelledError:
        if not scope.end():
            raise
        raise LeaseLost(f"{lease.name}: {lost}") from None
    finally:
        scope.end()
        keeping.cancel()
    if not lease.held:  # the block ended all the same, or the loop stood still until it did
        raise LeaseLost(f"{lease.name}: {lost}")


@contextlib.contextmanager
def _on_purpose(me: "Agent[Any]") -> Iterator[None]:
    """Count the wait inside this block as progress, if the current task is the work loop.

    A wait in a side task does not count: it would hide a work loop that hangs.
    """
    if not me.side_tasks.in_body():
        yield
        return
    me.work_progress.rest(time.monotonic())
    try:
        yield
    finally:
        me.work_progress.resume(time.monotonic())
