"""What time alone brings: the end of a silence, a reminder, an escalation, what was held back. Pure.

Times are epoch seconds.
"""

import heapq
from typing import Final

from marketswarm.channels.event_text import LATE_SEC, format_seconds
from notifier.router.incident import Incident, Line, Reason, Say
from notifier.router.suppression import Holding

NEVER: Final = float("inf")
SPARE: Final = 1000
"""Entries that were replaced are dropped when there are so many more of them than of the others."""


class Agenda:
    """Keys, and the time (epoch seconds) at which each is due; a later entry replaces an earlier one."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def put(self, key: str, at: float) -> None:
        """Have `key` be due at `at`, or never."""
        if at == NEVER:
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))
            if len(self._heap) > 2 * len(self._at) + SPARE:
                self._heap = [(at, key) for key, at in self._at.items()]
                heapq.heapify(self._heap)

    def sooner(self, key: str, at: float) -> None:
        """Have `key` be due at `at`, unless it is due before that anyway."""
        self.put(key, min(at, self._at.get(key, NEVER)))

    def take(self, now: float, at_most: int) -> list[str]:
        """Take out keys that are due at `now`, the earliest first."""
        found: list[str] = []
        while len(found) < at_most and self.next_at() <= now:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            found.append(key)
        return found

    def next_at(self) -> float:
        """When the next key is due."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER


LOOK_EVERY_SEC: Final = 1.0
"""How often something is looked at whose time nobody can tell beforehand, such as the end of a silence."""


