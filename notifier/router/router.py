"""Handle events and return the messages that are due.

`Router` keeps an incident for each service that is down (`incident.py`) and the notices that are pending
(`pending.py`), and returns both as fields of the stored state.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.bus.stream import entry_sort_key
from marketswarm.channels import Message
from marketswarm.due_queue import NEVER, DueQueue
from marketswarm.event import UNWATCHED_REASON, Event, Kind
from marketswarm.operator.silences import Silence
from marketswarm.truth import Truth
from notifier.router.grouping import DueMessage, Grouper
from notifier.router.healing import MedicState, may_medic_act_anywhere
from notifier.router.incident import (
    CLOSES,
    OPENS,
    UNWATCHED,
    Decision,
    Incident,
    Notice,
    NoticeKind,
    find_key,
    parse_incident,
)
from notifier.router.pending import HealedDigest, PendingNotices
from notifier.router.policy import Policy
from notifier.router.suppression import Suppression
from notifier.router.timers import CHECK_EVERY_SEC, Timers

INCIDENT_FIELD: Final = "r:i:"
"""Prefix of the state's fields that hold an incident; its key follows."""
NOTICE_FIELD: Final = "r:l:"
"""Prefix of the state's fields that hold a pending notice; its id follows."""
DIGEST_FIELD: Final = "r:d:"
"""Prefix of the state's fields that hold a notice for the digest; its id follows."""
FORGOTTEN_SEC: Final = 86_400.0
"""How long an incident is kept after its end, in seconds."""
TIDY_EVERY_SEC: Final = 3600.0
"""How often old incidents are removed, in seconds."""
CHECKED_AT_ONCE: Final = 1000
"""The most incidents whose timers are checked in one call."""
NOTICES_AT_ONCE: Final = 1000
"""The most notices in one call; the others follow in the next one, so that beats and outcomes don't wait."""
CHECKED_EVERY_SECOND: Final = 10_000
"""This many incidents are checked every second where needed, twice as many every two seconds."""


