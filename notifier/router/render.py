"""Render notices as one message: a title, a text, one line each. Pure; times are epoch seconds.

The first line of the text says what happened. The lines after it say since when, on which host and in which
fleet, what the rate limit holds back, and which command to type next.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from itertools import chain, islice
from typing import Final

from marketswarm.channels import AlertState, Message, MessageKind, Severity
from marketswarm.event import Event, Kind
from marketswarm.event_text import (
    describe_event,
    describe_failure,
    describe_place,
    format_next_command,
    format_seconds,
    is_proposal,
    join_words,
    list_next_commands,
)
from marketswarm.text import escape_text, format_moment, format_names, format_time
from notifier.router.incident import Incident, Notice, NoticeKind, ends_watch, parse_known_event
from notifier.router.machines import Machine, MachineState

LASTING_AT_MOST: Final = 100
"""How many alerts that continue a message has beside its own; its receivers know them all."""
HOSTS_NAMED: Final = 3
SERVICES_NAMED: Final = 3
"""How many of its services the title names beside a machine."""
BY_HOST: Final = "status --by host"
NAMED: Final = 10
"""How many names the text shows; the lines show all of them."""
_AGAIN: Final = "went down again and again"
_FLAPPING: Final = "flapping"
"""The name of the alert of a service that flaps."""
_UNACKED: Final = "down and not acknowledged"
_NAMES: Final = {"bus": "bus {}", "truth": "the truth on {}", "watch": "the watch on {}"}
"""The names of incidents that are not services, by the first word of the key."""
_SEVERITY_ORDER: Final = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)
_UNWATCHED: Final = "unwatched"
"""The key of the words for outages that ended only because their services are no longer monitored."""
_LASTING: Final = (NoticeKind.DOWN, NoticeKind.REMINDER, NoticeKind.ESCALATION)
"""The kinds of notices about an outage that lasts."""
_WITH_REASON: Final = (NoticeKind.REMINDER, NoticeKind.ESCALATION, NoticeKind.BLIP)
"""The kinds of notices whose words are not those of an event: its reason is said after them."""


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
_WORDS: Final[Mapping[str, _NoticeWords]] = {  # in the order of a group's title
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
    _UNWATCHED: _NoticeWords(
        MessageKind.UP, "is no longer watched", "are no longer watched", "no longer watched"),
    NoticeKind.BLIP: _NoticeWords(
        MessageKind.UP, "was down, and is up again", "were down, and are up again", "was down for a moment"),
    NoticeKind.NOTE: _NoticeWords(MessageKind.NOTE, "has news", "have news", "news of"),
    NoticeKind.HEALED: _NoticeWords(
        MessageKind.NOTE, "was healed", "were healed", "healed", "incidents"),
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The information in a message besides its own notices.

    `held` are the names of services whose outages the rate limit holds back until `held_until`. `zone` is the
    one whose clocks are shown before UTC; None shows UTC alone. `incidents` are all incidents by key, `open`
    those that are open in each thread that the notices continue. `machines` are those that the notices show
    to be gone, still or back.
    """

    fleet: str = ""
    held: tuple[str, ...] = ()
    held_until: float = 0.0
    zone: tzinfo | None = None
    incidents: Mapping[str, Incident] = field(default_factory=dict)
    open: Mapping[str, Sequence[Incident]] = field(default_factory=dict)
    machines: tuple[Machine, ...] = ()


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
    urgency = max((severity(notice) for notice in every), key=_SEVERITY_ORDER.index)
    if surroundings.machines:
        title, text = _summarize_machines(notices, dependents, surroundings)
    else:
        title, text = _title_and_text(notices, every, surroundings)
    kinds = {_words_of(notice).kind for notice in every}
    is_of_one_kind = len(every) == 1 or kinds in ({MessageKind.REMINDER}, {MessageKind.NOTE})
    return Message(
        id=notices[0].id if len(notices) == 1 else f"group.{notices[0].id}",
        title=title,
        text="\n".join((text, *_details(every, surroundings))),
        severity=urgency,
        timestamp=min(notice.ts for notice in every),
        events=tuple(event.encode() for notice in every for event in notice.events),
        kind=kinds.pop() if is_of_one_kind else MessageKind.GROUP,
        lines=tuple(_lines(notices, dependents, surroundings))
        if len(every) > 1 or surroundings.machines
        else (),
        about=tuple(dict.fromkeys(notice.key for notice in every)),
        states=_list_states(every, surroundings.incidents, urgency),
        lasting=_list_lasting(every, surroundings.open),
    )


