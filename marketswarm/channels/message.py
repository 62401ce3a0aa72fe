"""Define the message, its stored form, its JSON for webhooks and commands, and its style. Pure."""

import re
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from enum import Enum, StrEnum
from hashlib import sha256
from typing import Any, Final

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from marketswarm.channels.text import printable_line, replace_surrogates
from marketswarm.event import Event, Severity, parse_event
from marketswarm.event_text import (
    describe_context,
    describe_event,
    format_seconds,
    list_next_commands,
    severity_of_event,
)
from marketswarm.text import format_utc

APPROVE: Final = "approve"
"""The action of a link that has more done than to answer: its page is read before."""
LATE_SEC: Final = 60.0
"""A message that is sent this many seconds after its event, or later, says how late it is."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
BODY_TYPE: Final = "marketswarm.alert"
"""The `type` in the webhook's JSON."""
_TEXTS: Final = ("id", "title", "text", "thread")
_LISTS: Final = ("lines", "closes", "about")
_FLAGS: Final = ("late", "opens")
_STATE_LISTS: Final = ("states", "lasting")


class MessageKind(StrEnum):
    """The kind of a message, for channels that show each kind in a different way."""

    DOWN = "down"
    UP = "up"
    GROUP = "group"
    REMINDER = "reminder"
    FLAPPING = "flapping"
    SETTLED = "settled"
    NOTE = "note"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class AlertState:
    """The state in which a message leaves one alert: it lasts, or it has ended.

    `name` is the kind of the alert (`heartbeat`, `bus`, `flapping`), `svc` is what it is about. `thread` is
    the conversation that it belongs to, empty for the message's own, and `severity` is what that began with.
    Times are epoch seconds; `ended_at` is None while the alert lasts. `title` and `text` say what it is; they
    are empty where the message does.
    """

    name: str
    svc: str
    thread: str
    severity: Severity
    started_at: float
    ended_at: float | None
    title: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class MessageLink:
    """A link that a message has: what it is called, and its address.

    `action` is what a POST to it does; empty for a page that only shows. The address of a link with an action
    lets everyone act who has it.
    """

    label: str
    url: str = field(repr=False)
    action: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message to people.

    `id` is the same however often the message is sent, so that a receiver can drop repeats. `timestamp` is
    when the event happened, in epoch seconds; `late` means that the text says how late it is sent. `events`
    are the alert events that the message is about, each as its JSON in the log, oldest first.

    `lines` are one for each event or incident if there are several; `title` and `text` are enough without
    them, and a channel shows as many as it can. `about` are the keys of the incidents concerned; two messages
    about the same one must arrive in order. `thread` is the id of the first message of the conversation;
    empty or the message's own if this is the first. `opens` means that the message leaves an outage open in
    its thread; `closes` are the threads without an open outage after it. `states` are those of all
    alerts that the message is about, for receivers that keep alerts; empty if its events say it all.
    `lasting` are alerts of the same conversations that continue, and that the message is not about.
    `links` are added when the message is sent, and never stored: some of them let their reader act.
    """

    id: str
    title: str
    text: str
    severity: Severity
    timestamp: float
    late: bool = False
    events: tuple[bytes, ...] = ()
    kind: MessageKind = MessageKind.NOTE
    lines: tuple[str, ...] = ()
    thread: str = ""
    opens: bool = False
    closes: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    states: tuple[AlertState, ...] = ()
    lasting: tuple[AlertState, ...] = ()
    links: tuple[MessageLink, ...] = ()

    @property
    def page_url(self) -> str:
        """The address of the page that the message is about; empty if it has none."""
        return next((link.url for link in self.links if not link.action), "")

    @property
    def key(self) -> str:
        """The id in a form that HTTP and mail headers can carry: itself, or its digest."""
        return make_plain_key(self.id)

    @property
    def begins(self) -> bool:
        """Whether the message is the first of its thread."""
        return self.thread in ("", self.id)

    def list_open_threads(self) -> list[str]:
        """Return the threads in which the message itself says that an outage lasts, its own one first."""
        own = self.thread or self.id
        lasting = [each.thread or own for each in self.states if each.ended_at is None]
        return [*dict.fromkeys(([own] if self.opens else []) + lasting)]

    def list_parents(self) -> list[str]:
        """Return the earlier threads that the message continues: none if it begins its own."""
        found = [] if self.begins else [self.thread]
        return [*dict.fromkeys((*found, *(each.thread for each in self.states if each.thread)))]

    def parse_events(self) -> list[Event]:
        return [event for event in map(parse_event, self.events) if isinstance(event, Event)]


def make_plain_key(ident: str) -> str:
    """Return the id of a message or a thread in a form that HTTP and mail headers can carry."""
    if _PLAIN.fullmatch(ident):
        return ident
    return f"sha256.{sha256(ident.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def make_event_message(
    event: Event, raw: bytes, now: float, fleet: str = "", zone: tzinfo | None = None
) -> Message:
    """Return the message about one event, as it is to be sent at `now` (epoch seconds).

    `raw` is the event's JSON, `fleet` the name of the fleet in the truth, which may be empty. The clocks of
    `zone` come before UTC.
    """
    title, text = describe_event(event)
    text = "\n".join((text, describe_context(event, fleet, zone), *list_next_commands(event)))
    opens = event.type.is_bad is True
    kind = {True: MessageKind.DOWN, False: MessageKind.UP, None: MessageKind.NOTE}[event.type.is_bad]
    severity = severity_of_event(event)
    message = Message(event.id, title, text, severity, event.ts, events=(raw,), kind=kind, opens=opens)
    return mark_late(message, now)


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


def format_link(link: MessageLink) -> str:
    return f"{link.label}: {link.url}"


def encode_webhook_body(message: Message) -> bytes:
    """Return the JSON of CONTRACTS section 8, the body of a webhook and the input of a command.

    The same message gives the same bytes. The contract's keys come first and in its order; `links` are there
    only if the message has any; its text has them, too.
    """
    data = {
        "title": replace_surrogates(message.title),
        "text": replace_surrogates("\n".join((message.text, *map(format_link, message.links)))),
        "severity": message.severity,
        "late": message.late,
        "events": [orjson.Fragment(event) for event in message.events],
        "what": message.kind,
        "lines": [replace_surrogates(line) for line in message.lines],
        "thread": replace_surrogates(message.thread or message.id),
    }
    if message.links:
        data["links"] = [
            {"label": replace_surrogates(link.label), "url": link.url, "action": link.action}
            for link in message.links
        ]
    return orjson.dumps({"type": BODY_TYPE, "timestamp": format_utc(message.timestamp), "data": data})


class Style(Enum):
    """The style of a message: a colour as 0xRRGGBB, and a sign for people who can't see the colour."""

    GOOD = (0x2EB67D, "\N{LARGE GREEN CIRCLE}")
    NEWS = (0x36A3EB, "\N{LARGE BLUE CIRCLE}")
    WARNING = (0xECB22E, "\N{LARGE YELLOW CIRCLE}")
    ALARM = (0xE01E5A, "\N{LARGE RED CIRCLE}")

    def __init__(self, colour: int, sign: str) -> None:
        self.colour = colour
        self.sign = sign


