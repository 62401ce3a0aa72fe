"""Takes note of what happens, and gives out what is due.

It remembers each thing that is down (`incident.py`) and what it has still to say (`waiting.py`), and gives
both as fields to keep (`keeping.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from marketswarm.channels import Message
from marketswarm.event import Event, Kind
from marketswarm.operator import Silence
from marketswarm.truth import Truth
from notifier.router.grouping import Due, Speaking
from notifier.router.incident import (
    CLOSES,
    OPENS,
    UNWATCHED,
    Incident,
    Line,
    Reason,
    Say,
    key_of,
    parse_incident,
    parse_line,
)
from notifier.router.pending import Waiting
from notifier.router.policy import Policy
from notifier.router.suppression import Holding
from notifier.router.timers import LOOK_EVERY_SEC, NEVER, Agenda, Timing

INCIDENT: Final = "r:i:"
LINE: Final = "r:l:"
FORGOTTEN_SEC: Final = 86_400.0
TIDY_EVERY_SEC: Final = 3600.0


class Keeping:
    """The incidents and the lines that wait, and which of them changed."""

    def __init__(self, incidents: dict[str, Incident], waiting: Waiting) -> None:
        self._incidents = incidents
        self._waiting = waiting
        self._lines: set[str] = set()  # the fields of lines that are kept
        self._dirty: set[str] = set()  # keys of incidents
        self._tidied_at = float("-inf")

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Takes up what `changes` gave an earlier run; the fields that nobody can read."""
        unusable: list[str] = []
        for name, raw in fields.items():
            if name.startswith(INCIDENT) and (incident := parse_incident(raw)) is not None:
                self._incidents[incident.key] = incident
            elif name.startswith(LINE) and (line := parse_line(raw)) is not None:
                self._waiting.put(line)
                self._lines.add(name)
            elif name.startswith((INCIDENT, LINE)):
                unusable.append(name)
        return unusable

    def changed(self, *keys: str) -> None:
        """These incidents changed."""
        self._dirty.update(keys)

    def line_changed(self, line_id: str) -> None:
        """This line changed; without this, a line is kept as it was when it was put."""
        self._lines.discard(LINE + line_id)

    def changes(self) -> dict[str, bytes | None]:
        """The fields that changed since this was last asked; None for one that is gone."""
        found: dict[str, bytes | None] = {}
        for key in self._dirty:
            incident = self._incidents.get(key)
            found[INCIDENT + key] = incident.encode() if incident is not None else None
        self._dirty.clear()
        lines = {LINE + ident: line for ident, line in self._waiting.lines.items()}
        found |= {name: lines[name].encode() for name in lines.keys() - self._lines}
        found |= dict.fromkeys(self._lines - lines.keys())
        self._lines = set(lines)
        return found

    def tidy(self, now: float) -> None:
        """Forgets what has been well for a day; by then nobody repeats its last event."""
        if now - self._tidied_at < TIDY_EVERY_SEC:
            return
        self._tidied_at = now
        for key, each in list(self._incidents.items()):
            quiet_since = max(each.last_ts, each.gap_ts, each.limited_until)
            if not (each.down or each.flapping) and now - quiet_since > FORGOTTEN_SEC:
                del self._incidents[key]
                self._dirty.add(key)


LOOKED_AT_ONCE: Final = 2000
LINES_AT_ONCE: Final = 2000
"""In one turn; the rest comes with the next one, so that beats and outcomes are not kept waiting."""
AT_ONE_PACE: Final = 10_000
"""So many incidents are looked at every second where that is needed, twice as many every two seconds."""


