"""The sentinel: it monitors the healer alone, by the same rules as the healer monitors all other services.

It shares the healer's code, but no process, no connection and no key, so that no failure hits both. The
healer publishes lost buses; while a bus is away, the sentinel concludes nothing about it. It also compares
the truth on all buses (`comparison.py`), and sends alerts that no other process sends (`fallback.py`).
"""

from typing import Final

from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.bus import Bus
from marketswarm.bus.listener import read_clocks
from marketswarm.channels import create_environment_channels
from marketswarm.detector import NO_TIMEOUT, State
from marketswarm.monitor import Monitor, VerdictEncoder, find_alert_target, make_healer_heartbeat
from marketswarm.settings.programs import SentinelSettings
from marketswarm.truth import HEALER, SYSTEM, Heartbeat, Service, Truth, Watch
from sentinel.comparison import TruthComparison
from sentinel.fallback import Fallback, collect_skipped

SENTINEL: Final = "sentinel"

log = logs.get(SENTINEL)


def sentinel_heartbeat(_settings: SentinelSettings, section: Service | None) -> Heartbeat:
    return Heartbeat() if section is None else section.heartbeat


def build_healer_watch(truth: Truth, settings: SentinelSettings) -> Watch:
    """Return the one watch of the sentinel, on the healer.

    The timeout is three of the healer's intervals, unless a setting names another one.
    """
    section = truth.services.get(HEALER)
    beats = make_healer_heartbeat(settings, section)
    bus = truth.bus_of(HEALER) if section is not None else SYSTEM
    timeout_sec = settings.sentinel_timeout_sec or 3 * beats.interval_sec
    return Watch(HEALER, bus, beats.channel_for(HEALER), beats.interval_sec, timeout_sec)


def count_services(truth: Truth) -> int:
    """Return how many services the healer monitors at most: those with a section, and others it hears.

    `Truth.watched` says which ones, and takes half a second for a hundred thousand.
    """
    healer = truth.services.get(HEALER)
    return len(truth.services) + (0 if healer is None else len(healer.access_points.subscribe_to))


async def run_sentinel(me: Agent[SentinelSettings]) -> None:
    """Follow each reseed until cancelled; run the comparison and the fallback beside."""
    home, channel = find_alert_target(me.truth, me.settings)
    encoder = VerdictEncoder(family="healer", by=me.name, channel=channel)
    monitor = Monitor(me, encoder, home=home, everywhere=True, tracer=me.open_tracer())
    comparison = TruthComparison(me.name, me.settings.truth_redis_key, monitor.publish)
    fallback = open_fallback(me, encoder)

    def apply_truth(truth: Truth) -> None:
        healer, buses = build_healer_watch(truth, me.settings), open_buses(truth)
        encoder.channel = find_alert_target(truth, me.settings)[1]
        monitor.set_roster([healer], {healer.bus: NO_TIMEOUT}, truth.bus_names(), count_services(truth))
        comparison.set_buses(buses)
        if fallback is not None:
            fallback.set_truth(truth)

    def open_buses(truth: Truth) -> list[Bus]:
        """Return the buses of a truth, opened. Raise BusError if one that the sentinel needs has no URL."""
        for name in (home, build_healer_watch(truth, me.settings).bus):
            me.bus(name, truth)
        return [me.bus(name, truth) for name in truth.bus_names()]

    apply_truth(me.truth)
    monitor.expect_starts(me.settings.starting_services, me.settings.starting_until)
    me.expose(monitor.metrics.collect)
    me.on_reseed(apply_truth, check=open_buses)
    me.task(comparison.run(), name="truth on all buses")
    if fallback is not None:
        me.expose(lambda: collect_skipped(fallback.skipped))
        me.task(fallback.run(), name="direct")
    if me.settings.deadman_url is not None:
        from sentinel.deadman import ping_while_well  # noqa: PLC0415 - imports an HTTP library only if it is configured

        url, interval_sec = me.settings.deadman_url, me.settings.deadman_interval_sec
        me.task(ping_while_well(url, interval_sec, lambda: is_healer_up(monitor)), name="deadman")
    await monitor.run()  # listens, evaluates, publishes


def open_fallback(me: Agent[SentinelSettings], encoder: VerdictEncoder) -> Fallback | None:
    """Return the fallback over the channels that the environment configures; None if there are none."""
    channels = create_environment_channels(me.settings)
    if not channels:
        log.info("fallback.no_channel", name="WEBHOOK_URL or SMTP_HOST")
        return None
    log.info("fallback.channels", ways=[f"{channel.name} to {channel.where}" for channel in channels])
    fallback = Fallback(me, channels)
    encoder.on_event = fallback.add_event
    return fallback


def is_healer_up(monitor: Monitor) -> bool:
    """Return True if the healer is heard and up; False while it is missed, or its bus is not heard."""
    healer = monitor.detector.services.get(HEALER)
    if monitor.detector.is_restoring or healer is None or healer.state is not State.UP:
        return False
    return monitor.feed.describe_lost_buses(read_clocks()) is None
