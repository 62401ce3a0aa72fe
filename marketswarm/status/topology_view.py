"""Build the topology of a fleet as values: the flows in the truth, with what mesh measured. Pure.

The truth decides which services and keys there are. Of what mesh wrote, only values that belong to them are
used, since any client may have written there. The `words` of a value are for tables and graphs alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from marketswarm.bus.stored_values import get_list, get_object
from marketswarm.keys import MESH_FLOW, MESH_TOPOLOGY
from marketswarm.text import escape_text, format_duration, format_names
from marketswarm.truth import Truth
from marketswarm.truth.flows import FlowFault, Flows, Key, build_flows, find_unwritten_keys

OLD_SEC: Final = 30.0
"""A snapshot is old after this time, and after three times the interval at which mesh writes it."""
MAX_INSTANCES: Final = 50  # of one service
MAX_FAULTS: Final = 100
MAX_NAMES: Final = 10  # of deaf buses, of strangers
MAX_TEXT: Final = 300
_MAX_NUMBER: Final = 1e15  # also of milliseconds since the epoch
_WITHOUT_SNAPSHOT: Final = {
    MESH_TOPOLOGY: "who runs is not known",
    MESH_FLOW: "what flows is drawn from the truth alone",
}


@dataclass(frozen=True, slots=True)
class InstanceView:
    """Hold one running process. Durations are in seconds; `last_beat_sec` is the age of its last beat."""

    boot: str | None = None
    host: str | None = None
    version: str | None = None
    rev: int | None = None
    up_sec: float | None = None
    restarts_hour: int | None = None
    skew_sec: float | None = None
    status: str | None = None
    detail: str | None = None
    crash_loop: bool = False
    last_beat_sec: float | None = None

    @property
    def words(self) -> str:
        """Its state: `crash loop; degraded: no feed; its clock is 70 s behind`."""
        words = "crash loop; " * self.crash_loop + (self.status or "-")
        if self.detail:
            words += f": {self.detail}"
        if self.skew_sec is not None:
            direction = "ahead" if self.skew_sec > 0 else "behind"
            words += f"; its clock is {format_duration(abs(self.skew_sec))} {direction}"
        return words


@dataclass(frozen=True, slots=True)
class ServiceView:
    """Hold a service of the truth; `instances` is None if mesh does not know which run."""

    svc: str
    replicas: int | None = None
    instances: Sequence[InstanceView] | None = None
    conflict: bool = False

    @property
    def words(self) -> str:
        """How many instances run: `1 of 2 run`; empty if that is not known."""
        if self.instances is None:
            return ""
        count = len(self.instances)
        if not count:
            return "nobody runs"
        if self.replicas:
            return f"{count} of {self.replicas} run"
        return f"{count} {'runs' if count == 1 else 'run'}"


@dataclass(frozen=True, slots=True)
class ReaderView:
    """Hold a reader of a key and, if it has a consumer group, what that group has still to read."""

    svc: str
    group: str | None = None
    lag: int | None = None
    pending: int | None = None
    oldest_sec: float | None = None
    rate: float | None = None

    @property
    def words(self) -> str:
        """What its group has still to read: `lag 3, 2 pending, oldest 5 s`; empty without a group."""
        if self.group is None:
            return ""
        words = [f"lag {'?' if self.lag is None else self.lag}"]
        if self.pending:
            words.append(f"{self.pending} pending")
        if self.oldest_sec is not None:
            words.append(f"oldest {format_duration(self.oldest_sec)}")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class FlowView:
    """Hold a key with its writers and readers; a value is None if mesh did not measure it."""

    bus: str
    key: str
    writers: Sequence[str] = ()
    readers: Sequence[ReaderView] = ()
    kind: str | None = None
    length: int | None = None
    rate: float | None = None
    last_sec: float | None = None
    subscribers: int | None = None

    @property
    def words(self) -> str:
        """What the key holds: `1.2/s, 12003 entries`; empty if mesh did not measure it."""
        if self.kind == "channel":
            return f"channel, {self.subscribers or 0} subscribed"
        if self.kind != "stream":
            return "nothing there" if self.kind == "none" else self.kind or ""
        words = [] if self.rate is None else [format_rate(self.rate)]
        words.append(f"{self.length} {'entry' if self.length == 1 else 'entries'}")
        if not self.rate and self.last_sec is not None:
            words.append(f"last {format_duration(self.last_sec)} ago")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class TopologyView:
    """Hold the services, the flows and the problems of a fleet; `live` is False by the truth alone."""

    revision: int | None
    live: bool
    services: Sequence[ServiceView]
    flows: Sequence[FlowView]
    wrong: Sequence[FlowFault]
    notes: Sequence[str]

    @property
    def problems(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """The problems in words, by the bus and the name of a key."""
        found: dict[tuple[str, str], list[str]] = {}
        for one in self.wrong:
            found.setdefault((one.bus, one.key), []).append(one.text)
        return found


@dataclass(frozen=True, slots=True)
class MeshSnapshot:
    """Hold what mesh wrote under a key, and its age by the server's clock; or `why` it can't be read."""

    found: Mapping[str, Any] = field(default_factory=dict)
    age_sec: float | None = None
    why: str | None = None

    def unusable(self, name: str) -> str | None:
        """Return why the snapshot `name` can't be used; None if it can."""
        if self.why is not None:
            return self.why
        if not self.found:
            return f"mesh has written no {name}"
        if self.age_sec is None:
            return f"how old {name} is can't be told"
        if self.age_sec > max(OLD_SEC, 3 * (_get_number(self.found.get("every_sec")) or 0.0)):
            return f"{name} is {format_duration(self.age_sec)} old"
        return None


