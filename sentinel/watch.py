"""What the sentinel keeps watch over: the healer alone, by the same rules as the healer watches all others.

It shares the healer's code, but no process, no connection and no key, so that no failure is theirs both.
Lost buses are the healer's to tell; while the bus is away the sentinel knows nothing and says nothing.
"""

from typing import Final

from marketswarm.agent import Agent
from marketswarm.settings import SentinelSettings
from marketswarm.truth import HEALER, SYSTEM, Heartbeat, Service, Truth, Watch
from marketswarm.vigil import NO_TIMEOUT, Notices, Vigil, alert_target, healer_heartbeat

SENTINEL: Final = "sentinel"


def own_heartbeat(_settings: SentinelSettings, section: Service | None) -> Heartbeat:
    """The sentinel's own beats: as its section has them, else the default."""
    return Heartbeat(channel=f"{SENTINEL}:heartbeat") if section is None else section.heartbeat


def the_healer(truth: Truth, settings: SentinelSettings) -> Watch:
    """The one line of the sentinel's roster; the timeout is three of the healer's intervals, if not given."""
    section = truth.services.get(HEALER)
    beats = healer_heartbeat(settings, section)
    bus = truth.bus_of(HEALER) if section is not None else SYSTEM
    timeout_sec = settings.sentinel_timeout_sec or 3 * beats.interval_sec
    return Watch(HEALER, bus, beats.channel, beats.interval_sec, timeout_sec)


async def watch(me: Agent[SentinelSettings]) -> None:
    """Watches until cancelled."""
    home, channel = alert_target(me.truth, me.settings)
    notices = Notices(of="healer", by=me.name, channel=channel)
    vigil = Vigil(me, notices, home=home, everywhere=True)
    me.expose(vigil.metrics.collect)

    def put_in_force(truth: Truth) -> None:
        notices.channel = alert_target(truth, me.settings)[1]
        healer = the_healer(truth, me.settings)
        vigil.watch([healer], listen={healer.bus: NO_TIMEOUT}, tell=truth.bus_names())

    put_in_force(me.truth)
    me.on_reseed(put_in_force)
    await vigil.run()
