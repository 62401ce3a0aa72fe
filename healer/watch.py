"""What the healer keeps watch over: every service and bus of the truth, now and after each reseed."""

from marketswarm.agent import Agent
from marketswarm.settings import HealerSettings
from marketswarm.truth import HEALER, Truth
from marketswarm.vigil import LOG, Notices, Vigil, alert_target


async def watch(me: Agent[HealerSettings]) -> None:
    """Watches until cancelled."""
    home, channel = alert_target(me.truth, me.settings)
    notices = Notices(of="heartbeat", by=me.name, channel=channel)
    vigil = Vigil(
        notices,
        listener=HEALER,
        boot=me.boot,
        home=home,
        stream=LOG,
        open_bus=me.bus,
        progress=me.progress,
        degraded=me.degraded,
    )

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

    put_in_force(me.truth)
    me.on_reseed(put_in_force)
    await vigil.run()
