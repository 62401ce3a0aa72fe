"""What is the same for many services: their lines in the truth, but for name and channel. Pure."""

from functools import lru_cache
from typing import NamedTuple

from marketswarm.truth import JobRule, Watch


class WatchRule(NamedTuple):
    """What is the same in the lines of many services in the truth: all but the name and the channel."""

    bus: str
    interval_sec: float
    timeout_sec: float
    alert_on_failure: bool
    job: JobRule | None


_share_rule = lru_cache(maxsize=1024)(WatchRule)


def find_rule(watch: Watch) -> WatchRule:
    """Return the rule of a line of the truth, one object for all services that have the same."""
    return _share_rule(watch.bus, watch.interval_sec, watch.timeout_sec, watch.alert_on_failure, watch.job)


@lru_cache(maxsize=1024)  # most services have one of few, and share the float
def compute_warm_up_sec(interval_sec: float, timeout_sec: float) -> float:
    """Return the seconds that a service has after a gap to be heard, by the reference's formula."""
    return min(timeout_sec, max(2 * interval_sec, 0.75 * timeout_sec))
