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
from collections.abc import AsyncIterator, Callable
from typing import Final

from marketswarm import log as logs
from marketswarm.agent.tasks import CancelScope, Host, subscribe_inside
from marketswarm.bus import WITHIN_SEC, Bus, BusError
from marketswarm.bus.lease import CHECKS, RELEASE_WITHIN_SEC, RENEWALS
from marketswarm.bus.scripts import Script
from marketswarm.keys import lease_epoch_key, lease_key, own_lease_epoch_key, own_lease_key
from marketswarm.time_slice import wait_until_due

RETRIES: Final = 12
"""Attempts to renew within the life of a lease while the bus does not answer."""
MIN_LIFE_SEC: Final = 0.1
MAX_LIFE_SEC: Final = 86_400.0
NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}")
_MAX_PAUSE_SEC: Final = 10.0
_JUST_AFTER_SEC: Final = 0.005
_MIN_WITHIN_SEC: Final = 0.01
_NEVER: Final = float("-inf")
_RENEWED_SHARE: Final = 0.1  # of the life: answers of a slow bus make an end look later by less
_LEASE_SCRIPT: Final = Script.beside("marketswarm.agent", "lease.lua")

log = logs.get("lease")

_SPREAD_SEC: Final = 0.02  # the longest random pause before a request, once a lease was released


def clock() -> float:
    """Return CLOCK_BOOTTIME, which runs while the machine sleeps, or monotonic time, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def is_in_time(until: float | None) -> bool:
    """Return True before `until`, the end of a lease by `clock`; always for a lease without an end."""
    return until is None or clock() < until


class Lease:
    """A lease as one process sees it.

    `epoch` is greater than the epoch of every earlier holder, and 0 before this process holds the lease.

    A process that slept past the end of its lease, and does not know it yet, can still do harm. So a store to
    which it writes should reject an epoch lower than one that the store has seen. Raises ValueError if a name
    has other characters, or `life_sec` is not 0.1 to 86,400 s.

    Args:
        own: whether only processes of `svc` ask for it, so that no other user may write its keys.
        former: the name under which an older release of `svc` asks for the same lease as one that is not its
            own. Who holds this lease takes that one from its holder and keeps it, so that old processes wait;
            who writes there can't disturb this one.
        on_other_holder: called whenever an answer names another process as the holder, with whether that one
            is seen to have renewed the lease, and so works.
    """

    def __init__(
        self,
        name: str,
        life_sec: float,
        bus: Bus,
        svc: str,
        boot: str,
        *,
        own: bool = False,
        former: str | None = None,
        on_other_holder: Callable[[bool], None] = lambda _: None,
    ) -> None:
        for each in (name, former):
            if each is not None and not NAME_PATTERN.fullmatch(each):
                raise ValueError(
                    f"{each!r} names no lease: a letter or digit, then up to 99 more or _ . : / -"
                )
        if not MIN_LIFE_SEC <= life_sec <= MAX_LIFE_SEC:
            raise ValueError(f"a lease of {life_sec} s: from {MIN_LIFE_SEC} to {MAX_LIFE_SEC} s are possible")
        self.name, self.life_sec, self.bus = name, life_sec, bus
        self.epoch = 0
        self.holder = ""
        """The service and boot that held the lease by another request at the last answer; empty for none."""
        self.key = own_lease_key(svc, name) if own else lease_key(name)
        """The key on the bus, which is also the channel on which the lease's release is published."""
        epoch_key = own_lease_epoch_key(svc, name) if own else lease_epoch_key(name)
        self._keys = [self.key, epoch_key, *([] if former is None else [lease_key(former)])]
        self._on_other_holder = on_other_holder
        self._seen_end = "", float("inf")
        """The last other holder, and when its lease ends, by `clock`."""
        self.expires_at = _NEVER
        """When the lease ends unless it is renewed, by `clock`."""
        self._free_in_sec = life_sec
        # the claim, the first of these, finds a lease again whose answer was lost; two blocks of one process
        # have two claims
        self._claim_args = (f"{boot}.{secrets.token_hex(4)}", boot, svc)
        self._process = f"{svc} {boot}"

    @property
    def held(self) -> bool:
        """Return True if this process holds the lease, by its own clock.

        Read it right before an action that can't be undone.
        """
        return clock() < self.expires_at

    @property
    def has_lapsed(self) -> bool:
        """Return True if its time passed without an answer: its bus hangs, or this process stood still."""
        return _NEVER < self.expires_at <= clock()

    def next_request_sec(self, chance: float) -> float:
        """Return the seconds until the next request for a lease that another process holds.

        `chance`, in [0, 1), spreads the requests of the waiting processes.
        """
        every_sec = min(self.life_sec / CHECKS, _MAX_PAUSE_SEC) * (1 - chance / 2)
        return min(every_sec, self._free_in_sec + _JUST_AFTER_SEC * (1 + chance))

    async def acquire(self) -> bool:
        """Request the lease; return True if this process holds it now. Raise BusError if the bus fails."""
        self._free_in_sec = self.life_sec
        await self._run_script("take", min(WITHIN_SEC, self.life_sec / RENEWALS))
        return self.held

    async def renew_until_lost(self) -> str:
        """Return the reason for the loss."""
        pause_sec, loss = self.life_sec / RENEWALS, "it was not renewed in time"
        while True:
            await asyncio.sleep(min(pause_sec, max(0.0, self.expires_at - clock())))
            left_sec = self.expires_at - clock()
            if left_sec <= 0:
                return loss
            try:
                await self._run_script("renew", min(left_sec, self.life_sec / RENEWALS))
            except BusError as error:
                pause_sec, loss = self.life_sec / RETRIES, f"{error.bus} {error.reason}"
            else:
                pause_sec = self.life_sec / RENEWALS
                if self.expires_at == _NEVER:
                    return f"{self.holder} has it" if self.holder else "it is gone from the bus"

    async def release(self) -> None:
        """If the bus does not answer, the lease expires by itself."""
        if self.epoch and not self.held:
            return  # it was lost
        self.expires_at = _NEVER
        with contextlib.suppress(BusError):
            await self._run_script("give", RELEASE_WITHIN_SEC)

    async def _run_script(self, word: str, within_sec: float) -> None:
        """`word` is `take`, `renew` or `give`. Raise BusError if the bus fails."""
        sent_at = clock()
        epoch, left_ms, holder, unusable = await self.bus.script(
            _LEASE_SCRIPT,
            self._keys,
            [word, *self._claim_args, round(1000 * self.life_sec)],
            max(_MIN_WITHIN_SEC, within_sec),
        )
        if unusable:
            log.warning("lease.unusable", lease=self.name, found=unusable.decode("utf-8", "replace"))
        self._free_in_sec = int(left_ms) / 1000
        if int(epoch):
            self.epoch, self.expires_at, self.holder = int(epoch), sent_at + self.life_sec, ""
        else:
            self.expires_at, self.holder = _NEVER, holder.decode("utf-8", "replace")
            is_renewed = self._note_end(clock() + self._free_in_sec)
            # an earlier request of this process may hold it still, if the bus stored it late
            if self.holder not in ("", self._process):
                self._on_other_holder(is_renewed)

    def _note_end(self, ends_at: float) -> bool:
        """Note when the lease of another holder ends, by `clock`; return True if it has renewed the lease.

        A later end than before is a renewal. That somebody took it proves little: whose work fails at once
        takes it again and again.
        """
        (holder, seen), self._seen_end = self._seen_end, (self.holder, ends_at)
        return holder == self.holder and ends_at - seen > self.life_sec * _RENEWED_SHARE


