"""A message as bytes that can be kept, and read back years later: the same message, event by event."""

from typing import Any, Final

import orjson

from marketswarm.channels.message import Message, Severity, What

_TEXTS: Final = ("id", "title", "text", "thread")
_LISTS: Final = ("lines", "closes", "about")
_FLAGS: Final = ("late", "opens")


def encode(message: Message) -> bytes:
    """The message as JSON; its events as texts, so that not one of their bytes is lost."""
    found: dict[str, Any] = {name: getattr(message, name) for name in (*_TEXTS, *_LISTS, *_FLAGS)}
    found |= {"severity": message.severity, "what": message.what, "timestamp": message.timestamp}
    found["events"] = [raw.decode("utf-8", "replace") for raw in message.events]
    return orjson.dumps(found)


def parse(raw: bytes) -> Message | None:
    """Reads one back; None for what is no message. A newer writer's words are taken for the nearest known."""
    try:
        found: Any = orjson.loads(raw)
        return None if type(found) is not dict else _message(found)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _message(found: dict[str, Any]) -> Message:
    if type(found["id"]) is not str or not found["id"] or type(found["title"]) is not str:
        raise TypeError("no message without an id and a title")
    what, severity = found.get("what"), found.get("severity")
    fields: dict[str, Any] = {
        **{name: str(found.get(name) or "") for name in _TEXTS},
        **{name: tuple(map(str, found.get(name) or ())) for name in _LISTS},
        **{name: found.get(name) is True for name in _FLAGS},
        "severity": Severity(severity) if severity in set(Severity) else Severity.WARNING,
        "what": What(what) if what in set(What) else What.NOTE,
        "timestamp": float(found["timestamp"]),
        "events": tuple(str(event).encode() for event in found.get("events") or ()),
    }
    return Message(**fields)
