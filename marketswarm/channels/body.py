"""A message as the JSON of CONTRACTS section 8: what the generic webhook POSTs and a command reads. Pure.

The contract's keys come first and in its order; what was added since follows.
"""

from datetime import UTC, datetime
from typing import Final

import orjson

from marketswarm.channels.message import Message

TYPE: Final = "marketswarm.alert"


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
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sound(text: str) -> str:
    """Text that can be written as UTF-8: half a character of a stranger's is a question mark."""
    return text.encode("utf-8", "replace").decode()