class IncidentStore:
    """Converts incidents to fields of the state, and tracks changes. Pure."""

    def __init__(self, incidents: dict[str, Incident]) -> None:
        self._incidents = incidents
        self._dirty: set[str] = set()  # keys of incidents that changed
        self._tidied_at = float("-inf")

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Restore what `changes` returned in an earlier run; return the fields that can't be parsed."""
        found = {name: parse_incident(raw) for name, raw in fields.items() if name.startswith(INCIDENT_FIELD)}
        self._incidents.update((each.key, each) for each in found.values() if each is not None)
        return [name for name, incident in found.items() if incident is None]

    def changed(self, *keys: str) -> None:
        self._dirty.update(keys)

    def changes(self) -> dict[str, bytes | None]:
        """Return the fields that changed since the last call; None for deleted ones."""
        found: dict[str, bytes | None] = {}
        for key in self._dirty:
            incident = self._incidents.get(key)
            found[INCIDENT_FIELD + key] = incident.encode() if incident is not None else None
        self._dirty.clear()
        return found

    def tidy(self, now: float) -> None:
        """Once an hour remove incidents that have been over for a day; no event is repeated after that."""
        if now - self._tidied_at < TIDY_EVERY_SEC:
            return
        self._tidied_at = now
        for key, each in list(self._incidents.items()):
            quiet_since = max(each.last_ts, each.gap_ts, each.limited_until)
            if not (each.down or each.flapping) and now - quiet_since > FORGOTTEN_SEC:
                del self._incidents[key]
                self._dirty.add(key)


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The bus and the id of the log entry that an event was read from."""

    bus: str
    entry: bytes

    def follows(self, incident: Incident) -> bool:
        """Return True if this bus's log has the incident's latest event, and this entry comes after it."""
        last = incident.last_entries.get(self.bus)
        return last is not None and entry_sort_key(self.entry) > entry_sort_key(last.encode())


class Router:
    """The incidents, by key, and the pending notices. Times are epoch seconds that never go back."""

    def __init__(self, incidents: dict[str, Incident] | None = None) -> None:
        self._incidents: dict[str, Incident] = {} if incidents is None else incidents
        self._pending, self._digest = PendingNotices(NOTICE_FIELD), HealedDigest(DIGEST_FIELD)
        self._incident_store = IncidentStore(self._incidents)
        self._suppression = Suppression(self._incidents, self._pending)
        self._timers = Timers(self._suppression)
        self._grouper = Grouper(self._incidents, self._suppression, self._timers)
        self._due_queue, self._check_all = DueQueue(), True
        # by service, the ok of an outage that was healed since the medic was last read, and when that came
        self._healed: dict[str, tuple[Event, float]] = {}

    # -- settings

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Restore what `changes` returned in an earlier run; return the fields that can't be parsed.

        Call this once, before any other method.
        """
        kept = self._incident_store, self._pending, self._digest
        return [field for each in kept for field in each.restore(fields)]

    def apply_policy(self, policy: Policy, truth: Truth) -> None:
        self._suppression.apply_policy(policy, truth)
        self._check_all = True

    def set_silences(self, silences: Sequence[Silence]) -> None:
        self._suppression.silences = tuple(silences)
        self._check_all = True

    def set_medic(self, medic: MedicState, now: float) -> bool:
        """Record what was read of the medic; return True if that may release a message that waits for it."""
        before, self._suppression.medic = self._suppression.medic, medic
        for svc, (event, handled_at) in list(self._healed.items()):
            if medic.read_at >= handled_at:  # only now it is known for sure what led to the ok
                del self._healed[svc]
                incident = self._incidents.get(svc)  # tidied away, if the medic was paused for a day
                if incident is not None:
                    self._digest.change_words(event.id, self._describe_healed(incident, event))
        if (before.is_leading, before.repairs) == (medic.is_leading, medic.repairs):
            return False
        held = self._list_healing()
        for each in held:
            self._due_queue.put_earlier(each.key, now)
        return bool(held)

    def set_channels(self, names: Sequence[str]) -> None:
        self._suppression.set_channels(names)
        self._check_all = True

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
        `reported_by_sentinel` means that a message about it was sent already.
        """
        key = find_key(event)
        incident = self._incidents.get(key) or Incident(key, event.svc)
        if event.type in (Kind.HEARTBEAT_GAP, Kind.REACH_GAP):
            return self._notify_gap(incident, event, raw, now)
        if self._is_repeat(incident, event, position):
            return Decision.REPEAT
        if event.type in OPENS and not incident.down:
            reason = self._open_incident(incident, event, raw, now, reported_by_sentinel=reported_by_sentinel)
        elif event.type in CLOSES and incident.down:
            reason = self._close_incident(incident, event, raw, now)
        elif key in self._incidents:
            reason = Decision.REPEAT if incident.down else Decision.NEWS
        else:
            return Decision.NEWS
        incident.last_id, incident.last_ts = event.id, event.ts
        incident.last_entries = {} if position is None else {position.bus: position.entry.decode()}
        incident.held_until = self._timers.held_until(incident)
        self._due_queue.put_earlier(incident.key, now + CHECK_EVERY_SEC)
        self._incident_store.changed(incident.key)
        return reason

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
                if notice.thread == message.thread and notice.say is not NoticeKind.ESCALATION:
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
        digest_at = self._digest_due_at()
        if digest_at is not None and digest_at <= now:
            for notice in self._digest.take(now):
                self._pending.put(notice)
        due_at = self._due_at()
        if due_at is None or due_at > now:
            return []
        notices = self._pending.take(now, NOTICES_AT_ONCE)
        for notice in notices:
            self._incident_store.changed(notice.key)
            self._due_queue.put_earlier(notice.key, now + CHECK_EVERY_SEC)
        return self._grouper.group(notices, now, undelivered_message_for)

    def next_due(self) -> float | None:
        look_at = float("-inf") if self._check_all else self._due_queue.next_at()
        found = min(look_at, self._due_at() or NEVER, self._digest_due_at() or NEVER)
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
        return [*self._healed, *(each.svc for each in self._list_healing())]

    def _list_healing(self) -> list[Incident]:
        return [each for each in self._incidents.values() if each.down and each.held is Decision.HEALING]

    def changes(self) -> dict[str, bytes | None]:
        """Return the fields that changed since the last call; None for deleted ones."""
        return self._incident_store.changes() | self._pending.changes() | self._digest.changes()

    # -- helpers

    def _is_repeat(self, incident: Incident, event: Event, position: LogPosition | None) -> bool:
        """Return True if an event was handled before, or is older than the incident's latest one.

        The writer's clock may have been set back meanwhile, so `ts` shows that an event is older only if no
        log has it after the latest one. An event with the `ts` of an earlier change was handled in any case;
        a bus that lost its last writes gets them again, after all others.
        """
        if event.id == incident.last_id:
            if position is not None and position.bus not in incident.last_entries:
                incident.last_entries[position.bus] = position.entry.decode()
                self._incident_store.changed(incident.key)
            return True
        if event.ts == incident.last_ts:
            return False
        if event.ts in incident.changes:
            return True
        return event.ts < incident.last_ts and (position is None or not position.follows(incident))

    def _open_incident(
        self, incident: Incident, event: Event, raw: bytes, now: float, *, reported_by_sentinel: bool
    ) -> Decision:
        """Begin an outage; queue its notice unless there is a reason to hold it back; return the decision."""
        incident.down, incident.id, incident.miss = True, event.id, raw.decode("utf-8", "replace")
        incident.kind, incident.ts = event.type, event.ts
        incident.since = event.outage_start()
        incident.told_at = incident.free_at = incident.held = None
        incident.thread, incident.channels, incident.acked_by, incident.tried = "", (), "", ""
        incident.reminded = incident.escalated = 0
        self._incidents[incident.key] = incident
        self._suppression.record_change(incident, event.ts)
        if reported_by_sentinel:
            incident.told_at, incident.thread = now, event.id
            incident.channels = self._suppression.route(incident)
            incident.limited_until = now + self._suppression.rate_limit_sec
            return Decision.REPORTED_BY_SENTINEL
        if self._suppression.starts_flapping(incident, now):
            self._start_flapping(incident, now)
        incident.held = self._suppression.reason_to_hold(incident, now)
        if incident.held is Decision.RATE_LIMIT:
            incident.kept, incident.held_at = incident.kept + 1, now
        if incident.held is Decision.HEALING:
            incident.held_at = now
        if incident.held is not None:
            return incident.held
        self._drop_notices(incident, NoticeKind.AGAIN)  # the new notice mentions the same outages
        self._pending.put(self._timers.opening(incident, event.ts, now))
        return Decision.TELL

    def _close_incident(self, incident: Incident, event: Event, raw: bytes, now: float) -> Decision:
        """End an outage; queue a notice of that if the outage was sent or pending; return the decision."""
        incident.down = False
        self._suppression.record_change(incident, event.ts)
        if self._suppression.starts_flapping(incident, now):
            self._start_flapping(incident, now)
        opening = self._pending.opening(incident.id)
        self._drop_notices(incident, NoticeKind.DOWN, NoticeKind.REMINDER, NoticeKind.ESCALATION)
        if self._is_flapping_known(incident):
            return Decision.FLAPPING
        key, svc, text = incident.key, incident.svc, raw.decode("utf-8", "replace")
        if opening is not None:
            say = NoticeKind.UP if _ends_watch(event) else NoticeKind.BLIP
            events, ids = (*opening.events, text), (*opening.ids, event.id)
            self._pending.put(Notice(event.id, key, svc, say, opening.ts, now, events, ids))
            return Decision.TELL
        if incident.told_at is None:
            if incident.held is Decision.HEALING and not _ends_watch(event):
                self._digest.put(self._make_healed(incident, event, text, now))
                self._healed[incident.key] = event, now
                return Decision.HEALED
            if incident.kept:
                incident.kept_sec += event.down_sec or max(0.0, event.ts - incident.last_ts)
            return Decision.NOT_NOTIFIED
        notice = Notice(event.id, key, svc, NoticeKind.UP, event.ts, now, (text,), (event.id,))
        self._pending.put(notice.in_thread(incident.thread, incident.channels))
        return Decision.TELL

    def _make_healed(self, incident: Incident, event: Event, text: str, now: float) -> Notice:
        """Return the line of the digest about an outage that ended while its message waited for the medic."""
        words = self._describe_healed(incident, event)
        events, ids = (incident.miss, text), (incident.id, event.id)
        key, svc = incident.key, incident.svc
        return Notice(event.id, key, svc, NoticeKind.HEALED, event.ts, now, events, ids, words=words)

    def _describe_healed(self, incident: Incident, event: Event) -> str:
        return self._suppression.medic.describe_healed(incident.svc, incident.since, event.ts)

    def _notify_gap(self, incident: Incident, event: Event, raw: bytes, now: float) -> Decision:
        """Queue a notice of a gap, such as a restart, unless it is known or muted; return the decision."""
        if event.ts <= incident.gap_ts:
            return Decision.REPEAT
        incident.gap_ts = event.ts
        self._incidents[incident.key] = incident
        self._incident_store.changed(incident.key)
        muted = self._suppression.reason_to_mute(incident, now)
        if muted is not None:
            return muted
        notice = Notice(event.id, incident.key, incident.svc, NoticeKind.NOTE, event.ts, now)
        self._pending.put(notice.with_events((raw.decode("utf-8", "replace"),), (event.id,)))
        return Decision.TELL

    def _start_flapping(self, incident: Incident, now: float) -> None:
        """Queue the notice that a service flaps, in place of its others, unless it is muted."""
        if self._suppression.reason_to_mute(incident, now) is not None:
            return
        replaced = NoticeKind.DOWN, NoticeKind.UP, NoticeKind.BLIP, NoticeKind.AGAIN
        dropped = self._drop_notices(incident, *replaced)
        incident.kept, incident.kept_sec = 0, 0.0
        ends = next((notice for notice in dropped if notice.thread), None)
        self._pending.put(self._timers.flapping(incident, ends, now))

    def _withdraw_flapping(self, incident: Incident, now: float) -> list[Notice]:
        """Drop the notice that a service flaps; return notices that it ended for the threads it continues."""
        dropped = self._drop_notices(incident, NoticeKind.FLAPPING)
        return [self._timers.settled(incident, notice.thread, now) for notice in dropped if notice.thread]

    def _is_flapping_known(self, incident: Incident) -> bool:
        """Return True if a message that a service flaps was sent or is pending."""
        if incident.flap_thread:
            return incident.flapping
        return any(notice.say is NoticeKind.FLAPPING for notice in self._pending.of(incident.key))

    def _drop_notices(self, incident: Incident, *says: NoticeKind) -> list[Notice]:
        dropped = [notice for notice in self._pending.of(incident.key) if notice.say in says]
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
            flapping, notices = incident.flapping, self._timers.due_notices(incident, now)
            if flapping and not incident.flapping:
                notices = [*self._withdraw_flapping(incident, now), *notices]
            for notice in notices:
                if notice.id not in self._pending.notices:
                    self._pending.put(notice)
            incident.held_until = self._timers.held_until(incident)
            if notices or before != _suppression_state(incident):
                self._incident_store.changed(incident.key)
            self._due_queue.put(incident.key, self._timers.next_at(incident, now, every_sec))
        self._incident_store.tidy(now)

    def _due_at(self) -> float | None:
        if not self._suppression.open_channels:
            return None  # no channel is open: the notices wait
        return self._pending.due_at(self._suppression.policy.group_wait_sec)

    def _digest_due_at(self) -> float | None:
        if not self._suppression.open_channels:
            return None
        return self._digest.due_at(self._suppression.policy.digest_sec)


def _ends_watch(event: Event) -> bool:
    """Return True if an outage ends only because its service is no longer monitored."""
    return event.type in UNWATCHED or event.reason == UNWATCHED_REASON


def _suppression_state(incident: Incident) -> tuple[object, ...]:
    return incident.held, incident.free_at, incident.flapping, incident.kept, incident.held_until
