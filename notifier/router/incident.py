"""Define an incident and a notice about one: values that are stored as JSON in fields of the state.

Another process restores them after this one was killed, so the names of their fields are a stored
format.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Final, TypeVar

import orjson
from pydantic import AfterValidator, TypeAdapter, ValidationError

from marketswarm.bus.stream import is_entry_id
from marketswarm.event import UNWATCHED_REASON, Event, Kind, parse_event
from marketswarm.truth import HEALER

T = TypeVar("T")

OPENS: Final = frozenset(kind for kind in Kind if kind.is_bad)
"""The kinds of events that open an incident."""
UNWATCHED: Final = frozenset(kind for kind in Kind if kind.endswith("_unwatched"))
"""Events that close an incident because the service is no longer monitored."""
CLOSES: Final = UNWATCHED.union(kind for kind in Kind if kind.is_bad is False)
"""The kinds of events that close an incident."""
LATE_END: Final = "end."
"""Prefix of the id of a notice that was held for a channel; the channel and the notice's own id follow."""
BUS_KEY: Final = "bus:"
"""What the key of an incident about a bus begins with."""
HANDLED_AT_MOST: Final = 40
"""Of how many events an incident keeps the ids: of more than those that count as changes when it flaps."""


class Decision(StrEnum):
    """Why an event is or isn't sent: the label `decision` of `marketswarm_notifier_events_total`."""

    TELL = "tell"  # a notice is queued
    REPEAT = "repeat"  # the event changes nothing that is known
    NEWS = "news"  # an ok without an outage before it
    NOT_NOTIFIED = "not_told"  # the end of an outage about which nothing was sent
    REPORTED_BY_SENTINEL = "told_by_others"  # a message about it was sent already
    NO_CHANNEL = "nobody"  # no channel is open
    SILENCED = "silenced"  # an operator's silence is active
    MAINTENANCE = "maintenance"  # a maintenance window is open
    FLAPPING = "flapping"  # single changes of a flapping service are not sent
    RATE_LIMIT = "rate_limit"  # a message about this service was sent a short time ago
    DEPENDS = "depends"  # something that the service depends on is down
    HEALING = "healing"  # the medic works on the outage
    HEALED = "healed"  # the end of an outage that the medic worked on: a line in the digest
    SET_ASIDE = "set_aside"  # it could not be handled: a plain message is sent about it


MUTES: Final = frozenset({Decision.NO_CHANNEL, Decision.SILENCED, Decision.MAINTENANCE})
"""The reasons for which nothing is sent about an incident, whatever happens to it."""
HELD: Final = frozenset(
    {
        *(Decision.SILENCED, Decision.MAINTENANCE, Decision.FLAPPING),
        *(Decision.RATE_LIMIT, Decision.DEPENDS, Decision.HEALING),
    }
)
"""The reasons that hold back the message about an outage for now."""


class NoticeKind(StrEnum):
    """The kind of a notice, by what it says."""

    DOWN = "down"  # an outage began
    UP = "up"  # an outage ended, or is no longer monitored
    BLIP = "blip"  # an outage ended before a message about it was sent
    AGAIN = "again"  # the outages that a rate limit held back
    REMINDER = "reminder"  # an outage still lasts
    ESCALATION = "escalation"  # an outage lasts, and is not acknowledged
    FLAPPING = "flapping"  # flapping began
    SETTLED = "settled"  # flapping ended
    NOTE = "note"  # a gap, such as a restart
    HEALED = "healed"  # an outage ended while its message waited for the medic


