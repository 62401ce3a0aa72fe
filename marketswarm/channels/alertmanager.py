"""POST messages in the form of Alertmanager's webhooks, version 4, to any receiver of these.

An outage becomes an alert, firing or resolved; both have the same labels and the same fingerprint. A
thread becomes a group, which is resolved once none of its alerts fires any more, be it in this message or
not. Alertmanager's own API takes another form.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, Final

import orjson
from pydantic import Field

from marketswarm.channels.channel import ChannelOptions, Receipt
from marketswarm.channels.http import Http, HttpPartsChannel
from marketswarm.channels.links import add_link_lines
from marketswarm.channels.message import Message, MessageKind, make_plain_key
from marketswarm.channels.text import replace_surrogates
from marketswarm.event import Event, Kind, Severity
from marketswarm.event_text import describe_event, severity_of
from marketswarm.settings import HttpUrl
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
    for thread, alert in build_alerts(message, known):
        groups.setdefault(thread or own, []).append(alert)
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


def build_alerts(message: Message, anchor: Severity | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the alerts of a message, each with its thread, which is empty for the message's own.

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
            yield (
                state.thread,
                build_alert(
                    state.name,
                    state.svc,
                    severity,
                    own_words,
                    started_at=state.started_at,
                    ended_at=state.ended_at,
                ),
            )
        return
    for event in events:
        name = _name_of(event)
        opening = _OPENING.get(name)  # None for a gap, which is reported when it has ended: nothing fires
        fires = event.type is opening
        severity = anchor or (message.severity if fires else severity_of(opening or event.type))
        own_words = words if len(events) == 1 else describe_event(event)
        alert = build_alert(
            name,
            event.svc,
            severity,
            own_words,
            started_at=event.outage_start(),
            ended_at=None if fires else event.ts,
        )
        yield "", alert
    flaps = message.kind in (MessageKind.FLAPPING, MessageKind.SETTLED)
    if not events or flaps:
        name = "flapping" if events else "marketswarm"
        fires = message.opens or message.kind in (MessageKind.FLAPPING, MessageKind.TEST)
        at, severity = message.timestamp, anchor or message.severity
        for svc in dict.fromkeys(event.svc for event in events) or [message.kind]:
            alert = build_alert(name, svc, severity, words, started_at=at, ended_at=None if fires else at)
            yield "", alert


def _name_of(event: Event) -> str:
    return event.type.partition("_")[0]


def build_alert(
    name: str, svc: str, severity: str, words: tuple[str, str], *, started_at: float, ended_at: float | None
) -> dict[str, Any]:
    """Return one alert, resolved if it has an `ended_at`.

    `words` are its summary and description; the times are epoch seconds.
    """
    labels = {"alertname": name, "severity": severity, "svc": replace_surrogates(svc)}
    summary, description = map(replace_surrogates, words)
    return {
        "status": "firing" if ended_at is None else "resolved",
        "labels": labels,
        "annotations": {"summary": summary, "description": description},
        "startsAt": format_utc(started_at),
        "endsAt": NOT_ENDED if ended_at is None else format_utc(ended_at),
        "generatorURL": "",
        # made of the name and the service alone, because the severity may change while the alert fires
        "fingerprint": sha256(f"{name}\n{labels['svc']}".encode()).hexdigest()[:16],
    }


def find_common_fields(each: Iterable[dict[str, str]]) -> dict[str, str]:
    first, *others = each
    return {key: value for key, value in first.items() if all(one.get(key) == value for one in others)}


class Options(ChannelOptions):
    """The URL of a receiver of Alertmanager's webhooks."""

    url: HttpUrl = Field(repr=False)


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
        answer = await self._http.request("POST", self._url, body=body, headers=headers)
        return str(answer.status)


def _make_request_id(message: Message, thread: str) -> str:
    """Return the message's key, and for the groups of other threads one that is theirs alone."""
    is_own = thread == (message.thread or message.id)
    return message.key if is_own else make_plain_key(f"{message.id} {thread}")
