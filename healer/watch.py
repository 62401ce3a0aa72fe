"""The healer: it listens to every bus of the truth, detects silent services, and publishes the verdicts.

The `Monitor` does all of that; the sentinel runs one as well. Beside it the healer holds the leases that
decide which healer publishes (`election.py`), and copies the alerts of services (`relay.py`).
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from healer.election import LeaderElection
from healer.relay import Relay, collect_relays
from marketswarm.agent import Agent
from marketswarm.agent.outage_state import RULES
from marketswarm.bus import Bus
from marketswarm.monitor import Monitor, VerdictEncoder, find_alert_target
from marketswarm.settings import HealerSettings
from marketswarm.truth import Truth, Watch


async def run_healer(me: Agent[HealerSettings], on_restored: Callable[[], None] = lambda: None) -> None:
    """Monitor all services and buses of the truth, now and after each reseed, until cancelled.

    `on_restored` is called once the state of an earlier run is restored.
    """
    home, channel = find_alert_target(me.truth, me.settings)
    encoder = VerdictEncoder(family="heartbeat", by=me.name, channel=channel)
    election = LeaderElection(
        me.boot,
        home=home,
        lease_sec=me.settings.healer_lease_sec,
        set_detail=me.set_detail,
        set_degraded=partial(me.set_degraded, part="lease"),
    )
    tracer = me.open_tracer()
    monitor = Monitor(me, encoder, home=home, leadership=election, tracer=tracer)
    election.set_monitor(monitor)

    def apply_truth(truth: Truth) -> None:
        plan = plan_watch(truth, me, home)
        encoder.channel = plan.channel
        monitor.set_roster(plan.watches, listen_to=plan.timeouts, publish_to=plan.timeouts.keys())
        election.set_buses(plan.buses)

    apply_truth(me.truth)
    length = monitor.log_lengths[home]

    def is_named(svc: str) -> bool:
        return svc in me.truth.services

    relays = [
        Relay(
            rule,
            partial(me.bus, home),
            lambda: encoder.channel,
            election,
            length,
            is_named=partial(is_named, rule.by),
            tracer=tracer,
        )
        for rule in RULES
    ]
    me.expose(monitor.metrics.collect)
    me.expose(lambda: collect_relays(relays))
    me.on_reseed(apply_truth, check=lambda truth: plan_watch(truth, me, home))

    async def report_restored() -> None:
        await monitor.state.restored.wait()
        on_restored()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(report_restored(), name="restored")
            group.create_task(election.run(), name="leases")
            for relay in relays:
                group.create_task(relay.run(), name=f"relay {relay.rule.stream}")
            await monitor.run()  # listens, evaluates, publishes
    finally:
        await election.release()


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """The values that the healer takes from a truth.

    `channel` is that of the alerts; `timeouts` has the seconds after which each bus is lost, by name.
    """

    channel: str
    watches: tuple[Watch, ...]
    timeouts: Mapping[str, float]
    buses: Mapping[str, Bus]


def plan_watch(truth: Truth, me: Agent[HealerSettings], home: str) -> WatchPlan:
    """Return the values that a truth sets for the healer; change nothing.

    Raises:
        ValueError: if the truth moves the alerts to another bus than `home`.
        BusError: if a bus has no URL.
    """
    bus, channel = find_alert_target(truth, me.settings)
    if bus != home:
        raise ValueError(f"alerts move from {home} to {bus} only when the healer is restarted")
    timeouts = dict.fromkeys(truth.bus_names(), truth.bus_timeout_sec())
    buses = {name: me.bus(name, truth) for name in dict.fromkeys((home, *timeouts))}
    return WatchPlan(channel, tuple(truth.watched(me.settings.default_timeout_sec)), timeouts, buses)
