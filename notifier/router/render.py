"""Render notices as one message: a title, a text, one line each. Pure; times are epoch seconds.

The first line of the text says what happened. The lines after it say since when, on which host and in which
fleet, what the rate limit holds back, and which command to type next.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from marketswarm.channels import Message, MessageKind, Severity
from marketswarm.event import Event, Kind
from marketswarm.event_text import (
    describe_event,
    describe_place,
    format_next_command,
    format_seconds,
    join_words,
    list_next_commands,
)
from marketswarm.text import format_moment, format_names, format_time
from notifier.router.incident import Incident, Notice, NoticeKind, parse_known_event

NAMED: Final = 10
"""How many names the text shows; the lines show all of them."""
_AGAIN: Final = "went down again and again"
_UNACKED: Final = "down and not acknowledged"
_NAMES: Final = {"bus": "bus {}", "truth": "the truth on {}", "watch": "the watch on {}"}
"""The names of incidents that are not services, by the first word of the key."""
_SEVERITY_ORDER: Final = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)
_LASTING: Final = (NoticeKind.DOWN, NoticeKind.REMINDER, NoticeKind.ESCALATION)
"""The kinds of notices about an outage that lasts."""


@dataclass(frozen=True, slots=True)
class _NoticeWords:
    """The words for a kind of notice.

    `one` and `many` are the predicates for one service and for several, `label` stands before their names,
    `next` is the command to type where the event of the notice has none of its own.
    """

    kind: MessageKind
    one: str
    many: str
    label: str
    next: str = ""


# fmt: off
_WORDS: Final[Mapping[NoticeKind, _NoticeWords]] = {  # in the order of a group's title
    NoticeKind.DOWN: _NoticeWords(MessageKind.DOWN, "is down", "are down", "down", "status"),
    NoticeKind.AGAIN: _NoticeWords(
        MessageKind.DOWN, _AGAIN, _AGAIN, "down again and again", "alerts --since 1h"),
    NoticeKind.REMINDER: _NoticeWords(
        MessageKind.REMINDER, "is still down", "are still down", "still down", "ack {svc}"),
    NoticeKind.ESCALATION: _NoticeWords(
        MessageKind.REMINDER, f"is {_UNACKED}", f"are {_UNACKED}", "not acknowledged", "ack {svc}"),
    NoticeKind.FLAPPING: _NoticeWords(
        MessageKind.FLAPPING, "is flapping", "are flapping", "flapping", "alerts --since 1h"),
    NoticeKind.SETTLED: _NoticeWords(MessageKind.SETTLED, "has settled", "have settled", "settled"),
    NoticeKind.UP: _NoticeWords(MessageKind.UP, "is up again", "are up again", "up again"),
    NoticeKind.BLIP: _NoticeWords(
        MessageKind.UP, "was down, and is up again", "were down, and are up again", "was down for a moment"),
    NoticeKind.NOTE: _NoticeWords(MessageKind.NOTE, "has news", "have news", "news of"),
    NoticeKind.HEALED: _NoticeWords(
        MessageKind.NOTE, "was healed", "were healed", "healed", "incidents"),
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The information in a message besides its own notices.

    `held` are the names of services whose outages the rate limit holds back until `held_until`; `incidents`
    are all incidents by key.
    """

    fleet: str = ""
    held: tuple[str, ...] = ()
    held_until: float = 0.0
    incidents: Mapping[str, Incident] = field(default_factory=dict)


