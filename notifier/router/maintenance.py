"""Whether it is a time at which somebody works on services, by the windows of the truth. Pure."""

from datetime import datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from notifier.router.policy import Window


def is_open(window: Window, now: float) -> bool:
    """Whether it began at most its length ago, by the clocks of its time zone."""
    # an iterator gives what comes after its start: we start where the earliest beginning that counts is
    earliest = int(now - window.for_sec)
    try:
        begun = next(CronSim(window.at, datetime.fromtimestamp(earliest, ZoneInfo(window.tz)))).timestamp()
    except (StopIteration, CronSimError, OverflowError, OSError, ValueError):
        return False
    return begun <= now < begun + window.for_sec