def render_plain_message(notice: Notice, error: str) -> Message:
    """Return a message that needs nothing but the notice, for one whose words can't be made.

    `error` is the type of the exception. The caller sets the thread, as for `render_message`.
    """
    words = _WORDS[notice.say]
    return Message(
        id=notice.id,
        title=f"{_name_of(notice)} {words.one}",
        text=f"the details of this message could not be made ({error}): see the log of the notifier",
        severity=Severity.WARNING,
        timestamp=notice.ts,
        events=tuple(event.encode() for event in notice.events),
        kind=words.kind,
        about=(notice.key,),
    )


def list_names(notices: Sequence[Notice]) -> str:
    return format_names(dict.fromkeys(map(_name_of, notices)), NAMED)


# -- the states of alerts


def _list_states(
    every: Sequence[Notice], incidents: Mapping[str, Incident], urgency: Severity
) -> tuple[AlertState, ...]:
    """Return the state of each alert after the message; the last one counts if two are about the same."""
    found: dict[tuple[str, str], AlertState] = {}
    for notice in every:
        incident = incidents.get(notice.key)
        for name, started_at, ended_at in _find_states(notice, incident):
            known = incident.severity if incident and notice.thread else ""
            severity = Severity(known) if known in set(Severity) else urgency
            svc = notice.svc if name != _FLAPPING else notice.key
            thread = notice.thread or (incident.thread if incident and notice.say is NoticeKind.NOTE else "")
            words = ("", "") if notice.events else _describe_alert(name, notice.key, incident)
            found[name, svc] = AlertState(name, svc, thread, severity, started_at, ended_at, *words)
    return tuple(found.values())


def _list_lasting(
    every: Sequence[Notice], still_open: Mapping[str, Sequence[Incident]]
) -> tuple[AlertState, ...]:
    """Return the alerts that continue in the threads of the notices, and that are in none of these."""
    keys = {notice.key for notice in every}
    threads = dict.fromkeys(notice.thread for notice in every if notice.thread)
    others = (each for thread in threads for each in still_open.get(thread, ()) if each.key not in keys)
    return tuple(map(_make_lasting, islice(others, LASTING_AT_MOST)))


def _make_lasting(incident: Incident) -> AlertState:
    flaps = bool(incident.flap_thread)
    name = _FLAPPING if flaps else incident.kind.partition("_")[0]
    svc, thread = (incident.key, incident.flap_thread) if flaps else (incident.svc, incident.thread)
    severity = Severity(incident.severity) if incident.severity in set(Severity) else Severity.WARNING
    words = _describe_alert(name, incident.key, incident)
    return AlertState(name, svc, thread, severity, incident.since, None, *words)


def _describe_alert(name: str, key: str, incident: Incident | None) -> tuple[str, str]:
    event = parse_known_event(incident.miss.encode()) if incident is not None else None
    return (f"{key} is flapping", "") if name == _FLAPPING or event is None else describe_event(event)


def _find_states(notice: Notice, incident: Incident | None) -> Iterator[tuple[str, float, float | None]]:
    """Yield the name, the start and the end of each alert that a notice is about.

    Flapping is an alert of its own, in place of that of the outage. What ended it leaves the outage as it is.
    """
    events = _events_of(notice)
    kind = events[-1].type if events else incident.kind if incident else Kind.HEARTBEAT_MISS
    name, started_at = kind.partition("_")[0], events[-1].outage_start() if events else notice.ts
    if not events and incident is not None:
        started_at = incident.since
    if notice.say in (NoticeKind.FLAPPING, NoticeKind.SETTLED):
        flaps = notice.say is NoticeKind.FLAPPING
        is_down = not flaps and incident is not None and incident.down
        if notice.thread or is_down:
            yield name, started_at, None if is_down else notice.ts
        yield _FLAPPING, notice.ts, None if flaps else notice.ts
        return
    if notice.say is NoticeKind.NOTE:
        lasts = incident is not None and incident.is_notified  # a gap ends nothing
    else:
        lasts = events[-1].type.is_bad is True if events else notice.say in _LASTING
    ended_at = events[-1].ts if events else notice.ts
    yield name, started_at, None if lasts else ended_at


# -- the title, the text and the lines


def _title_and_text(
    notices: Sequence[Notice], every: Sequence[Notice], surroundings: Surroundings
) -> tuple[str, str]:
    if len(notices) > 1:
        asked = [notice for notice in notices if is_proposal(notice.svc)]
        if asked and len(asked) < len(notices):  # what the medic asks about a service is no service more
            titles = [_describe_notice(each, 0, surroundings.incidents)[0] for each in asked]
            gone = {each.id for each in asked}
            own = [each for each in notices if each.id not in gone]
            title, text = _title_and_text(own, [each for each in every if each.id not in gone], surroundings)
            return title, f"{text}; {format_names(titles, NAMED)}"
        if all(notice.say is NoticeKind.NOTE for notice in notices):
            return _summarize_gaps(notices, surroundings.incidents)
        if all(notice.say is NoticeKind.HEALED for notice in notices):
            return f"{len(notices)} outages were healed", list_names(notices)
        return _summarize(notices, len(every) - len(notices))
    title, text = _describe_notice(notices[0], len(every) - 1, surroundings.incidents)
    return title, f"{text}; with it {list_names(every[1:])}" if len(every) > 1 else text


