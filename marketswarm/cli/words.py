"""An alert event as a line for people. Pure.

`12:50:58 ✗ rss_agg is down: no beat for 31.2 s (timeout 30 s)`
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from marketswarm.text import escape_text, format_duration

_MISS, _OK, _NOTE = "✗", "✓", "·"
_REASONS = {"stopped": ", after it said goodbye", "never_seen": ", none ever"}


def sentence(event: Mapping[str, Any], zone: tzinfo | None = None) -> str:
    """The line for an event; one of an unknown type is told by its type. `zone` None is the machine's."""
    say = _SENTENCES.get(str(event.get("type")), _unknown)
    mark, text = say(event)
    line = f"{clock(event.get('ts'), zone)} {mark} {text}"
    return escape_text(line)


def clock(ts: Any, zone: tzinfo | None = None) -> str:
    """Epoch seconds as a time of day."""
    try:
        return datetime.fromtimestamp(ts, UTC).astimezone(zone).strftime("%H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return "--:--:--"


def moment(ts: float, now: float, zone: tzinfo | None = None) -> str:
    """Epoch seconds as a time of day; with the day, when that is not the day of `now`."""
    there, here = (datetime.fromtimestamp(each, UTC).astimezone(zone) for each in (ts, now))
    return there.strftime("%H:%M" if there.date() == here.date() else "%a %d %b %Y %H:%M")


def seconds(value: Any) -> str:
    """A duration in words, whatever stands in its place."""
    return "? s" if isinstance(value, bool) or not isinstance(value, int | float) else format_duration(value)


def _silent(what: str) -> Callable[[Mapping[str, Any]], tuple[str, str]]:
    def say(event: Mapping[str, Any]) -> tuple[str, str]:
        why = _REASONS.get(str(event.get("reason")), "")
        late, timeout = seconds(event.get("late_sec")), seconds(event.get("timeout_sec"))
        return _MISS, f"{event.get('svc')} is {what}: no beat for {late}{why} (timeout {timeout})"

    return say


def _back(event: Mapping[str, Any]) -> tuple[str, str]:
    down = f", after {seconds(event['down_sec'])}" if "down_sec" in event else ""
    return _OK, f"{event.get('svc')} is up{down}"


def _bus_lost(event: Mapping[str, Any]) -> tuple[str, str]:
    reason = f" ({event['reason']})" if "reason" in event else ""
    return _MISS, f"bus {event.get('svc')} is away for {seconds(event.get('late_sec'))}{reason}"


def _bus_back(event: Mapping[str, Any]) -> tuple[str, str]:
    down = f", after {seconds(event['down_sec'])}" if "down_sec" in event else ""
    return _OK, f"bus {event.get('svc')} is back{down}"


def _failing(event: Mapping[str, Any]) -> tuple[str, str]:
    reason = f" ({event['reason']})" if "reason" in event else ""
    return (
        _MISS,
        f"{event.get('svc')} is down: its probes have failed for {seconds(event.get('late_sec'))}{reason}",
    )


def _drifted(event: Mapping[str, Any]) -> tuple[str, str]:
    what = {"missing": "is missing", "invalid": "is not valid"}.get(str(event.get("reason")))
    return _MISS, f"the truth on {event.get('svc')} {what or 'is not the same as elsewhere'}"


def _gap(event: Mapping[str, Any]) -> tuple[str, str]:
    """What happened while nobody listened; it is over."""
    svc, gap_sec = event.get("svc"), event.get("gap_sec")
    for_long = f"silent for at least {seconds(gap_sec)}" if gap_sec else ""
    if event.get("restarted"):
        more = f", {for_long}" if for_long else ""
        return _NOTE, f"{svc} was restarted while nobody could listen{more}; it is up"
    return _NOTE, f"{svc} was {for_long or 'silent'} while nobody could listen; it is up"


def _unreached(event: Mapping[str, Any]) -> tuple[str, str]:
    """It is over, or it could not have been told."""
    return _NOTE, f"the {event.get('svc')} reached no bus for {seconds(event.get('gap_sec'))}"


def _unknown(event: Mapping[str, Any]) -> tuple[str, str]:
    return _NOTE, f"{event.get('type')} {event.get('svc', '')}".rstrip()


_SENTENCES: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "heartbeat_miss": _silent("down"),
    "heartbeat_ok": _back,
    "heartbeat_unwatched": lambda event: (_NOTE, f"{event.get('svc')} is no longer watched; it was down"),
    "heartbeat_gap": _gap,
    "watch_miss": lambda event: (
        _MISS,
        f"{event.get('svc')} can't be watched: its channel is refused to the healer",
    ),
    "watch_ok": lambda event: (_OK, f"{event.get('svc')} can be watched again"),
    "watch_unwatched": lambda event: (
        _NOTE,
        f"{event.get('svc')} is no longer watched; it could not be heard",
    ),
    "reach_gap": _unreached,
    "healer_miss": _silent("down, nobody watches"),
    "healer_ok": _back,
    "bus_miss": _bus_lost,
    "bus_ok": _bus_back,
    "truth_drift": _drifted,
    "probe_miss": _failing,
    "probe_ok": _back,
    "probe_unwatched": lambda event: (_NOTE, f"{event.get('svc')} is no longer probed; it was down"),
    "truth_ok": lambda event: (_OK, f"the truth on {event.get('svc')} is as elsewhere again"),
}
