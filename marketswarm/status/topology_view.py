"""Build the topology of a fleet as values: the flows in the truth, with what mesh measured. Pure.

The truth decides which services and keys there are. Of what mesh wrote, only values that belong to them are
used, since any client may have written there. The `describe_` functions are for tables and graphs alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from marketswarm.keys import MESH_FLOW, MESH_TOPOLOGY
from marketswarm.text import escape_text, format_duration, format_names
from marketswarm.truth import Truth
from marketswarm.truth.flows import Flows, build_flows, find_unwritten_keys

OLD_SEC: Final = 30.0
"""A snapshot is old after this time, and after three times the interval at which mesh writes it."""
MAX_INSTANCES: Final = 50  # of one service
MAX_PROBLEMS: Final = 100
MAX_NAMES: Final = 10  # of deaf buses, of strangers
MAX_TEXT: Final = 300
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


@dataclass(frozen=True, slots=True)
class ServiceView:
    """Hold a service of the truth; `instances` is None if mesh does not know which run."""

    svc: str
    replicas: int | None = None
    instances: Sequence[InstanceView] | None = None
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class ReaderView:
    """Hold a reader of a key and, if it has a consumer group, what that group has still to read."""

    svc: str
    group: str | None = None
    lag: int | None = None
    pending: int | None = None
    oldest_sec: float | None = None
    rate: float | None = None


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


@dataclass(frozen=True, slots=True)
class FlowProblem:
    """Hold a problem of a flow: `what` for programs, `text` for people."""

    what: str
    bus: str
    key: str
    svc: str | None
    text: str


@dataclass(frozen=True, slots=True)
class TopologyView:
    """Hold the services, the flows and the problems of a fleet; `live` is False by the truth alone."""

    revision: int | None
    live: bool
    services: Sequence[ServiceView]
    flows: Sequence[FlowView]
    wrong: Sequence[FlowProblem]
    notes: Sequence[str]


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
        every_sec = _get_number(self.found.get("every_sec")) or 0.0
        if self.age_sec > max(OLD_SEC, 3 * every_sec):
            return f"{name} is {format_duration(self.age_sec)} old"
        return None


def build_topology(
    truth: Truth, revision: int | None, instances: MeshSnapshot, traffic: MeshSnapshot
) -> TopologyView:
    """Combine a truth with the snapshots of `mesh:topology` and `mesh:flow`, as far as these can be used."""
    flows = build_flows(truth)
    unusable = [
        (name, why)
        for name, snapshot in ((MESH_TOPOLOGY, instances), (MESH_FLOW, traffic))
        if (why := snapshot.unusable(name)) is not None
    ]
    seen = {} if instances.unusable("") else instances.found
    measured = None if traffic.unusable("") else traffic.found
    notes = [f"{why}: {_WITHOUT_SNAPSHOT[name]}" for name, why in unusable]
    return TopologyView(
        revision,
        len(unusable) < 2,
        [_build_service(truth, svc, seen) for svc in truth.services],
        _build_flows(flows, measured or {}),
        _list_problems(flows, measured),
        [*dict.fromkeys(notes), *_list_mesh_notes(seen, measured or {}, revision)],
    )


def describe_key(flow: FlowView) -> str:
    """Return what a key holds: `1.2/s, 12003 entries`; empty if mesh did not measure it."""
    if flow.kind == "channel":
        return f"channel, {flow.subscribers or 0} subscribed"
    if flow.kind == "none":
        return "nothing there"
    if flow.kind != "stream":
        return flow.kind or ""
    words = [] if flow.rate is None else [format_rate(flow.rate)]
    words.append(f"{flow.length} {'entry' if flow.length == 1 else 'entries'}")
    if not flow.rate and flow.last_sec is not None:
        words.append(f"last {format_duration(flow.last_sec)} ago")
    return ", ".join(words)


def describe_reader(reader: ReaderView) -> str:
    """Return what a reader's group has still to read: `lag 3, 2 pending, oldest 5 s`."""
    if reader.group is None:
        return ""
    words = [f"lag {'?' if reader.lag is None else reader.lag}"]
    if reader.pending:
        words.append(f"{reader.pending} pending")
    if reader.oldest_sec is not None:
        words.append(f"oldest {format_duration(reader.oldest_sec)}")
    return ", ".join(words)


def describe_instances(service: ServiceView) -> str:
    if service.instances is None:
        return ""
    count = len(service.instances)
    if not count:
        return "nobody runs"
    if service.replicas:
        return f"{count} of {service.replicas} run"
    return f"{count} {'runs' if count == 1 else 'run'}"


def format_rate(per_sec: float) -> str:
    """Return entries per second as `1.2/s`, or per minute or hour if they are few."""
    for factor, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_sec * factor >= 1:
            return f"{per_sec * factor:.1f}".removesuffix(".0") + f"/{unit}"
    return "0/s" if per_sec <= 0 else f"{per_sec * 3600:.1g}/h"