def render_message(
    notices: Sequence[Notice],
    *,
    severity: Callable[[Notice], Severity],
    dependents: Mapping[str, Sequence[Notice]],
    surroundings: Surroundings = Surroundings(),
) -> Message:
    """Return the message for some notices, at least one; `dependents` are by the id of a notice.

    The caller sets the thread, and which threads the message opens and closes, because they depend on other
    incidents.
    """
    every = [each for notice in notices for each in (notice, *dependents.get(notice.id, ()))]
    title, text = _title_and_text(notices, every, surroundings)
    kinds = {_WORDS[notice.say].kind for notice in every}
    return Message(
        id=notices[0].id if len(notices) == 1 else f"group.{notices[0].id}",
        title=title,
        text="\n".join((text, *_details(every, surroundings))),
        severity=max((severity(notice) for notice in every), key=_SEVERITY_ORDER.index),
        timestamp=min(notice.ts for notice in every),
        events=tuple(event.encode() for notice in every for event in notice.events),
        kind=kinds.pop() if len(every) == 1 else _kind_of_many(kinds),
        lines=tuple(_lines(notices, dependents)) if len(every) > 1 else (),
        about=tuple(dict.fromkeys(notice.key for notice in every)),
    )


def list_names(notices: Sequence[Notice]) -> str:
    return format_names(dict.fromkeys(map(_name_of, notices)), NAMED)


def _kind_of_many(kinds: set[MessageKind]) -> MessageKind:
    return kinds.pop() if kinds in ({MessageKind.REMINDER}, {MessageKind.NOTE}) else MessageKind.GROUP


# -- the title, the text and the lines


def _title_and_text(
    notices: Sequence[Notice], every: Sequence[Notice], surroundings: Surroundings
) -> tuple[str, str]:
    if len(notices) > 1:
        if all(notice.say is NoticeKind.NOTE for notice in notices):
            return _summarize_gaps(notices, surroundings.incidents)
        if all(notice.say is NoticeKind.HEALED for notice in notices):
            return f"{len(notices)} outages were healed", list_names(notices)
        return _summarize(notices, len(every) - len(notices))
    title, text = _describe_notice(notices[0], len(every) - 1)
    return title, f"{text}; with it {list_names(every[1:])}" if len(every) > 1 else text


def _lines(notices: Sequence[Notice], dependents: Mapping[str, Sequence[Notice]]) -> Iterator[str]:
    for notice in notices:
        below = dependents.get(notice.id, ())
        title, text = _describe_notice(notice, len(below))
        if notice.say is NoticeKind.HEALED:
            title = _name_of(notice)
        yield f"{join_words(title, text)}{_short_place(notice)}"
        for each in below:
            title, text = _describe_notice(each, 0)
            yield f"{join_words(title, text)}; {notice.svc}, which it depends on, is down{_short_place(each)}"


def _summarize(notices: Sequence[Notice], dependents: int) -> tuple[str, str]:
    """Return title and text for several notices; `dependents` is how many more are down because of them."""
    counts = Counter(notice.say for notice in notices)
    parts: list[str] = []
    for say, words in _WORDS.items():
        count = counts[say] + (dependents if say is NoticeKind.DOWN else 0)
        if count:
            noun = "" if parts else " service" if count == 1 else " services"
            parts.append(f"{count}{noun} {words.one if count == 1 else words.many}")
    said = [say for say in _WORDS if counts[say]]
    if len(said) == 1:
        return parts[0], list_names(notices)
    named = ((say, list_names([notice for notice in notices if notice.say is say])) for say in said)
    return ", ".join(parts), "; ".join(f"{_WORDS[say].label}: {names}" for say, names in named)


def _summarize_gaps(notices: Sequence[Notice], incidents: Mapping[str, Incident]) -> tuple[str, str]:
    """Return title and text for several gaps: `5 services restarted, all up`, and their names."""
    restarted = [notice for notice in notices if _is_restart(notice)]
    others = [notice for notice in notices if not _is_restart(notice)]
    parts: list[str] = []
    if restarted:
        keys = {notice.key for notice in restarted}
        down = sum(key in incidents and incidents[key].down for key in keys)
        noun, state = ("service", "is up") if len(keys) == 1 else ("services", "all up")
        parts.append(f"{len(keys)} {noun} restarted, {f'{down} of them down' if down else state}")
    if others:
        noun, verb = ("", " more") if restarted else (" services" if len(others) > 1 else " service", "")
        parts.append(f"{len(others)}{verb}{noun} {'were' if len(others) > 1 else 'was'} away unseen")
    return ", ".join(parts), list_names(notices)


