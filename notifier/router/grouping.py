"""From the lines that are due to messages: which are one, its thread, and what follows from having said it.

Pure; times are epoch seconds. Not here: the words (`telling.py`).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from marketswarm.channels import Message
from notifier.router.incident import Incident, Line, Say
from notifier.router.render import compose
from notifier.router.suppression import Holding
from notifier.router.timers import Timing

LEADS = (Say.DOWN, Say.AGAIN)


def folded(lines: Sequence[Line], holding: Holding) -> tuple[list[Line], dict[str, list[Line]]]:
    """The lines that stand on their own, and by the id of such a line those that go with it."""
    down = {line.key: line for line in lines if line.say in LEADS}
    leads: list[Line] = []
    with_it: dict[str, list[Line]] = {}
    for line in lines:
        causes = [key for key in holding.causes(line.svc) if key in down] if line.key in down else []
        if line.say in LEADS and causes:
            # the last one found is the farthest: what all the others suffer from too
            with_it.setdefault(down[causes[-1]].id, []).append(line)
        else:
            leads.append(line)
    return leads, with_it


LINES_AT_MOST: Final = 500
"""In one message: ten thousand services are twenty messages, and none that nobody can open."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message, and the channels that are to have it."""

    message: Message
    channels: tuple[str, ...]


class Speaking:
    """Puts lines into messages, and takes note in the incidents that it did."""

    def __init__(self, incidents: Mapping[str, Incident], holding: Holding, timing: Timing) -> None:
        self._incidents, self._holding, self._timing = incidents, holding, timing
        self._threads: Counter[str] = Counter()  # in how many incidents each is open

    def speak(self, lines: Sequence[Line], now: float, on_its_way: Callable[[str], str | None]) -> list[Due]:
        """The messages that say these lines: those for the same channels together.

        What follows a message that is still on its way must arrive after it, so it is part of no message that
        tells of anything else: that would be held up as well.
        """
        self._holding.forget_suffering()
        if any(line.thread for line in lines):
            self._threads = Counter(chain.from_iterable(map(_threads, self._incidents.values())))
        together: dict[tuple[tuple[str, ...], str | None], list[Line]] = {}
        for line in lines:
            together.setdefault((self._channels_of(line), on_its_way(line.key)), []).append(line)
        return [
            self._message(same[first : first + LINES_AT_MOST], channels, now)
            for (channels, _), same in together.items()
            for first in range(0, len(same), LINES_AT_MOST)
        ]

    def _message(self, lines: list[Line], channels: tuple[str, ...], now: float) -> Due:
        known = ((line, self._incidents.get(line.key)) for line in lines)
        lines = [
            replace(line, words=self._timing.worded(line, incident, now)) if incident else line
            for line, incident in known
        ]
        leads, with_it = folded(lines, self._holding)
        message = compose(leads, severity=self._holding.severity_of, with_it=with_it)
        threads = {line.thread for line in lines}
        thread = threads.pop() if len(threads) == 1 else ""
        message = replace(message, thread=thread or message.id)
        about = {line.key: self._incidents[line.key] for line in lines if line.key in self._incidents}
        self._threads.subtract(chain.from_iterable(map(_threads, about.values())))
        for line in lines:
            self._was_said(line, message.thread, channels, now)
        open_now = Counter(chain.from_iterable(map(_threads, about.values())))
        self._threads.update(open_now)
        closes = {line.thread for line in lines if line.thread and self._threads[line.thread] <= 0}
        opens = open_now[message.thread] > 0
        return Due(replace(message, opens=opens, closes=tuple(sorted(closes))), channels)

    def _was_said(self, line: Line, thread: str, channels: tuple[str, ...], now: float) -> None:
        incident = self._incidents.get(line.key)
        if incident is None:
            return
        if line.say in (Say.DOWN, Say.AGAIN, Say.BLIP, Say.FLAPPING):
            incident.limited_until = now + self._holding.rate_limit_sec
            incident.kept, incident.kept_sec = 0, 0.0
        if line.say is Say.FLAPPING:
            incident.thread = incident.flap_thread = thread
            incident.channels = channels
        elif line.say in (Say.DOWN, Say.AGAIN, Say.SETTLED) and incident.down:
            incident.told_at, incident.thread, incident.channels = now, thread, channels
            incident.held = None
            incident.reminded = incident.escalated = 0
        elif line.say is Say.ESCALATION:
            incident.channels = tuple(dict.fromkeys((*incident.channels, *channels)))

    def _channels_of(self, line: Line) -> tuple[str, ...]:
        incident = self._incidents.get(line.key) or Incident(line.key, line.svc)
        return self._holding.open_of(line.channels) or self._holding.route(incident)


def _threads(incident: Incident) -> Iterator[str]:
    """Yield the threads in which an incident is down, or flaps."""
    if incident.down and incident.thread:
        yield incident.thread
    if incident.flap_thread:
        yield incident.flap_thread
