"""What the sentinel keeps watch over: the healer alone, by the same rules as the healer watches all others.

It shares the healer's code, but no process, no connection and no key, so that no failure is theirs both.
Lost buses are the healer's to tell; while the bus is away the sentinel knows nothing and says nothing there.
Beside that it compares the truth on all buses, and sees to it that people are told (`direct.py`).
"""

from collections.abc import Callable
from typing import Final

from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.bus import Bus
from marketswarm.bus.listener import moment
from marketswarm.channels import channels_from_environment
from marketswarm.detector import State, Verdict
from marketswarm.event import Event
from marketswarm.keys import heartbeat_channel
from marketswarm.monitor import NO_TIMEOUT, Monitor, VerdictEncoder, alert_target, healer_heartbeat
from marketswarm.monitor.publisher import EncodedVerdict
from marketswarm.settings import SentinelSettings
from marketswarm.truth import HEALER, SYSTEM, Heartbeat, Service, Truth, Watch
from sentinel.comparison import TruthComparison
from sentinel.fallback import Fallback

SENTINEL: Final = "sentinel"

log = logs.get(SENTINEL)


class ObservedEncoder(VerdictEncoder):
    """VerdictEncoder that are heard by us when they are written, so also those that no bus takes."""

    heard: Callable[[Event], None] | None = None

    def encode(self, verdict: Verdict) -> EncodedVerdict:
        """See `VerdictEncoder`."""
        event = self.event(verdict)
        if self.heard is not None and event is not None:
            self.heard(event)
        return super().encode(verdict)


def sentinel_heartbeat(_settings: SentinelSettings, section: Service | None) -> Heartbeat:
    """The sentinel's own beats: as its section has them, else the default."""
    return Heartbeat(channel=heartbeat_channel(SENTINEL)) if section is None else section.heartbeat


def healer_watch(truth: Truth, settings: SentinelSettings) -> Watch:
    """The one line of the sentinel's roster; the timeout is three of the healer's intervals, if not given."""
    section = truth.services.get(HEALER)
    beats = healer_heartbeat(settings, section)
    bus = truth.bus_of(HEALER) if section is not None else SYSTEM
    timeout_sec = settings.sentinel_timeout_sec or 3 * beats.interval_sec
    return Watch(HEALER, bus, beats.channel, beats.interval_sec, timeout_sec)


async def watch(me: Agent[SentinelSettings]) -> None:
    """Watches until cancelled."""
    home, channel = alert_target(me.truth, me.settings)
    notices = ObservedEncoder(of="healer", by=me.name, channel=channel)
    vigil = Monitor(me, notices, home=home, everywhere=True)
    me.expose(vigil.metrics.collect)
    comparison = TruthComparison(me.name, me.settings.truth_redis_key, vigil.publish)
    direct = open_fallback(me, notices)

    def put_in_force(truth: Truth) -> None:
        healer, buses = healer_watch(truth, me.settings), buses_of(truth)
        notices.channel = alert_target(truth, me.settings)[1]
        vigil.watch([healer], {healer.bus: NO_TIMEOUT}, truth.bus_names(), len(truth.watched()))
        comparison.watch(buses)
        if direct is not None:
            direct.watch(truth)

    def buses_of(truth: Truth) -> list[Bus]:
        for name in (home, healer_watch(truth, me.settings).bus):
            me.bus(name, truth)
        return [me.bus(name, truth) for name in truth.bus_names()]

    put_in_force(me.truth)
    me.on_reseed(put_in_force, check=buses_of)
    me.task(comparison.run(), name="truth on all buses")
    if direct is not None:
        me.expose(direct.skipped.collect)
        me.task(direct.run(), name="direct")
    if me.settings.deadman_url is not None:
        from sentinel.deadman import ping  # noqa: PLC0415 - an HTTP library, for whoever wants it

        url, interval_sec = me.settings.deadman_url, me.settings.deadman_interval_sec
        me.task(ping(url, interval_sec, lambda: is_healer_up(vigil)), name="deadman")
    await vigil.run()


def open_fallback(me: Agent[SentinelSettings], notices: ObservedEncoder) -> Fallback | None:
    """What tells people when nobody else does; None when the environment names no way to reach them."""
    channels = channels_from_environment(me.settings)
    if not channels:
        log.info("direct.no_way_out", name="WEBHOOK_URL or SMTP_HOST")
        return None
    log.info("direct.ways_out", ways=[f"{channel.name} to {channel.where}" for channel in channels])
    direct = Fallback(me, channels)
    notices.heard = direct.heard
    return direct


def is_healer_up(vigil: Monitor) -> bool:
    """Whether the healer is heard, and up."""
    healer = vigil.detector.services.get(HEALER)
    if vigil.detector.is_restoring or healer is None or healer.state is not State.UP:
        return False
    return vigil.ear.deafness(moment()) is None
