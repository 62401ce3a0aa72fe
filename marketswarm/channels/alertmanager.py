"""POST messages in the form of Alertmanager's webhooks, version 4, to any receiver of these.

An outage becomes an alert, firing or resolved; both have the same labels and the same fingerprint. A
thread becomes a group, which is resolved once none of its alerts fires any more, be it in this message or
not. Alertmanager's own API takes another form.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final

import orjson

from marketswarm.channels.channel import Receipt
from marketswarm.channels.http import Http, HttpPartsChannel, UrlOptions, require_success
from marketswarm.channels.links import add_link_lines
from marketswarm.channels.message import AlertState, Message, MessageKind, make_plain_key
from marketswarm.channels.text import replace_surrogates
from marketswarm.event import Event, Kind, Severity
from marketswarm.event_text import describe_event, severity_of
from marketswarm.text import format_utc

ALERTS_AT_MOST: Final = 1000
"""How many alerts one group holds; the number of further ones is in `truncatedAlerts`."""
NOT_ENDED: Final = "0001-01-01T00:00:00Z"
"""Alertmanager's `endsAt` while an alert fires."""

_OPENING: Final = {kind.partition("_")[0]: kind for kind in Kind if kind.is_bad}
"""The kind of event that fires an alert, by the first word of its type; other kinds resolve it."""


def encode_alert_groups(message: Message, receiver: str, anchor: str | None = None) -> dict[str, bytes]:
    """Return the webhook's JSON for each thread that a message is about, its own one first.

    `anchor` is the severity that its own thread began with; `receiver` is the name of the channel.
    """
    known = Severity(anchor) if anchor in list(Severity) else None
    own, groups = message.thread or message.id, dict[str, list[dict[str, Any]]]()
    for alert in list_alerts(message, known):
        groups.setdefault(alert.thread or own, []).append(build_alert(alert))
    ordered = {thread: groups[thread] for thread in sorted(groups, key=lambda thread: thread != own)}
    return {thread: _encode_group(message, receiver, thread, alerts) for thread, alerts in ordered.items()}


def _encode_group(message: Message, receiver: str, thread: str, every: list[dict[str, Any]]) -> bytes:
    """Return the JSON of one group; it fires while an alert of its thread lasts, in the message or not."""
    alerts = list({alert["fingerprint"]: alert for alert in every}.values())
    common = find_common_fields(alert["labels"] for alert in alerts)
    fires = any(alert["status"] == "firing" for alert in alerts)
    is_continued = thread != message.id
    group = {
        "version": "4",
        "groupKey": f"marketswarm:{replace_surrogates(thread)}",
        "truncatedAlerts": max(0, len(alerts) - ALERTS_AT_MOST),
        "status": "firing" if fires or (is_continued and thread not in message.closes) else "resolved",
        "receiver": receiver,
        "groupLabels": {name: value for name, value in common.items() if name == "alertname"},
        "commonLabels": common,
        "commonAnnotations": find_common_fields(alert["annotations"] for alert in alerts),
        "externalURL": message.page_url,
        "alerts": alerts[:ALERTS_AT_MOST],
    }
    return orjson.dumps(group)


def list_alerts(message: Message, anchor: Severity | None) -> Iterator[AlertState]:
    """Yield the alerts of a message, each with the severity and the words that its receivers get.

    `anchor` is the severity that the message's own thread began with; None if it is the first one. Without
    states there is an alert for each event, and one for a message about flapping or without events.
    """
    events = message.parse_events()
    words = message.title, add_link_lines(message)
    if message.states:
        said = {(_name_of(event), event.svc): describe_event(event) for event in events}
        for state in (*message.states, *message.lasting):
            known = (state.title, state.text) if state.title else words
            is_alone = len(message.states) == 1 and state is message.states[0]
            own_words = words if is_alone else said.get((state.name, state.svc), known)
            is_own = state.thread in ("", message.thread or message.id)
            severity = (anchor if is_own else None) or state.severity
            yield replace(state, severity=severity, title=own_words[0], text=own_words[1])
        return
    for event in events:
        name = _name_of(event)
        opening = _OPENING.get(name)  # None for a gap, which is reported when it has ended: nothing fires
        fires = event.type is opening
        severity = anchor or (message.severity if fires else severity_of(opening or event.type))
        own_words = words if len(events) == 1 else describe_event(event)
        started_at, ended_at = event.outage_start(), None if fires else event.ts
        yield AlertState(name, event.svc, "", severity, started_at, ended_at, *own_words)
    flaps = message.kind in (MessageKind.FLAPPING, MessageKind.SETTLED)
    if not events or flaps:
        name = "flapping" if events else "marketswarm"
        fires = message.opens or message.kind in (MessageKind.FLAPPING, MessageKind.TEST)
        at, severity = message.timestamp, anchor or message.severity
        for svc in dict.fromkeys(event.svc for event in events) or [message.kind]:
            yield AlertState(name, svc, "", severity, at, None if fires else at, *words)


def _name_of(event: Event) -> str:
    return event.type.partition("_")[0]


def build_alert(alert: AlertState) -> dict[str, Any]:
    """Return the JSON of one alert, resolved if it has ended."""
    svc = replace_surrogates(alert.svc)
    return {
        "status": "firing" if alert.ended_at is None else "resolved",
        "labels": {"alertname": alert.name, "severity": alert.severity, "svc": svc},
        "annotations": {
            "summary": replace_surrogates(alert.title),
            "description": replace_surrogates(alert.text),
        },
        "startsAt": format_utc(alert.started_at),
        "endsAt": NOT_ENDED if alert.ended_at is None else format_utc(alert.ended_at),
        "generatorURL": "",
        # made of the name and the service alone, because the severity may change while the alert fires
        "fingerprint": sha256(f"{alert.name}\n{svc}".encode()).hexdigest()[:16],
    }


def find_common_fields(each: Iterable[dict[str, str]]) -> dict[str, str]:
    first, *others = each
    return {key: value for key, value in first.items() if all(one.get(key) == value for one in others)}


class Options(UrlOptions):
    """The URL of a receiver of Alertmanager's webhooks."""


class Alertmanager(HttpPartsChannel):
    """A channel that POSTs each message as a group for each of its threads.

    A thread's anchor is the severity of its alerts.
    """

    def __init__(self, name: str, options: Options, http: Http | None = None) -> None:
        super().__init__(name, options.url, http)

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:
        """Send the groups of a message that were not accepted yet. Raises SendError."""
        groups = encode_alert_groups(message, self.name, anchor)
        answer = await self.send_parts(
            message.id,
            groups,
            lambda thread: self._post(groups[thread], _make_request_id(message, thread)),
        )
        return Receipt(answer, anchor or message.severity)

    async def _post(self, body: bytes, request_id: str) -> str:
        headers = {"content-type": "application/json", "webhook-id": request_id}
        answer = await self._http.exchange("POST", self._url, body=body, headers=headers)
        return str(require_success(answer).status)


def _make_request_id(message: Message, thread: str) -> str:
    """Return the message's key, and for the groups of other threads one that is theirs alone."""
    is_own = thread == (message.thread or message.id)
    return message.key if is_own else make_plain_key(f"{message.id} {thread}")
