"""Describe an alert event in words: the one table for mails, chats, the terminal and the board. Pure.

The title names the service and its state, the text gives the details. The other lines of a message are here,
too: the time, the place and the next command.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from marketswarm.event import UNWATCHED_REASON, Event, Kind, Severity
from marketswarm.text import escape_text, format_duration, format_moment
from marketswarm.truth import MEDIC, PROPOSED_RULE

_NOT_WANTED: Final = "and the truth no longer asks for it"  # it may name it still, with `"monitored": false`
_WARNING, _CRITICAL = Severity.WARNING, Severity.CRITICAL
_RESTARTED: Final = "restarted"
_FAILED: Final = "failed"
SOME_FAILURE: Final = "a failure was reported"
"""What stands for the words of `describe_failure` about a failure of which nothing more is known."""
_OVERDUE: Final = "overdue"
_NO_RUN: Final = {_OVERDUE: "overdue", "never_ended": "never ended"}
"""By the reason of a miss about the runs of a job, what the job is."""
_PROPOSED: Final = f"{MEDIC}/{PROPOSED_RULE}/"
_NOT_PROPOSED: Final = "it was approved or withdrawn, expired, or is not needed"
_GOODBYE: Final = {"stopped": ", after it said goodbye"}
_NEVER_SEEN: Final = "never heard, in the {late} since listening began"
# not `seed`, which undoes what was changed on the board or by a rollback
_COMPARE: Final = "truth diff truth.json"


@dataclass(frozen=True, slots=True)
class _EventWords:
    """The words for an event; `{svc}` and the other fields are filled in by `describe_event`.

    `ended` replaces the text of an event that says how long the outage lasted. `next` is the command to
    type after the event, empty if none is needed.
    """

    title: str
    text: str
    next: str = ""
    severity: Severity = Severity.INFO
    ended: str = "after {lasted}"


# fmt: off
_WORDS: Final[Mapping[Kind, _EventWords]] = {
    Kind.HEARTBEAT_MISS: _EventWords(
        "{svc} is down", "no beat for {late}{goodbye} (timeout {timeout})", "health {svc}", _WARNING),
    Kind.HEARTBEAT_OK: _EventWords("{svc} is up{again}", "it beats"),
    Kind.HEARTBEAT_UNWATCHED: _EventWords("{svc} is no longer watched", f"it was down, {_NOT_WANTED}"),
    Kind.HEARTBEAT_GAP: _EventWords(
        "{svc} was away unseen", "it did not beat all the time while nobody listened",
        ended="silent for at least {lasted} while nobody listened"),
    Kind.HEALER_MISS: _EventWords(
        "{svc} is down",
        "no beat for {late}{goodbye} (timeout {timeout}); no service is watched until it is back",
        "status", _CRITICAL),
    Kind.HEALER_OK: _EventWords("{svc} is up{again}", "it beats"),
    Kind.BUS_MISS: _EventWords(
        "bus {svc} is away", "it has not answered for {late}{reason}", "status", _CRITICAL),
    Kind.BUS_OK: _EventWords("bus {svc} is back", "it answers"),
    Kind.TRUTH_DRIFT: _EventWords(
        "the truth on {svc} has drifted", "it is not the same as on the other buses", _COMPARE, _WARNING),
    Kind.TRUTH_OK: _EventWords("the truth on {svc} is right again", "it is the same on all buses"),
    Kind.PROBE_MISS: _EventWords(
        "{svc} is down", "its probes have failed for {late}{reason}", "alerts --since 1h", _WARNING),
    Kind.PROBE_OK: _EventWords("{svc} is up again", "its probes succeed"),
    Kind.PROBE_UNWATCHED: _EventWords("{svc} is no longer probed", f"it was down, {_NOT_WANTED}"),
    Kind.SOURCE_MISS: _EventWords(
        "{svc} fails", "it has given no answer that can be used for {late}{reason}{detail}",
        "source status", _WARNING),
    Kind.SOURCE_OK: _EventWords("{svc} answers again", "its answers can be used"),
    Kind.SOURCE_UNWATCHED: _EventWords("{svc} is no longer asked", f"it failed, {_NOT_WANTED}"),
    Kind.MONITOR_MISS: _EventWords(
        "{svc} holds", "this rule of the medic has held for {late}{reason}",
        "medic status", _WARNING),
    Kind.MONITOR_OK: _EventWords("{svc} no longer holds", "the rule of the medic does not hold any more"),
    Kind.MONITOR_UNWATCHED: _EventWords("{svc} is no longer evaluated", f"it held, {_NOT_WANTED}"),
    Kind.SIGNALS_MISS: _EventWords(
        "{svc} fails", "this check of the signals has failed for {late}{reason}{detail}",
        "health signals", _WARNING),
    Kind.SIGNALS_OK: _EventWords("{svc} holds again", "this check of the signals does not fail any more"),
    Kind.SIGNALS_UNWATCHED: _EventWords("{svc} is no longer checked", f"it failed, {_NOT_WANTED}"),
    Kind.REACH_GAP: _EventWords(
        "the {svc} reached no bus", "its own network, or all buses at once; nothing was watched",
        ended="for {lasted}; its own network, or all buses at once; nothing was watched"),
    Kind.WATCH_MISS: _EventWords(
        "{svc} can't be watched", "its bus does not let its channel be heard{reason}", "acl", _WARNING),
    Kind.WATCH_OK: _EventWords("{svc} is watched again", "its channel can be heard"),
    Kind.WATCH_UNWATCHED: _EventWords(
        "{svc} is no longer watched", f"it could not be heard, {_NOT_WANTED}"),
}
_SPECIAL_WORDS: Final[Mapping[tuple[Kind, str | None], _EventWords]] = {
    (Kind.HEARTBEAT_MISS, "never_seen"): _EventWords("{svc} is down", _NEVER_SEEN, "health {svc}", _WARNING),
    (Kind.HEALER_MISS, "never_seen"): _EventWords(
        "{svc} is down", f"{_NEVER_SEEN}; no service is watched until it is back", "status", _CRITICAL),
    (Kind.HEARTBEAT_MISS, _FAILED): _EventWords("{svc} failed", "{failure}", "runs {svc}"),
    (Kind.HEARTBEAT_MISS, "overdue"): _EventWords(
        "{svc} is overdue", "no run was reported by its deadline; no run {since}", "health {svc}"),
    (Kind.HEARTBEAT_MISS, "never_ended"): _EventWords(
        "{svc} never ended",
        "its run started, and did not end within its longest time; no run {since}", "health {svc}"),
    (Kind.HEARTBEAT_GAP, _RESTARTED): _EventWords(
        "{svc} restarted, and is up", _WORDS[Kind.HEARTBEAT_GAP].text,
        ended=_WORDS[Kind.HEARTBEAT_GAP].ended),
    (Kind.BUS_OK, UNWATCHED_REASON): _EventWords(
        "bus {svc} is no longer watched", f"it was away, {_NOT_WANTED}",
        ended=f"it was away, {_NOT_WANTED}"),
    (Kind.WATCH_MISS, "flood"): _EventWords(
        "{svc} can't be watched",
        "more comes on its channel than the healer reads, so its silence is not judged",
        "alerts --since 1h", _WARNING),
    (Kind.TRUTH_DRIFT, "missing"): _EventWords("the truth on {svc} has drifted", "it is missing", _COMPARE),
    (Kind.TRUTH_DRIFT, "invalid"): _EventWords("the truth on {svc} has drifted", "it is not valid", _COMPARE),
}
"""The words for some reasons of a kind, and for a gap in which the service restarted."""
_PROPOSAL_WORDS: Final[Mapping[Kind, _EventWords]] = {
    Kind.MONITOR_MISS: _EventWords("the medic proposes a remedy for {subject}", "{said}", "medic status"),
    Kind.MONITOR_OK: _EventWords(
        "the medic proposes nothing more for {subject}", _NOT_PROPOSED, ended=_NOT_PROPOSED),
}
"""The words for the rule of the medic that holds while a person is asked."""
# fmt: on


def describe_event(event: Event) -> tuple[str, str]:
    """Return the title of an event's message, and the first line of its text."""
    words = _find_words(event)
    lasted = event.gap_sec or event.down_sec
    late = format_seconds(event.late_sec)
    fields = {
        "svc": event.svc,
        "late": late,
        "timeout": format_seconds(event.timeout_sec),
        "lasted": format_seconds(lasted),
        "goodbye": _GOODBYE.get(event.reason or "", ""),
        "reason": f" ({event.reason})" if event.reason else "",
        "detail": f"; {event.detail}" if event.detail else "",
        "failure": describe_failure(event.detail, event.exit_code) or SOME_FAILURE,
        "since": "ever" if event.since is None else f"for {late}",
        "again": " again" if lasted else "",
        "subject": find_proposal_subject(event.svc),
        "said": event.reason or "",
    }
    is_over = lasted is not None and event.type.is_bad is not True
    return words.title.format(**fields), (words.ended if is_over else words.text).format(**fields)


