"""Hold one lease on several buses: the first bus that answers decides who holds it, and the others follow.

Only a process that can't reach a bus takes the lease of the next one by itself. So one that is cut off from
the first bus does not continue elsewhere beside its successor. On each bus the writes of a holder are fenced:
the bus refuses a write of a process that does not hold its lease, whatever that process believes.
"""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from marketswarm.bus.bus import Bus
from marketswarm.bus.errors import BusError
from marketswarm.bus.lease import CHECKS, RELEASE_WITHIN_SEC, RENEWALS, LeaseAction
from marketswarm.time_slice import wait_until_due

MIN_PAUSE_SEC: Final = 0.02
MIN_WITHIN_SEC: Final = 0.5
"""The least time limit of a request, in seconds; that of a longer lease is half of its life."""


class LeaseView:
    """The lease of one bus as the process `boot` sees it; `now` is monotonic time in seconds."""

    def __init__(self, boot: str, lease_sec: float, answered_at: float = float("-inf")) -> None:
        self.boot, self.lease_sec, self.answered_at = boot, lease_sec, answered_at
        self.epoch = 0  # the number with which this process holds the lease; 0 if it does not
        self.holder: str | None = None  # '' if there is none, '?' if it is unknown, None before an answer

    def has_other_holder(self, _now: float) -> bool:
        return self.holder not in (None, "", self.boot)

    def seconds_to_next_request(self, _now: float) -> float:
        return self.lease_sec / (RENEWALS if self.epoch else CHECKS)

    def mark_lost(self) -> None:
        """Note that the bus refused a write of ours: another process holds the lease."""
        self.epoch, self.holder = 0, "?"

    def record_holder(self, holder: str, now: float) -> None:
        """Its holder has the epoch 1: such a lease has no number."""
        self.holder, self.answered_at, self.epoch = holder, now, int(holder == self.boot)


View = TypeVar("View", bound=LeaseView)


class FleetLease(ABC, Generic[View]):
    """The lease of one process on each bus.

    Call `set_buses` first, then `run`, which ends when cancelled, and `release` in the end. `make_lease`
    returns the view of an unknown lease.
    """

    def __init__(self, boot: str, lease_sec: float, make_lease: Callable[[], View]) -> None:
        self.boot, self.lease_sec, self._make_lease = boot, lease_sec, make_lease
        self.leases: dict[str, View] = {}
        """The leases by the names of their buses, in the order in which these decide."""
        self._buses: dict[str, Bus] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._due: dict[str, asyncio.Event] = {}  # set when a lease is to be requested at once
        self._group: asyncio.TaskGroup | None = None

    @abstractmethod
    async def send_request(
        self, bus: Bus, lease: View, action: LeaseAction, carried: int, within_sec: float
    ) -> None:
        """Send one request to a bus, and apply its reply to the lease. Raises BusError.

        `carried` is our epoch on the bus that decides, if `action` is SEIZE.
        """

    @abstractmethod
    async def renew_on(self, name: str) -> None:
        """Call `send_next_request`, if the lease may be renewed, and handle what follows from the reply."""

    def set_buses(self, buses: Mapping[str, Bus]) -> None:
        """Request and renew a lease on each of these buses from now on, and on no others.

        The first one decides; while it is away, the next one.
        """
        kept = {name for name, bus in buses.items() if self._buses.get(name) is bus}
        for name in self._tasks.keys() - kept:
            self._tasks.pop(name).cancel()
        self._buses = dict(buses)
        self.leases = {name: self.leases[name] if name in kept else self._make_lease() for name in buses}
        self._due = {name: self._due[name] if name in kept else asyncio.Event() for name in buses}
        for name in buses:
            if name not in kept:
                self._start_renewals(name)

    def _start_renewals(self, name: str) -> None:
        if self._group is not None:
            self._tasks[name] = self._group.create_task(self._renew_repeatedly(name), name=f"lease:{name}")

    async def run(self) -> None:
        """Request and renew the leases until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name in self._buses:
                self._start_renewals(name)
            await asyncio.Event().wait()

    async def release(self) -> None:
        """Release all leases, so that another process leads at once; on a bus that is away it expires."""
        await asyncio.gather(*map(self._release_on, self.leases))

    async def _release_on(self, name: str) -> None:
        with contextlib.suppress(BusError):
            lease = self.leases[name]
            await self.send_request(self._buses[name], lease, LeaseAction.RELEASE, 0, RELEASE_WITHIN_SEC)

    def request_at_once(self, *names: str) -> None:
        """Request the leases of these buses without a further pause."""
        for name in names:
            self._due[name].set()

    def deny_leadership(self, bus: str) -> None:
        """Note that a bus refused a write because another process leads; request its lease at once."""
        lease = self.leases.get(bus)
        if lease is not None and lease.epoch:
            lease.mark_lost()
            self.request_at_once(bus)

    def find_deciding_bus(self, now: float) -> str | None:
        """Return the first bus that has answered within a lease's life; None if none has."""
        answering = (
            name for name, lease in self.leases.items() if now - lease.answered_at <= lease.lease_sec
        )
        return next(answering, None)

    def choose_action(self, name: str, now: float) -> tuple[LeaseAction, int]:
        """Return the action on the lease of a bus, and the epoch that is carried to it."""
        decides, order = self.find_deciding_bus(now), list(self.leases)
        if decides is None or order.index(name) <= order.index(decides):
            return LeaseAction.TAKE, 0
        deciding = self.leases[decides]
        if deciding.epoch:
            return LeaseAction.SEIZE, deciding.epoch
        if self.leases[name].epoch and deciding.has_other_holder(now):
            return LeaseAction.RELEASE, 0
        return LeaseAction.READ, 0

    async def send_next_request(self, name: str) -> None:
        """Send the request that this process may send to a bus now. Raises BusError."""
        action, carried = self.choose_action(name, time.monotonic())
        within_sec = max(MIN_WITHIN_SEC, self.lease_sec / 2)
        await self.send_request(self._buses[name], self.leases[name], action, carried, within_sec)

    async def _renew_repeatedly(self, name: str) -> None:
        """Request or renew a lease until cancelled; `request_at_once` ends the pause between two requests."""
        due = self._due[name]
        while True:
            await self.renew_on(name)
            pause_sec = max(MIN_PAUSE_SEC, self.leases[name].seconds_to_next_request(time.monotonic()))
            await wait_until_due(due, pause_sec)
