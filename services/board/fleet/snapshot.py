"""Define what the board knows of a fleet at one moment, its JSON, and the difference of two moments. Pure.

No value depends on the moment at which it is looked at; there is `last_beat_at` in place of an age, and a
span has its start and end in place of a length. So two snapshots differ only where something happened, and
a browser reckons ages with its own clock and the snapshot's `at`.

All texts were written by others and are safe to show as text: one line each, control characters escaped.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final, Literal

from marketswarm.status.channel_records import ChannelStatus
from marketswarm.status.notifications import PendingDelivery
from marketswarm.status.service_rows import PAUSED, URGENCY, ServiceState, find_word

SpanState = Literal["up", "down", "unknown"]
"""What a stretch of time was; `unknown` if the healer did not listen."""
Window = Literal["24h", "7d", "30d", "1y"]
WINDOWS: Final[tuple[Window, ...]] = ("24h", "7d", "30d", "1y")


@dataclass(frozen=True, slots=True)
class BarSpan:
    """One stretch of time in one state; `ends_at` is None while it lasts. Times are epoch seconds."""

    state: SpanState
    starts_at: float
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class Uptime:
    """The share of a window, 0 to 1, in which a service was up; None if the whole window is unknown.

    The `unknown_sec` in which no healer listened are left out. `begins_at` is when the history of the service
    begins (epoch seconds) if that is within the window.
    """

    share: float | None = None
    unknown_sec: float = 0.0
    begins_at: float | None = None


@dataclass(frozen=True, slots=True)
class LastRunView:
    """The last run of a command: `text` is its outcome in words, `ended_at` in epoch seconds."""

    ok: bool
    text: str
    ended_at: float | None = None
    took_sec: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class ServiceSnapshot:
    """All that the board shows of one service in the list of all; None is unknown. Times are epoch seconds.

    `last_beat_at` is when its last beat arrived. `status` and `detail` are what the service says of itself;
    while it is down because a failure was reported, `detail` is what that report said.
    `instances` is how many processes run, `replicas` how many the truth asks for. `since` is the last beat
    before the outage that lasts. `outage` has the words that say since when it is down (`failed since`), and
    `outage_at` the moment that they end with, if they need one; `failure` is what was reported about a
    failure, introduced by words of ours. Of this outage, `acked_by` is who acknowledged it, `held` why no
    message about it is sent, in words `hold`, and `held_until` until when. `cause` is a service that is down
    and that this one needs. Of a job, `schedule` and `time_zone` say when it runs, `next_due_at` when its
    next run is overdue, `running_since` since when a run has not ended, `early_sec` how early its runs come,
    if that is a habit. `hosts` are the machines that it runs on, or was last heard from. `paused` says that
    the truth has the healer not monitor it. `recent` are the spans of the last hour, oldest first, without
    holes; `uptime` is by window.
    """

    svc: str
    state: ServiceState
    bus: str
    timeout_sec: float
    last_beat_at: float | None = None
    instances: int | None = None
    replicas: int | None = None
    boot: str | None = None
    rev: int | None = None
    restarts: int | None = None
    status: str | None = None
    detail: str | None = None
    since: float | None = None
    outage: str | None = None
    outage_at: float | None = None
    failure: str | None = None
    acked_by: str | None = None
    held: str | None = None
    held_until: float | None = None
    hold: str | None = None
    cause: str | None = None
    last_run: LastRunView | None = None
    schedule: str | None = None
    time_zone: str | None = None
    next_due_at: float | None = None
    running_since: float | None = None
    early_sec: float | None = None
    hosts: tuple[str, ...] = ()
    paused: bool = False
    tags: tuple[str, ...] = ()
    description: str = ""
    severity: str = "warning"
    depends_on: tuple[str, ...] = ()
    recent: tuple[BarSpan, ...] = ()
    uptime: Mapping[str, Uptime] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """The word for its state: `paused` in place of what nobody evaluates."""
        return find_word(self.state, is_paused=self.paused)

    @property
    def mark(self) -> ServiceState:
        """The state by which its mark is drawn: to be paused is no trouble."""
        return ServiceState.UNKNOWN if self.word == PAUSED else self.state


@dataclass(frozen=True, slots=True)
class BusSnapshot:
    """A bus, and why it is `away` (it does not answer the board) or `unheard` (by the healer)."""

    name: str
    state: Literal["up", "away", "unheard"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HealerView:
    """A healer, named by its boot; one that does not lead stands by. `epoch` is the leader's.

    `lapsed_at` is when the leader's lease ran out, in epoch seconds; None while it holds.
    """

    boot: str
    is_leader: bool
    epoch: int | None = None
    lapsed_at: float | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An outage that lasts: its service, and the services that are down because they need it.

    `since` is the last beat, in epoch seconds; None if there never was one. `outage`, `outage_at` and
    `failure` are those of the service.
    """

    svc: str
    since: float | None
    outage: str | None = None
    outage_at: float | None = None
    failure: str | None = None
    severity: str = "warning"
    acked_by: str | None = None
    held: str | None = None
    held_until: float | None = None
    dependants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SilenceView:
    """A silence in force: patterns of services and tags, its end (epoch seconds), its author and reason."""

    id: str
    services: tuple[str, ...]
    tags: tuple[str, ...]
    starts_at: float
    ends_at: float
    author: str
    reason: str


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """What the board knows of the fleet at `at` (epoch seconds); `revision` is the truth's, None if unknown.

    `services` are in the order of the truth, `incidents` the oldest first, `silences` those in force,
    `pending` the undelivered messages, `dead` the number of messages given up, `notes` lines that a person
    should read, `channels` by name the host of each channel that the notifier opened, None if unknown.
    `channel_statuses` say of each of them what it sent and failed last.
    """

    at: float
    fleet: str = ""
    revision: int | None = None
    services: tuple[ServiceSnapshot, ...] = ()
    buses: tuple[BusSnapshot, ...] = ()
    healers: tuple[HealerView, ...] = ()
    incidents: tuple[IncidentView, ...] = ()
    silences: tuple[SilenceView, ...] = ()
    pending: tuple[PendingDelivery, ...] = ()
    dead: int = 0
    notes: tuple[str, ...] = ()
    channels: Mapping[str, str] | None = None
    channel_statuses: tuple[ChannelStatus, ...] = ()

    def counts(self) -> dict[ServiceState, int]:
        """Return how many services are in each state, every state named, the worst first."""
        found = dict.fromkeys(sorted(ServiceState, key=URGENCY.__getitem__), 0)
        # without a line of Python, or a tuple, for each: a large fleet has 10,000
        return found | Counter(map(_read_state, self.services))

    def count_words(self) -> dict[str, int]:
        """Return how many services have each word of `ServiceSnapshot.word`."""
        found, paused = Counter[str](), Counter(one.state for one in self.services if one.paused)
        for state, count in self.counts().items():
            found[find_word(state, is_paused=False)] += count - paused[state]
            found[find_word(state, is_paused=True)] += paused[state]
        return +found

    def find(self, svc: str) -> ServiceSnapshot | None:
        return next((one for one in self.services if one.svc == svc), None)