def describe_failure(detail: str | None, exit_code: int | None) -> str:
    """Return what is known about a reported failure: the exit code, and what was said; empty if nothing is.

    What was said is foreign text, so words of ours stand before it.
    """
    said = detail or ""
    if exit_code is None:
        return f"reported: {said}" if said else ""
    code = f"exit {exit_code}"
    if said == code or said.startswith(f"{code} "):  # as `marketswarm exec` says it
        return f"its command ended with {said.replace('exit', 'exit code', 1)}"
    return f"its command ended with exit code {exit_code}{f': {said}' if said else ''}"


def describe_outage(
    reason: str | None, since: float | None, down_since: float | None
) -> tuple[str, float | None]:
    """Return since when a service is down: `failed since`, and the moment that the words end with.

    A job missed a run, and the moment is that of the schedule.

    `reason`, `since` (the last beat or complete run) and `down_since` are those of its miss, in epoch
    seconds. The moment is None if the words need none, as `never heard`.
    """
    if reason == _FAILED:
        began_at = since if down_since is None else down_since
        return ("failed", None) if began_at is None else ("failed since", began_at)
    if reason == _OVERDUE and down_since is not None:
        return "missed its run of", down_since
    if reason in _NO_RUN:
        words = _NO_RUN[reason]
        return (f"{words}, no run ever", None) if since is None else (f"{words}, no run since", since)
    return ("never heard", None) if since is None else ("silent since", since)


