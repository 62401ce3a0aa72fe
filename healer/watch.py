"""What the healer keeps watch over: every service and bus of the truth, now and after each reseed."""

from marketswarm.agent import Agent
from marketswarm.settings import HealerSettings
from marketswarm.truth import Truth
from marketswarm.vigil import Notices, Vigil, alert_target


async def watch(me: Agent[HealerSettings]) -> None:
    """Watches until cancelled."""
    home, channel = alert_target(me.truth, me.settings)
    notices = Notices(of="heartbeat", by=me.name, channel=channel)
    vigil = Vigil(me, notices, home=home)

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
