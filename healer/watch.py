"""The healer: it listens to every bus of the truth, detects silent services, and publishes the verdicts.

The `Monitor` does all of that; the sentinel runs one as well. Beside it the healer holds the leases that
decide which healer publishes (`election.py`), and copies the alerts of services (`relay.py`).
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from healer.election import LeaderElection
from healer.relay import Relay, collect_relays
from marketswarm.agent import Agent
from marketswarm.agent.outage_state import RULES
from marketswarm.bus import Bus
from marketswarm.detector import RosterChange, plan_change
from marketswarm.monitor import Monitor, VerdictEncoder, find_alert_target
from marketswarm.settings.programs import HealerSettings
from marketswarm.time_slice import TimeSlice
from marketswarm.truth import Truth


async def run_healer(me: Agent[HealerSettings], on_restored: Callable[[], None] = lambda: None) -> None:
    """Monitor all services and buses of the truth, now and after each reseed, until cancelled.

    `on_restored` is called once the state of an earlier run is restored.
    """
    home, channel = find_alert_target(me.truth, me.settings)
    encoder = VerdictEncoder(family="heartbeat", by=me.name, channel=channel)
    election = LeaderElection(me, home)
    monitor = Monitor(me, encoder, home=home, leadership=election, tracer=me.open_tracer())
    election.monitor = monitor

    roster = RosterFollower(me, monitor, encoder, election, home)
    roster.apply_now()
    monitor.expect_starts(me.settings.starting_services, me.settings.starting_until)
    length = monitor.log_lengths[home]

    relays = [Relay(rule, me, home, encoder, election, length) for rule in RULES]
    me.expose(monitor.metrics.collect)
    me.expose(lambda: collect_relays(relays))
    me.on_reseed(lambda _truth: roster.reseeded.set(), check=lambda truth: open_buses(truth, me, home))

    async def report_restored() -> None:
        await monitor.state.restored.wait()
        on_restored()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(report_restored(), name="restored")
            group.create_task(roster.run(), name="roster")
            group.create_task(election.run(), name="leases")
            for relay in relays:
                group.create_task(relay.run(), name=f"relay {relay.rule.stream}")
            await monitor.run()  # listens, evaluates, publishes
    finally:
        await election.release()


@dataclass(eq=False)
class RosterFollower:
    """Has the monitor watch what the truth in force says, and the election hold a lease on each bus."""

    me: Agent[HealerSettings]
    monitor: Monitor
    encoder: VerdictEncoder
    election: LeaderElection
    home: str
    reseeded: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is another truth; `run` puts it in force."""

    def apply_now(self) -> None:
        """Put the truth in force at once, before the monitor runs."""
        for _ in self._apply(self.me.truth, self._plan(self.me.truth)):
            pass

    async def run(self) -> None:
        """Put each new truth in force until cancelled: plan that in a thread, and apply it in slices."""
        while True:
            await self.reseeded.wait()
            self.reseeded.clear()
            try:
                await self._follow_truth()
            except Exception as error:  # whatever it is, what is in force is monitored on
                self.me.log.exception("truth.rejected", revision=self.me.revision)
                problem = f"can't go by revision {self.me.revision}: {type(error).__name__}"
                self.me.set_degraded(problem, part="roster")
            else:
                self.me.set_degraded(None, part="roster")

    async def _follow_truth(self) -> None:
        """Put the truth in force; a plan that names a hundred thousand channels ends with this call."""
        truth = self.me.truth
        change = await asyncio.to_thread(self._plan, truth)
        time_slice = TimeSlice()
        for _ in self._apply(truth, change) if truth is self.me.truth else ():
            await time_slice.pause()

    def _plan(self, truth: Truth) -> RosterChange:
        """Return what a truth changes for the healer; change nothing."""
        timeouts = dict.fromkeys(truth.bus_names(), truth.bus_timeout_sec())
        watches = truth.watched()
        return plan_change(self.monitor.detector.services, watches, timeouts)

    def _apply(self, truth: Truth, change: RosterChange) -> Iterator[None]:
        buses = open_buses(truth, self.me, self.home)
        self.encoder.channel = find_alert_target(truth, self.me.settings)[1]
        yield from self.monitor.change_roster(change, publish_to=change.buses)
        self.election.set_buses(buses)


def open_buses(truth: Truth, me: Agent[HealerSettings], home: str) -> dict[str, Bus]:
    """Return the buses of a truth by name, `home` first; change nothing.

    Raises:
        ValueError: if the truth moves the alerts to another bus than `home`.
        BusError: if a bus has no URL.
    """
    bus, _ = find_alert_target(truth, me.settings)
    if bus != home:
        raise ValueError(f"alerts move from {home} to {bus} only when the healer is restarted")
    return {name: me.bus(name, truth) for name in dict.fromkeys((home, *truth.bus_names()))}