def make_digest(event_id: str) -> str:
    """Return sixteen hexadecimal digits in place of an event's id, which may be long: it is foreign."""
    return blake2b(event_id.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _require_entry_id(text: str) -> str:
    if not is_entry_id(text.encode()):
        raise ValueError("must be an entry's id, such as 1763000000000-0")
    return text


EntryId = Annotated[str, AfterValidator(_require_entry_id)]
"""The id of a stream's entry, such as `1763000000000-0`."""


@dataclass(slots=True)
class Incident:
    """One service, target or bus that is down, or was down lately. Times are epoch seconds.

    `key` identifies it: a service's name, a target's (`massive/shop`), `bus:market-redis`,
    `truth:market-redis`, `watch:rss_agg` (a service whose channel the healer may not read). `id` and `miss`
    are the id and the JSON of the event that opened it, of `kind`, written at `ts`; it has been down
    `since`. `last_id` and `last_ts` are of its latest event, `last_entries` the ids, by bus, of the log
    entries that hold it, `handled` the digests of the ids of its last HANDLED_AT_MOST events, gaps included.
    `held` is the reason why no message about the outage is sent. `free_at` is when the service that it
    depends on came back.

    Its latest gap lasted from `gap_since` to `gap_ts`, `gap_entries` are the log entries that hold it. The
    times of reach gaps that overlap are one.

    `host` is the machine that the service fell silent on, and `host_up` how many others were up there, as its
    miss says; both are empty if it does not say so.

    `told_at`, `thread` and `channels` are of the message that was sent about it; `reminded` and `escalated`
    count the reminders and escalation steps since; `acked_by` is who acknowledged it.

    `limited_until` is the end of the rate limit, which held back `kept` misses. Those that are over lasted
    `kept_sec` in all, and one that lasts is held back since `held_at`. At `held_until` the misses held back
    are sent (`marketswarm status` shows it). So is the message about an outage that the medic works on, held
    back since `held_at`, until `held_until` at most; `tried` says what the medic did in vain. `changes` are
    the times of its latest changes; `flap_thread` is the thread of the message that it is `flapping`.
    `severity` is that of the message that began its thread, `machine` the host if that message says that it
    is gone. `is_gone` says that its last outage ended because it is no longer monitored.
    """

    key: str
    svc: str
    down: bool = False
    id: str = ""
    miss: str = ""
    kind: Kind = Kind.HEARTBEAT_MISS
    ts: float = 0.0
    since: float = 0.0
    last_id: str = ""
    last_ts: float = 0.0
    last_entries: dict[str, EntryId] = field(default_factory=dict)
    handled: tuple[str, ...] = ()
    gap_ts: float = 0.0
    gap_since: float = 0.0
    gap_entries: dict[str, EntryId] = field(default_factory=dict)
    held: Decision | None = None
    free_at: float | None = None
    told_at: float | None = None
    thread: str = ""
    channels: tuple[str, ...] = ()
    reminded: int = 0
    escalated: int = 0
    acked_by: str = ""
    limited_until: float = 0.0
    kept: int = 0
    kept_sec: float = 0.0
    held_at: float | None = None
    held_until: float | None = None
    tried: str = ""
    changes: list[float] = field(default_factory=list)
    flapping: bool = False
    flap_thread: str = ""
    severity: str = ""
    host: str = ""
    host_up: int | None = None
    machine: str = ""
    is_gone: bool = False

    @property
    def name(self) -> str:
        """The name in messages about others: a service's own name, otherwise the key."""
        return self.svc if self.key.startswith(("watch:", "reach:")) else self.key

    @property
    def names(self) -> tuple[str, ...]:
        """The names in routes, silences and maintenance: the key, and of a bus and the like its own name."""
        return (self.key,) if self.key == self.svc else (self.key, self.svc)

    @property
    def is_notified(self) -> bool:
        return self.down and self.told_at is not None

    @property
    def is_limited(self) -> bool:
        """Whether it is down, and the rate limit holds back the message about that."""
        return self.down and self.held is Decision.RATE_LIMIT

    @property
    def is_kept(self) -> bool:
        """Whether the latest outage is one of the `kept` ones, and not held back for another reason."""
        return self.kept > 0 and self.held in (None, Decision.RATE_LIMIT)

    def has_handled(self, event_id: str) -> bool:
        """Return True if this event is among the last HANDLED_AT_MOST ones."""
        return make_digest(event_id) in self.handled

    def record_handled(self, event_id: str) -> None:
        self.handled = (*self.handled, make_digest(event_id))[-HANDLED_AT_MOST:]

    def cap_times(self, now: float) -> None:
        """Make times at which something began `now`, if they are later."""
        self.told_at, self.held_at, self.free_at = (
            None if at is None else min(at, now) for at in (self.told_at, self.held_at, self.free_at)
        )
        self.changes = [min(at, now) for at in self.changes]

    def list_past_times(self) -> list[float]:
        """Return the times at which something began, by the clock of the notifier that stored them."""
        begun = self.told_at, self.held_at, self.free_at
        return [*self.changes, *(at for at in begun if at is not None)]

    def shift_times(self, by_sec: float) -> bool:
        """Move the times of waits and of the latest changes by `by_sec`; return False if none is set."""
        before = self.told_at, self.held_at, self.held_until, self.free_at
        self.told_at, self.held_at, self.held_until, self.free_at = (
            None if at is None else at + by_sec for at in before
        )
        self.limited_until += by_sec if self.limited_until else 0.0
        self.changes = [at + by_sec for at in self.changes]
        return before != (None,) * len(before) or bool(self.limited_until or self.changes)

    def describe_state(self) -> str:
        if self.down:
            return "it is down"
        return "it is no longer watched" if self.is_gone else "it is up"

    def encode(self) -> bytes:
        return orjson.dumps(self)


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice about an incident, to be grouped with others into a message.

    `say` is its kind. `events` and `ids` are the JSON and the ids of its events. `ts` is when it happened,
    `at` when it was queued, or the first notice whose place it took, both in epoch seconds. `channels` is
    empty where the route decides; `thread` is empty unless it continues one. `words` are appended to what the
    events say. `order` rises with each notice that is queued: several are queued `at` one time, and the
    stored fields have no order.
    """

    id: str
    key: str
    svc: str
    say: NoticeKind
    ts: float
    at: float
    events: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    thread: str = ""
    words: str = ""
    order: int = 0

    def encode(self) -> bytes:
        return orjson.dumps(self)

    def in_thread(self, thread: str, channels: tuple[str, ...]) -> "Notice":
        """Return a copy that continues a thread over these channels."""
        return replace(self, thread=thread, channels=channels)

    def with_events(self, events: tuple[str, ...], ids: tuple[str, ...]) -> "Notice":
        return replace(self, events=events, ids=ids)

    def in_place_of(self, dropped: Iterable["Notice"]) -> "Notice":
        """Return a copy that is due no later than these notices, which were pending and are dropped for it.

        It tells what they would have told. Each further event would otherwise delay that by a group wait.
        """
        return replace(self, at=min([self.at, *(each.at for each in dropped)]))

    @property
    def is_late_end(self) -> bool:
        """Whether this is the end for one channel that could not be opened when it was sent to others."""
        return self.id.startswith(LATE_END)

    @property
    def may_be_sent_by_sentinel(self) -> bool:
        """Whether the sentinel sends its events, about the healer or a bus, if they wait here for long."""
        return self.key == HEALER or self.key.startswith(BUS_KEY)


_INCIDENT: Final = TypeAdapter(Incident)
_NOTICE: Final = TypeAdapter(Notice)


@lru_cache(4096)
def parse_known_event(raw: bytes) -> Event | None:
    """Return None if the JSON can't be parsed. Each step of making a message asks for the event."""
    event = parse_event(raw)
    return event if isinstance(event, Event) else None


def parse_incident(raw: bytes) -> Incident | None:
    return _parse(_INCIDENT, raw)


def parse_notice(raw: bytes) -> Notice | None:
    return _parse(_NOTICE, raw)


def _parse(model: TypeAdapter[T], raw: bytes) -> T | None:
    try:
        return model.validate_json(raw)
    except ValidationError:
        return None


def ends_watch(event: Event) -> bool:
    """Return True if an outage ends only because its service is no longer monitored."""
    return event.type in UNWATCHED or event.reason == UNWATCHED_REASON


def find_key(event: Event) -> str:
    """A bus and a service of the same name have different keys."""
    family = event.type.partition("_")[0]
    return f"{family}:{event.svc}" if family in ("bus", "truth", "reach", "watch") else event.svc
