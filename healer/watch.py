"""What the healer keeps watch over: every service and bus of the truth, now and after each reseed."""

import asyncio
from typing import Final

from marketswarm.agent import Agent
from marketswarm.listen import moment
from marketswarm.settings import HealerSettings
from marketswarm.truth import HEALER, Heartbeat, Service, Truth
from marketswarm.vigil import Notices, Vigil

ALERTS: Final = "healer:alerts"
LOG: Final = "healer:alerts:log"
LOOK_EVERY_SEC: Final = 1.0


def own_heartbeat(settings: HealerSettings, section: Service | None) -> Heartbeat:
    """The healer's own beats: as its section has them, else as the environment, else the default."""
    beats = Heartbeat(channel=f"{HEALER}:heartbeat") if section is None else section.heartbeat
    channel, interval_sec = settings.healer_heartbeat_channel, settings.hb_interval_sec
    if channel is not None and "channel" not in beats.said:
        beats = beats.but(channel=channel)
    if interval_sec is not None and "interval_sec" not in beats.said:
        beats = beats.but(interval_sec=interval_sec)
    return beats


async def watch(me: Agent[HealerSettings]) -> None:
    """Watches until cancelled."""
    home, channel = _target(me, me.truth)
    notices = Notices(of="heartbeat", by=me.name, channel=channel)
    vigil = Vigil(
        notices,
        listener=HEALER,
        boot=me.boot,
        home=home,
        stream=LOG,
        open_bus=me.bus,
        progress=me.progress,
    )

    def put_in_force(truth: Truth) -> None:
        bus, notices.channel = _target(me, truth)
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
    me.task(_own_up(me, vigil), name="own_up")
    await vigil.run()


async def _own_up(me: Agent[HealerSettings], vigil: Vigil) -> None:
    """A healer that is deaf must not look well: its beats say so."""
    while True:
        me.degraded(vigil.ear.deafness(moment()))
        await asyncio.sleep(LOOK_EVERY_SEC)


def _target(me: Agent[HealerSettings], truth: Truth) -> tuple[str, str]:
    return truth.alert_target(me.settings.alert_channel or ALERTS)
