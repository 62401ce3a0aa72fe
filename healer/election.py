"""The election of the leader among several healers, by a lease on each bus; `lease.py` evaluates each reply.

The leader is elected on the first bus, `home`. It carries its epoch to the other buses, where a greater epoch
always wins.
"""

import time
from functools import partial
from typing import Final

from healer.lease import BusLease
from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.bus.fleet_lease import FleetLease
from marketswarm.bus.lease import LeaseAction
from marketswarm.bus.outage import Outage
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import replace_unusable, report_unusable
from marketswarm.keys import HEALER_LEASE
from marketswarm.monitor import Fence, Monitor
from marketswarm.settings.programs import HealerSettings

LEASE_SCRIPT: Final = Script.beside("healer", "lease.lua")

log = logs.get("lease")


class LeaderElection(FleetLease[BusLease]):
    """The `Leadership` of one healer on each bus.

    Set `monitor`, and call `set_buses`, with the bus `home` first, before `run`.

    The beats of `me` say whether it leads, or stands by for another healer. They are degraded while home
    gives no answer about its lease.
    """

    def __init__(self, me: Agent[HealerSettings], home: str) -> None:
        lease_sec = me.settings.healer_lease_sec
        super().__init__(me.boot, lease_sec, partial(BusLease, me.boot, lease_sec))
        self._me, self._home = me, home
        self.monitor: Monitor
        """The monitor that this healer leads or stands by with."""
        self._evaluations: dict[str, int] = {}  # by bus, the monitor's count at the last request
        self._logged_epochs: dict[str, int] = {}  # by bus, the epoch at the last log line about it
        self._outage = Outage(log, "lease.refused", "lease.answered")  # of home

    # -- `Leadership`

    def fence(self, bus: str) -> Fence | None:
        """Return the fence for writes to a bus; None if this healer does not lead there."""
        lease = self.leases.get(bus)
        return lease.fence if lease is not None else None

    def leader_seen_at(self, bus: str) -> float:
        """Return when another leader of the bus was last seen alive (monotonic); -inf if never."""
        lease = self.leases.get(bus)
        return lease.other_renewed_at if lease is not None else float("-inf")

    def leader_heard_bus_at(self, bus: str) -> float:
        """Return when another leader was last seen to write to the bus while it heard it (monotonic).

        Return -inf if never.
        """
        lease = self.leases.get(bus)
        # this also finds part of another bus's name; then the leader counts as deaf here, which does no harm
        heard = lease is not None and bus not in lease.other_deaf_to
        return lease.other_renewed_at if lease is not None and heard else float("-inf")

    # -- one bus

    async def renew_on(self, name: str) -> None:
        """Take, renew or only read the lease of one bus, and announce what changed."""
        lease = self.leases[name]
        try:
            await self._renew_if_evaluated(name, lease)
        except BusError as error:
            if name == self._home:
                self._outage.record(error)
            # no healer could ever hold a lease whose key has another type
            await replace_unusable(error, self._buses[name], {HEALER_LEASE: "hash"})
        self._announce_changes(name, lease)
        if name == self._home:
            self._me.set_detail(_describe_leadership(lease))
            refusal = self._outage.reason
            self._me.set_degraded(refusal and f"no lease on {name} ({refusal})", part="lease")

    async def _renew_if_evaluated(self, name: str, lease: BusLease) -> None:
        """Send the next request to a bus. Raise BusError.

        Send none if this healer leads there and its monitor has not evaluated since the last request.
        """
        evaluations = self.monitor.evaluator.evaluations
        if lease.epoch and self._evaluations.get(name) == evaluations:
            return  # a healer whose monitor hangs must not keep the lease from others
        self._evaluations[name] = evaluations
        await self.send_next_request(name)
        if name == self._home:
            self._outage.end()

    async def send_request(
        self, bus: Bus, lease: BusLease, action: LeaseAction, carried: int, within_sec: float
    ) -> None:
        """Run lease.lua once and apply its reply; the script's header explains the arguments.

        Raise BusError.
        """
        now, may_take = time.monotonic(), action is LeaseAction.TAKE
        reply = await bus.script(
            LEASE_SCRIPT,
            [HEALER_LEASE],
            [
                self.boot,
                lease.epoch,
                self._compute_least_epoch(bus.name, now),
                carried,
                int(may_take),
                lease.find_stale_version(now) if may_take else "",
                ",".join(self.monitor.list_unheard_buses()),
                self.lease_sec,
                int(action is LeaseAction.RELEASE),
            ],
            within_sec,
        )
        if not lease.apply_reply(reply, now):
            report_unusable(bus.name, HEALER_LEASE)

    def _compute_least_epoch(self, name: str, now: float) -> int:
        """Return the least epoch for a new lease of a bus.

        On a bus that decides it is great enough for the other buses to accept it there; elsewhere it is 1.
        """
        others = [
            seen.epoch + (seen.boot != self.boot)
            for other, lease in self.leases.items()
            if other != name
            and name in (self._home, self.find_deciding_bus(now))
            and (seen := lease.seen) is not None
        ]
        return max([1, *others])

    # -- changes

    def _announce_changes(self, name: str, lease: BusLease) -> None:
        """Log that the lease of a bus was taken or lost, and notify the monitor.

        After a change on home, have the leases of the other buses requested at once.
        """
        if lease.epoch == self._logged_epochs.get(name, 0):
            return
        self._logged_epochs[name] = lease.epoch
        if lease.epoch:
            log.info("lease.held", bus=name, epoch=lease.epoch)
        else:
            log.info("lease.lost", bus=name, leader=lease.seen.boot if lease.seen else "")
        self.monitor.leadership_changed(name)
        if name == self._home:
            self.request_at_once(*(other for other in self.leases if other != name))


def _describe_leadership(lease: BusLease) -> str:
    if lease.epoch:
        return f"leads, epoch {lease.epoch}"
    other = lease.seen.boot if lease.seen is not None else ""
    return f"stands by, {other} leads" if other else "stands by"