_BY_SEVERITY: Final = {
    Severity.INFO: Style.NEWS,
    Severity.WARNING: Style.WARNING,
    Severity.CRITICAL: Style.ALARM,
}


def format_title(message: Message) -> str:
    """Return the title on one printable line, after the sign of its style."""
    return f"{choose_style(message).sign} {printable_line(message.title)}"


def choose_style(message: Message) -> Style:
    """Return GOOD for a message that a service is up again or has settled, otherwise its severity's style."""
    good = message.kind in (MessageKind.UP, MessageKind.SETTLED)
    return Style.GOOD if good else _BY_SEVERITY[message.severity]


_STATES: Final = TypeAdapter(tuple[AlertState, ...], config=ConfigDict(defer_build=True))


def encode_message(message: Message) -> bytes:
    """Return the message as JSON to be stored; events are kept as texts, byte for byte."""
    found: dict[str, Any] = {name: getattr(message, name) for name in (*_TEXTS, *_LISTS, *_FLAGS)}
    found |= {"severity": message.severity, "what": message.kind, "timestamp": message.timestamp}
    found["events"] = [raw.decode("utf-8", "replace") for raw in message.events]
    found |= {name: states for name in _STATE_LISTS if (states := getattr(message, name))}
    return orjson.dumps(found)


def parse_message(raw: bytes) -> Message | None:
    """Return a stored message; None if it can't be parsed.

    An unknown kind becomes NOTE, an unknown severity WARNING.
    """
    try:
        found: Any = orjson.loads(raw)
        return None if type(found) is not dict else _build_message(found)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _build_message(found: dict[str, Any]) -> Message:
    if type(found["id"]) is not str or not found["id"] or type(found["title"]) is not str:
        raise TypeError("no message without an id and a title")
    what, severity = found.get("what"), found.get("severity")
    fields: dict[str, Any] = {
        **{name: str(found.get(name) or "") for name in _TEXTS},
        **{name: tuple(map(str, found.get(name) or ())) for name in _LISTS},
        **{name: found.get(name) is True for name in _FLAGS},
        "severity": Severity(severity) if severity in set(Severity) else Severity.WARNING,
        "kind": MessageKind(what) if what in set(MessageKind) else MessageKind.NOTE,
        "timestamp": float(found["timestamp"]),
        "events": tuple(str(event).encode() for event in found.get("events") or ()),
        **{name: _parse_states(found.get(name) or ()) for name in _STATE_LISTS},
    }
    return Message(**fields)


def _parse_states(found: Any) -> tuple[AlertState, ...]:
    """Return the stored states of alerts; none of them if one can't be parsed, since the events remain."""
    try:
        return _STATES.validate_python(found)
    except ValidationError:
        return ()
