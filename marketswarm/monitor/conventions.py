"""Settings on which healer and sentinel must agree: the target of alerts, and the healer's heartbeat. Pure.

A value in the truth precedes one in the environment, and that precedes the default.
"""

from marketswarm.keys import ALERTS
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import Heartbeat, Service, Truth


def find_alert_target(truth: Truth, settings: MonitorSettings) -> tuple[str, str]:
    return truth.alert_target(settings.alert_channel or ALERTS)


def make_healer_heartbeat(settings: MonitorSettings, section: Service | None) -> Heartbeat:
    """Return the healer's heartbeat: its section of the truth, then the environment, then the defaults."""
    beats = Heartbeat() if section is None else section.heartbeat
    channel, interval_sec = settings.healer_heartbeat_channel, settings.hb_interval_sec
    if channel is not None and "channel" not in beats.said:
        beats = beats.but(channel=channel)
    if interval_sec is not None and "interval_sec" not in beats.said:
        beats = beats.but(interval_sec=interval_sec)
    return beats
