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
    known = {"channel": settings.healer_heartbeat_channel, "interval_sec": settings.hb_interval_sec}
    return beats.but(**{name: it for name, it in known.items() if it is not None and name not in beats.said})
