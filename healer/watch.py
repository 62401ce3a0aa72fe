"""What the healer keeps watch over: every service and bus of the truth, now and after each reseed."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from healer.election import LeaderElection
from healer.relay import Relay
from marketswarm.agent import Agent
from marketswarm.bus import Bus
from marketswarm.monitor import Monitor, VerdictEncoder, alert_target
from marketswarm.settings import HealerSettings
from marketswarm.truth import Truth, Watch


async def watch(me: Agent[HealerSettings], roster_built: Callable[[], None] = lambda: None) -> None:
    """Watches until cancelled; calls `roster_built` once it knows whom."""
    home, channel = alert_target(me.truth, me.settings)
    notices = VerdictEncoder(of="heartbeat", by=me.name, channel=channel)
    leading = LeaderElection(
        me.boot,
        home=home,
        lease_sec=me.settings.healer_lease_sec,
        set_detail=me.set_detail,
        set_degraded=partial(me.set_degraded, part="lease"),
    )
    vigil = Monitor(me, notices, home=home, leadership=leading)
    me.expose(vigil.metrics.collect)
    leading.attend(vigil)

    def put_in_force(truth: Truth) -> None:
        plan = plan_of(truth, me, home)
        notices.channel = plan.channel
        vigil.watch(plan.watches, listen=plan.timeouts, tell=plan.timeouts.keys())
        leading.man(plan.buses)

    put_in_force(me.truth)
    relay = Relay(partial(me.bus, home), lambda: notices.channel, leading, vigil.log_lengths[home])
    me.expose(relay.collect)
    roster_built()
    me.on_reseed(put_in_force, check=lambda truth: plan_of(truth, me, home))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(leading.run(), name="leases")
            group.create_task(relay.run(), name="relay")
            await vigil.run()
    finally:
        await leading.give_back()


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the healer takes from a truth. `timeouts` are those of the buses to be heard, in seconds."""

    channel: str
    watches: tuple[Watch, ...]
    timeouts: Mapping[str, float]
    buses: Mapping[str, Bus]


def plan_of(truth: Truth, me: Agent[HealerSettings], home: str) -> Plan:
    """Read what a truth asks of the healer, and change nothing.

    Raises:
        ValueError: when it moves the alerts to another bus than `home`.
        BusError: when the URL of a bus can't be had.
    """
    bus, channel = alert_target(truth, me.settings)
    if bus != home:
        raise ValueError(f"alerts move from {home} to {bus} only when the healer is restarted")
    timeouts = dict.fromkeys(truth.bus_names(), truth.bus_timeout_sec())
    buses = {name: me.bus(name, truth) for name in {home, *timeouts}}
    return Plan(channel, tuple(truth.watched(me.settings.default_timeout_sec)), timeouts, buses)
