"""Combine the keys of the truth, their readings and their rates into the current flow between services. Pure.

A consumer group belongs to the reader whose settings name it, otherwise to the reader of the same name,
otherwise to the only reader that is left if it is the only group that is left. A service of ours that reads
by a position has none. Times are monotonic seconds.
"""

from collections import deque
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from marketswarm.access.services import reads_by_group
from marketswarm.truth import Truth
from marketswarm.truth.flows import Edge, FlowFault, Flows, Key
from services.mesh.flow_reader import ConsumerGroup, KeyReading

MAX_SAMPLES: Final = 64  # readings of one count, however long the window is
KEPT_SEC: Final = 3600
"""How long the flow is kept after its last write; readers compute its age from the remaining life."""


class Rates:
    """Keep the latest readings of each count, and compute its growth per second."""

    def __init__(self) -> None:
        self._readings: dict[Hashable, deque[tuple[float, int]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._readings.values()))

    def record(self, what: Hashable, count: int | None, now: float, window_sec: float) -> float | None:
        """Return the growth of the count `what` per second over the window; None after a single reading.

        A count that fell restarts; a count of None removes the readings.
        """
        if count is None:
            self._readings.pop(what, None)
            return None
        readings = self._readings.setdefault(what, deque(maxlen=MAX_SAMPLES))
        if readings and count < readings[-1][1]:
            readings.clear()
        readings.append((now, count))
        while len(readings) > 2 and now - readings[1][0] >= window_sec:
            readings.popleft()
        since, first = readings[0]
        return (count - first) / (now - since) if now > since else None

    def keep(self, known: Collection[Hashable]) -> None:
        """Delete the readings of all other counts."""
        self._readings = {what: found for what, found in self._readings.items() if what in known}


@dataclass(frozen=True, slots=True)
class Presence:
    """Hold for how many seconds services are up, and which are down. Others are in an unknown state."""

    up_sec: Mapping[str, float] = field(default_factory=dict)
    down: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class KeyState:
    """Hold the current state of a key. Rates are in entries per second.

    `groups` are those of its readers, by service; `others` belong to no reader; `read_rates` are by group.
    """

    key: Key
    seen: KeyReading
    rate: float | None
    groups: Mapping[str, ConsumerGroup]
    others: tuple[ConsumerGroup, ...]
    read_rates: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class FlowGraph:
    """Hold the whole flow.

    `away` has the reason of each bus that did not answer; `unmeasured` counts the keys beyond the limit.
    """

    flows: Flows
    keys: Mapping[Key, KeyState]
    away: Mapping[str, str] = field(default_factory=dict)
    unmeasured: int = 0


def named_groups(truth: Truth) -> dict[str, str]:
    found = {svc: one.settings.get("group") for svc, one in truth.services.items()}
    return {svc: group for svc, group in found.items() if isinstance(group, str)}


def build_graph(
    flows: Flows,
    named: Mapping[str, str],
    seen: Mapping[Key, KeyReading],
    rates: Rates,
    now: float,
    *,
    window_sec: float,
) -> FlowGraph:
    """Record the counts of `seen` in `rates`. `named` are groups that settings name, by service."""
    states: dict[Key, KeyState] = {}
    known: set[tuple[Key, str]] = set()
    for key, one in seen.items():
        groups = one.groups or ()
        known |= {(key, ""), *((key, group.name) for group in groups)}
        by_group = tuple(svc for svc in flows.readers(key) if reads_by_group(svc, key.name) is not False)
        whose = assign_groups(by_group, named, groups)
        states[key] = KeyState(
            key,
            one,
            # a key that does not exist counts as 0, so that its first entries give its first rate
            rates.record((key, ""), 0 if one.kind == "none" else one.added, now, window_sec),
            whose,
            tuple(group for group in groups if group not in whose.values()),
            {group.name: rates.record((key, group.name), group.read, now, window_sec) for group in groups},
        )
    rates.keep(known)
    return FlowGraph(flows, states)


def assign_groups(
    readers: tuple[str, ...], named: Mapping[str, str], groups: tuple[ConsumerGroup, ...]
) -> dict[str, ConsumerGroup]:
    by_name = {group.name: group for group in groups}
    found = {svc: by_name[named.get(svc, svc)] for svc in readers if named.get(svc, svc) in by_name}
    rest = [group for group in groups if group not in found.values()]
    alone = [svc for svc in readers if svc not in found and svc not in named]
    return found | ({alone[0]: rest[0]} if len(rest) == len(alone) == 1 else {})


def encode_flow(
    graph: FlowGraph, faults: Sequence[FlowFault], revision: int | None, every_sec: float, wall: float
) -> Any:
    """Return the object for `mesh:flow`; `wall` is now, in epoch seconds."""
    return {
        "ts": round(wall, 3),
        "kept_sec": KEPT_SEC,
        "revision": revision,
        "every_sec": every_sec,
        "keys": [_encode_key(one) for one in graph.keys.values()],
        "edges": [_encode_edge(edge, graph) for edge in graph.flows.edges],
        "faults": [_encode_fault(one) for one in faults],
        "away": dict(graph.away),
        "unmeasured": graph.unmeasured,
    }


def _encode_fault(one: FlowFault) -> dict[str, Any]:
    place = {"bus": one.key.bus, "key": one.key.name, "svc": one.svc or None}
    return {"what": one.what, **place, "text": one.text}


def _encode_key(one: KeyState) -> dict[str, Any]:
    seen = one.seen
    found: dict[str, Any] = {"bus": one.key.bus, "key": one.key.name, "kind": seen.kind}
    if seen.kind == "channel":
        return found | {"subscribers": seen.subscribers}
    if seen.kind != "stream":
        return found
    groups = None if seen.groups is None else [_encode_group(group, one) for group in seen.groups]
    return found | {
        "length": seen.length,
        "added": seen.added,
        "rate": _round(one.rate),
        "last_sec": _round(seen.last_sec),
        "groups": groups,
    }


def _encode_edge(edge: Edge, graph: FlowGraph) -> dict[str, Any]:
    one = graph.keys.get(edge.key)
    found: dict[str, Any] = {"svc": edge.svc, "does": edge.does, "bus": edge.key.bus, "key": edge.key.name}
    if one is None or one.seen.kind != "stream":
        return found
    if edge.does == "writes":
        return found | {"rate": _round(one.rate)}
    group = one.groups.get(edge.svc)
    return found if group is None else found | {"group": group.name} | _encode_group(group, one)


def _encode_group(group: ConsumerGroup, one: KeyState) -> dict[str, Any]:
    found = asdict(group)
    found["oldest_sec"] = _round(group.oldest_sec)
    return found | {"rate": _round(one.read_rates.get(group.name))}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
