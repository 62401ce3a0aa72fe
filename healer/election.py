"""The election of the leader among several healers, by a lease on each bus; `lease.py` evaluates each reply.

The leader is elected on one bus, `home`. It carries its epoch to the other buses, where a greater epoch
always wins. Only a healer that can't reach home may take the lease of another bus without its epoch from
home. So a healer that is cut off from home does not go on writing elsewhere beside its successor.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

from healer.lease import BusLease
from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.lease import RELEASE_WITHIN_SEC, compute_request_limit_sec, renew_repeatedly
from marketswarm.bus.outage import Outage
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import delete_wrong_types, is_wrong_type, report_unusable
from marketswarm.keys import HEALER_LEASE
from marketswarm.monitor import Fence

MIN_PAUSE_SEC: Final = 0.02

LEASE_SCRIPT: Final = Script.beside("healer", "lease.lua")

log = logs.get("lease")


class MonitorStatus(Protocol):
    """The monitor, as far as the election needs it."""

    @property
    def evaluations(self) -> int:
        """The number of the monitor's evaluations: a leader whose monitor hangs must not renew its lease."""

    def list_unheard_buses(self) -> list[str]:
        """Return the buses that the monitor does not hear now."""

    def leadership_changed(self, bus: str) -> None:
        """Handle that this healer began or ceased to lead on a bus."""