def build_topology(
    truth: Truth, revision: int | None, instances: MeshSnapshot, traffic: MeshSnapshot
) -> TopologyView:
    """Combine a truth with the snapshots of `mesh:topology` and `mesh:flow`, as far as these can be used."""
    flows, notes = build_flows(truth), []
    usable: dict[str, Mapping[str, Any]] = {}
    for name, snapshot in ((MESH_TOPOLOGY, instances), (MESH_FLOW, traffic)):
        why = snapshot.unusable(name)
        if why is None:
            usable[name] = snapshot.found
        else:
            notes.append(f"{why}: {_WITHOUT_SNAPSHOT[name]}")
    seen, measured = usable.get(MESH_TOPOLOGY, {}), usable.get(MESH_FLOW)
    return TopologyView(
        revision,
        bool(usable),
        [_build_service(svc, one.replicas, seen) for svc, one in truth.services.items()],
        _build_flows(flows, measured or {}),
        _list_faults(flows, measured),
        [*notes, *_list_mesh_notes(seen, measured or {}, revision)],
    )


def format_rate(per_sec: float) -> str:
    """Return entries per second as `1.2/s`, or per minute or hour if they are few."""
    for factor, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_sec * factor >= 1:
            return f"{per_sec * factor:.1f}".removesuffix(".0") + f"/{unit}"
    return "0/s" if per_sec <= 0 else f"{per_sec * 3600:.1g}/h"


def _build_service(svc: str, replicas: int | None, seen: Mapping[str, Any]) -> ServiceView:
    if not seen:
        return ServiceView(svc, replicas)
    entry = get_object(get_object(seen.get("services")).get(svc))
    at, found = _get_number(seen.get("ts")), _list_objects(entry.get("instances"), MAX_INSTANCES)
    instances = [_build_instance(one, at) for one in found]
    return ServiceView(svc, replicas, instances, entry.get("conflict") is True)


def _build_instance(entry: Mapping[str, Any], at: float | None) -> InstanceView:
    """Return one instance, its uptime extended from its last beat to `at`, when mesh wrote the snapshot."""
    up_sec, last_ts = _get_number(entry.get("uptime_sec")), _get_number(entry.get("last_ts"))
    since_sec = max(0.0, at - last_ts) if at is not None and last_ts is not None else 0.0
    return replace(
        InstanceView(**_read_fields(InstanceView, entry)),
        up_sec=None if up_sec is None else round(up_sec + since_sec, 3),
        last_beat_sec=None if at is None or last_ts is None else round(since_sec, 3),
    )


