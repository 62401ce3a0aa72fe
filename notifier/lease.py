"""Hold `notifier:lease` on every bus, so that one notifier at a time sends messages.

The first bus that answers decides which notifier leads, and the other buses follow its decision. Every
write is fenced by the lease (`commit.lua`), so a notifier can change nothing on a bus whose lease another
one holds. While no bus answers, the last leader continues, so that messages are still sent.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.fleet_lease import FleetLease, LeaseView
from marketswarm.bus.lease import LeaseAction, apply_lease_action
from marketswarm.keys import NOTIFIER_LEASE

log = logs.get("lease")


class NotifierLease(FleetLease[LeaseView]):
    """This notifier's lease on all buses, in the order in which they decide."""

    def __init__(self, boot: str, buses: Mapping[str, Bus], lease_sec: float) -> None:
        super().__init__(boot, lease_sec, lambda: LeaseView(boot, lease_sec, time.monotonic()))
        self.is_leader = False
        self._changed = asyncio.Event()
        self.set_buses(buses)

    @property
    def other(self) -> str:
        """The boot id of another notifier that holds a lease: empty if none does, `?` if unknown."""
        return next(
            (lease.holder for lease in self.leases.values() if lease.holder not in (None, "", self.boot)), ""
        )

    async def wait_until(self, *, is_leader: bool) -> None:
        while self.is_leader is not is_leader:
            self._changed.clear()
            await self._changed.wait()

    async def release(self) -> None:
        """Release the lease on every bus, so that a standby leads at once."""
        self.is_leader = False
        await super().release()

    def deny_leadership(self, bus: str) -> None:
        super().deny_leadership(bus)
        self.decide_leadership(time.monotonic())

    async def renew_on(self, name: str) -> None:
        """Act on the lease of one bus; a bus that fails is reported by its reader."""
        with contextlib.suppress(BusError):
            await self.send_next_request(name)
            self.decide_leadership(time.monotonic())

    async def send_request(
        self, bus: Bus, lease: LeaseView, action: LeaseAction, _carried: int, within_sec: float
    ) -> None:
        """Send one request; the lease is a string, which carries no epoch."""
        holder, _ = await apply_lease_action(
            bus, NOTIFIER_LEASE, self.boot, action, life_sec=self.lease_sec, within_sec=within_sec
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