def _describe_notice(notice: Notice, dependents: int) -> tuple[str, str]:
    """Return the title and text of a notice; `dependents` is how many services are down because of it."""
    events = _events_of(notice)
    name = _name_of(notice)
    if notice.say in (NoticeKind.DOWN, NoticeKind.UP, NoticeKind.NOTE) and events:
        title, text = describe_event(events[-1])
        if dependents:
            title += f", and {dependents} that depend{'s' if dependents == 1 else ''} on it"
        return title, "; ".join(filter(None, (text, notice.words)))
    if notice.say is NoticeKind.BLIP:
        down_sec = events[-1].down_sec if events else None
        for_so_long = f" for {format_seconds(down_sec)}" if down_sec is not None else ""
        return f"{name} was down{for_so_long}, and is up again", notice.words or "nobody had been told yet"
    return f"{name} {_WORDS[notice.say].one}", notice.words


# -- the details: since when, where, outages held back, the next command


def _details(notices: Sequence[Notice], surroundings: Surroundings) -> Iterator[str]:
    lasting = [notice for notice in notices if _lasts(notice)]
    if lasting:
        moment = f"since {format_moment(min(_begun_at(notice, surroundings) for notice in lasting))}"
    else:
        moment = f"at {format_moment(min(notice.ts for notice in notices))}"
    hosts = {_host_of(notice, surroundings) for notice in notices}
    yield describe_place(moment, hosts.pop() if len(hosts) == 1 else "", surroundings.fleet)
    if surroundings.held:
        until = format_moment(surroundings.held_until)
        yield f"{len(surroundings.held)} more held until {until}: {format_names(surroundings.held, NAMED)}"
    yield from _next_step(notices)


def _next_step(notices: Sequence[Notice]) -> tuple[str, ...]:
    if len(notices) > 1:
        if all(notice.say is NoticeKind.HEALED for notice in notices):
            return (format_next_command(_WORDS[NoticeKind.HEALED].next),)
        bad = any(_WORDS[notice.say].next for notice in notices)
        return (format_next_command("status"),) if bad else ()
    notice, events = notices[0], _events_of(notices[0])
    if notice.say is NoticeKind.DOWN and events:
        return list_next_commands(events[-1])
    command = _WORDS[notice.say].next
    return (format_next_command(command, notice.svc),) if command else ()


def _short_place(notice: Notice) -> str:
    events = _events_of(notice)
    if notice.say is not NoticeKind.DOWN or not events:
        return ""
    since = format_time(events[-1].outage_start())
    return f"; {describe_place(f'since {since}', events[-1].host or '', '')}"


def _begun_at(notice: Notice, surroundings: Surroundings) -> float:
    incident, events = surroundings.incidents.get(notice.key), _events_of(notice)
    if events:
        return events[-1].outage_start()
    return incident.since if incident is not None else notice.ts


def _host_of(notice: Notice, surroundings: Surroundings) -> str:
    """Return the host in a notice's last event, otherwise in its incident's first one; empty if unknown."""
    events, incident = _events_of(notice), surroundings.incidents.get(notice.key)
    event = events[-1] if events else parse_known_event(incident.miss.encode()) if incident else None
    return (event.host if event else None) or ""


def _lasts(notice: Notice) -> bool:
    return notice.say in _LASTING or (notice.say is NoticeKind.AGAIN and bool(notice.events))


def _is_restart(notice: Notice) -> bool:
    return any(event.type is Kind.HEARTBEAT_GAP and event.restarted for event in _events_of(notice))


def _events_of(notice: Notice) -> list[Event]:
    return [found for raw in notice.events if (found := parse_known_event(raw.encode())) is not None]


def _name_of(notice: Notice) -> str:
    family, colon, _ = notice.key.partition(":")
    return _NAMES[family].format(notice.svc) if colon and family in _NAMES else notice.svc