def _build_service(truth: Truth, svc: str, seen: Mapping[str, Any]) -> ServiceView:
    replicas = truth.services[svc].replicas
    if not seen:
        return ServiceView(svc, replicas)
    entry = _get_object(_get_object(seen.get("services")).get(svc))
    at = _get_number(seen.get("ts"))
    instances = [
        _build_instance(_get_object(one), at) for one in _get_list(entry.get("instances"))[:MAX_INSTANCES]
    ]
    return ServiceView(svc, replicas, instances, entry.get("conflict") is True)


def _build_instance(entry: Mapping[str, Any], at: float | None) -> InstanceView:
    """Return one instance, its uptime extended from its last beat to `at`, when mesh wrote the snapshot."""
    up_sec, last_ts = _get_number(entry.get("uptime_sec")), _get_number(entry.get("last_ts"))
    since_sec = max(0.0, at - last_ts) if at is not None and last_ts is not None else 0.0
    return replace(
        InstanceView(**_read_fields(InstanceView, entry)),
        up_sec=None if up_sec is None else round(up_sec + since_sec, 3),
        crash_loop=entry.get("crash_loop") is True,
        last_beat_sec=None if at is None or last_ts is None else round(since_sec, 3),
    )


def _build_flows(flows: Flows, measured: Mapping[str, Any]) -> list[FlowView]:
    entries = {_find_place(one): one for one in map(_get_object, _get_list(measured.get("keys")))}
    reads = {
        (_find_place(one), one.get("svc")): one
        for one in map(_get_object, _get_list(measured.get("edges")))
        if one.get("does") == "reads" and isinstance(one.get("svc"), str)
    }
    found = []
    for key in flows.keys:
        place = (key.bus, key.name)
        readers = [
            ReaderView(svc, **_read_fields(ReaderView, reads.get((place, svc), {})))
            for svc in flows.readers(key)
        ]
        more = _read_fields(FlowView, entries.get(place, {}))
        found.append(FlowView(*place, flows.writers(key), readers, **more))
    return found


def _list_problems(flows: Flows, measured: Mapping[str, Any] | None) -> list[FlowProblem]:
    """Return what mesh says is wrong with keys of the truth; without mesh, what the truth shows alone."""
    if measured is None:
        return [
            FlowProblem(one.what, one.key.bus, one.key.name, one.svc or None, one.text)
            for one in find_unwritten_keys(flows)[:MAX_PROBLEMS]
        ]
    known = {(key.bus, key.name) for key in flows.keys}
    return [
        FlowProblem(
            _get_text(one.get("what")) or "?",
            *_find_place(one),
            _get_text(one.get("svc")),
            _get_text(one.get("text")) or "?",
        )
        for one in map(_get_object, _get_list(measured.get("faults"))[:MAX_PROBLEMS])
        if _find_place(one) in known
    ]


def _list_mesh_notes(seen: Mapping[str, Any], measured: Mapping[str, Any], revision: int | None) -> list[str]:
    notes = [f"mesh is deaf on {_get_text(bus) or '?'}" for bus in _get_list(seen.get("deaf"))[:MAX_NAMES]]
    away = list(_get_object(measured.get("away")).items())[:MAX_NAMES]
    notes += [
        f"bus {_get_text(bus) or '?'} does not answer mesh: {_get_text(why) or '?'}" for bus, why in away
    ]
    strangers = [_get_text(name) or "?" for name in _get_list(seen.get("strangers"))]
    if strangers:
        notes.append(f"strangers beat here: {format_names(strangers, MAX_NAMES)}")
    if unmeasured := _get_whole_number(measured.get("unmeasured")):
        notes.append(f"{unmeasured} keys are too many to be measured")
    of_mesh = _get_whole_number(measured.get("revision"))
    if of_mesh is not None and revision is not None and of_mesh != revision:
        notes.append(f"mesh goes by revision {of_mesh} of the truth, and {revision} is the latest")
    return notes


def _find_place(one: Mapping[str, Any]) -> tuple[str, str]:
    bus, key = one.get("bus"), one.get("key")
    return (bus, key) if isinstance(bus, str) and isinstance(key, str) else ("", "")


def _get_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _get_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _get_text(value: Any) -> str | None:
    return escape_text(value[:MAX_TEXT]) if isinstance(value, str) and value else None


def _get_whole_number(value: Any) -> int | None:
    return value if type(value) is int else None


def _get_number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


_GETTERS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    str | None: _get_text,
    int | None: _get_whole_number,
    float | None: _get_number,
}


def _read_fields(view: type, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the optional fields of a view as an entry of mesh has them, each None if its type is another."""
    typed = ((each.name, _GETTERS.get(each.type)) for each in fields(view))
    return {name: get(entry.get(name)) for name, get in typed if get is not None}
