"""Format an alert event as one line for people. Pure.

`12:50:58 ✗ rss_agg is down: no beat for 31.2 s (timeout 30 s)`. Times are in the machine's zone unless a zone
is given.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from marketswarm.event import UNWATCHED_REASON
from marketswarm.text import escape_text, format_duration

_BAD, _GOOD, _NOTE = "✗", "✓", "·"
_MISS_REASONS = {"stopped": ", after it said goodbye", "never_seen": ", none ever"}
_JOB_MISSES = {
    "overdue": "is overdue: no run was reported by its deadline",
    "never_ended": "never ended: its run started, and did not end within its longest time",
}

_Event = Mapping[str, Any]
_Text = tuple[str, str]  # the mark and the sentence


def describe_event(event: _Event, zone: tzinfo | None = None, *, now: float | None = None) -> str:
    """Return the line for an event; for an unknown type, its type and service.

    Args:
        event: the object on the log.
        zone: the time zone; None is the machine's.
        now: epoch seconds; an event of another day than this gets its date.
    """
    mark, text = _DESCRIPTIONS.get(str(event.get("type")), _describe_unknown)(event)
    date = "" if now is None else _format_date(event.get("ts"), now, zone)
    return escape_text(f"{date}{format_time(event.get('ts'), zone)} {mark} {text}")


def is_bad(event: _Event) -> bool:
    """Return True if an event begins a problem: a miss, or a truth that differs."""
    return str(event.get("type")).endswith(("miss", "drift"))


def format_time(ts: Any, zone: tzinfo | None = None) -> str:
    """Return epoch seconds as a time of day; dashes for a value that is no time."""
    try:
        return datetime.fromtimestamp(ts, UTC).astimezone(zone).strftime("%H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return "--:--:--"


def _format_date(ts: Any, now: float, zone: tzinfo | None) -> str:
    """Return the date of epoch seconds with a blank behind it.

    Return an empty text for the date of `now`, and for a value that is no time.
    """
    try:
        there, here = (datetime.fromtimestamp(each, UTC).astimezone(zone) for each in (ts, now))
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
    return "" if there.date() == here.date() else there.strftime("%a %d %b %Y ")


def format_moment(ts: float, now: float, zone: tzinfo | None = None) -> str:
    """Return epoch seconds as a time of day, with the date in front unless it is the date of `now`."""
    there, here = (datetime.fromtimestamp(each, UTC).astimezone(zone) for each in (ts, now))
    return there.strftime("%H:%M" if there.date() == here.date() else "%a %d %b %Y %H:%M")


def format_seconds(value: Any) -> str:
    """Return an event's seconds as `31.2 s` or `4 min 10 s`; `? s` for a value that is no number."""
    return "? s" if isinstance(value, bool) or not isinstance(value, int | float) else format_duration(value)


def _describe_silence(what: str) -> Callable[[_Event], _Text]:
    """Return a function that describes the miss of a service; `what` is its state, such as `down`."""

    def describe(event: _Event) -> _Text:
        """Describe a miss: a command that failed, or a service without beats and for how long."""
        if event.get("reason") == "failed":
            code = event.get("exit_code")
            ended = f" with exit code {code}" if isinstance(code, int) else ""
            return _BAD, f"{event.get('svc')} failed: its command ended{ended}"
        if event.get("reason") in _JOB_MISSES:
            return (
                _BAD,
                f"{event.get('svc')} {_JOB_MISSES[str(event.get('reason'))]}{_format_last_run(event)}",
            )
        reason = _MISS_REASONS.get(str(event.get("reason")), "")
        late, timeout = format_seconds(event.get("late_sec")), format_seconds(event.get("timeout_sec"))
        return _BAD, f"{event.get('svc')} is {what}: no beat for {late}{reason} (timeout {timeout})"

    return describe


def _format_last_run(event: _Event) -> str:
    """Return how long ago the last run of a job was reported, as the end of a sentence."""
    return f"; no run for {format_seconds(event.get('late_sec'))}" if "since" in event else "; no run ever"


def _describe_recovery(event: _Event) -> _Text:
    """Describe a service that is up again, and after how long."""
    return _GOOD, f"{event.get('svc')} is up{_format_outage(event)}"


def _describe_lost_bus(event: _Event) -> _Text:
    """Describe a bus that does not answer, for how long and why."""
    return (
        _BAD,
        f"bus {event.get('svc')} is away for {format_seconds(event.get('late_sec'))}{_format_reason(event)}",
    )


