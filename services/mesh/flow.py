"""Combine the keys of the truth, their readings and rates into the current flow; find what is wrong. Pure.

A consumer group belongs to the reader whose settings name it, otherwise to the reader of the same name,
otherwise to the only reader that is left if it is the only group that is left. A service of ours that reads
by a position has none. Times are monotonic seconds.

| what | means |
| --- | --- |
| `no_writer` | a service reads the key, and no service of the truth writes it |
| `writer_down` | a service reads the key, and all its writers are down |
| `never_written` | a service reads the key, a writer is up, and nothing was ever written |
| `writer_silent` | a writer is up, and nothing was written for too long |
| `no_group` | a reader is up that reads by a consumer group, and has none there |
| `falls_behind` | the oldest unacknowledged entry of a group waits for too long |
| `trimmed_unread` | entries were trimmed before a group had read them |
"""

from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from marketswarm.access.services import reads_by_group
from marketswarm.text import format_duration, format_names
from marketswarm.truth import Truth
from marketswarm.truth.flows import Edge, FlowFault, Flows, Key, find_unwritten_keys
from services.mesh.flow_reader import ConsumerGroup, KeyReading
from services.mesh.settings import FlowSettings

FAULT_KINDS: Final = (
    *("no_writer", "writer_down", "never_written", "writer_silent"),
    *("no_group", "falls_behind", "trimmed_unread"),
)
MAX_FAULTS: Final = 100
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


@dataclass(frozen=True, slots=True)
class FaultFinder:
    """Find the faults of one graph."""

    graph: FlowGraph
    presence: Presence
    settings: FlowSettings

    def faults(self) -> list[FlowFault]:
        """Return each fault once, at most MAX_FAULTS."""
        found = [self._with_proof(fault) for fault in find_unwritten_keys(self.graph.flows)]
        for one in self.graph.keys.values():
            found += self._find_writer_faults(one)
            found += self._find_reader_faults(one)
        return found[:MAX_FAULTS]

    def _with_proof(self, fault: FlowFault) -> FlowFault:
        """Return a fault of an unwritten key; add to its text if entries arrive there nevertheless."""
        one = self.graph.keys.get(Key(fault.bus, fault.key))
        if one is None or not one.seen.rate:
            return fault
        rate = f"{one.seen.rate:.2g} entries a second"
        return replace(fault, text=f"{fault.text}; someone does, whom the truth does not name: {rate}")

    def _find_writer_faults(self, one: KeyState) -> Iterator[FlowFault]:
        flows, seen = self.graph.flows, one.seen
        writers, readers = flows.writers(one.key), flows.readers(one.key)
        expected_sec = self.settings.expect_sec.get(one.key.name)
        if not writers or not (readers or expected_sec):
            return
        if self.presence.down.issuperset(writers) and not seen.rate:
            are = "is" if len(writers) == 1 else "are"
            why = f"nobody writes it: {format_names(writers)} {are} down"
            yield FlowFault("writer_down", *one.key, None, why)
            return
        up_sec = max((self.presence.up_sec.get(svc, 0.0) for svc in writers), default=0.0)
        if self.settings.is_quiet(one.key.name):
            return
        who = next(svc for svc in writers if self.presence.up_sec.get(svc, 0.0) == up_sec) if up_sec else ""
        never = seen.kind == "none" or (seen.kind == "stream" and not seen.added and not seen.length)
        if never and up_sec > self.settings.behind_sec:
            why = f"nothing was ever written there, though {who} is up for {format_duration(up_sec)}"
            yield FlowFault("never_written", *one.key, who, why)
        allowed_sec = expected_sec or self.settings.silent_sec
        if not never and seen.last_sec is not None and min(seen.last_sec, up_sec) > allowed_sec:
            silent, up = format_duration(seen.last_sec), format_duration(up_sec)
            why = f"nothing new for {silent}, though {who} is up for {up}"
            yield FlowFault("writer_silent", *one.key, who, why)

    def _find_reader_faults(self, one: KeyState) -> Iterator[FlowFault]:
        if one.seen.kind != "stream" or one.seen.groups is None:
            return
        for svc in self.graph.flows.readers(one.key):
            group = one.groups.get(svc)
            if group is not None:
                yield from self._find_group_faults(one, svc, group)
            elif self._needs_group(svc, one):
                up = format_duration(self.presence.up_sec[svc])
                why = f"{svc} is up for {up} and has no consumer group there"
                yield FlowFault("no_group", *one.key, svc, why)
        for group in one.seen.groups:
            if group not in one.groups.values():
                yield from self._find_group_faults(one, None, group)

    def _needs_group(self, svc: str, one: KeyState) -> bool:
        needs_one = reads_by_group(svc, one.key.name)
        if needs_one is None:
            may_lack = any(fnmatchcase(one.key.name, pattern) for pattern in self.settings.no_group)
            needs_one = svc in self.graph.named or not (one.seen.groups or may_lack)
        return needs_one and self.presence.up_sec.get(svc, 0.0) > self.settings.behind_sec

    def _find_group_faults(self, one: KeyState, svc: str | None, group: ConsumerGroup) -> Iterator[FlowFault]:
        """`svc` is the reader of the group; None if the truth has none."""
        name = f"group {group.name}"
        whose = f" of {svc}" if svc != group.name else ""
        if not svc:
            whose = ", which is no reader's of the truth,"
        if one.seen.added is not None and group.read is not None:
            lost = one.seen.added - group.read - one.seen.length  # which the server's `lag` omits
            if lost > 0:
                text = f"{lost} entries were trimmed before {name}{whose} had read them"
                yield FlowFault("trimmed_unread", *one.key, svc, text)
        if group.oldest_sec is not None and group.oldest_sec > self.settings.behind_sec:
            unread = "? unread" if group.lag is None else f"{group.lag} unread"
            down = f"; {svc} is down" if svc in self.presence.down else ""
            text = (
                f"{name}{whose} falls behind: {unread}, {group.pending} taken and not settled, "
                f"the oldest waits for {format_duration(group.oldest_sec)}{down}"
            )
            yield FlowFault("falls_behind", *one.key, svc, text)
