"""A message as the JSON of Alertmanager's webhooks, version 4. Pure.

An event is an alert, firing or resolved, and both have the same labels and the same fingerprint; a group is
a thread.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, Final

import orjson

from marketswarm.channels.body import moment, sound
from marketswarm.channels.message import Message, Severity, What
from marketswarm.channels.wording import severity_of, words
from marketswarm.event import Event, Kind, parse

ALERTS_AT_MOST: Final = 1000
STILL: Final = "0001-01-01T00:00:00Z"
"""What their `endsAt` is while an alert fires."""

_OPENING: Final = {
    kind.partition("_")[0]: kind
    for kind in (
        Kind.HEARTBEAT_MISS,
        Kind.HEALER_MISS,
        Kind.BUS_MISS,
        Kind.TRUTH_DRIFT,
        Kind.PROBE_MISS,
        Kind.WATCH_MISS,
    )
}
"""What fires, by the first word of its type: all events that begin with that word are on the same alert."""


def payload(message: Message, receiver: str, anchor: str | None = None) -> bytes:
    """The body; the same bytes for the same message. `anchor` is the severity that its thread began with."""
    known = anchor if anchor in list(Severity) else None
    alerts = list({alert["fingerprint"]: alert for alert in alerts_of(message, known)}.values())
    named = common(alert["labels"] for alert in alerts)
    group = {
        "version": "4",
        "groupKey": f"marketswarm:{sound(message.thread or message.id)}",
        "truncatedAlerts": max(0, len(alerts) - ALERTS_AT_MOST),
        "status": "firing" if any(alert["status"] == "firing" for alert in alerts) else "resolved",
        "receiver": receiver,
        "groupLabels": {name: value for name, value in named.items() if name == "alertname"},
        "commonLabels": named,
        "commonAnnotations": common(alert["annotations"] for alert in alerts),
        "externalURL": "",
        "alerts": alerts[:ALERTS_AT_MOST],
    }
    return orjson.dumps(group)


def alerts_of(message: Message, anchor: str | None) -> Iterator[dict[str, Any]]:
    """An alert for each event, the later last; for the message itself where its events do not say it."""
    events = [event for event in map(parse, message.events) if isinstance(event, Event)]
    for event in events:
        name = event.type.partition("_")[0]
        opening = _OPENING.get(name)  # nothing fires of what is told in retrospect
        fires = event.type is opening
        severity = anchor or (message.severity if fires else severity_of(opening or event.type))
        said = (message.title, message.text) if len(events) == 1 else words(event)
        yield alert(name, event.svc, severity, said, began=began(event), ended=None if fires else event.ts)
    if not events or message.what in (What.FLAPPING, What.SETTLED):
        name = "flapping" if events else "marketswarm"
        ended = None if message.opens or message.what in (What.FLAPPING, What.TEST) else message.timestamp
        for svc in dict.fromkeys(event.svc for event in events) or [message.what]:
            said = (message.title, message.text)
            severity = anchor or message.severity
            yield alert(name, svc, severity, said, began=message.timestamp, ended=ended)


def alert(
    name: str, svc: str, severity: str, said: tuple[str, str], *, began: float, ended: float | None
) -> dict[str, Any]:
    """One alert; `began` and `ended` are epoch seconds."""
    labels = {"alertname": name, "severity": severity, "svc": sound(svc)}
    return {
        "status": "firing" if ended is None else "resolved",
        "labels": labels,
        "annotations": {"summary": sound(said[0]), "description": sound(said[1])},
        "startsAt": moment(began),
        "endsAt": STILL if ended is None else moment(ended),
        "generatorURL": "",
        # of what it is on alone: how much it matters may be said otherwise later
        "fingerprint": sha256(f"{name}\n{labels['svc']}".encode()).hexdigest()[:16],
    }


def began(event: Event) -> float:
    """When what an event tells of began, as far as it says so; the same for a miss and its ok."""
    if event.type is Kind.WATCH_MISS:
        return event.ts  # its `since` is the last beat that was heard before
    return event.ts - (event.down_sec or event.late_sec or 0.0) if event.since is None else event.since


def common(each: Iterable[dict[str, str]]) -> dict[str, str]:
    """What they all have."""
    first, *others = each
    return {key: value for key, value in first.items() if all(one.get(key) == value for one in others)}
