"""What the notifier remembers of one thing that can be down, and what it has still to say: values, as JSON.

Both are kept in Redis, a field each, so that another process can go on where this one was killed.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import orjson
from pydantic import TypeAdapter, ValidationError

from marketswarm.event import Event, Kind


class Reason(StrEnum):
    """Why an event is told, or not."""

    TELL = "tell"
    REPEAT = "repeat"
    NEWS = "news"  # a first ok: nothing was wrong
    NOT_TOLD = "not_told"  # the end of what nobody was told of
    TOLD_BY_OTHERS = "told_by_others"
    NOBODY = "nobody"  # there is no channel
    SILENCED = "silenced"
    MAINTENANCE = "maintenance"
    FLAPPING = "flapping"
    RATE_LIMIT = "rate_limit"
    DEPENDS = "depends"


HELD: Final = frozenset(
    {Reason.SILENCED, Reason.MAINTENANCE, Reason.FLAPPING, Reason.RATE_LIMIT, Reason.DEPENDS}
)
"""Decisions not to tell people of what is down, for now."""


class Say(StrEnum):
    """What a line says."""

    DOWN = "down"
    UP = "up"
    BLIP = "blip"  # down and up again before anything was said
    AGAIN = "again"  # the end of a rate limit
    REMINDER = "reminder"
    ESCALATION = "escalation"
    FLAPPING = "flapping"
    SETTLED = "settled"
    NOTE = "note"


@dataclass(slots=True)
class Incident:
    """One thing that is down, or was lately. Times are epoch seconds.

    `key` is what it is called here: a service's name, a target's (`massive/shop`), `bus:market-redis`,
    `truth:market-redis`, `watch:rss_agg` (a service that the healer may not hear). `id` and
    `miss` are the event that opened it, of `kind`, written at `ts`; away it has been `since`. `held` is why
    that is not told. `thread`, `told_at` and `channels`
    are of the message that told it. `kept` misses were held back by the rate limit; those that are over
    lasted `kept_sec` in all, and one that lasts is held back since `held_at`. `free_at` is when what it
    depends on came back.
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
    gap_ts: float = 0.0
    held: Reason | None = None
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
    changes: list[float] = field(default_factory=list)
    flapping: bool = False
    flap_thread: str = ""

    @property
    def name(self) -> str:
        """What routes, silences and maintenance call it: a service by its name, all else by its key."""
        return self.svc if self.key.startswith(("watch:", "reach:")) else self.key

    @property
    def told(self) -> bool:
        """Whether people were told of what is down now."""
        return self.down and self.told_at is not None

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps(self)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing to say; `events` are its events' JSON, `ids` their ids.

    `ts` is when it happened, `at` when it came here, both epoch seconds. `channels` is empty where the route
    decides. `words` say more than the events do.
    """

    id: str
    key: str
    svc: str
    say: Say
    ts: float
    at: float
    events: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    thread: str = ""
    words: str = ""

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps(self)

    def in_thread(self, thread: str, channels: tuple[str, ...]) -> "Line":
        """The same as part of a conversation, on the channels that have it."""
        return replace(self, thread=thread, channels=channels)

    def with_events(self, events: tuple[str, ...], ids: tuple[str, ...]) -> "Line":
        """The same with the events that it tells of."""
        return replace(self, events=events, ids=ids)


_INCIDENT: Final = TypeAdapter(Incident)
_LINE: Final = TypeAdapter(Line)


def parse_incident(raw: bytes) -> Incident | None:
    """Reads one back; None when the bytes are none."""
    try:
        return _INCIDENT.validate_json(raw)
    except ValidationError:
        return None


def parse_line(raw: bytes) -> Line | None:
    """Reads one back; None when the bytes are none."""
    try:
        return _LINE.validate_json(raw)
    except ValidationError:
        return None


OPENS: Final = frozenset(
    {Kind.HEARTBEAT_MISS, Kind.HEALER_MISS, Kind.BUS_MISS, Kind.TRUTH_DRIFT, Kind.PROBE_MISS, Kind.WATCH_MISS}
)
UNWATCHED: Final = frozenset({Kind.HEARTBEAT_UNWATCHED, Kind.PROBE_UNWATCHED, Kind.WATCH_UNWATCHED})
"""Ends of what is not over: nobody looks any more."""
CLOSES: Final = frozenset(
    {Kind.HEARTBEAT_OK, Kind.HEALER_OK, Kind.BUS_OK, Kind.TRUTH_OK, Kind.PROBE_OK, Kind.WATCH_OK, *UNWATCHED}
)


def key_of(event: Event) -> str:
    """What an event is on; a bus and a service may have the same name."""
    family = event.type.partition("_")[0]
    return f"{family}:{event.svc}" if family in ("bus", "truth", "reach", "watch") else event.svc
