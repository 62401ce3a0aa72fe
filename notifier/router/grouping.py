"""Group due notices into messages: by channels and thread, dependents with their cause.

Pure; times are epoch seconds. Not here: the words (`render.py`).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from marketswarm.channels import Message
from notifier.router.incident import Incident, Notice, NoticeKind
from notifier.router.render import Surroundings, render_message
from notifier.router.suppression import Suppression
from notifier.router.timers import Timers

LEADS = (NoticeKind.DOWN, NoticeKind.AGAIN)
"""The kinds of notices that may be shown below the notice about their cause."""
APART: Final = (NoticeKind.NOTE, NoticeKind.HEALED)
"""The kinds of notices that share a message only with those of their own kind."""
NOTICES_AT_MOST: Final = 500
"""Notices in one message; more make further messages."""


def inhibit(
    notices: Sequence[Notice], suppression: Suppression
) -> tuple[list[Notice], dict[str, list[Notice]]]:
    """Split notices into leading ones and, by the id of a leading notice, the notices of its dependents.

    A service's notice goes below the notice of the farthest service that it depends on, if both are down.
    """
    down = {notice.key: notice for notice in notices if notice.say in LEADS}
    leads: list[Notice] = []
    dependents: dict[str, list[Notice]] = {}
    for notice in notices:
        causes = [key for key in suppression.causes(notice.svc) if key in down] if notice.key in down else []
        if notice.say in LEADS and causes:
            # the last cause found is the farthest one, which explains the others, too
            dependents.setdefault(down[causes[-1]].id, []).append(notice)
        else:
            leads.append(notice)
    return leads, dependents


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A message and the channels that it goes to."""

    message: Message
    channels: tuple[str, ...]


class Grouper:
    """Groups notices into messages, and records in the incidents what was sent."""

    def __init__(self, incidents: Mapping[str, Incident], suppression: Suppression, timers: Timers) -> None:
        self._incidents, self._suppression, self._timers = incidents, suppression, timers
        self._open_threads: Counter[str] = Counter()  # by thread, the number of incidents in which it is open
        self._rate_limited: list[Incident] = []  # incidents with outages that the rate limit holds back

    def group(
        self, notices: Sequence[Notice], now: float, undelivered_message_for: Callable[[str], str | None]
    ) -> list[DueMessage]:
        """Return the messages for these notices, and record in the incidents that they are sent.

        Notices for the same channels share a message. A notice about a service with an undelivered message
        must arrive after it, so it shares no message with others, because they would be delayed as well.
        Gaps, such as restarts, share no message with outages, and neither does the digest.
        """
        self._suppression.reset_dependents()
        self._rate_limited = [each for each in self._incidents.values() if each.kept]
        continued = {notice.thread for notice in notices if notice.thread}
        if continued:
            incidents = self._incidents.values()
            self._open_threads = Counter(
                each.thread for each in incidents if each.down and each.thread in continued
            )
            self._open_threads.update(each.flap_thread for each in incidents if each.flap_thread in continued)
        together: dict[tuple[tuple[str, ...], str | None, NoticeKind | None], list[Notice]] = {}
        for notice in notices:
            apart = notice.say if notice.say in APART else None
            group = self._choose_channels(notice), undelivered_message_for(notice.key), apart
            together.setdefault(group, []).append(notice)
        return [
            self._build_message(same[first : first + NOTICES_AT_MOST], channels, now)
            for (channels, *_), same in together.items()
            for first in range(0, len(same), NOTICES_AT_MOST)
        ]

    def _build_message(self, notices: list[Notice], channels: tuple[str, ...], now: float) -> DueMessage:
        keys = {notice.key for notice in notices}
        known = ((notice, self._incidents.get(notice.key)) for notice in notices)
        notices = [
            replace(notice, words=self._timers.describe(notice, incident, now)) if incident else notice
            for notice, incident in known
        ]
        leads, dependents = inhibit(notices, self._suppression)
        message = render_message(
            leads,
            severity=self._suppression.severity_of,
            dependents=dependents,
            surroundings=self._find_surroundings(keys, channels),
        )
        threads = {notice.thread for notice in notices}
        thread = threads.pop() if len(threads) == 1 else ""
        message = replace(message, thread=thread or message.id)
        about = [self._incidents[key] for key in keys if key in self._incidents]
        self._open_threads.subtract(chain.from_iterable(map(_list_threads, about)))
        for notice in notices:
            self._record_sent(notice, message.thread, channels, now)
        open_now = Counter(chain.from_iterable(map(_list_threads, about)))
        self._open_threads.update(open_now)
        continued = sorted({notice.thread for notice in notices if notice.thread})
        closes = tuple(thread for thread in continued if self._open_threads[thread] <= 0)
        return DueMessage(replace(message, opens=open_now[message.thread] > 0, closes=closes), channels)

    def _find_surroundings(self, keys: Collection[str], channels: tuple[str, ...]) -> Surroundings:
        held = [
            (until, each.name)
            for each in self._rate_limited
            if each.key not in keys
            and (until := self._timers.held_until(each)) is not None
            and any(name in channels for name in self._suppression.route(each))
        ]
        return Surroundings(
            self._suppression.truth.fleet,
            tuple(name for _, name in sorted(held)),
            max((until for until, _ in held), default=0.0),
            self._incidents,
        )

    def _record_sent(self, notice: Notice, thread: str, channels: tuple[str, ...], now: float) -> None:
        incident = self._incidents.get(notice.key)
        if incident is None:
            return
        if notice.say in (NoticeKind.DOWN, NoticeKind.AGAIN, NoticeKind.BLIP, NoticeKind.FLAPPING):
            incident.limited_until = now + self._suppression.rate_limit_sec
            incident.kept, incident.kept_sec, incident.held_until = 0, 0.0, None
        if notice.say is NoticeKind.FLAPPING:
            incident.thread = incident.flap_thread = thread
            incident.channels = channels
        elif notice.say in (NoticeKind.DOWN, NoticeKind.AGAIN, NoticeKind.SETTLED) and incident.down:
            incident.told_at, incident.thread, incident.channels = now, thread, channels
            incident.held = None
            incident.reminded = incident.escalated = 0
        elif notice.say is NoticeKind.ESCALATION:
            incident.channels = tuple(dict.fromkeys((*incident.channels, *channels)))

    def _choose_channels(self, notice: Notice) -> tuple[str, ...]:
        incident = self._incidents.get(notice.key) or Incident(notice.key, notice.svc)
        return self._suppression.open_of(notice.channels) or self._suppression.route(incident)


def _list_threads(incident: Incident) -> Iterator[str]:
    if incident.down and incident.thread:
        yield incident.thread
    if incident.flap_thread:
        yield incident.flap_thread
