"""`me.lease()`: a block that runs only while a lease is ours.

    async with me.lease("nightly-report") as lease:
        await report(fence=lease.epoch)

It waits for its turn, keeps the lease beside the block, ends the block when the lease is lost, gives it back.
What the bus is asked, and what its answers mean, is `lease.py`.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final

from marketswarm.agent.cut import Cut
from marketswarm.agent.hearing import hearing
from marketswarm.agent.lease import Lease, clock
from marketswarm.bus import BusError

if TYPE_CHECKING:
    from marketswarm.agent.member import Agent

_SPREAD_SEC: Final = 0.02  # those who hear that it is free come one after the other


class LeaseHeld(Exception):  # noqa: N818 - an answer, not an accident
    """It could not be had in the time that there was to wait."""


class LeaseLost(Exception):  # noqa: N818 - as above
    """It ended while the block went on, which was cancelled for that: another one may have it now."""


@contextlib.asynccontextmanager
async def leased(me: "Agent[Any]", lease: Lease, wait_sec: float | None) -> AsyncIterator[Lease]:
    """See `Agent.lease`."""
    try:
        with _on_purpose(me):
            await _turn(me, lease, wait_sec)
        me.log.info("lease.held", lease=lease.name, epoch=lease.epoch)
        async with _kept(me, lease):
            yield lease
    finally:
        await lease.give()  # also one that we may have been given without hearing of it


async def _turn(me: "Agent[Any]", lease: Lease, wait_sec: float | None) -> None:
    """Wait until it is ours. Raises LeaseHeld after `wait_sec` seconds; None: never."""
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
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_sec, lease.look_in_sec(random.random()))):
                    await freed.wait()
                    await asyncio.sleep(_SPREAD_SEC * random.random())
            freed.clear()
            why = await _refused(me, lease)


async def _refused(me: "Agent[Any]", lease: Lease) -> str | None:
    """Ask once; why it is not ours, or None."""
    trouble, taken = None, False
    try:
        taken = await lease.take()
    except BusError as error:
        trouble = f"{error.bus} {error.reason}"
    me.ail(lease.key, trouble and f"waits for the lease {lease.name}: {trouble}")
    return None if taken else trouble or f"{lease.holder} has it"


@contextlib.asynccontextmanager
async def _kept(me: "Agent[Any]", lease: Lease) -> AsyncIterator[None]:
    """Keep it beside the block, which is cut when it is lost. Raises LeaseLost."""
    cut = Cut()
    lost = "it was not renewed in time"

    async def keep() -> None:
        nonlocal lost
        lost = await lease.keep()
        me.log.warning("lease.lost", lease=lease.name, epoch=lease.epoch, why=lost)
        cut.now()

    keeping = me.task(keep(), name=lease.key)
    try:
        yield
    except asyncio.CancelledError:
        if not cut.end():
            raise
        raise LeaseLost(f"{lease.name}: {lost}") from None
    finally:
        cut.end()
        keeping.cancel()
    if not lease.held:  # the block ended all the same, or the loop stood still until it did
        raise LeaseLost(f"{lease.name}: {lost}")


@contextlib.contextmanager
def _on_purpose(me: "Agent[Any]") -> Iterator[None]:
    """Waiting counts as progress where the work loop waits; a side task would vouch for one that hangs."""
    if not me.beside.in_body():
        yield
        return
    me.work.rest(time.monotonic())
    try:
        yield
    finally:
        me.work.resume(time.monotonic())
