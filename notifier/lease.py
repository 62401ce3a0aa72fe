"""Hold `notifier:lease` on every bus, so that one notifier at a time sends messages.

The first bus that answers decides which notifier leads, and the other buses follow its decision. Every
write is fenced by the lease (`commit.lua`): a notifier can change nothing on a bus whose lease another
one holds. While no bus answers, the last leader continues, so that messages are still sent.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.fleet_lease import FleetLease
from marketswarm.bus.lease import LeaseAction, apply_lease_action, compute_interval_sec
from marketswarm.keys import NOTIFIER_LEASE

log = logs.get("lease")


class HolderView:
    """The holder of the lease on one bus, as one notifier knows it. Pure; `now` is monotonic seconds.

    Args:
        boot: the boot id of this notifier.
        lease_sec: the lifetime of a lease, in seconds.
        now: the time at the start.
    """

    def __init__(self, boot: str, lease_sec: float, now: float) -> None:
        self._boot, self._lease_sec, self._answered_at = boot, lease_sec, now
        self.holder: str | None = None
        """The boot id of the holder: empty if there is none, `?` if it is unknown, None before an answer."""

    @property
    def epoch(self) -> int:
        """1 while this notifier holds the lease, else 0."""
        return int(self.holder == self._boot)

    def is_bus_away(self, now: float) -> bool:
        """Return True if the bus has not answered for longer than a lease's lifetime."""
        return now - self._answered_at > self._lease_sec

    def has_other_holder(self, _now: float) -> bool:
        """Return True if another notifier holds the lease."""
        return bool(self.holder) and not self.epoch

    def seconds_to_next_request(self, _now: float) -> float:
        """Return the pause before the next request."""
        return compute_interval_sec(self._lease_sec, is_holder=self.epoch > 0)

    def mark_lost(self) -> None:
        """Note that the bus refused a write of ours: another notifier holds the lease."""
        self.holder = "?"

    def record_holder(self, holder: str, now: float) -> None:
        """Record which boot id holds the lease."""
        self.holder, self._answered_at = holder, now


class NotifierLease(FleetLease[HolderView]):
    """This notifier's lease on all buses, in the order in which they decide."""

    def __init__(self, boot: str, buses: Mapping[str, Bus], lease_sec: float) -> None:
        super().__init__(lease_sec)
        self._boot = boot
        self.is_leader = False
        self._changed = asyncio.Event()
        self.set_buses(buses)

    @property
    def other(self) -> str:
        """The boot id of another notifier that holds a lease: empty if none does, `?` if unknown."""
        return next(
            (lease.holder for lease in self.leases.values() if lease.holder not in (None, "", self._boot)), ""
        )

    async def wait_gained(self) -> None:
        await self._wait_until(is_leader=True)

    async def wait_lost(self) -> None:
        await self._wait_until(is_leader=False)

    async def _wait_until(self, *, is_leader: bool) -> None:
        while self.is_leader is not is_leader:
            self._changed.clear()
            await self._changed.wait()

    async def release(self) -> None:
        """Release the lease on every bus, so that a standby leads at once."""
        self.is_leader = False
        await super().release()

    def deny_leadership(self, bus: str) -> None:
        """Note that a bus refused a write because another notifier holds its lease."""
        super().deny_leadership(bus)
        self.decide_leadership(time.monotonic())

    def make_lease(self) -> HolderView:
        """Return the view of a lease of which nothing is known."""
        return HolderView(self._boot, self.lease_sec, time.monotonic())

    async def renew_on(self, name: str, lease: HolderView) -> None:
        """Act on the lease of one bus; a bus that fails is reported by its reader."""
        with contextlib.suppress(BusError):
            await self.send_next_request(name, lease)
            self.decide_leadership(time.monotonic())

    async def send_request(
        self,
        bus: Bus,
        lease: HolderView,
        action: LeaseAction,
        carried: int,  # noqa: ARG002 - a string has no epoch
        within_sec: float,
    ) -> None:
        """Apply an action to the lease on one bus."""
        holder, _ = await apply_lease_action(
            bus, NOTIFIER_LEASE, self._boot, action, life_sec=self.lease_sec, within_sec=within_sec
        )
        lease.record_holder(holder, time.monotonic())

    def decide_leadership(self, now: float) -> None:
        """Lead if this notifier holds the lease of the bus that decides; after a change act on all leases.

        While no bus answers, nothing changes.
        """
        decides = self.find_deciding_bus(now)
        if decides is None or self.leases[decides].holder is None:
            return
        if self.is_leader is (leads := self.leases[decides].epoch > 0):
            return
        self.is_leader = leads
        if leads:
            log.info("lease.held")
        else:
            log.warning("lease.lost", leader=self.other)
        self._changed.set()
        self.request_at_once(*self.leases)
