"""Hold `notifier:lease` on every bus, so that one notifier at a time sends messages.

The first bus that answers decides which notifier leads, and the other buses follow its decision. Every
write is fenced by the lease (`commit.lua`): a notifier can change nothing on a bus whose lease another
one holds. While no bus answers, the last leader continues, so that messages are still sent.

What this lease shares with the other leases is `marketswarm/bus/lease.py`.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.lease import (
    RELEASE_WITHIN_SEC,
    compute_interval_sec,
    compute_request_limit_sec,
    renew_repeatedly,
)
from marketswarm.bus.scripts import Script
from marketswarm.keys import NOTIFIER_LEASE

_LEASE_SCRIPT: Final = Script.beside("notifier", "lease.lua")

log = logs.get("lease")


class LeaseAction(StrEnum):
    """An action on the lease of one bus; only the deciding bus chooses the holder."""

    TAKE = "take"  # take the lease if it is free, renew it if it is ours
    SEIZE = "seize"  # take the lease from any holder
    RELEASE = "give"  # delete the lease if it is ours
    READ = "look"  # only read the holder


class LeaseState:
    """The holders of the lease on all buses, as one notifier knows them. Pure; `now` is monotonic seconds.

    Args:
        buses: the names of the buses, in the order in which they decide.
        lease_sec: the lifetime of a lease, in seconds.
        now: the time at the start.
    """

    def __init__(self, boot: str, buses: tuple[str, ...], lease_sec: float, now: float) -> None:
        self.boot = boot
        self.is_leader = False
        self._lease_sec = lease_sec
        self._holders: dict[str, str] = dict.fromkeys(buses, "")
        self._answered_at: dict[str, float] = dict.fromkeys(buses, now)
        self._known: set[str] = set()

    @property
    def other(self) -> str:
        """The boot id of another notifier that holds a lease: empty if none does, `?` if unknown."""
        return next((one for one in self._holders.values() if one not in ("", self.boot)), "")

    def deciding_bus(self, now: float) -> str | None:
        """Return the first bus that has answered within a lease's lifetime; None if none has."""
        return next((bus for bus in self._holders if not self._is_away(bus, now)), None)

    def choose_action(self, bus: str, now: float) -> LeaseAction:
        """Return the action on a bus's lease: ask for it up to the deciding bus, follow that bus after it."""
        decides = self.deciding_bus(now)
        if decides is None or bus == decides or self._is_before(bus, decides):
            return LeaseAction.TAKE
        if decides not in self._known:
            return LeaseAction.READ
        return LeaseAction.SEIZE if self._holders[decides] == self.boot else LeaseAction.RELEASE

    def record_holder(self, bus: str, holder: str, now: float) -> None:
        """Record which boot id holds the lease on a bus, and update whether this notifier leads."""
        self._holders[bus], self._answered_at[bus] = holder, now
        self._known.add(bus)
        decides = self.deciding_bus(now)
        if decides is not None and decides in self._known:
            self.is_leader = self._holders[decides] == self.boot

    def rejected(self, bus: str, now: float) -> None:
        """Record that a bus rejected a write, because another notifier holds its lease."""
        if bus == self.deciding_bus(now):
            self._holders[bus], self.is_leader = "?", False

    def _is_away(self, bus: str, now: float) -> bool:
        return now - self._answered_at[bus] > self._lease_sec

    def _is_before(self, bus: str, other: str) -> bool:
        order = list(self._holders)
        return order.index(bus) < order.index(other)


async def apply_action(bus: Bus, boot: str, action: LeaseAction, lease_sec: float, within_sec: float) -> str:
    """Apply an action to the lease on one bus; return the boot id of its holder, empty if it is free.

    Raises BusError when the bus does not answer within `within_sec`.
    """
    args: list[str | bytes | float] = [boot, max(1, round(1000 * lease_sec)), action]
    holder: bytes = await bus.script(_LEASE_SCRIPT, [NOTIFIER_LEASE], args, within_sec)
    return holder.decode("utf-8", "replace")


class NotifierLease:
    """This notifier's lease on all buses: call `run`, which ends when cancelled, then `release`."""

    def __init__(self, boot: str, buses: Mapping[str, Bus], lease_sec: float) -> None:
        self.state = LeaseState(boot, tuple(buses), lease_sec, time.monotonic())
        self._changed = asyncio.Event()
        self._known = False
        self._buses = dict(buses)
        self._lease_sec = lease_sec
        self._due = {name: asyncio.Event() for name in buses}

    @property
    def is_leader(self) -> bool:
        return self.state.is_leader

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in self._buses:
                group.create_task(
                    renew_repeatedly(partial(self._renew_on, name), self._due[name]), name=f"lease:{name}"
                )

    async def wait_gained(self) -> None:
        await self._wait_until(is_leader=True)

    async def wait_lost(self) -> None:
        await self._wait_until(is_leader=False)

    async def release(self) -> None:
        """Release the lease on every bus, so that a standby leads at once.

        On a bus that does not answer the lease expires.
        """
        self.state.is_leader = False
        await asyncio.gather(*(self._release_on(bus) for bus in self._buses.values()))

    def rejected(self, bus: str) -> None:
        """Record that a bus rejected a write, because another notifier holds its lease."""
        self.state.rejected(bus, time.monotonic())
        self._report_change()
        self._due[bus].set()

    async def _wait_until(self, *, is_leader: bool) -> None:
        while self.is_leader is not is_leader:
            self._changed.clear()
            await self._changed.wait()

    async def _release_on(self, bus: Bus) -> None:
        with contextlib.suppress(BusError):
            await apply_action(bus, self.state.boot, LeaseAction.RELEASE, self._lease_sec, RELEASE_WITHIN_SEC)

    async def _renew_on(self, name: str) -> float:
        """Act on the lease of one bus; return the seconds until the next time."""
        action = self.state.choose_action(name, time.monotonic())
        within_sec = compute_request_limit_sec(self._lease_sec)
        try:
            holder = await apply_action(
                self._buses[name], self.state.boot, action, self._lease_sec, within_sec
            )
        except BusError:
            pass  # the bus's reader reports the error
        else:
            self.state.record_holder(name, holder, time.monotonic())
            self._report_change()
        return compute_interval_sec(self._lease_sec, is_holder=self.is_leader)

    def _report_change(self) -> None:
        """After a change of `is_leader` log it, wake waiting tasks, and act on all leases at once."""
        if self.is_leader is self._known:
            return
        self._known = self.is_leader
        if self.is_leader:
            log.info("lease.held")
        else:
            log.warning("lease.lost", leader=self.state.other)
        self._changed.set()
        for due in self._due.values():
            due.set()