def is_proposal(svc: str) -> bool:
    """Return True for the name under which the medic says that it asks a person about a service."""
    return svc.startswith(_PROPOSED)


def find_proposal_subject(svc: str) -> str:
    """Return for what the medic proposes something, from the name in the event about that."""
    return svc.removeprefix(_PROPOSED)


def _find_words(event: Event) -> _EventWords:
    if event.svc.startswith(_PROPOSED) and event.type in _PROPOSAL_WORDS:
        return _PROPOSAL_WORDS[event.type]
    key = (event.type, _RESTARTED if event.restarted else event.reason)
    return _SPECIAL_WORDS.get(key, _WORDS[event.type])


def join_words(title: str, text: str) -> str:
    """Return a title and a text as one line: `a is down: no beat for 31.2 s`, `a is up again, after 31 s`."""
    return f"{title}{', ' if text.startswith(('after ', 'for ')) else ': '}{text}" if text else title


def severity_of(kind: Kind) -> Severity:
    """Return the severity by an event's kind, for events to which the truth gives none."""
    return _WORDS[kind].severity


def severity_of_event(event: Event) -> Severity:
    """Return the severity that an event which begins a problem names, otherwise that of its kind."""
    named = next((each for each in Severity if each == event.severity), None)
    return named if named is not None and event.type.is_bad else severity_of(event.type)


def format_seconds(value: float | None) -> str:
    return "some time" if value is None else format_duration(value)


def describe_context(event: Event, fleet: str = "", zone: tzinfo | None = None) -> str:
    """Return since when an outage lasts, or when another event was, with host and fleet if they are known.

    The clocks of `zone` come before UTC.
    """
    begins = f"since {format_moment(event.outage_start(), zone)}" if event.type.is_bad else None
    return describe_place(begins or f"at {format_moment(event.ts, zone)}", event.host or "", fleet)


def describe_place(moment: str, host: str, fleet: str) -> str:
    """Return `since 2025-11-06 12:50:27 UTC on web-3, fleet shop`; an empty host or fleet is left out."""
    return f"{moment}{f' on {escape_text(host)}' if host else ''}{f', fleet {fleet}' if fleet else ''}"


def list_next_commands(event: Event) -> tuple[str, ...]:
    """Return the line with the command to type after an event, if there is one."""
    command = _find_words(event).next
    return (format_next_command(command, event.svc),) if command else ()


def format_next_command(command: str, svc: str = "") -> str:
    """Return the line `next: marketswarm …`, with `svc`, quoted for a shell, in place of `{svc}`."""
    return f"next: marketswarm {command.format(svc=shlex.quote(svc))}"
