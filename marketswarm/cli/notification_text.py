"""Describe what delays or stops a notification in words, for the commands that show it. Pure.

`status` shows it too, and needs nothing else of the commands that are for silences and dead messages alone.
"""

from marketswarm.cli.local_time import format_moment
from marketswarm.operator.silences import Silence
from marketswarm.status.notifications import PendingDelivery
from marketswarm.text import escape_text


def describe_delay(delivery: PendingDelivery, now: float) -> str:
    """Return why a delivery is pending: `failing since 18:16, next attempt at 18:22`, or `on its way`."""
    words = []
    if delivery.broken is not None:
        words.append(escape_text(delivery.broken))
    if delivery.failing_since is not None:
        words.append(f"failing since {format_moment(delivery.failing_since, now)}")
    if delivery.retry_at is not None:
        words.append(f"next attempt at {format_moment(delivery.retry_at, now)}")
    return ", ".join(words) or "on its way"


def describe_targets(silence: Silence) -> str:
    """Return what a silence is on: `rss_agg, feed-*, tag market`."""
    return escape_text(", ".join((*silence.services, *(f"tag {tag}" for tag in silence.tags))))
