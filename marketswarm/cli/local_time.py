"""Format times for the terminal, in the machine's time zone unless another one is given. Pure."""

from datetime import UTC, datetime, tzinfo
from typing import Any


def format_time(ts: Any, zone: tzinfo | None = None) -> str:
    """Return epoch seconds as a time of day; dashes for a value that is not a time."""
    there = _find_local(ts, zone)
    return "--:--:--" if there is None else there.strftime("%H:%M:%S")


def format_date(ts: Any, now: float, zone: tzinfo | None = None) -> str:
    """Return the date of epoch seconds and a blank; nothing for the date of `now`, and for no time."""
    there, here = _find_local(ts, zone), _find_local(now, zone)
    if there is None or here is None or there.date() == here.date():
        return ""
    return there.strftime("%a %d %b %Y ")


def format_moment(ts: float, now: float, zone: tzinfo | None = None) -> str:
    """Return the time of day, after the date if that is not the one of `now`; dashes for no time."""
    return f"{format_date(ts, now, zone)}{format_time(ts, zone)[:5]}"


def _find_local(ts: Any, zone: tzinfo | None) -> datetime | None:
    """Return epoch seconds by the clocks of a zone; None for a value that is not a time."""
    try:
        return datetime.fromtimestamp(ts, UTC).astimezone(zone)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
