"""How fast counts grow, over a window. Pure; times are passed in, in seconds of a clock that only runs on.

The flow as it is now: what the truth says, what was seen, how fast it moves. Pure.

Which group of a stream is which reader's: the one that its settings name, else the one that is called as it
is, else the only one that is left for the only reader that is.

`mesh:flow`: how the flow is written down. Pure.
"""

from collections import deque
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from marketswarm.truth import Truth
from marketswarm.truth.flows import Edge, Fault, Flows, Key
from services.mesh.flow_reader import Group, Seen

SAMPLES: Final = 64  # of one count, however long the window and however often one looks


class Rates:
    """The last readings of each count."""

    def __init__(self) -> None:
        self._readings: dict[Hashable, deque[tuple[float, int]]] = {}

    def note(self, what: Hashable, count: int | None, now: float, window_sec: float) -> float | None:
        """Take a reading in; its growth a second since the window began, None from a single reading.

        A count that fell began anew.
        """
        if count is None:
            self._readings.pop(what, None)
            return None
        readings = self._readings.setdefault(what, deque(maxlen=SAMPLES))
        if readings and count < readings[-1][1]:
            readings.clear()
        readings.append((now, count))
        while len(readings) > 2 and now - readings[1][0] >= window_sec:
            readings.popleft()
        since, first = readings[0]
        return (count - first) / (now - since) if now > since else None

    def keep(self, known: Collection[Hashable]) -> None:
        """Forget all but these."""
        self._readings = {what: found for what, found in self._readings.items() if what in known}


@dataclass(frozen=True, slots=True)
class Presence:
    """Who is there: since how many seconds who is up, and who is known to be down. Of others nobody knows."""

    up_sec: Mapping[str, float] = field(default_factory=dict)
    down: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Moving:
    """A key as it is now. Rates are in entries a second; `groups` are those of its readers, by service."""

    key: Key
    seen: Seen
    rate: float | None
    groups: Mapping[str, Group]
    others: tuple[Group, ...]  # groups that are no reader's
    read_rates: Mapping[str, float | None]  # by group


@dataclass(frozen=True, slots=True)
class Graph:
    """All of it. `away` are buses that did not answer, with the reason; `unmeasured` counts keys too many."""

    flows: Flows
    moving: Mapping[Key, Moving]
    away: Mapping[str, str] = field(default_factory=dict)
    unmeasured: int = 0


def named_groups(truth: Truth) -> dict[str, str]:
    """The groups that services' settings name."""
    found = {svc: one.settings.get("group") for svc, one in truth.services.items()}
    return {svc: group for svc, group in found.items() if isinstance(group, str)}


def graph_of(
    flows: Flows,
    named: Mapping[str, str],
    seen: Mapping[Key, Seen],
    rates: Rates,
    now: float,
    *,
    window_sec: float,
) -> Graph:
    """Put together what was seen of the keys in `flows`; takes the readings into `rates`.

    `named` are the groups that services' settings name.
    """
    moving: dict[Key, Moving] = {}
    known: set[tuple[Key, str]] = set()
    for key, one in seen.items():
        groups = one.groups or ()
        known |= {(key, ""), *((key, group.name) for group in groups)}
        whose = assigned(flows.readers(key), named, groups)
        moving[key] = Moving(
            key,
            one,
            # what is not there yet has been counted, too: its first entries are its first rate
            rates.note((key, ""), 0 if one.kind == "none" else one.added, now, window_sec),
            whose,
            tuple(group for group in groups if group not in whose.values()),
            {group.name: rates.note((key, group.name), group.read, now, window_sec) for group in groups},
        )
    rates.keep(known)
    return Graph(flows, moving)


def assigned(
    readers: tuple[str, ...], named: Mapping[str, str], groups: tuple[Group, ...]
) -> dict[str, Group]:
    """Whose group is which."""
    by_name = {group.name: group for group in groups}
    found = {svc: by_name[named.get(svc, svc)] for svc in readers if named.get(svc, svc) in by_name}
    rest = [group for group in groups if group not in found.values()]
    alone = [svc for svc in readers if svc not in found and svc not in named]
    return found | ({alone[0]: rest[0]} if len(rest) == len(alone) == 1 else {})


KEPT_SEC: Final = 3600  # when nobody writes it any more; what is left of it tells how old it is


def shown(graph: Graph, faults: Sequence[Fault], revision: int | None, every_sec: float, wall: float) -> Any:
    """The object in `mesh:flow`; `wall` in epoch seconds."""
    return {
        "ts": round(wall, 3),
        "kept_sec": KEPT_SEC,
        "revision": revision,
        "every_sec": every_sec,
        "keys": [_key(one) for one in graph.moving.values()],
        "edges": [_edge(edge, graph) for edge in graph.flows.edges],
        "faults": [
            {
                "what": one.what,
                "bus": one.key.bus,
                "key": one.key.name,
                "svc": one.svc or None,
                "text": one.text,
            }
            for one in faults
        ],
        "away": dict(graph.away),
        "unmeasured": graph.unmeasured,
    }


def _key(one: Moving) -> dict[str, Any]:
    seen = one.seen
    found: dict[str, Any] = {"bus": one.key.bus, "key": one.key.name, "kind": seen.kind}
    if seen.kind == "channel":
        return found | {"subscribers": seen.subscribers}
    if seen.kind != "stream":
        return found
    groups = None if seen.groups is None else [_group(group, one) for group in seen.groups]
    return found | {
        "length": seen.length,
        "added": seen.added,
        "rate": _rounded(one.rate),
        "last_sec": _rounded(seen.last_sec),
        "groups": groups,
    }


def _edge(edge: Edge, graph: Graph) -> dict[str, Any]:
    one = graph.moving.get(edge.key)
    found: dict[str, Any] = {"svc": edge.svc, "does": edge.does, "bus": edge.key.bus, "key": edge.key.name}
    if one is None or one.seen.kind != "stream":
        return found
    if edge.does == "writes":
        return found | {"rate": _rounded(one.rate)}
    group = one.groups.get(edge.svc)
    return found if group is None else found | {"group": group.name} | _group(group, one)


def _group(group: Group, one: Moving) -> dict[str, Any]:
    found = asdict(group)
    found["oldest_sec"] = _rounded(group.oldest_sec)
    return found | {"rate": _rounded(one.read_rates.get(group.name))}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