def _lines(
    notices: Sequence[Notice],
    dependents: Mapping[str, Sequence[Notice]],
    surroundings: Surroundings,
) -> Iterator[str]:
    incidents, zone = surroundings.incidents, surroundings.zone
    for notice in notices:
        below = dependents.get(notice.id, ())
        title, text = _describe_notice(notice, len(below), incidents)
        if notice.say is NoticeKind.HEALED:
            title = _name_of(notice)
        yield f"{join_words(title, text)}{_short_place(notice, zone)}"
        for each in below:
            words = join_words(*_describe_notice(each, 0, incidents))
            yield f"{words}; {notice.svc}, which it depends on, is down{_short_place(each, zone)}"


def _summarize(notices: Sequence[Notice], dependents: int) -> tuple[str, str]:
    """Return title and text for several notices; `dependents` is how many more are down because of them."""
    counts = Counter(map(_key_of_words, notices))
    parts: list[str] = []
    for say, words in _WORDS.items():
        count = counts[say] + (dependents if say == NoticeKind.DOWN else 0)
        if count:
            noun = "" if parts else " service" if count == 1 else " services"
            parts.append(f"{count}{noun} {words.one if count == 1 else words.many}")
    said = [say for say in _WORDS if counts[say]]
    if len(said) == 1:
        return parts[0], list_names(notices)
    of_each = ((say, [notice for notice in notices if _key_of_words(notice) == say]) for say in said)
    return ", ".join(parts), "; ".join(f"{_WORDS[say].label}: {list_names(own)}" for say, own in of_each)


def _summarize_machines(
    notices: Sequence[Notice], dependents: Mapping[str, Sequence[Notice]], surroundings: Surroundings
) -> tuple[str, str]:
    """Return title and text for notices that show machines to be gone or back, and for all others."""
    names = {notice.id: _name_of(notice) for notice in notices}
    titles: list[str] = []
    texts: list[str] = []
    for state in MachineState:
        found = [each for each in surroundings.machines if each.state is state]
        own = set(chain.from_iterable(each.ids for each in found))
        below = [each for ident in names if ident in own for each in dependents.get(ident, ())]
        if found:
            titles.append(_title_of_machines(found, names, len(below)))
            zone, is_only = surroundings.zone, len(found) == 1
            texts.extend(_describe_services(each, names, zone, is_only=is_only) for each in found)
        if below:
            texts.append(f"with it {list_names(below)}")
    told = set(chain.from_iterable(each.ids for each in surroundings.machines))
    others = [notice for notice in notices if notice.id not in told]
    if others:
        every = [each for notice in others for each in (notice, *dependents.get(notice.id, ()))]
        title, text = _title_and_text(others, every, replace(surroundings, machines=()))
        titles.append(title)
        texts.append(f"{title}: {text}" if len(others) == 1 else text)
    return "; ".join(titles), "; ".join(filter(None, texts))


def _title_of_machines(machines: Sequence[Machine], names: Mapping[str, str], dependents: int) -> str:
    """Return `machine db1 is gone: 3 services (a, b, c)`; of several machines, how many services each has."""
    word = machines[0].state.value
    if len(machines) > 1:
        counts = (f"{escape_text(each.host)} ({_count_services(each)})" for each in machines)
        return f"{len(machines)} machines are {word}: {format_names(counts, HOSTS_NAMED)}"
    machine = machines[0]
    services = format_names(_list_own(machine, names), SERVICES_NAMED)
    is_one = len(machine.ids) == 1
    noun = "1 service" if is_one else f"{len(machine.ids)} services"
    if machine.state is MachineState.BACK:
        in_part = " in part" if machine.still_down else ""
        is_left = "is" if len(machine.still_down) == 1 else "are"
        left = f", {len(machine.still_down)} {is_left} still down" if machine.still_down else ""
        said = f"{noun} {'is' if is_one else 'are'} up again ({services}){left}"
        return f"machine {escape_text(machine.host)} is back{in_part}: {said}"
    more = f", and {dependents} that depend{'s' if dependents == 1 else ''} on them" if dependents else ""
    return f"machine {escape_text(machine.host)} is {word}: {noun} ({services}){more}"


