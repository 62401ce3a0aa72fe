"""What the healer keeps watch over: every service and bus of the truth, now and after each reseed."""

import asyncio
from collections.abc import Callable
from functools import partial

from healer.leading import Leading
from healer.relay import Relay
from marketswarm.agent import Agent
from marketswarm.settings import HealerSettings
from marketswarm.truth import Truth
from marketswarm.vigil import Notices, Vigil, alert_target


async def watch(me: Agent[HealerSettings], begun: Callable[[], None] = lambda: None) -> None:
    """Watches until cancelled; says `begun` once it knows whom."""
    home, channel = alert_target(me.truth, me.settings)
    notices = Notices(of="heartbeat", by=me.name, channel=channel)
    leading = Leading(
        me.boot,
        home=home,
        lease_sec=me.settings.healer_lease_sec,
        note=me.note,
        ail=partial(me.ail, "lease"),
    )
    vigil = Vigil(me, notices, home=home, voice=leading)
    me.expose(vigil.metrics.collect)
    leading.attend(vigil)
    relay = Relay(partial(me.bus, home), lambda: notices.channel, leading)
    me.expose(relay.collect)

    def put_in_force(truth: Truth) -> None:
        bus, notices.channel = alert_target(truth, me.settings)
        if bus != home:
            raise ValueError(f"alerts move from {home} to {bus} only when the healer is restarted")
        buses = truth.bus_names()
        timeout_sec = truth.bus_timeout_sec()
        vigil.watch(
            truth.watched(me.settings.default_timeout_sec),
            listen=dict.fromkeys(buses, timeout_sec),
            tell=buses,
        )
        leading.man({name: me.bus(name) for name in {home, *buses}})

    put_in_force(me.truth)
    begun()
    me.on_reseed(put_in_force)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(leading.run(), name="leases")
            group.create_task(relay.run(), name="relay")
            await vigil.run()
    finally:
        await leading.give_back()
