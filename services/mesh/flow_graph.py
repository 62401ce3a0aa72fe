"""Combine the keys of the truth, their readings and their rates into the current flow between services. Pure.

A consumer group belongs to the reader whose settings name it, otherwise to the reader of the same name,
otherwise to the only reader that is left if it is the only group that is left. A service of ours that reads
by a position has none. Times are monotonic seconds.
"""

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from marketswarm.access.services import reads_by_group
from marketswarm.truth import Truth
from marketswarm.truth.flows import Edge, FlowFault, Flows, Key
from services.mesh.flow_reader import ConsumerGroup, KeyReading

MAX_SAMPLES: Final = 64  # readings of one count, however long the window is
KEPT_SEC: Final = 3600
"""How long the flow is kept after its last write; readers compute its age from the remaining life."""
_SHOWN: Final[Mapping[str, Sequence[str]]] = {
    "channel": ("subscribers",),
    "stream": ("length", "added", "rate", "last_sec", "groups"),
}
"""By the kind of a key, what is written about it."""


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
        return round((count - first) / (now - since), 6) if now > since else None

    def drop_older(self, now: float) -> None:
        """Delete the readings of each count that was not recorded at `now`."""
        self._readings = {what: found for what, found in self._readings.items() if found[-1][0] == now}


@dataclass(frozen=True, slots=True)
class Presence:
    """Hold for how many seconds services are up, and which are down. Others are in an unknown state."""

    up_sec: Mapping[str, float] = field(default_factory=dict)
    down: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class KeyState:
    """Hold the latest reading of a key, and the groups of those readers that have one, by service."""

    key: Key
    seen: KeyReading
    groups: Mapping[str, ConsumerGroup]


@dataclass(frozen=True, slots=True)
class FlowGraph:
    """Hold the whole flow. `named` are groups that settings name, by service.

    `away` has the reason of each bus that did not answer; `unmeasured` counts the keys beyond the limit.
    """

    flows: Flows
    named: Mapping[str, str]
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
    """Return the graph with what was `seen` at `now`, and its rates; `rates` then has the readings of it."""
    states: dict[Key, KeyState] = {}
    for key, one in seen.items():
        # a key that does not exist counts as 0, so that its first entries give its first rate
        added = 0 if one.kind == "none" else one.added
        groups = one.groups and tuple(
            replace(group, rate=rates.record((key, group.name), group.read, now, window_sec))
            for group in one.groups
        )
        state = replace(one, rate=rates.record((key, ""), added, now, window_sec), groups=groups)
        by_group = tuple(svc for svc in flows.readers(key) if reads_by_group(svc, key.name) is not False)
        states[key] = KeyState(key, state, assign_groups(by_group, named, groups or ()))
    rates.drop_older(now)
    return FlowGraph(flows, named, states)


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
        "faults": list(faults),
        "away": dict(graph.away),
        "unmeasured": graph.unmeasured,
    }


def _encode_place(key: Key) -> dict[str, Any]:
    return {"bus": key.bus, "key": key.name}


def _encode_key(one: KeyState) -> dict[str, Any]:
    seen = asdict(one.seen)
    shown = {name: seen[name] for name in _SHOWN.get(one.seen.kind, ())}
    return _encode_place(one.key) | {"kind": one.seen.kind} | shown


def _encode_edge(edge: Edge, graph: FlowGraph) -> dict[str, Any]:
    found = {"svc": edge.svc, "does": edge.does, **_encode_place(edge.key)}
    one = graph.keys.get(edge.key)
    if one is None or one.seen.kind != "stream":
        return found
    if edge.does == "writes":
        return found | {"rate": one.seen.rate}
    group = one.groups.get(edge.svc)
    return found if group is None else found | {"group": group.name} | asdict(group)
