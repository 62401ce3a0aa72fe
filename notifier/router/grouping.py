"""Group due notices into messages: by channels and thread, dependents with their cause.

Pure; times are epoch seconds. Not here: the words (`render.py`).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from marketswarm.channels import Message
from notifier.router.defect import Defect, DefectKind
from notifier.router.incident import Incident, Notice, NoticeKind
from notifier.router.machines import Machine, MachineState, find_dead_hosts, find_machines
from notifier.router.render import Surroundings, render_message, render_plain_message
from notifier.router.suppression import Suppression
from notifier.router.timers import Timers

LEADS = (NoticeKind.DOWN, NoticeKind.AGAIN)
"""The kinds of notices that may be shown below the notice about their cause."""
BEGINS: Final = (*LEADS, NoticeKind.SETTLED)
"""The kinds of notices after which people believe that a service is down, and did not before."""
APART: Final = (NoticeKind.NOTE, NoticeKind.HEALED)
"""The kinds of notices that share a message only with those of their own kind."""
NOTICES_AT_MOST: Final = 500
"""Notices in one message; more make further messages."""


def inhibit(
    notices: Sequence[Notice], suppression: Suppression, leaders: Collection[str] = ()
) -> tuple[list[Notice], dict[str, list[Notice]]]:
    """Split notices into leading ones and, by the id of a leading notice, the notices of its dependents.

    A service's notice goes below the notice of the farthest service that it depends on, of those that depend
    on none that is down, too. Of services that need each other the first one leads, so that each is named.
    Those whose ids are `leaders` lead.
    """
    down = {notice.key: notice for notice in notices if notice.say in LEADS}
    causes = {
        key: [each for each in suppression.causes(notice.svc) if each in down and notice.id not in leaders]
        for key, notice in down.items()
    }
    leading = {key for key, found in causes.items() if not found}
    leads: list[Notice] = []
    dependents: dict[str, list[Notice]] = {}
    for notice in notices:
        found = [key for key in causes.get(notice.key, ()) if key in leading]
        if notice.say in LEADS and found and notice.key not in leading:
            # the last cause found is the farthest one, which explains the others, too
            dependents.setdefault(down[found[-1]].id, []).append(notice)
        else:
            leads.append(notice)
            leading.update({notice.key} & down.keys())
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
        self._open: dict[str, list[Incident]] = {}  # by thread, the incidents that are open in it
        self._rate_limited: list[Incident] = []  # incidents with outages that the rate limit holds back
        self._dead_hosts: set[str] = set()  # hosts on which no service is up any more
        self._defects: list[Defect] = []

    def group(
        self, notices: Sequence[Notice], now: float, undelivered_message_for: Callable[[str], str | None]
    ) -> list[DueMessage]:
        """Return the messages for these routed notices, and record in the incidents that they are sent.

        Notices for the same channels share a message. A notice about a service with an undelivered message
        must arrive after it, so it shares no message with others, because they would be delayed as well.
        Gaps, such as restarts, share no message with outages, and neither does the digest. The notices about
        one service are in messages in their order.
        """
        self._suppression.reset_dependents()
        self._rate_limited = [each for each in self._incidents.values() if each.kept]
        continued = {notice.thread for notice in notices if notice.thread}
        threads = chain.from_iterable(map(_list_threads, self._incidents.values() if continued else ()))
        self._open_threads = Counter(thread for thread in threads if thread in continued)
        self._open = self._find_open(continued)
        self._dead_hosts = find_dead_hosts(notices, self._incidents, now) if len(notices) > 1 else set()
        groups: list[tuple[tuple[str, ...], list[Notice]]] = []
        latest: dict[tuple[tuple[str, ...], str | None, NoticeKind | None], int] = {}
        last_about: dict[str, int] = {}  # by key, the group of the last notice about it
        for notice in notices:
            apart = notice.say if notice.say in APART else None
            group = notice.channels, undelivered_message_for(notice.key), apart
            index = latest.get(group, -1)
            if index < last_about.get(notice.key, 0):  # else its "up again" may come after its next "is down"
                index = len(groups)
                groups.append((group[0], []))
            latest[group] = last_about[notice.key] = index
            groups[index][1].append(notice)
        return [
            message
            for channels, same in groups
            for first in range(0, len(same), NOTICES_AT_MOST)
            for message in self._build_messages(same[first : first + NOTICES_AT_MOST], channels, now)
        ]

    def take_defects(self) -> list[Defect]:
        """Return what went wrong since the last call, and forget it."""
        found, self._defects = self._defects, []
        return found

    def _build_messages(
        self, notices: list[Notice], channels: tuple[str, ...], now: float
    ) -> Iterator[DueMessage]:
        """Yield one message; if its words can't be made, one for each notice, plain for the bad one."""
        machines: tuple[Machine, ...] = ()
        try:
            machines = self._find_machines(notices, channels)
            message = self._render(notices, channels, machines, now)
        except Exception as error:  # noqa: BLE001 - one bad notice must not take its neighbours with it
            if len(notices) > 1:
                for notice in notices:
                    yield from self._build_messages([notice], channels, now)
                return
            self._defects.append(Defect.of(DefectKind.MESSAGE, notices[0].key, error))
            message = render_plain_message(notices[0], type(error).__name__)
        yield self._record_message(message, notices, channels, now)
        self._record_machines(machines, notices)

    def _find_machines(self, notices: Sequence[Notice], channels: tuple[str, ...]) -> tuple[Machine, ...]:
        is_told = any(notice.say in (NoticeKind.UP, NoticeKind.REMINDER) for notice in notices)
        if not (is_told or (len(notices) > 1 and self._dead_hosts)):
            return ()
        return find_machines(notices, channels, self._incidents, self._dead_hosts)

    def _record_machines(self, machines: Sequence[Machine], notices: Sequence[Notice]) -> None:
        """Record in the incidents of each machine that is gone that a message says so.

        What this message says of a service that is down on such a machine may have a line of its own, such as
        the sum of its outages. The machine is back in part alone while that service is missing.
        """
        hosts = {each.host for each in machines if each.state is MachineState.GONE}
        for notice in notices if hosts else ():
            incident = self._incidents.get(notice.key)
            if incident is not None and incident.down and incident.host in hosts and notice.say in BEGINS:
                incident.machine = incident.host

    def _render(
        self,
        notices: Sequence[Notice],
        channels: tuple[str, ...],
        machines: tuple[Machine, ...],
        now: float,
    ) -> Message:
        """Return the message with the words of some notices; record nothing."""
        keys = {notice.key for notice in notices}
        known = ((notice, self._incidents.get(notice.key)) for notice in notices)
        notices = [
            replace(notice, words=self._timers.describe(notice, incident, now)) if incident else notice
            for notice, incident in known
        ]
        leaders = {ident for each in machines for ident in each.ids}
        leads, dependents = inhibit(notices, self._suppression, leaders)
        return render_message(
            leads,
            severity=self._suppression.severity_of,
            dependents=dependents,
            surroundings=replace(self._find_surroundings(keys, channels), machines=machines),
        )

    def _record_message(
        self, message: Message, notices: Sequence[Notice], channels: tuple[str, ...], now: float
    ) -> DueMessage:
        """Record in the incidents that a message is sent; return it with what it opens and closes."""
        keys = {notice.key for notice in notices}
        threads = {notice.thread for notice in notices}
        thread = threads.pop() if len(threads) == 1 else ""
        message = replace(message, thread=thread or message.id)
        about = [self._incidents[key] for key in keys if key in self._incidents]
        self._open_threads.subtract(chain.from_iterable(map(_list_threads, about)))
        for notice in notices:
            self._record_sent(notice, message, channels, now)
        open_now = Counter(chain.from_iterable(map(_list_threads, about)))
        self._open_threads.update(open_now)
        continued = sorted({notice.thread for notice in notices if notice.thread})
        closes = tuple(thread for thread in continued if self._open_threads[thread] <= 0)
        return DueMessage(replace(message, opens=open_now[message.thread] > 0, closes=closes), channels)

    def _find_surroundings(self, keys: Collection[str], channels: tuple[str, ...]) -> Surroundings:
        wanted, route = frozenset(channels), self._suppression.route
        held = [  # there may be ten thousand
            (until, each.name)
            for each in self._rate_limited
            if (until := each.held_until) is not None
            and each.key not in keys
            and not wanted.isdisjoint(route(each))
        ]
        return Surroundings(
            self._suppression.truth.fleet,
            tuple(name for _, name in sorted(held)),
            max((until for until, _ in held), default=0.0),
            self._suppression.policy.zone,
            self._incidents,
            self._open,
        )

    def _find_open(self, threads: Collection[str]) -> dict[str, list[Incident]]:
        found: dict[str, list[Incident]] = {}
        for each in self._incidents.values() if threads else ():
            thread = each.flap_thread or (each.thread if each.is_notified else "")
            if thread in threads:
                found.setdefault(thread, []).append(each)
        return found

    def _record_sent(self, notice: Notice, message: Message, channels: tuple[str, ...], now: float) -> None:
        incident, thread = self._incidents.get(notice.key), message.thread
        if incident is None:
            return
        if notice.say in (NoticeKind.DOWN, NoticeKind.AGAIN, NoticeKind.BLIP, NoticeKind.FLAPPING):
            incident.limited_until = now + self._suppression.rate_limit_sec
            # the next outage may be held back since the end that this notice tells: it stays so
            is_next_held = notice.say is NoticeKind.BLIP and incident.is_limited
            incident.kept, incident.kept_sec = int(is_next_held), 0.0
            incident.held_until = self._timers.held_until(incident)
        if notice.say is NoticeKind.FLAPPING:
            incident.thread = incident.flap_thread = thread
            incident.severity = incident.severity if notice.thread else message.severity
            incident.channels = channels
        elif notice.say in (NoticeKind.DOWN, NoticeKind.AGAIN, NoticeKind.SETTLED) and incident.down:
            incident.told_at, incident.thread, incident.channels = now, thread, channels
            incident.severity = incident.severity if notice.thread else message.severity
            incident.held, incident.kept, incident.kept_sec = None, 0, 0.0
            incident.reminded = incident.escalated = 0
        elif notice.say in (NoticeKind.REMINDER, NoticeKind.ESCALATION):
            incident.channels = tuple(dict.fromkeys((*incident.channels, *channels)))


def _list_threads(incident: Incident) -> Iterator[str]:
    if incident.down and incident.thread:
        yield incident.thread
    if incident.flap_thread:
        yield incident.flap_thread