def _describe_bus_recovery(event: _Event) -> _Text:
    """Describe a bus that answers again, and after how long; or one that the truth no longer names."""
    if event.get("reason") == UNWATCHED_REASON:
        return _NOTE, f"bus {event.get('svc')} is no longer watched; it was away"
    return _GOOD, f"bus {event.get('svc')} is back{_format_outage(event)}"


def _describe_failing_probe(event: _Event) -> _Text:
    """Describe a target whose probes fail, for how long and why."""
    late = format_seconds(event.get("late_sec"))
    return _BAD, f"{event.get('svc')} is down: its probes have failed for {late}{_format_reason(event)}"


def _describe_failing_source(event: _Event) -> _Text:
    """Describe a source of the market that fails, for how long and why."""
    late = format_seconds(event.get("late_sec"))
    return _BAD, f"{event.get('svc')} fails: no answer that can be used for {late}{_format_reason(event)}"


def _describe_drift(event: _Event) -> _Text:
    """Describe a bus whose truth is missing, invalid or different."""
    state = {"missing": "is missing", "invalid": "is not valid"}.get(str(event.get("reason")))
    return _BAD, f"the truth on {event.get('svc')} {state or 'is not the same as elsewhere'}"


def _describe_heartbeat_gap(event: _Event) -> _Text:
    """Describe an outage that began and ended while no healer listened."""
    svc, gap_sec = event.get("svc"), event.get("gap_sec")
    silence = f"silent for at least {format_seconds(gap_sec)}" if gap_sec else ""
    if event.get("restarted"):
        more = f", {silence}" if silence else ""
        return _NOTE, f"{svc} was restarted while nobody could listen{more}; it is up"
    return _NOTE, f"{svc} was {silence or 'silent'} while nobody could listen; it is up"


def _describe_reach_gap(event: _Event) -> _Text:
    """Describe a time in which a healer or sentinel reached no bus, published once it reached one again."""
    return _NOTE, f"the {event.get('svc')} reached no bus for {format_seconds(event.get('gap_sec'))}"


def _describe_unknown(event: _Event) -> _Text:
    """Describe an event of an unknown type by its type and service."""
    return _NOTE, f"{event.get('type')} {event.get('svc', '')}".rstrip()


def _format_outage(event: _Event) -> str:
    """Return `, after 4 min 10 s` for an event that ends an outage of known length, else an empty text."""
    return f", after {format_seconds(event['down_sec'])}" if "down_sec" in event else ""


def _format_reason(event: _Event) -> str:
    """Return ` (refused)` for an event with a reason, else an empty text."""
    return f" ({event['reason']})" if "reason" in event else ""


def _make_describer(mark: str, text: str) -> Callable[[_Event], _Text]:
    """Return a function that describes an event by `text` with the name of the service in it."""
    return lambda event: (mark, text.format(svc=event.get("svc")))


_DESCRIPTIONS: Mapping[str, Callable[[_Event], _Text]] = {
    "heartbeat_miss": _describe_silence("down"),
    "heartbeat_ok": _describe_recovery,
    "heartbeat_unwatched": _make_describer(_NOTE, "{svc} is no longer watched; it was down"),
    "heartbeat_gap": _describe_heartbeat_gap,
    "watch_miss": _make_describer(_BAD, "{svc} can't be watched: its channel is refused to the healer"),
    "watch_ok": _make_describer(_GOOD, "{svc} can be watched again"),
    "watch_unwatched": _make_describer(_NOTE, "{svc} is no longer watched; it could not be heard"),
    "reach_gap": _describe_reach_gap,
    "healer_miss": _describe_silence("down, nobody watches"),
    "healer_ok": _describe_recovery,
    "bus_miss": _describe_lost_bus,
    "bus_ok": _describe_bus_recovery,
    "truth_drift": _describe_drift,
    "truth_ok": _make_describer(_GOOD, "the truth on {svc} is as elsewhere again"),
    "probe_miss": _describe_failing_probe,
    "probe_ok": _describe_recovery,
    "probe_unwatched": _make_describer(_NOTE, "{svc} is no longer probed; it was down"),
    "source_miss": _describe_failing_source,
    "source_ok": _make_describer(_GOOD, "{svc} answers again"),
    "source_unwatched": _make_describer(_NOTE, "{svc} is no longer asked; it failed"),
}
