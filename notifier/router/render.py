"""From lines to the message that says them: a title, a text, one line each. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from marketswarm.channels import Message, MessageKind, Severity
from marketswarm.channels.event_text import describe_event, format_seconds
from marketswarm.event import Event, parse
from notifier.router.incident import Line, Say

NAMED: Final = 10
"""Names in a text; the lines have all of them."""

_WHAT: Final[Mapping[Say, MessageKind]] = {
    Say.DOWN: MessageKind.DOWN,
    Say.AGAIN: MessageKind.DOWN,
    Say.ESCALATION: MessageKind.REMINDER,
    Say.REMINDER: MessageKind.REMINDER,
    Say.UP: MessageKind.UP,
    Say.BLIP: MessageKind.UP,
    Say.FLAPPING: MessageKind.FLAPPING,
    Say.SETTLED: MessageKind.SETTLED,
    Say.NOTE: MessageKind.NOTE,
}
_COUNTED: Final = {
    Say.DOWN: ("is down", "are down"),
    Say.AGAIN: ("went down again and again", "went down again and again"),
    Say.REMINDER: ("is still down", "are still down"),
    Say.ESCALATION: ("is down and not acknowledged", "are down and not acknowledged"),
    Say.FLAPPING: ("is flapping", "are flapping"),
    Say.SETTLED: ("has settled", "have settled"),
    Say.UP: ("is up again", "are up again"),
    Say.BLIP: ("was down, and is up again", "were down, and are up again"),
    Say.NOTE: ("has news", "have news"),
}
_SHORT: Final = {
    Say.DOWN: "down",
    Say.AGAIN: "down again and again",
    Say.REMINDER: "still down",
    Say.ESCALATION: "not acknowledged",
    Say.FLAPPING: "flapping",
    Say.SETTLED: "settled",
    Say.UP: "up again",
    Say.BLIP: "was down for a moment",
    Say.NOTE: "news of",
}
_THINGS: Final = {"bus": "bus {}", "truth": "the truth on {}", "watch": "the watch on {}"}
"""What is down if it is no service, by the first word of its key."""
_RANK: Final = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)


def compose(
    lines: Sequence[Line],
    *,
    severity: Callable[[Line], Severity],
    with_it: Mapping[str, Sequence[Line]],
) -> Message:
    """The message of some lines, none of them empty; `with_it` are, by a line's id, those folded into it.

    Its thread, and what it opens and closes, are for the caller to say, who knows the others of a thread.
    """
    all_lines = [each for line in lines for each in (line, *with_it.get(line.id, ()))]
    said = [_said(line, len(with_it.get(line.id, ()))) for line in lines]
    folded = {
        line.id: (title, f"{text}; {lead.svc}, which it depends on, is down")
        for lead in lines
        for line in with_it.get(lead.id, ())
        for title, text in [_said(line, 0)]
    }
    title, text = said[0] if len(lines) == 1 else _summed_up(lines, len(all_lines) - len(lines))
    if len(lines) == 1 and len(all_lines) > 1:
        text = f"{text}; with it {names(all_lines[1:])}"
    own = dict(zip([line.id for line in lines], said, strict=True))
    shown = [own.get(line.id) or folded[line.id] for line in all_lines] if len(all_lines) > 1 else []
    kinds = {_WHAT[line.say] for line in all_lines}
    return Message(
        id=lines[0].id if len(lines) == 1 else f"group.{lines[0].id}",
        title=title,
        text=text,
        severity=max((severity(line) for line in all_lines), key=_RANK.index),
        timestamp=min(line.ts for line in all_lines),
        events=tuple(event.encode() for line in all_lines for event in line.events),
        kind=kinds.pop() if len(all_lines) == 1 else _of_many(kinds),
        lines=tuple(f"{title}: {text}" for title, text in shown),
        about=tuple(dict.fromkeys(line.key for line in all_lines)),
    )


def names(lines: Sequence[Line]) -> str:
    """Who it is about, the first ten by name."""
    found = list(dict.fromkeys(_thing(line) for line in lines))
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more


def _of_many(kinds: set[MessageKind]) -> MessageKind:
    return MessageKind.REMINDER if kinds == {MessageKind.REMINDER} else MessageKind.GROUP


def _summed_up(lines: Sequence[Line], folded: int) -> tuple[str, str]:
    counts = Counter(line.say for line in lines)
    parts: list[str] = []
    for say, (one, many) in _COUNTED.items():
        count = counts[say] + (folded if say is Say.DOWN else 0)
        if count:
            thing = "thing" if say is Say.NOTE else "service"
            noun = "" if parts else f" {thing}" if count == 1 else f" {thing}s"
            parts.append(f"{count}{noun} {one if count == 1 else many}")
    of_each = {say: names([line for line in lines if line.say is say]) for say in _COUNTED if counts[say]}
    if len(of_each) == 1:
        return parts[0], next(iter(of_each.values()))
    return ", ".join(parts), "; ".join(f"{_SHORT[say]}: {found}" for say, found in of_each.items())


def _said(line: Line, folded: int) -> tuple[str, str]:
    """A line's title and text."""
    events = [found for event in line.events if isinstance(found := parse(event.encode()), Event)]
    thing = _thing(line)
    if line.say in (Say.DOWN, Say.UP, Say.NOTE) and events:
        title, text = describe_event(events[-1])
        if folded:
            title += f", and {folded} that depend{'s' if folded == 1 else ''} on it"
        return title, "; ".join(filter(None, (text, line.words)))
    if line.say is Say.BLIP:
        down_sec = events[-1].down_sec if events else None
        for_so_long = f" for {format_seconds(down_sec)}" if down_sec is not None else ""
        return f"{thing} was down{for_so_long}, and is up again", line.words or "nobody had been told yet"
    one, _ = _COUNTED[line.say]
    return f"{thing} {one}", line.words


def _thing(line: Line) -> str:
    family, colon, _ = line.key.partition(":")
    return _THINGS[family].format(line.svc) if colon and family in _THINGS else line.svc