@dataclass(frozen=True, slots=True)
class SnapshotDelta:
    """What changed from one snapshot to the next one, taken at `at`.

    `services` has the changed fields of each service that changed, and all fields of a new one. `removed` are
    names of services that are gone; `order` is the order of all services, None if it did not change. `fleet`
    has each other field of the snapshot that changed, whole.
    """

    at: float
    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    order: tuple[str, ...] | None = None
    fleet: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.services or self.removed or self.order is not None or self.fleet)


SERVICE_FIELDS: Final = tuple(each.name for each in fields(ServiceSnapshot))
_read_state: Final = attrgetter("state")
_read_name: Final = attrgetter("svc")
_read_fields: Final = attrgetter(*SERVICE_FIELDS)


FLEET_FIELDS: Final = tuple(
    each.name for each in fields(FleetSnapshot) if each.name not in ("at", "services")
)


def diff(before: FleetSnapshot, after: FleetSnapshot) -> SnapshotDelta:
    """Return what changed between two snapshots; a delta of nothing is false."""
    old = {one.svc: one for one in before.services}
    changed = {
        one.svc: found
        for one in after.services
        if (was := old.pop(one.svc, None)) is not one and (found := _changed_fields(was, one))
    }
    names = tuple(map(_read_name, after.services))
    return SnapshotDelta(
        after.at,
        changed,
        tuple(old),
        None if names == tuple(map(_read_name, before.services)) else names,
        {name: value for name in FLEET_FIELDS if (value := getattr(after, name)) != getattr(before, name)},
    )


def _changed_fields(before: ServiceSnapshot | None, after: ServiceSnapshot) -> dict[str, Any]:
    values = zip(SERVICE_FIELDS, _read_fields(after), strict=True)
    if before is None:
        return dict(values)
    return {
        name: value for (name, value), old in zip(values, _read_fields(before), strict=True) if value != old
    }


def copy_fields(record: object, view: type[Any]) -> dict[str, Any]:
    """Return what a record has of the fields of a dataclass `view`, by name."""
    names = [each.name for each in fields(view)]
    return {name: getattr(record, name) for name in names if hasattr(record, name)}


def find_cause(svc: str, depends_on: Mapping[str, Collection[str]], down: Collection[str]) -> str | None:
    """Follow the first service in each `depends_on` that is down to the root; None if none is down."""
    seen = {svc}
    cause, at = None, svc
    while True:
        needed = next((each for each in depends_on.get(at, ()) if each in down and each not in seen), None)
        if needed is None:
            return cause
        seen.add(needed)
        cause = at = needed


def fold_incidents(services: Iterable[ServiceSnapshot]) -> tuple[IncidentView, ...]:
    """Make an incident for each service that is down without a `cause`, oldest first, unknown starts last."""
    down = [one for one in services if one.state is ServiceState.DOWN]
    dependants: dict[str, list[str]] = {}
    for one in down:
        if one.cause is not None:
            dependants.setdefault(one.cause, []).append(one.svc)
    roots = [
        IncidentView(**copy_fields(one, IncidentView), dependants=tuple(dependants.get(one.svc, ())))
        for one in down
        if one.cause is None
    ]
    return tuple(sorted(roots, key=lambda one: (one.since is None, one.since or 0.0, one.svc)))
