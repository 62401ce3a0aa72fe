"""What is the same for many services: their lines in the truth, but for name and channel. Pure."""

from functools import lru_cache
from typing import Final, NamedTuple

from marketswarm.truth import JobRule, Watch

LOOK_SHARE: Final = 0.75
"""The share of its timeout after which a silent service is looked at.

Two beats at an interval of a third of the timeout fit in, so that they cost one look, and a late second one
does, too. It leaves time to save the silence, and to hear a service whose last payload was not a beat.
"""


class WatchRule(NamedTuple):
    """What is the same in the lines of many services in the truth: all but the name and the channel.

    `warm_up_sec` follows from the interval and the timeout, `look_sec` from the timeout.
    """

    bus: str
    interval_sec: float
    timeout_sec: float
    alert_on_failure: bool
    job: JobRule | None
    warm_up_sec: float
    look_sec: float


def find_rule(watch: Watch) -> WatchRule:
    """Return the rule of a line of the truth, one object for all services that have the same."""
    return _share_rule(watch.bus, watch.interval_sec, watch.timeout_sec, watch.alert_on_failure, watch.job)


@lru_cache(maxsize=1024)
def _share_rule(
    bus: str, interval_sec: float, timeout_sec: float, alert_on_failure: bool, job: JobRule | None
) -> WatchRule:
    warm_up_sec = compute_warm_up_sec(interval_sec, timeout_sec)
    look_sec = LOOK_SHARE * timeout_sec
    return WatchRule(bus, interval_sec, timeout_sec, alert_on_failure, job, warm_up_sec, look_sec)


def compute_warm_up_sec(interval_sec: float, timeout_sec: float) -> float:
    """Return the seconds that a service has after a gap to be heard, by the reference's formula."""
    return min(timeout_sec, max(2 * interval_sec, 0.75 * timeout_sec))