class LeaderElection:
    """The `Leadership` of one healer on each bus.

    Call `set_monitor` and `set_buses` first, then `run`, and `release` in the end.

    Args:
        boot: the healer's own instance.
        home: the bus on which the leader is elected.
        lease_sec: the life of a lease, in seconds.
        set_detail: called with the detail of the beats: this healer leads, or stands by for another one.
        set_degraded: called with the reason when home gives no answer about its lease, else with None.
    """

    def __init__(
        self,
        boot: str,
        *,
        home: str,
        lease_sec: float,
        set_detail: Callable[[str | None], None],
        set_degraded: Callable[[str | None], None],
    ) -> None:
        self._boot = boot
        self._home = home
        self._lease_sec = lease_sec
        self._set_detail = set_detail
        self._set_degraded = set_degraded
        self._monitor: MonitorStatus
        self.leases: dict[str, BusLease] = {}
        """The leases by the names of their buses."""
        self._buses: dict[str, Bus] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._due: dict[str, asyncio.Event] = {}  # set when a lease is to be requested at once
        self._group: asyncio.TaskGroup | None = None
        self._evaluations: dict[str, int] = {}  # by bus, the monitor's count at the last request
        self._logged_epochs: dict[str, int] = {}  # by bus, the epoch at the last log line about it
        self._outage = Outage(log, "lease.refused", "lease.answered")  # of home

    # -- `Leadership`

    def fence(self, bus: str) -> Fence | None:
        """Return the fence for writes to a bus; None if this healer does not lead there."""
        lease = self.leases.get(bus)
        return lease.fence if lease is not None else None

    def deny_leadership(self, bus: str) -> None:
        """Note that a bus refused a write because another healer leads; request its lease at once."""
        lease = self.leases.get(bus)
        if lease is not None and lease.epoch:
            lease.mark_lost()
            self._due[bus].set()

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

    # -- life

    def set_monitor(self, monitor: MonitorStatus) -> None:
        """Set the monitor that this healer leads or stands by with."""
        self._monitor = monitor

    def set_buses(self, buses: Mapping[str, Bus]) -> None:
        """Request and renew a lease on each of these buses from now on, and on no others."""
        for name in self._buses.keys() - buses.keys():
            self._drop_bus(name)
        for name, bus in buses.items():
            if self._buses.get(name) is bus:
                continue
            self._drop_bus(name)
            self._buses[name], self.leases[name] = bus, BusLease(self._boot, self._lease_sec)
            self._due[name] = asyncio.Event()
            self._start_renewals(name)

    def _drop_bus(self, name: str) -> None:
        """Stop the requests for the lease of a bus, and forget the bus."""
        if name in self._tasks:
            self._tasks.pop(name).cancel()
        self._buses.pop(name, None)
        self.leases.pop(name, None)

    def _start_renewals(self, name: str) -> None:
        """Start the task that requests and renews the lease of a bus, if `run` is running."""
        if self._group is not None:
            renew = partial(self._renew_lease, name, self.leases[name])
            self._tasks[name] = self._group.create_task(
                renew_repeatedly(renew, self._due[name]), name=f"lease:{name}"
            )

    async def run(self) -> None:
        """Request and renew the leases until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name in self._buses:
                self._start_renewals(name)
            await asyncio.Event().wait()

    async def release(self) -> None:
        """Release all leases, so that another healer leads at once; on a bus that is away it expires."""
        async with asyncio.TaskGroup() as group:
            for name, lease in self.leases.items():
                if lease.epoch:
                    group.create_task(self._release_lease(self._buses[name], lease))

    async def _release_lease(self, bus: Bus, lease: BusLease) -> None:
        """Release the lease of one bus; ignore a failure of the bus."""
        with contextlib.suppress(BusError):
            await self._send_request(bus, lease, release=True, within_sec=RELEASE_WITHIN_SEC)

    # -- one bus

    async def _renew_lease(self, name: str, lease: BusLease) -> float:
        """Take, renew or only read the lease of one bus; return the seconds until the next time."""
        try:
            await self._send_next_request(name, lease)
        except BusError as error:
            if name == self._home:
                self._outage.record(error)
            await self._replace_wrong_type(name, error)
        self._announce_changes(name, lease)
        if name == self._home:
            self._set_detail(_describe_leadership(lease))
            refusal = self._outage.reason
            self._set_degraded(refusal and f"no lease on {name} ({refusal})")
        return max(MIN_PAUSE_SEC, lease.seconds_to_next_request(time.monotonic()))

    async def _send_next_request(self, name: str, lease: BusLease) -> None:
        """Send the request that this healer may send to a bus now. Raise BusError.

        It sends none if it leads there and its monitor has not evaluated since the last request.
        """
        if lease.epoch and self._evaluations.get(name) == self._monitor.evaluations:
            return  # a healer whose monitor hangs must not keep the lease from others
        self._evaluations[name] = self._monitor.evaluations
        if name == self._home:
            await self._send_request(self._buses[name], lease, may_take=True)
            self._outage.end()
            return
        home, now = self.leases[self._home], time.monotonic()
        if home.epoch and not home.is_bus_away(now):
            await self._send_request(self._buses[name], lease, carried=home.epoch)
        elif home.is_bus_away(now):
            await self._send_request(self._buses[name], lease, may_take=True)
        else:
            await self._send_request(
                self._buses[name], lease, release=bool(lease.epoch) and home.has_other_holder(now)
            )

    async def _send_request(
        self,
        bus: Bus,
        lease: BusLease,
        *,
        carried: int = 0,
        may_take: bool = False,
        release: bool = False,
        within_sec: float | None = None,
    ) -> None:
        """Run lease.lua once and apply its reply; the script's header explains the arguments.

        Raise BusError.
        """
        now = time.monotonic()
        stale = lease.find_stale_version(now) if may_take else ""
        reply = await bus.script(
            LEASE_SCRIPT,
            [HEALER_LEASE],
            [
                self._boot,
                lease.epoch,
                self._compute_least_epoch(bus.name),
                carried,
                int(may_take),
                stale,
                ",".join(self._monitor.list_unheard_buses()),
                self._lease_sec,
                int(release),
            ],
            within_sec or compute_request_limit_sec(self._lease_sec),
        )
        if not lease.apply_reply(reply, now):
            report_unusable(bus.name, HEALER_LEASE)

    def _compute_least_epoch(self, name: str) -> int:
        """Return the least epoch for a new lease of a bus.

        On home it is great enough for the other buses to accept it there; elsewhere it is 1.
        """
        others = [
            seen.epoch + (seen.boot != self._boot)
            for other, lease in self.leases.items()
            if other != name and name == self._home and (seen := lease.seen) is not None
        ]
        return max([1, *others])

    async def _replace_wrong_type(self, name: str, error: BusError) -> None:
        """Delete the lease's key if it holds another type: else no healer could ever hold the lease."""
        if is_wrong_type(error):
            with contextlib.suppress(BusError):
                await delete_wrong_types(self._buses[name], {HEALER_LEASE: "hash"})

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
        self._monitor.leadership_changed(name)
        if name == self._home:
            for other, due in self._due.items():
                if other != name:
                    due.set()


def _describe_leadership(lease: BusLease) -> str:
    """Return the leadership on home as text for a beat's `detail`."""
    if lease.epoch:
        return f"leads, epoch {lease.epoch}"
    other = lease.seen.boot if lease.seen is not None else ""
    return f"stands by, {other} leads" if other else "stands by"