class Timing:
    """Looks at one incident at a time."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding

    def lines(self, incident: Incident, now: float) -> list[Line]:
        """What is to be said of it now; the incident is changed so that nothing is said twice."""
        if self._holding.settles(incident, now) and incident.flap_thread:
            thread, incident.flap_thread = incident.flap_thread, ""
            return [self.settled(incident, thread, now)]
        if incident.flapping:
            return []
        if incident.kept and self._limit_ends_at(incident) <= now:
            return self._summed_up(incident, now)
        if not incident.down or incident.held is Reason.RATE_LIMIT:
            return []
        if incident.held is not None:
            return self._released(incident, now)
        if incident.told_at is None or incident.acked_by or self._holding.unwanted(incident, now):
            return []
        return [*self._escalated(incident, now), *self._reminded(incident, now)]

    def next_at(self, incident: Incident, now: float, pace_sec: float = LOOK_EVERY_SEC) -> float:
        """When it should be looked at again; infinity when time alone brings nothing.

        `pace_sec` is how long to wait where nobody can tell beforehand.
        """
        if incident.flapping or (incident.down and incident.held not in (None, Reason.RATE_LIMIT)):
            return now + pace_sec
        found = [self._limit_ends_at(incident)] if incident.kept else []
        if incident.told and not incident.acked_by:
            found += [at for at in (self._reminder_at(incident), self._escalation_at(incident)) if at]
        return max(min(found, default=float("inf")), now + LOOK_EVERY_SEC)

    def opening(self, incident: Incident, ts: float, now: float) -> Line:
        """What says that it is down; `ts` is when that could be told at the earliest."""
        return Line(
            incident.id, incident.key, incident.svc, Say.DOWN, ts, now, (incident.miss,), (incident.id,)
        )

    def flapping(self, incident: Incident, ends: Line | None, now: float) -> Line:
        """What says that it flaps, in the conversation about its outage if there is one.

        `ends` was to say that the outage is over.
        """
        ident = f"flapping.{incident.key}.{round(1000 * incident.changes[-1])}"
        line = self._line(incident, Say.FLAPPING, ident, now)
        if ends is not None:
            return line.in_thread(ends.thread, ends.channels)
        return line.in_thread(incident.thread, incident.channels) if incident.told_at is not None else line

    def settled(self, incident: Incident, thread: str, now: float) -> Line:
        """What says, in the thread of its flapping, how it is after that."""
        line = self._line(incident, Say.SETTLED, f"settled.{incident.last_id}", now)
        if incident.down:
            incident.held = None
            line = line.with_events((incident.miss,), (incident.id,))
        return line.in_thread(thread, incident.channels)

    def worded(self, line: Line, incident: Incident, now: float) -> str:
        """What a line says besides its events, at the moment at which it is said."""
        lasts = format_seconds(max(0.0, now - incident.since))
        match line.say:
            case Say.DOWN | Say.BLIP:
                return self._opened(line, incident, lasts)
            case Say.AGAIN:
                times = "once more" if incident.kept == 1 else f"{incident.kept} times more"
                end = (
                    f"now for {lasts}"
                    if incident.down
                    else f"{format_seconds(incident.kept_sec)} in all; it is up"
                )
                return f"down {times} since the last message about it, {end}"
            case Say.REMINDER | Say.ESCALATION:
                with_it = [each.svc for each in self._holding.suffering(incident)]
                more = f"; with it {', '.join(with_it[:10])}" if with_it else ""
                return f"for {lasts}{more}"
            case Say.FLAPPING:
                span = format_seconds(incident.changes[-1] - incident.changes[0])
                changes = len(incident.changes)
                return f"{changes} changes within {span}; until it settles, single ones are not told"
            case Say.SETTLED:
                return "it is down" if incident.down else "it is up"
            case _:
                return ""

    # -- inside

    def _opened(self, line: Line, incident: Incident, lasts: str) -> str:
        words: list[str] = []
        if incident.kept:
            outages = "one outage" if incident.kept == 1 else f"{incident.kept} outages"
            words.append(f"{outages} before it not told")
        if incident.down and line.ts - incident.ts >= LATE_SEC:
            words.append(f"it lasts for {lasts} already")
        return "; ".join(words)

    def _limit_ends_at(self, incident: Incident) -> float:
        """When what the rate limit holds back is told: an outage that lasts, before the limit is over."""
        if not incident.down or incident.held is not Reason.RATE_LIMIT or incident.held_at is None:
            return incident.limited_until
        hold_sec = self._holding.policy.rate_limit_max_hold_sec
        return min(incident.limited_until, incident.held_at + hold_sec)

    def _summed_up(self, incident: Incident, now: float) -> list[Line]:
        unwanted = self._holding.unwanted(incident, now)
        if unwanted is not None:
            incident.kept, incident.kept_sec = 0, 0.0
            incident.held = unwanted if incident.down else None
            return []
        if incident.down and incident.held is Reason.RATE_LIMIT:
            incident.held = None
            if now < incident.limited_until:
                incident.kept -= 1  # those before it
                return [self.opening(incident, now, now)]
        events = (incident.miss,) if incident.down else ()
        line = self._line(incident, Say.AGAIN, f"again.{incident.id}", now)
        return [line.with_events(events, (incident.id,) if events else ())]

    def _released(self, incident: Incident, now: float) -> list[Line]:
        held = self._holding.held(incident, now)
        if incident.held is Reason.DEPENDS and held is not Reason.DEPENDS:
            incident.free_at = incident.free_at or now
            if now - incident.free_at < self._holding.grace_sec(incident):
                return []
        incident.free_at = None
        if held not in (None, Reason.RATE_LIMIT):
            incident.held = held
            return []
        incident.held = None
        return [self.opening(incident, now, now)]

    def _reminded(self, incident: Incident, now: float) -> list[Line]:
        due = self._reminder_at(incident)
        if due is None or now < due:
            return []
        while due is not None and due <= now:  # those that were due while nobody was here are one
            incident.reminded += 1
            due = self._reminder_at(incident)
        line = self._line(incident, Say.REMINDER, f"reminder.{incident.id}.{incident.reminded}", now)
        return [line.in_thread(incident.thread, incident.channels)]

    def _reminder_at(self, incident: Incident) -> float | None:
        after = self._holding.policy.remind_sec
        if not after or incident.told_at is None:
            return None
        beyond = incident.reminded - len(after) + 1
        return incident.told_at + (after[incident.reminded] if beyond <= 0 else after[-1] * (beyond + 1))

    def _escalated(self, incident: Incident, now: float) -> list[Line]:
        steps = self._holding.policy.escalate
        found: list[Line] = []
        while (at := self._escalation_at(incident)) is not None and at <= now:
            step = steps[incident.escalated]
            incident.escalated += 1
            line = self._line(incident, Say.ESCALATION, f"escalation.{incident.id}.{incident.escalated}", now)
            found.append(line.in_thread(incident.thread, self._holding.open_of(step.channels)))
        return found

    def _escalation_at(self, incident: Incident) -> float | None:
        steps = self._holding.policy.escalate
        if incident.told_at is None or incident.escalated >= len(steps):
            return None
        return incident.told_at + steps[incident.escalated].after_sec

    def _line(self, incident: Incident, say: Say, ident: str, now: float) -> Line:
        return Line(ident, incident.key, incident.svc, say, now, now)