class Router:
    """Everything the notifier knows of what is down. Times are epoch seconds that do not go back."""

    def __init__(self) -> None:
        self._incidents: dict[str, Incident] = {}
        self._waiting = Waiting()
        self._keeping = Keeping(self._incidents, self._waiting)
        self._holding = Holding(self._incidents, self._waiting)
        self._timing = Timing(self._holding)
        self._speaking = Speaking(self._incidents, self._holding, self._timing)
        self._agenda, self._look_at_all = Agenda(), True

    # -- what it goes by

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Takes up what `changes` gave an earlier run, once, before all else; the fields nobody can read."""
        return self._keeping.restore(fields)

    def follow(self, policy: Policy, truth: Truth) -> None:
        """Goes by these from now on: routes, severities, dependencies, maintenance."""
        self._holding.policy, self._holding.truth = policy, truth
        self._look_at_all = True

    def silence(self, silences: Sequence[Silence]) -> None:
        """Goes by these silences from now on, and by no others."""
        self._holding.silences = tuple(silences)
        self._look_at_all = True

    def channels(self, names: Sequence[str]) -> None:
        """These channels are open, in their order."""
        self._holding.open_channels = tuple(names)
        self._look_at_all = True

    # -- what happens

    def take(self, event: Event, raw: bytes, now: float, *, told_by_others: bool = False) -> Reason:
        """Takes note of an event, and says what is done about it."""
        key = key_of(event)
        incident = self._incidents.get(key) or Incident(key, event.svc)
        if event.type in (Kind.HEARTBEAT_GAP, Kind.REACH_GAP):
            return self._note(incident, event, raw, now)
        if event.ts < incident.last_ts or event.id == incident.last_id:
            return Reason.REPEAT
        if event.type in OPENS and not incident.down:
            reason = self._opens(incident, event, raw, now, told_by_others=told_by_others)
        elif event.type in CLOSES and incident.down:
            reason = self._closes(incident, event, raw, now)
        elif key in self._incidents:
            reason = Reason.REPEAT if incident.down else Reason.NEWS
        else:
            return Reason.NEWS
        incident.last_id, incident.last_ts = event.id, event.ts
        self._agenda.sooner(incident.key, now + LOOK_EVERY_SEC)
        self._keeping.changed(incident.key)
        return reason

    def ack(self, incident: str, by: str) -> list[str]:
        """Somebody takes care of it: a service's name, the id of its miss or of its message. Returns whom."""
        found = [
            each
            for each in self._incidents.values()
            if each.down and incident in (each.key, each.svc, each.id, each.thread)
        ]
        for each in found:
            each.acked_by = by
            self._keeping.changed(each.key)
        return [each.svc for each in found]

    def rerouted(self, message: Message, channel: str) -> None:
        """A message went to another channel than it was for: what follows it goes there, too."""
        for key in message.about:
            incident = self._incidents.get(key)
            if incident is not None and message.thread in (incident.thread, incident.flap_thread):
                incident.channels = tuple(dict.fromkeys((*incident.channels, channel)))
                self._keeping.changed(key)
            for line in self._waiting.of(key):
                if line.thread == message.thread and line.say is not Say.ESCALATION:
                    channels = tuple(dict.fromkeys((*line.channels, channel)))
                    self._waiting.readdress(line.id, channels)
                    self._keeping.line_changed(line.id)

    # -- what is due

    def turn(self, now: float, on_its_way: Callable[[str], str | None] = lambda _key: None) -> list[Due]:
        """The messages that are to go out now.

        `on_its_way` gives by an incident's key the id of a message about it that is not delivered yet.
        """
        self._look(now)
        due_at = self._due_at()
        if due_at is None or due_at > now:
            return []
        lines = self._waiting.take(now, LINES_AT_ONCE)
        for line in lines:
            self._keeping.changed(line.key)
            self._agenda.sooner(line.key, now + LOOK_EVERY_SEC)
        return self._speaking.speak(lines, now, on_its_way)

    def next_due(self) -> float | None:
        """When `turn` should be called next; None while nothing will be due."""
        look_at = float("-inf") if self._look_at_all else self._agenda.next_at()
        found = min(look_at, self._due_at() or NEVER)
        return None if found == NEVER else found

    def holds(self, event_id: str) -> bool:
        """Whether an event waits here to be told."""
        return self._waiting.holds(event_id)

    def incidents(self) -> list[Incident]:
        """What is down, in the order in which it was first heard of."""
        return [each for each in self._incidents.values() if each.down]

    def changes(self) -> dict[str, bytes | None]:
        """The fields to keep that changed since this was last asked; None for one that is gone."""
        return self._keeping.changes()

    # -- inside: events

    def _opens(
        self, incident: Incident, event: Event, raw: bytes, now: float, *, told_by_others: bool
    ) -> Reason:
        incident.down, incident.id, incident.miss = True, event.id, raw.decode("utf-8", "replace")
        incident.kind, incident.ts = event.type, event.ts
        incident.since = event.ts - (event.late_sec or 0.0) if event.since is None else event.since
        if event.type is Kind.WATCH_MISS:
            incident.since = event.ts  # its own is the last beat that was heard before
        incident.told_at = incident.free_at = incident.held = None
        incident.thread, incident.channels, incident.acked_by = "", (), ""
        incident.reminded = incident.escalated = 0
        self._incidents[incident.key] = incident
        self._holding.changed(incident, event.ts)
        if told_by_others:
            incident.told_at, incident.thread = now, event.id
            incident.channels = self._holding.route(incident)
            incident.limited_until = now + self._holding.rate_limit_sec
            return Reason.TOLD_BY_OTHERS
        if self._holding.begins_to_flap(incident, now):
            self._flap(incident, now)
        incident.held = self._holding.held(incident, now)
        if incident.held is Reason.RATE_LIMIT:
            incident.kept, incident.held_at = incident.kept + 1, now
        if incident.held is not None:
            return incident.held
        self._drop(incident, Say.AGAIN)  # what it sums up is said with this one
        self._waiting.put(self._timing.opening(incident, event.ts, now))
        return Reason.TELL

    def _closes(self, incident: Incident, event: Event, raw: bytes, now: float) -> Reason:
        incident.down = False
        self._holding.changed(incident, event.ts)
        if self._holding.begins_to_flap(incident, now):
            self._flap(incident, now)
        opening = self._waiting.opening(incident.id)
        self._drop(incident, Say.DOWN, Say.REMINDER, Say.ESCALATION)
        if self._flaps_openly(incident):
            return Reason.FLAPPING
        key, svc, text = incident.key, incident.svc, raw.decode("utf-8", "replace")
        if opening is not None:
            say = Say.UP if event.type in UNWATCHED else Say.BLIP
            events, ids = (*opening.events, text), (*opening.ids, event.id)
            self._waiting.put(Line(event.id, key, svc, say, opening.ts, now, events, ids))
            return Reason.TELL
        if incident.told_at is None:
            if incident.kept:
                incident.kept_sec += event.down_sec or max(0.0, event.ts - incident.last_ts)
            return Reason.NOT_TOLD
        line = Line(event.id, key, svc, Say.UP, event.ts, now, (text,), (event.id,))
        self._waiting.put(line.in_thread(incident.thread, incident.channels))
        return Reason.TELL

    def _note(self, incident: Incident, event: Event, raw: bytes, now: float) -> Reason:
        if event.ts <= incident.gap_ts:
            return Reason.REPEAT
        incident.gap_ts = event.ts
        self._incidents[incident.key] = incident
        self._keeping.changed(incident.key)
        unwanted = self._holding.unwanted(incident, now)
        if unwanted is not None:
            return unwanted
        line = Line(event.id, incident.key, incident.svc, Say.NOTE, event.ts, now)
        self._waiting.put(line.with_events((raw.decode("utf-8", "replace"),), (event.id,)))
        return Reason.TELL

    def _flap(self, incident: Incident, now: float) -> None:
        """It flaps from now on; what was to be said of it is part of that, if anybody is to hear of it."""
        if self._holding.unwanted(incident, now) is not None:
            return
        unsaid = self._drop(incident, Say.DOWN, Say.UP, Say.BLIP, Say.AGAIN)
        incident.kept, incident.kept_sec = 0, 0.0
        ends = next((line for line in unsaid if line.thread), None)
        self._waiting.put(self._timing.flapping(incident, ends, now))

    def _never_flapped(self, incident: Incident, now: float) -> list[Line]:
        """It settled before anybody was told that it flaps; who knew that it was down hears how it is."""
        unsaid = self._drop(incident, Say.FLAPPING)
        return [self._timing.settled(incident, line.thread, now) for line in unsaid if line.thread]

    def _flaps_openly(self, incident: Incident) -> bool:
        """Whether people know, or are about to, that it flaps, and that single changes are not told."""
        if incident.flap_thread:
            return incident.flapping
        return any(line.say is Say.FLAPPING for line in self._waiting.of(incident.key))

    def _drop(self, incident: Incident, *says: Say) -> list[Line]:
        dropped = [line for line in self._waiting.of(incident.key) if line.say in says]
        for line in dropped:
            self._waiting.drop(line.id)
        return dropped

    def _look(self, now: float) -> None:
        """Sees what time alone has brought."""
        if self._look_at_all:
            self._look_at_all = False
            for key in self._incidents:
                self._agenda.sooner(key, now)
        pace_sec = max(1.0, len(self._incidents) / AT_ONE_PACE) * LOOK_EVERY_SEC
        due = [self._incidents.get(key) for key in self._agenda.take(now, LOOKED_AT_ONCE)]
        for incident in filter(None, due):
            before = (incident.held, incident.free_at, incident.flapping, incident.kept)
            flapping, lines = incident.flapping, self._timing.lines(incident, now)
            if flapping and not incident.flapping:
                lines = [*self._never_flapped(incident, now), *lines]
            for line in lines:
                if line.id not in self._waiting.lines:
                    self._waiting.put(line)
            if lines or before != (incident.held, incident.free_at, incident.flapping, incident.kept):
                self._keeping.changed(incident.key)
            self._agenda.put(incident.key, self._timing.next_at(incident, now, pace_sec))
        self._keeping.tidy(now)

    def _due_at(self) -> float | None:
        if not self._holding.open_channels:
            return None  # nobody to say it to; it waits
        return self._waiting.due_at(self._holding.policy.group_wait_sec)
