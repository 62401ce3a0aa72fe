"""What the healer and the sentinel must agree on: where alerts go, and how the healer beats. Pure.

The truth's value counts before the environment's, and that before the default.
"""

from marketswarm.keys import ALERTS, heartbeat_channel
from marketswarm.settings import MonitorSettings
from marketswarm.truth import HEALER, Heartbeat, Service, Truth


def alert_target(truth: Truth, settings: MonitorSettings) -> tuple[str, str]:
    """Return the bus and the channel of alerts."""
    return truth.alert_target(settings.alert_channel or ALERTS)


def healer_heartbeat(settings: MonitorSettings, section: Service | None) -> Heartbeat:
    """Return how the healer beats, by its section of the truth if there is one."""
    beats = Heartbeat(channel=heartbeat_channel(HEALER)) if section is None else section.heartbeat
    channel, interval_sec = settings.healer_heartbeat_channel, settings.hb_interval_sec
    if channel is not None and "channel" not in beats.said:
        beats = beats.but(channel=channel)
    if interval_sec is not None and "interval_sec" not in beats.said:
        beats = beats.but(interval_sec=interval_sec)
    return beats
