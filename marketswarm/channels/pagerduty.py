"""Send events to PagerDuty's Events API v2: an outage triggers an alert, its end resolves it.

The alert's `dedup_key` is the thread, so that a reminder adds to the open alert and a repeat does
nothing. A message that opens and closes nothing triggers no alert.
"""

import re
from typing import Any, Final

import orjson

from marketswarm.channels.channel import ChannelOptions, Failure, Receipt, SendError
from marketswarm.channels.http import Http, HttpPartsChannel, make_response_error
from marketswarm.channels.links import list_links
from marketswarm.channels.message import Message, MessageKind, make_plain_key
from marketswarm.channels.text import fit_lines, printable_line, printable_lines, truncate, utf8_length
from marketswarm.settings import HttpUrl, Token
from marketswarm.text import format_utc

ENQUEUE: Final = "https://events.pagerduty.com/v2/enqueue"
SUMMARY_AT_MOST: Final = 1024
LABEL_AT_MOST: Final = 100
DETAIL_AT_MOST: Final = 30_000
"""Bytes of each of the two long details; a request may have 512 KB."""


class Options(ChannelOptions):
    """The integration key of a PagerDuty service; `url` for accounts in the EU."""

    routing_key: Token
    url: HttpUrl = ENQUEUE


class PagerDuty(HttpPartsChannel):
    """A channel that sends one request for what a message opens, and one for each thread that it closes."""

    def __init__(self, name: str, options: Options, http: Http | None = None) -> None:
        super().__init__(name, options.url, http)
        self._options = options

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - the key is the thread
        """Send the requests of a message that were not accepted yet. Raises SendError."""
        requests = build_requests(message)
        if not requests:
            return Receipt("nothing to do")
        return Receipt(await self.send_parts(message.id, requests, lambda part: self._post(requests[part])))

    async def _post(self, request: dict[str, Any]) -> str:
        key = self._options.routing_key.get_secret_value()
        body = orjson.dumps({"routing_key": key, **request})
        headers = {"content-type": "application/json"}
        answer = await self._http.exchange("POST", self._url, body=body, headers=headers)
        if not 200 <= answer.status < 300:
            if answer.status == 400 and re.search(rb"routing.key", answer.body, re.IGNORECASE):
                raise SendError("400", Failure.BROKEN)  # 400 is also the status for a refused key
            raise make_response_error(answer)
        return str(answer.status)


def build_requests(message: Message) -> dict[str, dict[str, Any]]:
    """Return the requests of a message by name, in the order to send them, without the integration key.

    A repeat of the message has the same names.
    """
    found: dict[str, dict[str, Any]] = {}
    closes = list(message.closes)
    own = message.thread or message.id
    for thread in [own] if message.kind is MessageKind.TEST else message.list_open_threads():
        found["trigger" if thread == own else f"trigger {thread}"] = trigger(message, thread)
    if message.kind is MessageKind.TEST:
        closes.append(own)  # a test alert is resolved at once
    for thread in closes:
        found[f"resolve {thread}"] = {"event_action": "resolve", "dedup_key": make_plain_key(thread)}
    return found


def trigger(message: Message, thread: str) -> dict[str, Any]:
    """Return the request that opens the alert of a thread, or adds to it if it is open."""
    events = message.parse_events()
    names = sorted({event.svc for event in events})
    kinds = sorted({event.type.value for event in events})
    lines = fit_lines(message.lines, DETAIL_AT_MOST, utf8_length)
    first_line, _, _ = message.text.partition("\n")
    payload = {
        "summary": truncate(printable_line(f"{message.title}: {first_line}"), SUMMARY_AT_MOST),
        "timestamp": format_utc(message.timestamp),
        "severity": message.severity,
        "source": printable_line(names[0]) if len(names) == 1 else "marketswarm",
        "component": printable_line(names[0]) if len(names) == 1 else f"{len(names)} services",
        "class": kinds[0] if len(kinds) == 1 else message.kind,
        "custom_details": {
            "text": truncate(printable_lines(message.text), DETAIL_AT_MOST, utf8_length),
            "what": message.kind,
            "late": message.late,
            "id": printable_line(message.id),
            **({"lines": lines} if lines else {}),
        },
    }
    head = {"event_action": "trigger", "dedup_key": make_plain_key(thread), "client": "MarketSwarm"}
    links = [
        {"href": link.url, "text": truncate(printable_line(link.label), LABEL_AT_MOST, utf8_length)}
        for link in list_links(message)
    ]
    found = {"client_url": message.page_url} if message.page_url else {}
    return {**head, **found, **({"links": links} if links else {}), "payload": payload}
