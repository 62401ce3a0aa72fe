"""Group due notices into messages: by channels and thread, dependents with their cause.

Pure; times are epoch seconds. Not here: the words (`render.py`).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from marketswarm.channels import Message
from notifier.router.incident import Incident, Notice, NoticeKind
from notifier.router.render import render_message
from notifier.router.suppression import Suppression
from notifier.router.timers import Timers

LEADS = (NoticeKind.DOWN, NoticeKind.AGAIN)


def inhibit(
    lines: Sequence[Notice], suppression: Suppression
) -> tuple[list[Notice], dict[str, list[Notice]]]:
    """Split notices into those that stand alone and, by the id of such a one, those that it explains."""
    down = {line.key: line for line in lines if line.say in LEADS}
    leads: list[Notice] = []
    with_it: dict[str, list[Notice]] = {}
    for line in lines:
        causes = [key for key in suppression.causes(line.svc) if key in down] if line.key in down else []
        if line.say in LEADS and causes:
            # the last one found is the farthest: what all the others suffer from too
            with_it.setdefault(down[causes[-1]].id, []).append(line)
        else:
            leads.append(line)
    return leads, with_it


LINES_AT_MOST: Final = 500
"""Notices in one message; more make further messages."""


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A message and the channels that it goes to."""

    message: Message
    channels: tuple[str, ...]


class Grouper:
    """Groups notices into messages, and records in the incidents what was sent."""

    def __init__(self, incidents: Mapping[str, Incident], suppression: Suppression, timers: Timers) -> None:
        self._incidents, self._suppression, self._timers = incidents, suppression, timers
        self._threads: Counter[str] = Counter()  # in how many incidents each is open

    def group(
        self, lines: Sequence[Notice], now: float, on_its_way: Callable[[str], str | None]
    ) -> list[DueMessage]:
        """Return the messages for these notices: those for the same channels together.

        A notice about a service with an undelivered message must arrive after it, so it shares no message
        with others: they would be delayed as well.
        """
        self._suppression.reset_dependents()
        if any(line.thread for line in lines):
            self._threads = Counter(chain.from_iterable(map(_threads, self._incidents.values())))
        together: dict[tuple[tuple[str, ...], str | None], list[Notice]] = {}
        for line in lines:
            together.setdefault((self._channels_of(line), on_its_way(line.key)), []).append(line)
        return [
            self._message(same[first : first + LINES_AT_MOST], channels, now)
            for (channels, _), same in together.items()
            for first in range(0, len(same), LINES_AT_MOST)
        ]

    def _message(self, lines: list[Notice], channels: tuple[str, ...], now: float) -> DueMessage:
        known = ((line, self._incidents.get(line.key)) for line in lines)
        lines = [
            replace(line, words=self._timers.describe(line, incident, now)) if incident else line
            for line, incident in known
        ]
        leads, with_it = inhibit(lines, self._suppression)
        message = render_message(leads, severity=self._suppression.severity_of, with_it=with_it)
        threads = {line.thread for line in lines}
        thread = threads.pop() if len(threads) == 1 else ""
        message = replace(message, thread=thread or message.id)
        about = {line.key: self._incidents[line.key] for line in lines if line.key in self._incidents}
        self._threads.subtract(chain.from_iterable(map(_threads, about.values())))
        for line in lines:
            self._record_sent(line, message.thread, channels, now)
        open_now = Counter(chain.from_iterable(map(_threads, about.values())))
        self._threads.update(open_now)
        closes = {line.thread for line in lines if line.thread and self._threads[line.thread] <= 0}
        opens = open_now[message.thread] > 0
        return DueMessage(replace(message, opens=opens, closes=tuple(sorted(closes))), channels)

    def _record_sent(self, line: Notice, thread: str, channels: tuple[str, ...], now: float) -> None:
        incident = self._incidents.get(line.key)
        if incident is None:
            return
        if line.say in (NoticeKind.DOWN, NoticeKind.AGAIN, NoticeKind.BLIP, NoticeKind.FLAPPING):
            incident.limited_until = now + self._suppression.rate_limit_sec
            incident.kept, incident.kept_sec = 0, 0.0
        if line.say is NoticeKind.FLAPPING:
            incident.thread = incident.flap_thread = thread
            incident.channels = channels
        elif line.say in (NoticeKind.DOWN, NoticeKind.AGAIN, NoticeKind.SETTLED) and incident.down:
            incident.told_at, incident.thread, incident.channels = now, thread, channels
            incident.held = None
            incident.reminded = incident.escalated = 0
        elif line.say is NoticeKind.ESCALATION:
            incident.channels = tuple(dict.fromkeys((*incident.channels, *channels)))

    def _channels_of(self, line: Notice) -> tuple[str, ...]:
        incident = self._incidents.get(line.key) or Incident(line.key, line.svc)
        return self._suppression.open_of(line.channels) or self._suppression.route(incident)


def _threads(incident: Incident) -> Iterator[str]:
    """Yield the threads in which an incident is down or flaps."""
    if incident.down and incident.thread:
        yield incident.thread
    if incident.flap_thread:
        yield incident.flap_thread
