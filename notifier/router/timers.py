"""Return the notices that become due as time passes.

They are reminders, escalations, and notices that were held back by a silence or a rate limit that
ended. Pure; times are epoch seconds.
"""

from collections.abc import Sequence
from typing import Final

from marketswarm.channels.message import LATE_SEC
from marketswarm.event_text import format_seconds
from notifier.router.incident import MUTES, Decision, Incident, Notice, NoticeKind
from notifier.router.incident_state import FLAPS, UNPREDICTABLE, IncidentState
from notifier.router.stages import HoldStage, find_hold
from notifier.router.suppression import Suppression

CHECK_EVERY_SEC: Final = 1.0
"""How often an incident is checked whose next change can't be predicted, such as a silence's end."""

LONG_DOWN_SEC: Final = 15.0
"""The notice that a service flaps says that it is down once it is for so long, in seconds."""


class Timers:
    """Computes the notices that are due for one incident at a time, and when to check it again."""

    def __init__(self, suppression: Suppression, holds: Sequence[HoldStage]) -> None:
        self._suppression, self._holds = suppression, holds

    def find_next_notices(self, incident: Incident, state: IncidentState, now: float) -> list[Notice]:
        """Return the notices that are due in this state, and record in the incident that they are queued."""
        if state in FLAPS:
            return []
        if state is IncidentState.SETTLED_UNTOLD:
            is_muted = self._find_hold(NoticeKind.SETTLED, incident, now) is not None
            return [] if is_muted else [self.settle(incident, now)]
        if state is IncidentState.LOST:
            reason = self._find_hold(NoticeKind.DOWN, incident, now)
            incident.held = reason if reason in MUTES else None  # by no other: nobody heard of it in time
            return [] if incident.held is not None else [self.opening(incident, now, now)]
        if incident.kept and self._limit_ends_at(incident) <= now:
            return self._list_summaries(incident, now)
        if state is IncidentState.HELD and incident.held is not Decision.RATE_LIMIT:
            return self._list_released(incident, now)
        if state is not IncidentState.TOLD or incident.acked_by:
            return []
        if self._find_hold(NoticeKind.REMINDER, incident, now) is not None:
            return []
        return [*self._list_escalations(incident, now), *self._list_reminders(incident, now)]

    def next_at(self, incident: Incident, state: IncidentState, now: float, every_sec: float) -> float:
        """Return when to check an incident again, after `every_sec` if its next change can't be predicted."""
        if state in UNPREDICTABLE or (
            state is IncidentState.HELD and incident.held is not Decision.RATE_LIMIT
        ):
            return now + every_sec
        found = [self._limit_ends_at(incident)] if incident.kept else []
        if state is IncidentState.TOLD and not incident.acked_by:
            found += [at for at in (self._reminder_at(incident), self._escalation_at(incident)) if at]
        return max(min(found, default=float("inf")), now + CHECK_EVERY_SEC)

    def opening(self, incident: Incident, ts: float, now: float) -> Notice:
        """Return the notice that an incident is down; `ts` is the earliest time at which it could be sent."""
        ident, events = incident.id, (incident.miss,)
        return Notice(ident, incident.key, incident.svc, NoticeKind.DOWN, ts, now, events, (ident,))

    def flapping(self, incident: Incident, ends: Notice | None, now: float) -> Notice:
        """Return the notice that a service flaps; `ends` is the pending one that its outage has ended."""
        # by the event, not by its time: a clock that is set back shows the same time again
        notice = self._make_notice(incident, NoticeKind.FLAPPING, f"flapping.{incident.last_id}", now)
        if ends is not None:
            return notice.in_thread(ends.thread, ends.channels)
        if incident.told_at is None:
            return notice
        return notice.in_thread(incident.thread, incident.channels)

    def settle(self, incident: Incident, now: float) -> Notice:
        """Return the notice that flapping ended, for the thread of the message that it began."""
        thread, incident.flap_thread = incident.flap_thread, ""
        return self.settled(incident, thread, now)

    def settled(self, incident: Incident, thread: str, now: float) -> Notice:
        """Return the notice that flapping ended; the outage of a service that is down is no longer held."""
        notice = self._make_notice(incident, NoticeKind.SETTLED, f"settled.{incident.last_id}", now)
        if incident.down:
            incident.held = None
            incident.kept, incident.kept_sec = 0, 0.0
            notice = notice.with_events((incident.miss,), (incident.id,))
        return notice.in_thread(thread, incident.channels)

    def describe(self, notice: Notice, incident: Incident, now: float) -> str:
        """Return the words that a notice adds to what its events say; `now` is in epoch seconds."""
        # `since` is by its writer's clock, which may have been ahead of ours
        since = incident.since if incident.told_at is None else min(incident.since, incident.told_at)
        lasts = format_seconds(max(0.0, now - since))
        match notice.say:
            case NoticeKind.DOWN | NoticeKind.BLIP:
                return self._describe_opening(notice, incident, lasts)
            case NoticeKind.AGAIN:
                # one with a cause is not kept, and yet people hear of it here while it lasts
                outages = incident.kept + (incident.down and not incident.is_kept)
                times = "once more" if outages == 1 else f"{outages} times more"
                in_all = f"{format_seconds(incident.kept_sec)} in all; {incident.describe_state()}"
                end = f"now for {lasts}" if incident.down else in_all
                return f"down {times} since the last message about it, {end}"
            case NoticeKind.REMINDER | NoticeKind.ESCALATION:
                dependents = [each.svc for each in self._suppression.dependents_down(incident)]
                more = f"; with it {', '.join(dependents[:10])}" if dependents else ""
                return f"for {lasts}{more}"
            case NoticeKind.FLAPPING:
                span = format_seconds(incident.changes[-1] - incident.changes[0])
                changes = len(incident.changes)
                words = f"{changes} changes within {span}; until it settles, single ones are not told"
                is_long = incident.down and now - incident.ts >= LONG_DOWN_SEC
                return f"{words}; it is down now, for {lasts}" if is_long else words
            case NoticeKind.SETTLED:
                return incident.describe_state()
            case NoticeKind.HEALED:
                return notice.words
            case _:
                return ""

    # -- helpers

    def _describe_opening(self, notice: Notice, incident: Incident, lasts: str) -> str:
        """Return the words of an outage's notice: earlier outages held back, and its length if long."""
        words = [incident.tried] if incident.tried else []
        before = incident.kept - incident.is_limited  # without one that began since this one ended
        if before > 0:
            outages = "one outage" if before == 1 else f"{before} outages"
            words.append(f"{outages} before it not told")
        if incident.down and notice.ts - incident.ts >= LATE_SEC:
            words.append(f"it lasts for {lasts} already")
        return "; ".join(words)

    def held_until(self, incident: Incident) -> float | None:
        if incident.down and incident.held is Decision.HEALING and incident.held_at is not None:
            return incident.held_at + self._suppression.policy.healing_max_hold_sec
        return self._limit_ends_at(incident) if incident.kept else None

    def _limit_ends_at(self, incident: Incident) -> float:
        """Return when the outages that the rate limit holds back are sent, earlier for one that lasts."""
        if not incident.is_limited or incident.held_at is None:
            return incident.limited_until
        hold_sec = self._suppression.policy.rate_limit_max_hold_sec
        return min(incident.limited_until, incident.held_at + hold_sec)

    def _list_summaries(self, incident: Incident, now: float) -> list[Notice]:
        """Return the notice of the outages that the rate limit held back; none if the incident is muted."""
        muted = self._find_hold(NoticeKind.AGAIN, incident, now)
        if muted is not None:
            incident.kept, incident.kept_sec = 0, 0.0
            incident.held = muted if incident.down else None
            return []
        if incident.is_limited:
            incident.held = None
            if now < incident.limited_until:
                incident.kept -= 1  # the outages before this one
                return [self.opening(incident, now, now)]
        events = (incident.miss,) if incident.down else ()
        notice = self._make_notice(incident, NoticeKind.AGAIN, f"again.{incident.id}", now)
        return [notice.with_events(events, (incident.id,) if events else ())]

    def _list_released(self, incident: Incident, now: float) -> list[Notice]:
        """Return the notice of an outage that is no longer held back; otherwise update the reason."""
        held = self._find_hold(NoticeKind.DOWN, incident, now)
        if incident.held is Decision.DEPENDS and held is not Decision.DEPENDS:
            incident.free_at = now if incident.free_at is None else incident.free_at
            if now - incident.free_at < self._suppression.grace_sec(incident):
                return []
        incident.free_at = None
        if incident.held is Decision.HEALING and held is not Decision.HEALING:
            incident.tried = self._suppression.medic.describe_tried(
                incident.svc, self._suppression.policy.zone
            )
        if held not in (None, Decision.RATE_LIMIT):
            incident.held = held
            return []
        incident.held = None
        return [self.opening(incident, now, now)]

    def _list_reminders(self, incident: Incident, now: float) -> list[Notice]:
        due = self._reminder_at(incident)
        if due is None or now < due:
            return []
        while due is not None and due <= now:  # reminders that became due while no notifier ran become one
            incident.reminded += 1
            due = self._reminder_at(incident)
        ident = f"reminder.{incident.id}.{incident.reminded}"
        notice = self._make_notice(incident, NoticeKind.REMINDER, ident, now)
        return [notice.in_thread(incident.thread, incident.channels)]

    def _reminder_at(self, incident: Incident) -> float | None:
        after = self._suppression.policy.remind_sec
        if not after or incident.told_at is None:
            return None
        beyond = incident.reminded - len(after) + 1
        return incident.told_at + (after[incident.reminded] if beyond <= 0 else after[-1] * (beyond + 1))

    def _list_escalations(self, incident: Incident, now: float) -> list[Notice]:
        steps = self._suppression.policy.escalate
        found: list[Notice] = []
        while (at := self._escalation_at(incident)) is not None and at <= now:
            step = steps[incident.escalated]
            incident.escalated += 1
            ident = f"escalation.{incident.id}.{incident.escalated}"
            notice = self._make_notice(incident, NoticeKind.ESCALATION, ident, now)
            found.append(notice.in_thread(incident.thread, self._suppression.open_of(step.channels)))
        return found

    def _escalation_at(self, incident: Incident) -> float | None:
        steps = self._suppression.policy.escalate
        if incident.told_at is None or incident.escalated >= len(steps):
            return None
        return incident.told_at + steps[incident.escalated].after_sec

    def _find_hold(self, say: NoticeKind, incident: Incident, now: float) -> Decision | None:
        return find_hold(self._holds, say, incident, now)

    def _make_notice(self, incident: Incident, say: NoticeKind, ident: str, now: float) -> Notice:
        return Notice(ident, incident.key, incident.svc, say, now, now)
