"""What the sentinel keeps watch over: the healer alone, by the same rules as the healer watches all others.

It shares the healer's code, but no process, no connection and no key, so that no failure is theirs both.
Lost buses are the healer's to tell; while the bus is away the sentinel knows nothing and says nothing.
"""

from typing import Final

from marketswarm.agent import Agent
from marketswarm.settings import SentinelSettings
from marketswarm.truth import HEALER, SYSTEM, Heartbeat, Service, Truth, Watch
from marketswarm.vigil import NO_TIMEOUT, Notices, Vigil

ALERTS: Final = "healer:alerts"
LOG: Final = "healer:alerts:log"
SENTINEL: Final = "sentinel"


def own_heartbeat(_settings: SentinelSettings, section: Service | None) -> Heartbeat:
    """The sentinel's own beats: as its section has them, else the default."""
    return Heartbeat(channel=f"{SENTINEL}:heartbeat") if section is None else section.heartbeat


def the_healer(truth: Truth, timeout_sec: float | None) -> Watch:
    """The one line of the sentinel's roster; the timeout, in seconds, is three intervals if not given."""
    if HEALER in truth.services:
        bus, beats = truth.bus_of(HEALER), truth.services[HEALER].heartbeat
    else:
        bus, beats = SYSTEM, Heartbeat(channel=f"{HEALER}:heartbeat")
    return Watch(HEALER, bus, beats.channel, beats.interval_sec, timeout_sec or 3 * beats.interval_sec)


async def watch(me: Agent[SentinelSettings]) -> None:
    """Watches until cancelled."""
    home, channel = me.truth.alert_target(ALERTS)
    notices = Notices(of="healer", by=me.name, channel=channel)
    vigil = Vigil(
        notices,
        listener=SENTINEL,
        boot=me.boot,
        home=home,
        stream=LOG,
        open_bus=me.bus,
        progress=me.progress,
        everywhere=True,
    )

    def put_in_force(truth: Truth) -> None:
        notices.channel = truth.alert_target(ALERTS)[1]
        healer = the_healer(truth, me.settings.sentinel_timeout_sec)
        vigil.watch([healer], listen={healer.bus: NO_TIMEOUT}, tell=truth.bus_names())

    put_in_force(me.truth)
    me.on_reseed(put_in_force)
    await vigil.run()
