"""Render notices as one message: a title, a text, one line each. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from marketswarm.channels import Message, MessageKind, Severity
from marketswarm.channels.event_text import describe_event, format_seconds
from marketswarm.event import Event, parse
from notifier.router.incident import Notice, NoticeKind

NAMED: Final = 10
"""How many names the text shows; the lines show all of them."""

_MESSAGE_KINDS: Final[Mapping[NoticeKind, MessageKind]] = {
    NoticeKind.DOWN: MessageKind.DOWN,
    NoticeKind.AGAIN: MessageKind.DOWN,
    NoticeKind.ESCALATION: MessageKind.REMINDER,
    NoticeKind.REMINDER: MessageKind.REMINDER,
    NoticeKind.UP: MessageKind.UP,
    NoticeKind.BLIP: MessageKind.UP,
    NoticeKind.FLAPPING: MessageKind.FLAPPING,
    NoticeKind.SETTLED: MessageKind.SETTLED,
    NoticeKind.NOTE: MessageKind.NOTE,
}
_VERBS: Final = {
    NoticeKind.DOWN: ("is down", "are down"),
    NoticeKind.AGAIN: ("went down again and again", "went down again and again"),
    NoticeKind.REMINDER: ("is still down", "are still down"),
    NoticeKind.ESCALATION: ("is down and not acknowledged", "are down and not acknowledged"),
    NoticeKind.FLAPPING: ("is flapping", "are flapping"),
    NoticeKind.SETTLED: ("has settled", "have settled"),
    NoticeKind.UP: ("is up again", "are up again"),
    NoticeKind.BLIP: ("was down, and is up again", "were down, and are up again"),
    NoticeKind.NOTE: ("has news", "have news"),
}
_LABELS: Final = {
    NoticeKind.DOWN: "down",
    NoticeKind.AGAIN: "down again and again",
    NoticeKind.REMINDER: "still down",
    NoticeKind.ESCALATION: "not acknowledged",
    NoticeKind.FLAPPING: "flapping",
    NoticeKind.SETTLED: "settled",
    NoticeKind.UP: "up again",
    NoticeKind.BLIP: "was down for a moment",
    NoticeKind.NOTE: "news of",
}
_NAMES: Final = {"bus": "bus {}", "truth": "the truth on {}", "watch": "the watch on {}"}
"""What is down if it is no service, by the first word of the key."""
_SEVERITY_ORDER: Final = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)


def render_message(
    lines: Sequence[Notice],
    *,
    severity: Callable[[Notice], Severity],
    dependents: Mapping[str, Sequence[Notice]],
) -> Message:
    """Return the message for some notices, at least one; `dependents` are, by a notice's id, its dependents.

    The caller sets the thread, and what the message opens and closes: it knows the other incidents of a
    thread.
    """
    all_lines = [each for line in lines for each in (line, *dependents.get(line.id, ()))]
    said = [_describe_notice(line, len(dependents.get(line.id, ()))) for line in lines]
    inhibit = {
        line.id: (title, f"{text}; {lead.svc}, which it depends on, is down")
        for lead in lines
        for line in dependents.get(lead.id, ())
        for title, text in [_describe_notice(line, 0)]
    }
    title, text = said[0] if len(lines) == 1 else _summed_up(lines, len(all_lines) - len(lines))
    if len(lines) == 1 and len(all_lines) > 1:
        text = f"{text}; with it {names(all_lines[1:])}"
    own = dict(zip([line.id for line in lines], said, strict=True))
    shown = [own.get(line.id) or inhibit[line.id] for line in all_lines] if len(all_lines) > 1 else []
    kinds = {_MESSAGE_KINDS[line.say] for line in all_lines}
    return Message(
        id=lines[0].id if len(lines) == 1 else f"group.{lines[0].id}",
        title=title,
        text=text,
        severity=max((severity(line) for line in all_lines), key=_SEVERITY_ORDER.index),
        timestamp=min(line.ts for line in all_lines),
        events=tuple(event.encode() for line in all_lines for event in line.events),
        kind=kinds.pop() if len(all_lines) == 1 else _of_many(kinds),
        lines=tuple(f"{title}: {text}" for title, text in shown),
        about=tuple(dict.fromkeys(line.key for line in all_lines)),
    )


def names(lines: Sequence[Notice]) -> str:
    """Return the first ten names that notices are about, and how many more there are."""
    found = list(dict.fromkeys(_name_of(line) for line in lines))
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more


def _of_many(kinds: set[MessageKind]) -> MessageKind:
    return MessageKind.REMINDER if kinds == {MessageKind.REMINDER} else MessageKind.GROUP


def _summed_up(lines: Sequence[Notice], inhibit: int) -> tuple[str, str]:
    counts = Counter(line.say for line in lines)
    parts: list[str] = []
    for say, (one, many) in _VERBS.items():
        count = counts[say] + (inhibit if say is NoticeKind.DOWN else 0)
        if count:
            thing = "thing" if say is NoticeKind.NOTE else "service"
            noun = "" if parts else f" {thing}" if count == 1 else f" {thing}s"
            parts.append(f"{count}{noun} {one if count == 1 else many}")
    of_each = {say: names([line for line in lines if line.say is say]) for say in _VERBS if counts[say]}
    if len(of_each) == 1:
        return parts[0], next(iter(of_each.values()))
    return ", ".join(parts), "; ".join(f"{_LABELS[say]}: {found}" for say, found in of_each.items())


def _describe_notice(line: Notice, inhibit: int) -> tuple[str, str]:
    """Return a notice's title and text."""
    events = [found for event in line.events if isinstance(found := parse(event.encode()), Event)]
    thing = _name_of(line)
    if line.say in (NoticeKind.DOWN, NoticeKind.UP, NoticeKind.NOTE) and events:
        title, text = describe_event(events[-1])
        if inhibit:
            title += f", and {inhibit} that depend{'s' if inhibit == 1 else ''} on it"
        return title, "; ".join(filter(None, (text, line.words)))
    if line.say is NoticeKind.BLIP:
        down_sec = events[-1].down_sec if events else None
        for_so_long = f" for {format_seconds(down_sec)}" if down_sec is not None else ""
        return f"{thing} was down{for_so_long}, and is up again", line.words or "nobody had been told yet"
    one, _ = _VERBS[line.say]
    return f"{thing} {one}", line.words


def _name_of(line: Notice) -> str:
    family, colon, _ = line.key.partition(":")
    return _NAMES[family].format(line.svc) if colon and family in _NAMES else line.svc
