"""Handle events and return the messages that are due.

`Router` keeps an incident for each service that is down (`incident.py`) and the notices that are pending
(`pending.py`), and returns both as fields of the stored state.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from marketswarm.bus.stream import entry_sort_key
from marketswarm.channels import Message
from marketswarm.due_queue import NEVER, DueQueue
from marketswarm.event import Event, Kind
from marketswarm.operator.silences import Silence
from marketswarm.truth import Truth
from notifier.router.defect import Defect, DefectKind
from notifier.router.grouping import DueMessage, Grouper
from notifier.router.healing import HealedOutage, MedicState, may_medic_act_anywhere
from notifier.router.incident import (
    CLOSES,
    OPENS,
    Decision,
    Incident,
    Notice,
    NoticeKind,
    ends_watch,
    find_key,
)
from notifier.router.incident_state import IncidentState, find_state
from notifier.router.incident_store import IncidentStore
from notifier.router.late_ends import LateEnds
from notifier.router.pending import HealedDigest, PendingNotices
from notifier.router.policy import Policy
from notifier.router.stages import (
    MUTABLE,
    OPENINGS,
    HoldStage,
    QueueStage,
    StageName,
    find_hold,
)
from notifier.router.suppression import Suppression
from notifier.router.timers import CHECK_EVERY_SEC, Timers

NOTICE_FIELD: Final = "r:l:"
"""Prefix of the state's fields that hold a pending notice; its id follows."""
DIGEST_FIELD: Final = "r:d:"
"""Prefix of the state's fields that hold a notice for the digest; its id follows."""
END_FIELD: Final = "r:e:"
"""Prefix of the state's fields that hold an end for a channel that can't be opened; its id follows."""
CLOCK_ERROR_AT_MOST_SEC: Final = 100 * 365 * 86_400.0
"""A stored time that is later than now by more than this is no time of a clock, in seconds."""
DEFECT_PAUSE_SEC: Final = 60.0
"""After how long an incident is checked again whose check failed, in seconds."""
CHECKED_AT_ONCE: Final = 1000
"""The most incidents whose timers are checked in one call."""
NOTICES_AT_ONCE: Final = 1000
"""The most notices in one call; the others follow in the next one, so that beats and outcomes don't wait."""
CHECKED_EVERY_SECOND: Final = 10_000
"""This many incidents are checked every second where needed, twice as many every two seconds."""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The bus and the id of the log entry that an event was read from."""

    bus: str
    entry: bytes


class Router:
    """The incidents, by key, and the pending notices.

    Times are epoch seconds by the wall clock. Between two calls of `shift_times` they never go back.
    """

    def __init__(self, incidents: dict[str, Incident] | None = None) -> None:
        self._incidents: dict[str, Incident] = {} if incidents is None else incidents
        self._pending, self._digest = PendingNotices(NOTICE_FIELD), HealedDigest(DIGEST_FIELD)
        self._incident_store = IncidentStore(self._incidents)
        self._suppression = Suppression(self._incidents, self._pending)
        self._late_ends = LateEnds(END_FIELD, self._incidents, self._pending, self._suppression)
        self._stores = self._incident_store, self._pending, self._digest, self._late_ends
        why = self._suppression
        # the stages that a notice passes on its way to people: the first that stops it counts
        self.holds: Final = (
            HoldStage(StageName.SILENCE, MUTABLE, why.reason_to_mute),
            HoldStage(StageName.FLAPPING, OPENINGS, why.reason_by_flapping),
            HoldStage(StageName.CAUSE, OPENINGS, why.reason_by_cause),
            HoldStage(StageName.RATE, OPENINGS, why.reason_by_rate),
            HoldStage(StageName.HOLD, OPENINGS, why.reason_by_medic),
        )
        self.queue_stages: Final = (
            QueueStage(StageName.SILENCE, self._take_back_muted),
            QueueStage(StageName.ROUTE, self._route),
        )
        self._timers = Timers(self._suppression, self.holds)
        self._grouper = Grouper(self._incidents, self._suppression, self._timers)
        self._due_queue, self._check_all = DueQueue(), True
        self._defects: list[Defect] = []
        # by the id of its ok, an outage that was healed since the medic was last read
        self._healed: dict[str, HealedOutage] = {}
        self._restored_at = NEVER  # until the rate limit is known, which caps what was restored
        self._began_at = float("-inf")  # when this router continued after an earlier one

    # -- settings

    def restore(self, fields: Mapping[str, bytes], now: float = NEVER) -> list[str]:
        """Restore what `changes` returned in an earlier run; return the fields that can't be parsed.

        If stored times are later than `now`, the clock was set back since: all are moved so that the latest
        is now, and what does not flap begins without changes. Call this once, before any other method.
        """
        unusable = [field for each in self._stores for field in each.restore(fields)]
        if now < NEVER:
            self._restored_at = self._began_at = now
            latest_at = now + CLOCK_ERROR_AT_MOST_SEC
            times = (at for each in self._stores for at in each.list_past_times() if at <= latest_at)
            ahead_sec = max(times, default=now) - now
            if ahead_sec > 0:
                self._incident_store.forget_changes()
            for each in self._stores:
                if ahead_sec > 0:
                    each.shift_times(-ahead_sec)
                each.cap_times(now)
        return unusable

    def apply_policy(self, policy: Policy, truth: Truth) -> None:
        self._suppression.apply_policy(policy, truth)
        latest, self._restored_at = self._restored_at + self._suppression.rate_limit_sec, NEVER
        for incident in self._incidents.values() if latest < NEVER else ():
            incident.limited_until = min(incident.limited_until, latest)
        self._check_all = True

    def shift_times(self, by_sec: float) -> None:
        """Go on with a clock that was set by `by_sec`: what waits, waits no longer and no shorter for it.

        Silences, maintenance windows and the times in events stay: they are by the wall clock.
        """
        for each in self._stores:
            each.shift_times(by_sec)
        self._began_at += by_sec
        for ident, outage in self._healed.items():
            self._healed[ident] = replace(outage, handled_at=outage.handled_at + by_sec)
        self._suppression.shift_times(by_sec)
        self._due_queue, self._check_all = DueQueue(), True

    def set_silences(self, silences: Sequence[Silence]) -> None:
        self._suppression.set_silences(silences)
        self._check_all = True

    def set_medic(self, medic: MedicState, now: float) -> bool:
        """Record what was read of the medic; return True if that may release a message that waits for it."""
        before, self._suppression.medic = self._suppression.medic, medic
        for ident, outage in list(self._healed.items()):
            if medic.read_at >= outage.handled_at:  # only now it is known for sure what led to the ok
                del self._healed[ident]
                self._digest.change_words(ident, self._describe_healed(outage))
        if (before.is_leading, before.repairs) == (medic.is_leading, medic.repairs):
            return False
        held = self._list_healing()
        for each in held:
            self._due_queue.put_earlier(each.key, now)
        return bool(held)

    def set_channels(self, names: Sequence[str], closed: Sequence[str] = ()) -> None:
        """Set the open channels, and those that are configured and can't be opened at present."""
        self._suppression.set_channels(names, closed)
        self._check_all = True
        self._late_ends.look_at_once()

    # -- input

    def handle_event(
        self,
        event: Event,
        raw: bytes,
        now: float,
        *,
        position: LogPosition | None = None,
        reported_by_sentinel: bool = False,
    ) -> Decision:
        """Record an event, queue the notice that follows from it, and return the decision.

        `raw` is the event's JSON, `position` where it was read; None for an outage found by a search.
        `reported_by_sentinel` means that a message about it was sent already. After an exception the incident
        is as before; a notice that is lost by it is queued again by the next check.
        """
        key = find_key(event)
        with self._undo_on_failure(key, now):
            incident = self._incidents.get(key) or Incident(key, event.svc)
            if event.type in (Kind.HEARTBEAT_GAP, Kind.REACH_GAP):
                return self._notify_gap(incident, event, raw, now, position)
            if self._is_repeat(incident, event, position):
                return Decision.REPEAT
            if event.type in OPENS and not incident.down:
                reason = self._open_incident(
                    incident, event, raw, now, reported_by_sentinel=reported_by_sentinel
                )
            elif event.type in CLOSES and incident.down:
                reason = self._close_incident(incident, event, raw, now)
            elif key in self._incidents:
                reason = Decision.REPEAT if incident.down else Decision.NEWS
            else:
                return Decision.NEWS
            incident.last_id, incident.last_ts = event.id, event.ts
            incident.record_handled(event.id)
            incident.last_entries = {} if position is None else {position.bus: position.entry.decode()}
            incident.held_until = self._timers.held_until(incident)
            self._due_queue.put_earlier(key, now + CHECK_EVERY_SEC)
            self._incident_store.changed(key)
            return reason

    def record_plain_message(self, message: Message, event: Event, raw: bytes, now: float) -> Message:
        """Record that a plain message is sent about an event that `handle_event` could not handle.

        Return the message in the thread of the outage that it opens or closes. This does as little as it can.
        """
        key = find_key(event)
        incident = self._incidents.setdefault(key, Incident(key, event.svc))
        self._incident_store.changed(key)
        self._due_queue.put_earlier(key, now + CHECK_EVERY_SEC)
        incident.last_id, incident.last_ts = event.id, event.ts
        incident.record_handled(event.id)
        if event.type in CLOSES:
            incident.down, thread = False, incident.thread or message.id
            return replace(message, thread=thread, closes=(thread,))
        if event.type not in OPENS:
            return message
        incident.down, incident.id, incident.miss = True, event.id, raw.decode("utf-8", "replace")
        incident.kind, incident.ts, incident.since = event.type, event.ts, event.ts
        incident.told_at, incident.held, incident.thread = now, None, message.id
        incident.host, incident.host_up, incident.machine = "", None, ""
        incident.channels = self._suppression.open_channels
        return replace(message, thread=message.id, opens=True)

    def forget_message(self, ident: str) -> None:
        """Have what a message said first count as not told, because the outbox does not hold the message.

        An outage is LOST then: the next check reports that as a defect, and queues its notice. It also queues
        that of a service that flaps, which is a defect at once.
        """
        for incident in self._incidents.values():
            if not ident or ident not in (incident.thread, incident.flap_thread):
                continue
            if incident.flapping and incident.flap_thread == ident:
                self._defects.append(Defect(DefectKind.LOST, incident.key))
            if incident.flap_thread == ident:
                incident.flap_thread = ""
            if incident.thread == ident:
                incident.told_at, incident.thread, incident.channels = None, "", ()
            self._incident_store.changed(incident.key)
            self._due_queue.put_earlier(incident.key, float("-inf"))

    def acknowledge(self, incident: str, by: str) -> list[str]:
        """Record that `by` takes care of an outage; return the services concerned.

        `incident` is a service's name, or the id of its miss or of its message.
        """
        down = self.open_incidents()
        found = [each for each in down if incident in (each.key, each.svc, each.id, each.thread)]
        for each in found:
            each.acked_by = by
            self._incident_store.changed(each.key)
        return [each.svc for each in found]

    def record_reroute(self, message: Message, channel: str) -> None:
        """Have the messages that continue a rerouted message's thread go to its new channel, too."""
        for key in message.about:
            incident = self._incidents.get(key)
            if incident is not None and message.thread in (incident.thread, incident.flap_thread):
                incident.channels = tuple(dict.fromkeys((*incident.channels, channel)))
                self._incident_store.changed(key)
            for notice in self._pending.of(key):
                is_continued = notice.thread == message.thread and not notice.is_late_end
                if is_continued and notice.say is not NoticeKind.ESCALATION:
                    channels = tuple(dict.fromkeys((*notice.channels, channel)))
                    self._pending.change_channels(notice.id, channels)

    # -- output

    def take_due(
        self, now: float, undelivered_message_for: Callable[[str], str | None] = lambda _key: None
    ) -> list[DueMessage]:
        """Return the messages that are due now, and record in their incidents that they are sent.

        `undelivered_message_for` returns the id of a message about the incident with this key, if there is
        one that is not delivered yet.
        """
        self._check_timers(now)
        self._late_ends.release_due(now)
        digest_at = self._digest_due_at()
        if digest_at is not None and digest_at <= now:
            for notice in self._digest.take(now):
                self._pending.put(notice)
        due_at = self._due_at()
        if due_at is None or due_at > now:
            return []  # all of them wait for their group, or for a channel
        sendable = notices = self._pending.list_oldest(NOTICES_AT_ONCE)
        for stage in self.queue_stages:
            sendable = stage.sort(sendable, now)
        # what an end for one channel is of began before all else that this channel hears now
        sendable.sort(key=lambda notice: not notice.is_late_end)
        messages = self._grouper.group(sendable, now, undelivered_message_for)
        # only now that there are messages may the notices go
        self._pending.drop_sent(notices, now)
        for notice in notices:
            self._incident_store.changed(notice.key)
            self._due_queue.put_earlier(notice.key, now + CHECK_EVERY_SEC)
        return messages

    def take_defects(self) -> list[Defect]:
        """Return what went wrong in this router since the last call, and forget it."""
        found = [*self._defects, *self._grouper.take_defects()]
        self._defects.clear()
        return found

    def next_due(self) -> float | None:
        look_at = float("-inf") if self._check_all else self._due_queue.next_at()
        due = self._due_at(), self._digest_due_at(), self._late_ends.due_at()
        found = min(look_at, *(NEVER if at is None else at for at in due))
        return None if found == NEVER else found

    def is_pending(self, event_id: str) -> bool:
        return self._pending.holds(event_id)

    def open_incidents(self) -> list[Incident]:
        return [each for each in self._incidents.values() if each.down]

    def list_waiting_for_medic(self) -> list[str] | None:
        """Return the services about which the medic is to be read; None if the truth lets it act nowhere."""
        policy, truth = self._suppression.policy, self._suppression.truth
        if not policy.healing_max_hold_sec or not may_medic_act_anywhere(truth):
            return None
        healed = [each.svc for each in self._healed.values()]
        return list(dict.fromkeys((*healed, *(each.svc for each in self._list_healing()))))

    def _list_healing(self) -> list[Incident]:
        return [each for each in self._incidents.values() if each.down and each.held is Decision.HEALING]

    def changes(self) -> dict[str, bytes | None]:
        """Return the fields that changed since the last call; None for deleted ones."""
        return {name: value for each in self._stores for name, value in each.changes().items()}

    # -- helpers

    def _is_repeat(self, incident: Incident, event: Event, position: LogPosition | None) -> bool:
        """Return True if an event was handled before, or is older than the incident's latest one.

        An event is known by its id. The writer's clock may have been set back meanwhile, so `ts` shows that
        an event is older only if no log has it after the latest one. Two events may have one `ts`: of a
        failure and the success that follows at once.
        """
        if event.id == incident.last_id:
            self._record_copy(incident, incident.last_entries, position)
            return True
        if incident.has_handled(event.id):
            return True
        if event.ts == incident.last_ts:
            has_order = position is not None and position.bus in incident.last_entries
            return has_order and not _follows(position, incident.last_entries)
        if len(incident.handled) < len(incident.changes) and event.ts in incident.changes:
            return True  # a release that kept no ids handled it
        return event.ts < incident.last_ts and not _follows(position, incident.last_entries)

    def _record_copy(self, incident: Incident, entries: dict[str, str], position: LogPosition | None) -> None:
        """Record that another bus's log has an event, too: what follows it there is later."""
        if position is not None and position.bus not in entries:
            entries[position.bus] = position.entry.decode()
            self._incident_store.changed(incident.key)

    def _open_incident(
        self, incident: Incident, event: Event, raw: bytes, now: float, *, reported_by_sentinel: bool
    ) -> Decision:
        """Begin an outage; queue its notice unless there is a reason to hold it back; return the decision."""
        incident.down, incident.id, incident.miss = True, event.id, raw.decode("utf-8", "replace")
        incident.kind, incident.ts = event.type, event.ts
        incident.since = event.outage_start()
        incident.told_at = incident.free_at = incident.held = None
        if not incident.flap_thread:  # else its end goes where its beginning went
            incident.channels = ()
        incident.thread, incident.acked_by, incident.tried, incident.machine = "", "", "", ""
        is_counted = event.type is Kind.HEARTBEAT_MISS and event.host_up is not None
        incident.host, incident.host_up = (event.host or "", event.host_up) if is_counted else ("", None)
        incident.reminded = incident.escalated = 0
        self._incidents[incident.key] = incident
        self._suppression.record_change(incident, event.ts, now)
        if reported_by_sentinel:
            incident.told_at, incident.thread = now, event.id
            incident.channels = self._suppression.route(incident)
            incident.limited_until = now + self._suppression.rate_limit_sec
            return Decision.REPORTED_BY_SENTINEL
        self._suppression.begin_flapping(incident, now)
        self._start_flapping(incident, now)
        incident.held = find_hold(self.holds, NoticeKind.DOWN, incident, now)
        if incident.held is Decision.RATE_LIMIT:
            incident.kept += 1
        if incident.held in (Decision.RATE_LIMIT, Decision.HEALING):
            incident.held_at = self._find_begin_of_hold(event, now)
        if incident.held is not None:
            return incident.held
        dropped = self._drop_notices(incident, NoticeKind.AGAIN)  # the new notice mentions the same outages
        opening = self._timers.opening(incident, event.ts, now)
        self._put_opening(incident, opening.in_place_of(dropped))
        return Decision.TELL

    def _close_incident(self, incident: Incident, event: Event, raw: bytes, now: float) -> Decision:
        """End an outage; queue a notice of that if the outage was sent or pending; return the decision."""
        incident.down, incident.is_gone = False, ends_watch(event)
        self._suppression.record_change(incident, event.ts, now)
        self._suppression.begin_flapping(incident, now)
        self._start_flapping(incident, now)
        opening = self._pending.opening(incident.id)
        self._drop_notices(incident, NoticeKind.DOWN, NoticeKind.REMINDER, NoticeKind.ESCALATION)
        if find_state(incident, self._pending.of(incident.key)) is IncidentState.FLAPS_TOLD:
            return Decision.FLAPPING
        self._late_ends.release_of(incident, now)
        key, svc, text = incident.key, incident.svc, raw.decode("utf-8", "replace")
        end = Notice(event.id, key, svc, NoticeKind.UP, event.ts, now, (text,), (event.id,))
        if opening is not None:
            say = NoticeKind.UP if ends_watch(event) else NoticeKind.BLIP
            notice = end.with_events((*opening.events, text), (*opening.ids, event.id))
            self._pending.put(replace(notice, say=say, ts=opening.ts, at=opening.at))
            return Decision.TELL
        if incident.told_at is None:
            if incident.held is Decision.HEALING and not ends_watch(event):
                healed = end.with_events((incident.miss, text), (incident.id, event.id))
                # its service may be down anew before the medic is read
                outage = HealedOutage(svc, incident.since, event.ts, now)
                words = self._describe_healed(outage)
                self._digest.put(replace(healed, say=NoticeKind.HEALED, words=words))
                self._healed[event.id] = outage
                return Decision.HEALED
            if incident.is_kept:
                incident.kept_sec += event.down_sec or max(0.0, event.ts - incident.last_ts)
            return Decision.NOT_NOTIFIED
        self._pending.put(end.in_thread(incident.thread, incident.channels))
        return Decision.TELL

    def _find_begin_of_hold(self, event: Event, now: float) -> float:
        """Return since when an outage is held back: since its event, if that came while no notifier ran.

        A person waits no longer because the notifier was away. Otherwise the time of an event counts for
        nothing, since the clock of its writer may be behind, and would then end each hold at once.
        """
        return event.ts if event.ts < min(self._began_at, now) else now

    def _describe_healed(self, outage: HealedOutage) -> str:
        return self._suppression.medic.describe_healed(outage, self._suppression.policy.zone)

    def _is_known_gap(self, incident: Incident, event: Event, position: LogPosition | None) -> bool:
        """Return True if a gap was handled before, is older than the latest one, or overlaps it.

        `ts` shows that a gap is older only if no log has it after the latest one, as in `_is_repeat`. Of a
        time without any bus two healers may each publish a gap, under ids of their own.
        """
        if incident.has_handled(event.id):
            if event.ts == incident.gap_ts:
                self._record_copy(incident, incident.gap_entries, position)
            return True
        if event.type is Kind.REACH_GAP and incident.gap_ts:
            since = event.outage_start()
            if since <= incident.gap_ts and (incident.gap_since or incident.gap_ts) <= event.ts:
                incident.record_handled(event.id)
                incident.gap_since = min(incident.gap_since or incident.gap_ts, since)
                incident.gap_ts = max(incident.gap_ts, event.ts)
                self._incident_store.changed(incident.key)
                return True
        return event.ts <= incident.gap_ts and not _follows(position, incident.gap_entries)

    def _notify_gap(
        self, incident: Incident, event: Event, raw: bytes, now: float, position: LogPosition | None
    ) -> Decision:
        """Queue a notice of a gap, such as a restart, unless it is known or muted; return the decision."""
        if self._is_known_gap(incident, event, position):
            return Decision.REPEAT
        incident.gap_since, incident.gap_ts = event.outage_start(), event.ts
        incident.record_handled(event.id)
        incident.gap_entries = {} if position is None else {position.bus: position.entry.decode()}
        self._incidents[incident.key] = incident
        self._incident_store.changed(incident.key)
        muted = find_hold(self.holds, NoticeKind.NOTE, incident, now)
        if muted is not None:
            return muted
        key, svc, events = incident.key, incident.svc, (raw.decode("utf-8", "replace"),)
        self._pending.put(Notice(event.id, key, svc, NoticeKind.NOTE, event.ts, now, events, (event.id,)))
        return Decision.TELL

    def _start_flapping(self, incident: Incident, now: float) -> bool:
        """If nothing says yet that a service flaps, queue the notice of that, in place of its others.

        While it is muted, do nothing: the next check that finds it no longer muted does this. Return True if
        the notice is queued.
        """
        if not incident.flapping:
            return False
        if find_state(incident, self._pending.of(incident.key)) is not IncidentState.FLAPS_UNTOLD:
            return False
        if find_hold(self.holds, NoticeKind.FLAPPING, incident, now) is not None:
            return False
        replaced = NoticeKind.DOWN, NoticeKind.UP, NoticeKind.BLIP, NoticeKind.AGAIN
        dropped = self._drop_notices(incident, *replaced)
        incident.kept, incident.kept_sec = 0, 0.0
        if incident.down:
            incident.held = Decision.FLAPPING
        ends = next((notice for notice in dropped if notice.thread), None)
        self._pending.put(self._timers.flapping(incident, ends, now).in_place_of(dropped))
        return True

    def _drop_notices(self, incident: Incident, *says: NoticeKind) -> list[Notice]:
        about = self._pending.of(incident.key)
        dropped = [notice for notice in about if notice.say in says and not notice.is_late_end]
        for notice in dropped:
            self._pending.drop(notice.id)
        return dropped

    def _check_timers(self, now: float) -> None:
        if self._check_all:
            self._check_all = False
            for key in self._incidents:
                self._due_queue.put_earlier(key, now)
        every_sec = max(1.0, len(self._incidents) / CHECKED_EVERY_SECOND) * CHECK_EVERY_SEC
        due = [self._incidents.get(key) for key in self._due_queue.take(now, CHECKED_AT_ONCE)]
        for incident in filter(None, due):
            before = _suppression_state(incident)
            try:
                with self._undo_on_failure(incident.key, now + DEFECT_PAUSE_SEC):
                    is_changed = self._check_incident(incident, now)
            except Exception as error:  # noqa: BLE001 - a defect with one incident must not stop the others
                self._defects.append(Defect.of(DefectKind.CHECK, incident.key, error))
                continue
            incident.held_until = self._timers.held_until(incident)
            if is_changed or before != _suppression_state(incident):
                self._incident_store.changed(incident.key)
            state = find_state(incident, self._pending.of(incident.key))
            self._due_queue.put(incident.key, self._timers.next_at(incident, state, now, every_sec))
        self._incident_store.tidy(now)
        self._late_ends.drop_old(now)

    def _check_incident(self, incident: Incident, now: float) -> bool:
        """Queue the notices that are due about an incident; return True if there are some.

        A service that is down, and about which nobody would ever hear, is a defect: its notice is queued.
        """
        has_ended = self._suppression.end_flapping(incident, now)
        dropped = self._drop_notices(incident, NoticeKind.FLAPPING) if has_ended else []
        # what it ended is told in the threads that it would have continued
        withdrawn = [self._timers.settled(incident, each.thread, now) for each in dropped if each.thread]
        for notice in withdrawn:
            self._pending.put(notice)
        if self._start_flapping(incident, now):
            return True
        state = find_state(incident, self._pending.of(incident.key))
        if state is IncidentState.LOST:
            self._defects.append(Defect(DefectKind.LOST, incident.key))
        notices = self._timers.find_next_notices(incident, state, now)
        if not incident.kept:  # a mute began since it was queued: nothing is left that it could sum up
            self._drop_notices(incident, NoticeKind.AGAIN)
        if any(each.say in (NoticeKind.DOWN, NoticeKind.BLIP) for each in self._pending.of(incident.key)):
            # that one says how many outages were held back before it
            notices = [each for each in notices if each.say is not NoticeKind.AGAIN]
        for notice in notices:
            if notice.say is NoticeKind.DOWN:
                self._put_opening(incident, notice)
            elif notice.id not in self._pending.notices:
                # an outage that began since it was queued is in the next sum, which is the only one
                is_sum = notice.say is NoticeKind.AGAIN
                replaced = self._drop_notices(incident, NoticeKind.AGAIN) if is_sum else []
                self._pending.put(notice.in_place_of(replaced))
        return bool(withdrawn or notices)

    def _put_opening(self, incident: Incident, notice: Notice) -> None:
        """Queue the notice that an outage began, or that flapping ended and the service is down.

        Two messages would begin two threads, of which the ok ends one.
        """
        about = (each for each in self._pending.of(incident.key) if not each.is_late_end)
        settled = next((each for each in about if each.say is NoticeKind.SETTLED), None)
        if settled is None and incident.flap_thread and not incident.flapping:
            settled = self._timers.settle(incident, notice.at)
        if settled is not None:
            self._pending.put(settled.with_events(notice.events, notice.ids))
        elif notice.id not in self._pending.notices:
            self._pending.put(notice)

    @contextmanager
    def _undo_on_failure(self, key: str, check_at: float) -> Iterator[None]:
        """Make an incident again what it was before the block, if that fails; check it at `check_at` then."""
        before = self._incidents.get(key)
        kept = None if before is None else _copy_incident(before)
        try:
            yield
        except Exception:
            if kept is None:
                self._incidents.pop(key, None)
            else:
                self._incidents[key] = kept
                self._due_queue.put_earlier(key, check_at)
            self._incident_store.changed(key)
            raise

    def _due_at(self) -> float | None:
        if not self._suppression.open_channels:
            return None  # no channel is open: the notices wait
        return self._pending.due_at(self._suppression.policy.group_wait_sec)

    def _route(self, notice: Notice, now: float) -> Notice | None:
        """Return a notice with its channels: all open ones if its route can't be found.

        Hold an end for those of its channels that can't be opened; return None if there are no others.
        """
        if notice.is_late_end and self._late_ends.hold_again(notice, now):
            return None  # its service is down again, flaps or is muted
        if notice.channels and not self._late_ends.hold_for_closed(notice):
            return None
        incident = self._incidents.get(notice.key) or Incident(notice.key, notice.svc)
        try:
            channels = self._suppression.open_of(notice.channels) or self._suppression.route(incident)
        except Exception as error:  # noqa: BLE001 - one bad notice must not take its neighbours with it
            self._defects.append(Defect.of(DefectKind.MESSAGE, notice.key, error))
            channels = self._suppression.open_channels
        return replace(notice, channels=channels)

    def _take_back_muted(self, notice: Notice, now: float) -> Notice | None:
        """Take back a notice that is due in a mute which began since it was queued.

        It may have waited for its group, or for a channel that is open, longer than a person needs to set a
        silence. The next check that finds its incident no longer muted queues it again, if it is still true.
        Only the end of what was told is sent all the same.
        """
        incident = self._incidents.get(notice.key)
        reason = None if incident is None else self._suppression.reason_to_mute(incident, now)
        if incident is None or reason is None or notice.is_late_end:
            return notice
        match notice.say:
            case NoticeKind.DOWN if incident.down and notice.id == incident.id:
                incident.held = reason
            case NoticeKind.AGAIN:
                incident.kept, incident.kept_sec = 0, 0.0
                incident.held = reason if incident.down else None
            case NoticeKind.REMINDER:
                incident.reminded = max(0, incident.reminded - 1)
            case NoticeKind.ESCALATION:
                incident.escalated = max(0, incident.escalated - 1)
            case NoticeKind.SETTLED:
                incident.flap_thread, incident.channels = notice.thread, notice.channels
            case NoticeKind.FLAPPING if notice.thread:
                return notice
            case NoticeKind.BLIP | NoticeKind.NOTE | NoticeKind.FLAPPING:
                pass
            case _:
                return notice
        return None

    def _digest_due_at(self) -> float | None:
        if not self._suppression.open_channels:
            return None
        return self._digest.due_at(self._suppression.policy.digest_sec)


def _follows(position: LogPosition | None, entries: Mapping[str, str]) -> bool:
    """Return True if the log of its bus has one of these entries, and this one comes after it."""
    if position is None or position.bus not in entries:
        return False
    return entry_sort_key(position.entry) > entry_sort_key(entries[position.bus].encode())


def _suppression_state(incident: Incident) -> tuple[object, ...]:
    flap = incident.flapping, incident.flap_thread
    return incident.held, incident.free_at, flap, incident.kept, incident.held_until


def _copy_incident(incident: Incident) -> Incident:
    return replace(
        incident,
        changes=list(incident.changes),
        last_entries=dict(incident.last_entries),
        gap_entries=dict(incident.gap_entries),
    )
