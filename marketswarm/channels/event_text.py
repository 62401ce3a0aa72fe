"""Describe an alert event in words: the title, the text and the severity of its message. Pure.

The first line of a text describes the event; the lines after it name the time, the place and the next
command.
"""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from marketswarm.channels.message import Message, MessageKind, Severity
from marketswarm.channels.text import format_moment
from marketswarm.event import UNWATCHED_REASON, Event, Kind
from marketswarm.text import format_duration

LATE_SEC: Final = 60.0
"""A message that is sent this many seconds after its event, or later, says how late it is."""

_MISS_REASONS: Final = {"stopped": ", after it said goodbye", "never_seen": ", none ever"}
"""Words for the reason of a miss."""
_JOB_MISSES: Final = {
    "overdue": ("{} is overdue", "no run was reported by its deadline"),
    "never_ended": ("{} never ended", "its run started, and did not end within its longest time"),
}
"""By the reason of a miss of a job, the title and the beginning of the text."""


def make_event_message(event: Event, raw: bytes, now: float, fleet: str = "") -> Message:
    """Return the message about one event, as it is to be sent at `now` (epoch seconds).

    `raw` is the event's JSON, `fleet` the name of the fleet in the truth, which may be empty.
    """
    title, text = describe_event(event)
    text = "\n".join((text, describe_context(event, fleet), *list_next_commands(event)))
    kind = _find_kind(event)
    severity = severity_of(event.type)
    opens = kind is MessageKind.DOWN
    return mark_late(
        Message(event.id, title, text, severity, event.ts, events=(raw,), kind=kind, opens=opens), now
    )


def _find_kind(event: Event) -> MessageKind:
    """Return the kind of the message about one event: DOWN, UP, or NOTE for other events."""
    if event.type in _OPENING:
        return MessageKind.DOWN
    return MessageKind.UP if event.type in _RECOVERY_TITLES else MessageKind.NOTE


def mark_late(message: Message, now: float) -> Message:
    """Return the message as it is to be sent at `now` (epoch seconds).

    From LATE_SEC after its timestamp on, the first line of the text says how late the message is.
    """
    late_sec = now - message.timestamp
    if message.late or late_sec < LATE_SEC:
        return message
    first, line_end, rest = message.text.partition("\n")
    text = f"{first} (told {format_seconds(late_sec)} late){line_end}{rest}"
    return replace(message, late=True, text=text)


def format_seconds(value: float | None) -> str:
    """Return a duration in words; `some time` for None."""
    return "some time" if value is None else format_duration(value)


def describe_event(event: Event) -> tuple[str, str]:
    """Return the title of an event's message, and the first line of its text."""
    svc, kind = event.svc, event.type
    if kind is Kind.HEARTBEAT_MISS and (event.reason == "failed" or event.reason in _JOB_MISSES):
        return _describe_run_miss(event)
    if kind in (Kind.HEARTBEAT_MISS, Kind.HEALER_MISS):
        text = f"no beat for {format_seconds(event.late_sec)}{_MISS_REASONS.get(event.reason or '', '')}"
        text += f" (timeout {format_seconds(event.timeout_sec)})"
        watching = "; no service is watched until it is back" if kind is Kind.HEALER_MISS else ""
        return f"{svc} is down", text + watching
    if kind is Kind.BUS_MISS:
        reason = f" ({event.reason})" if event.reason else ""
        return f"bus {svc} is away", f"it has not answered for {format_seconds(event.late_sec)}{reason}"
    if kind is Kind.WATCH_MISS:
        reason = f" ({event.reason})" if event.reason else ""
        return f"{svc} can't be watched", f"its bus does not let its channel be heard{reason}"
    if kind in _FAILURES:
        reason = f" ({event.reason})" if event.reason else ""
        title, text = _FAILURES[kind]
        return title.format(svc), f"{text} for {format_seconds(event.late_sec)}{reason}"
    if event.gap_sec is not None and kind is Kind.HEARTBEAT_GAP:
        title = f"{svc} restarted, and is up" if event.restarted else _DEFAULT_WORDS[kind][0].format(svc)
        return title, f"silent for at least {format_seconds(event.gap_sec)} while nobody listened"
    if event.gap_sec is not None and kind is Kind.REACH_GAP:
        return _DEFAULT_WORDS[kind][0].format(
            svc
        ), f"for {format_seconds(event.gap_sec)}; {_DEFAULT_WORDS[kind][1]}"
    if event.down_sec is not None and kind in _RECOVERY_TITLES:
        return f"{_RECOVERY_TITLES[kind].format(svc)}", f"after {format_seconds(event.down_sec)}"
    is_dropped_bus = kind is Kind.BUS_OK and event.reason == UNWATCHED_REASON
    title, text = _DROPPED_BUS if is_dropped_bus else _DEFAULT_WORDS[kind]
    return title.format(svc), text


