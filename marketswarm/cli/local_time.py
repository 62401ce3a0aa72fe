"""Format times for the terminal, in the machine's time zone unless another one is given. Pure."""

from datetime import UTC, datetime, tzinfo
from typing import Any


def format_time(ts: Any, zone: tzinfo | None = None) -> str:
    """Return epoch seconds as a time of day; dashes for a value that is not a time."""
    try:
        return _local_datetime(ts, zone).strftime("%H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return "--:--:--"


def format_date(ts: Any, now: float, zone: tzinfo | None = None) -> str:
    """Return the date of epoch seconds and a blank; nothing for the date of `now`, and for no time."""
    try:
        there, here = _local_datetime(ts, zone), _local_datetime(now, zone)
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
    return "" if there.date() == here.date() else there.strftime("%a %d %b %Y ")


def format_moment(ts: float, now: float, zone: tzinfo | None = None) -> str:
    """Return the time of day, after the date if that is not the one of `now`; dashes for no time."""
    return f"{format_date(ts, now, zone)}{format_time(ts, zone)[:5]}"


def _local_datetime(ts: float, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(ts, UTC).astimezone(zone)