def _build_flows(flows: Flows, measured: Mapping[str, Any]) -> list[FlowView]:
    entries = {_find_key(one): one for one in _list_objects(measured.get("keys"))}
    reads = {
        (_find_key(one), one.get("svc")): one
        for one in _list_objects(measured.get("edges"))
        if one.get("does") == "reads" and isinstance(one.get("svc"), str)
    }
    found = []
    for key in flows.keys:
        readers = [
            ReaderView(svc, **_read_fields(ReaderView, reads.get((key, svc), {})))
            for svc in flows.readers(key)
        ]
        more = _read_fields(FlowView, entries.get(key, {}))
        found.append(FlowView(*key, flows.writers(key), readers, **more))
    return found


def _list_faults(flows: Flows, measured: Mapping[str, Any] | None) -> list[FlowFault]:
    """Return what mesh says is wrong with keys of the truth; without mesh, what the truth shows alone."""
    if measured is None:
        return find_unwritten_keys(flows)[:MAX_FAULTS]
    known, found = set(flows.keys), []
    for one in _list_objects(measured.get("faults"), MAX_FAULTS):
        what, svc, text = (_get_text(one.get(name)) for name in ("what", "svc", "text"))
        if (key := _find_key(one)) in known:
            found.append(FlowFault(what or "?", *key, svc, text or "?"))
    return found


def _list_mesh_notes(seen: Mapping[str, Any], measured: Mapping[str, Any], revision: int | None) -> list[str]:
    notes = [f"mesh is deaf on {_get_text(bus) or '?'}" for bus in get_list(seen.get("deaf"))[:MAX_NAMES]]
    away = list(get_object(measured.get("away")).items())[:MAX_NAMES]
    notes += [
        f"bus {_get_text(bus) or '?'} does not answer mesh: {_get_text(why) or '?'}" for bus, why in away
    ]
    strangers = [_get_text(name) or "?" for name in get_list(seen.get("strangers"))]
    if strangers:
        notes.append(f"strangers beat here: {format_names(strangers, MAX_NAMES)}")
    if unmeasured := _get_whole_number(measured.get("unmeasured")):
        notes.append(f"{unmeasured} keys are too many to be measured")
    of_mesh = _get_whole_number(measured.get("revision"))
    if of_mesh is not None and revision is not None and of_mesh != revision:
        notes.append(f"mesh goes by revision {of_mesh} of the truth, and {revision} is the latest")
    return notes


def _find_key(one: Mapping[str, Any]) -> Key:
    bus, key = one.get("bus"), one.get("key")
    return Key(bus, key) if isinstance(bus, str) and isinstance(key, str) else Key("", "")


def _list_objects(value: Any, most: int | None = None) -> list[Mapping[str, Any]]:
    return [get_object(each) for each in get_list(value)[:most]]


def _get_text(value: Any) -> str | None:
    return escape_text(value[:MAX_TEXT]) if isinstance(value, str) and value else None


def _get_whole_number(value: Any) -> int | None:
    return value if type(value) is int else None


def _get_number(value: Any) -> float | None:
    """Return a number as one that can be rounded and drawn; None for anything else."""
    if type(value) is int:
        return float(value) if abs(value) <= _MAX_NUMBER else None
    return value if type(value) is float and abs(value) <= _MAX_NUMBER else None


_GETTERS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    bool: lambda value: value is True,
    str | None: _get_text,
    int | None: _get_whole_number,
    float | None: _get_number,
}


def _read_fields(view: type, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a view as an entry of mesh has them, each None or False if its type is another."""
    typed = ((each.name, _GETTERS.get(each.type)) for each in fields(view))
    return {name: get(entry.get(name)) for name, get in typed if get is not None}
