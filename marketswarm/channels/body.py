"""A message as the JSON of CONTRACTS section 8: what the generic webhook POSTs and a command reads. Pure.

The contract's keys come first and in its order; what was added since follows.
"""

from datetime import UTC, datetime
from typing import Final

import orjson

from marketswarm.channels.message import Message

TYPE: Final = "marketswarm.alert"

LAST_TIME: Final = 253402300799.0
"""The end of the year 9999, after which there is no date to write; a stranger's event may say anything."""


def payload(message: Message) -> bytes:
    """The body; the same bytes for the same message."""
    data = {
        "title": sound(message.title),
        "text": sound(message.text),
        "severity": message.severity,
        "late": message.late,
        "events": [orjson.Fragment(event) for event in message.events],
        "what": message.what,
        "lines": [sound(line) for line in message.lines],
        "thread": sound(message.thread or message.id),
    }
    return orjson.dumps({"type": TYPE, "timestamp": moment(message.timestamp), "data": data})


def moment(at: float) -> str:
    """Epoch seconds as JSON's readers like them: UTC, to the millisecond."""
    return when(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def when(at: float) -> datetime:
    """Epoch seconds as a date in UTC; no calendar goes on for ever."""
    return datetime.fromtimestamp(min(max(0.0, at), LAST_TIME), UTC)


def sound(text: str) -> str:
    """Text that can be written as UTF-8: half a character of a stranger's is a question mark."""
    return text.encode("utf-8", "replace").decode()
