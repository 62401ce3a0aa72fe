"""POST messages in the form of Alertmanager's webhooks, version 4, to any receiver of these.

An event becomes an alert, firing or resolved; both have the same labels and the same fingerprint. A
thread becomes a group. Alertmanager's own API takes another form.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, Final

import orjson
from pydantic import Field

from marketswarm.channels.channel import ChannelOptions, Receipt
from marketswarm.channels.http import Http, HttpChannel
from marketswarm.channels.message import Message, MessageKind
from marketswarm.channels.text import replace_surrogates
from marketswarm.event import Kind, Severity
from marketswarm.event_text import describe_event, severity_of
from marketswarm.settings import HttpUrl
from marketswarm.text import format_utc

ALERTS_AT_MOST: Final = 1000
"""How many alerts one group holds; the number of further ones is in `truncatedAlerts`."""
NOT_ENDED: Final = "0001-01-01T00:00:00Z"
"""Alertmanager's `endsAt` while an alert fires."""

_OPENING: Final = {kind.partition("_")[0]: kind for kind in Kind if kind.is_bad}
"""The kind of event that fires an alert, by the first word of its type; other kinds resolve it."""


def encode_alert_group(message: Message, receiver: str, anchor: str | None = None) -> bytes:
    """Return the webhook's JSON for a message; `anchor` is the severity that its thread began with.

    `receiver` is the name of the channel.
    """
    known = anchor if anchor in list(Severity) else None
    alerts = list({alert["fingerprint"]: alert for alert in build_alerts(message, known)}.values())
    common = find_common_fields(alert["labels"] for alert in alerts)
    fires = any(alert["status"] == "firing" for alert in alerts)
    group = {
        "version": "4",
        "groupKey": f"marketswarm:{replace_surrogates(message.thread or message.id)}",
        "truncatedAlerts": max(0, len(alerts) - ALERTS_AT_MOST),
        "status": "firing" if fires else "resolved",
        "receiver": receiver,
        "groupLabels": {name: value for name, value in common.items() if name == "alertname"},
        "commonLabels": common,
        "commonAnnotations": find_common_fields(alert["annotations"] for alert in alerts),
        "externalURL": "",
        "alerts": alerts[:ALERTS_AT_MOST],
    }
    return orjson.dumps(group)


def build_alerts(message: Message, anchor: str | None) -> Iterator[dict[str, Any]]:
    """Yield an alert for each event, and alerts for a message about flapping or without events.

    `anchor` is the severity that the message's thread began with; None if it is the first one.
    """
    events = message.parse_events()
    words = message.title, message.text
    for event in events:
        name = event.type.partition("_")[0]
        opening = _OPENING.get(name)  # None for a gap, which is reported when it is over: nothing fires
        fires = event.type is opening
        severity = anchor or (message.severity if fires else severity_of(opening or event.type))
        own_words = words if len(events) == 1 else describe_event(event)
        ended_at = None if fires else event.ts
        yield build_alert(
            name, event.svc, severity, own_words, started_at=event.outage_start(), ended_at=ended_at
        )
    flaps = message.kind in (MessageKind.FLAPPING, MessageKind.SETTLED)
    if not events or flaps:
        name = "flapping" if events else "marketswarm"
        fires = message.opens or message.kind in (MessageKind.FLAPPING, MessageKind.TEST)
        ended_at = None if fires else message.timestamp
        severity = anchor or message.severity
        for svc in dict.fromkeys(event.svc for event in events) or [message.kind]:
            yield build_alert(name, svc, severity, words, started_at=message.timestamp, ended_at=ended_at)


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


class Alertmanager(HttpChannel):
    """A channel that POSTs each message as one group; a thread's anchor is the severity of its alerts."""

    def __init__(self, name: str, options: Options, http: Http | None = None) -> None:
        super().__init__(name, options.url, http)
        self._url = options.url

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:
        body = encode_alert_group(message, self.name, anchor)
        headers = {"content-type": "application/json", "webhook-id": message.key}
        answer = await self._http.request("POST", self._url, body=body, headers=headers)
        return Receipt(str(answer.status), anchor or message.severity)