def _describe_run_miss(event: Event) -> tuple[str, str]:
    """Return the title and the text of a miss that is about a run of a job or of a command."""
    if event.reason == "failed":
        code = "" if event.exit_code is None else f" with exit code {event.exit_code}"
        return f"{event.svc} failed", f"its command ended{code}"
    title, text = _JOB_MISSES[event.reason or ""]
    last = "no run ever" if event.since is None else f"no run for {format_seconds(event.late_sec)}"
    return title.format(event.svc), f"{text}; {last}"


_OPENING: Final = frozenset(
    {
        Kind.HEARTBEAT_MISS,
        Kind.HEALER_MISS,
        Kind.BUS_MISS,
        Kind.TRUTH_DRIFT,
        Kind.PROBE_MISS,
        Kind.SOURCE_MISS,
        Kind.WATCH_MISS,
    }
)
_FAILURES: Final = {
    Kind.PROBE_MISS: ("{} is down", "its probes have failed"),
    Kind.SOURCE_MISS: ("{} fails", "it has given no answer that can be used"),
}
_RECOVERY_TITLES: Final = {
    Kind.HEARTBEAT_OK: "{} is up again",
    Kind.HEALER_OK: "{} is up again",
    Kind.BUS_OK: "bus {} is back",
    Kind.PROBE_OK: "{} is up again",
    Kind.SOURCE_OK: "{} answers again",
    Kind.WATCH_OK: "{} is watched again",
}
_DROPPED_BUS: Final = ("bus {} is no longer watched", "it was away, and the truth no longer names it")
_DEFAULT_WORDS: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.HEARTBEAT_OK: ("{} is up", "it beats"),
    Kind.HEALER_OK: ("{} is up again", "it beats"),
    Kind.BUS_OK: ("bus {} is back", "it answers"),
    Kind.HEARTBEAT_UNWATCHED: ("{} is no longer watched", "it was down, and the truth no longer names it"),
    Kind.TRUTH_DRIFT: ("the truth on {} has drifted", "it is not the same as on the other buses"),
    Kind.TRUTH_OK: ("the truth on {} is right again", "it is the same on all buses"),
    Kind.PROBE_OK: ("{} is up again", "its probes succeed"),
    Kind.SOURCE_OK: ("{} answers again", "its answers can be used"),
    Kind.WATCH_OK: ("{} is watched again", "its channel can be heard"),
    Kind.WATCH_UNWATCHED: (
        "{} is no longer watched",
        "it could not be heard, and the truth no longer names it",
    ),
    Kind.PROBE_UNWATCHED: ("{} is no longer probed", "it was down, and the truth no longer names it"),
    Kind.SOURCE_UNWATCHED: ("{} is no longer asked", "it failed, and the truth no longer names it"),
    Kind.REACH_GAP: ("the {} reached no bus", "its own network, or all buses at once; nothing was watched"),
    Kind.HEARTBEAT_GAP: ("{} was away unseen", "it did not beat all the time while nobody listened"),
}


def describe_context(event: Event, fleet: str = "") -> str:
    """Return since when an outage lasts, or when another event was, with host and fleet if they are known."""
    opens = event.type in _OPENING
    moment = f"since {format_moment(event.outage_start())}" if opens else f"at {format_moment(event.ts)}"
    return describe_place(moment, event.host or "", fleet)


def describe_place(moment: str, host: str, fleet: str) -> str:
    """Return `since 2025-11-06 12:50:27 UTC on web-3, fleet shop`; an empty host or fleet is left out."""
    return f"{moment}{f' on {host}' if host else ''}{f', fleet {fleet}' if fleet else ''}"


def list_next_commands(event: Event) -> tuple[str, ...]:
    """Return the line with the command to type after an event, in a tuple; () if none is needed."""
    command = "status" if event.reason == "failed" else _NEXT_STEPS.get(event.type)
    return () if command is None else (format_next_command(command, event.svc),)


def format_next_command(command: str, svc: str = "") -> str:
    """Return the line `next: marketswarm …`, with `svc`, quoted for a shell, in place of `{}`."""
    return f"next: marketswarm {command.format(shlex.quote(svc))}"


_NEXT_STEPS: Final[Mapping[Kind, str]] = {
    Kind.HEARTBEAT_MISS: "health {}",
    Kind.HEALER_MISS: "status",
    Kind.BUS_MISS: "status",
    Kind.TRUTH_DRIFT: "seed",
    Kind.PROBE_MISS: "alerts --since 1h",
    Kind.SOURCE_MISS: "source status",
    Kind.WATCH_MISS: "acl",
}


def severity_of(kind: Kind) -> Severity:
    """Return the severity of an event's kind, for events to which the truth gives none."""
    if kind in (Kind.HEALER_MISS, Kind.BUS_MISS):
        return Severity.CRITICAL
    warns = (Kind.HEARTBEAT_MISS, Kind.TRUTH_DRIFT, Kind.PROBE_MISS, Kind.SOURCE_MISS, Kind.WATCH_MISS)
    return Severity.WARNING if kind in warns else Severity.INFO
