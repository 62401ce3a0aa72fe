"""`mesh:flow`: how the flow is written down. Pure."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from marketswarm.truth.flows import Edge, Fault
from services.mesh.flow_graph import Graph, Moving
from services.mesh.flow_look import Group

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