def _count_services(machine: Machine) -> str:
    """Return `3 services`; of a machine that is back in part, `3 of 5 services`."""
    count = len(machine.ids)
    every = count + len(machine.still_down)
    of_all = f"{count} of {every}" if machine.still_down else f"{count}"
    return f"{of_all} service{'' if every == 1 else 's'}"


def _describe_services(
    machine: Machine, names: Mapping[str, str], zone: tzinfo | None, *, is_only: bool
) -> str:
    """Return the line with the services of a machine; it names the machine unless it `is_only` and gone."""
    services = format_names(_list_own(machine, names), NAMED)
    left = f"; still down: {format_names(machine.still_down, NAMED)}" if machine.still_down else ""
    is_still = machine.state is MachineState.STILL_GONE
    since = f" since {format_moment(machine.since, zone)}" if is_still else ""
    is_named = not is_only or machine.still_down or is_still
    label = f"on {escape_text(machine.host)}{since}: " if is_named else ""
    return f"{label}{services}{left}"


def _list_own(machine: Machine, names: Mapping[str, str]) -> list[str]:
    return [name for ident, name in names.items() if ident in machine.ids]


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


def _describe_notice(
    notice: Notice, dependents: int, incidents: Mapping[str, Incident]
) -> tuple[str, str]:
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
        words = notice.words or "nobody had been told yet"
        return f"{name} was down{for_so_long}, and is up again", _join_reason(words, notice, incidents)
    return f"{name} {_words_of(notice).one}", _join_reason(notice.words, notice, incidents)


def _join_reason(words: str, notice: Notice, incidents: Mapping[str, Incident]) -> str:
    """Return words about an outage, and what was said about the failure that began it, if that is known."""
    events, incident = _events_of(notice), incidents.get(notice.key)
    opening = events[0] if events else parse_known_event(incident.miss.encode()) if incident else None
    is_shown = opening is not None and notice.say in _WITH_REASON
    said = describe_failure(opening.detail, opening.exit_code) if opening is not None and is_shown else ""
    return "; ".join(filter(None, (words, said)))


# -- the details: since when, where, outages held back, the next command


def _details(notices: Sequence[Notice], surroundings: Surroundings) -> Iterator[str]:
    zone = surroundings.zone
    lasting = [notice for notice in notices if _lasts(notice)]
    if lasting:
        moment = f"since {format_moment(min(_begun_at(notice, surroundings) for notice in lasting), zone)}"
    else:
        moment = f"at {format_moment(min(notice.ts for notice in notices), zone)}"
    hosts = {_host_of(notice, surroundings) for notice in notices}
    named = format_names(sorted(hosts), HOSTS_NAMED) if all(hosts) else ""
    yield describe_place(moment, named, surroundings.fleet)
    if surroundings.held:
        until = format_moment(surroundings.held_until, zone)
        yield f"{len(surroundings.held)} more held until {until}: {format_names(surroundings.held, NAMED)}"
    if any(each.state is not MachineState.BACK for each in surroundings.machines):
        yield format_next_command(BY_HOST)
    else:
        yield from _next_step(notices)


def _next_step(notices: Sequence[Notice]) -> tuple[str, ...]:
    if len(notices) > 1:
        if all(notice.say is NoticeKind.HEALED for notice in notices):
            return (format_next_command(_WORDS[NoticeKind.HEALED].next),)
        bad = any(_words_of(notice).next for notice in notices)
        return (format_next_command("status"),) if bad else ()
    notice, events = notices[0], _events_of(notices[0])
    if notice.say is NoticeKind.DOWN and events:
        return list_next_commands(events[-1])
    command = _words_of(notice).next
    return (format_next_command(command, notice.svc),) if command else ()


def _short_place(notice: Notice, zone: tzinfo | None) -> str:
    events = _events_of(notice)
    if notice.say is not NoticeKind.DOWN or not events:
        return ""
    since = format_time(events[-1].outage_start(), zone)
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


def _key_of_words(notice: Notice) -> str:
    events = _events_of(notice) if notice.say is NoticeKind.UP else []
    return _UNWATCHED if events and ends_watch(events[-1]) else notice.say


def _words_of(notice: Notice) -> _NoticeWords:
    return _WORDS[_key_of_words(notice)]


def _lasts(notice: Notice) -> bool:
    return notice.say in _LASTING or (notice.say is NoticeKind.AGAIN and bool(notice.events))


def _is_restart(notice: Notice) -> bool:
    return any(event.type is Kind.HEARTBEAT_GAP and event.restarted for event in _events_of(notice))


def _events_of(notice: Notice) -> list[Event]:
    return [found for raw in notice.events if (found := parse_known_event(raw.encode())) is not None]


def _name_of(notice: Notice) -> str:
    family, colon, _ = notice.key.partition(":")
    return _NAMES[family].format(notice.svc) if colon and family in _NAMES else notice.svc