class LeaseHeld(Exception):  # noqa: N818 - an answer, not an accident
    """Another process held the lease, or the bus failed, for all of `wait_sec`."""


class LeaseLost(Exception):  # noqa: N818 - as above
    """The lease ended while its block ran, so the block was cancelled; another process may hold it now."""


@contextlib.asynccontextmanager
async def hold_lease(me: Host, lease: Lease, wait_sec: float | None) -> AsyncIterator[Lease]:
    """Wait for the lease, run the block while it is renewed, and release it: the body of `Agent.lease`.

    Raises LeaseHeld after `wait_sec` seconds without the lease (None: wait for ever), and LeaseLost when it
    is lost inside the block.
    """
    try:
        # a wait in a side task counts as no progress: it would hide a work loop that hangs
        is_in_body = me.side_tasks.is_in_body()
        with me.work_progress.resting() if is_in_body else contextlib.nullcontext():
            await _wait_until_held(me, lease, wait_sec)
        me.log.info("lease.held", lease=lease.name, epoch=lease.epoch)
        async with _renew_beside(me, lease):
            yield lease
    finally:
        await lease.release()  # also if the bus may have granted the lease and its answer was lost


async def _wait_until_held(me: Host, lease: Lease, wait_sec: float | None) -> None:
    """Raise LeaseHeld after `wait_sec` seconds (None: never)."""
    ends_at = float("inf") if wait_sec is None else clock() + wait_sec
    refusal = await _request_once(me, lease)
    if refusal is None:
        return
    freed = asyncio.Event()
    async with subscribe_inside(me.side_tasks, lease.bus, lease.key, lambda _: freed.set()):
        while refusal is not None:
            left_sec = ends_at - clock()
            if left_sec <= 0:
                raise LeaseHeld(f"{lease.name}: {refusal}")
            if await wait_until_due(freed, min(left_sec, lease.next_request_sec(random.random()))):
                await asyncio.sleep(_SPREAD_SEC * random.random())
            refusal = await _request_once(me, lease)


async def _request_once(me: Host, lease: Lease) -> str | None:
    """Request the lease once; return why it was refused, or None if it is held now.

    While the bus fails, the agent is degraded.
    """
    trouble, is_held = None, False
    try:
        is_held = await lease.acquire()
    except BusError as error:
        trouble = f"{error.bus} {error.reason}"
    me.set_degraded(trouble and f"waits for the lease {lease.name}: {trouble}", part=lease.key)
    return None if is_held else trouble or f"{lease.holder} has it"


@contextlib.asynccontextmanager
async def _renew_beside(me: Host, lease: Lease) -> AsyncIterator[None]:
    """Renew the lease beside the block, and cancel the block when the lease is lost. Raise LeaseLost then."""
    scope = CancelScope()
    loss = "it was not renewed in time"

    async def renew() -> None:
        nonlocal loss
        loss = await lease.renew_until_lost()
        me.log.warning("lease.lost", lease=lease.name, epoch=lease.epoch, why=loss)
        scope.cancel()

    renewing = me.side_tasks.start(renew(), name=lease.key)
    try:
        yield
    except asyncio.CancelledError:
        if not scope.end():
            raise
        raise LeaseLost(f"{lease.name}: {loss}") from None
    finally:
        scope.end()
        renewing.cancel()
    if not lease.held:  # the block ended all the same, or the loop stood still until it did
        raise LeaseLost(f"{lease.name}: {loss}")
