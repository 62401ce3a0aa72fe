"""Draw the flow of data: services and keys as boxes, who writes and reads what as lines. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from marketswarm.keys import MESH_EVENTS, MESH_FLOW, MESH_TOPOLOGY, RESERVED_PREFIXES
from marketswarm.status.topology_view import FlowView
from services.board.fleet.layered_layout import BOX_HEIGHT, BOX_WIDTH, Layout, Name, lay_out
from services.board.fleet.snapshot import ServiceState
from services.board.rendering import Frame

_MESH_KEYS: Final = (MESH_TOPOLOGY, MESH_EVENTS, MESH_FLOW)
Place = tuple[str, str]
"""A bus and a key on it."""
_LABEL: Final = 24  # characters that fit into a box
_TEXT: Final = 27  # of the second line, which is smaller


def is_monitoring(flow: FlowView) -> bool:
    """Return True if a key serves to monitor the fleet, and carries none of its work."""
    return flow.key.startswith(RESERVED_PREFIXES) or flow.key in _MESH_KEYS


@dataclass(frozen=True, slots=True)
class Node:
    """A box: `kind` is `svc` or `key`, `label` its name as far as it fits, `text` a second line."""

    kind: str
    label: str
    text: str
    state: str
    x: int
    y: int
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class PictureEdge:
    """A line between two boxes, as the path of an SVG."""

    path: str
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """The boxes and lines of a picture, and its size in pixels."""

    width: int
    height: int
    nodes: tuple[Node, ...]
    edges: tuple[PictureEdge, ...]
    node_width: int = BOX_WIDTH
    node_height: int = BOX_HEIGHT


def draw_picture(
    flows: Sequence[FlowView],
    faults: Mapping[tuple[str, str], Sequence[str]],
    states: Mapping[str, str],
) -> Picture | None:
    """Return the picture of some flows; None if there are none, or too many to be read.

    Args:
        flows: the keys with their writers and readers.
        faults: what is wrong with a key, by its bus and name.
        states: the state of each service; one that is not there is unknown.
    """
    edges = _list_edges(flows)
    keys = {_key_name(flow): flow for flow in flows}
    wrong = {name for name, flow in keys.items() if faults.get((flow.bus, flow.key))}
    layout = lay_out(list(dict.fromkeys(name for edge in edges for name in edge)), edges, keys.keys())
    if layout is None:
        return None
    nodes = (
        _make_key(keys[name], place, is_wrong=name in wrong)
        if name in keys
        else _make_service(name[1], states.get(name[1], "unknown"), place)
        for name, place in layout.places.items()
    )
    lines = sorted(_make_edges(layout, wrong), key=lambda edge: edge.is_wrong)
    return Picture(layout.width, layout.height, tuple(nodes), tuple(lines))


@dataclass(frozen=True, slots=True)
class TopologyPage:
    """The flow of data between services.

    `faults` has what is wrong with a key, in words, by its bus and name; `notes` say what limits the page,
    such as a mesh that is away.
    """

    template: ClassVar = "topology.html"
    frame: Frame
    flows: tuple[FlowView, ...] = ()
    faults: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def work(self) -> tuple[FlowView, ...]:
        """The keys that carry the fleet's work."""
        return tuple(one for one in self.flows if not is_monitoring(one))

    @property
    def monitoring(self) -> tuple[FlowView, ...]:
        """The keys by which the fleet is monitored."""
        return tuple(one for one in self.flows if is_monitoring(one))

    @property
    def states(self) -> Mapping[str, ServiceState]:
        """The state of each service that is known."""
        return {one.svc: one.state for one in self.frame.snapshot.services}

    @property
    def picture(self) -> Picture | None:
        """The picture of the fleet's work; None if there is nothing, or too much, to draw."""
        return draw_picture(self.work, self.faults, self.states)


def _make_edges(layout: Layout, wrong: Collection[Name]) -> Iterable[PictureEdge]:
    """Yield the lines of a picture; a line of a key with which something is wrong is wrong, too."""
    for (one, two), path in layout.paths.items():
        yield PictureEdge(path, one in wrong or two in wrong)


def _list_edges(flows: Iterable[FlowView]) -> list[tuple[Name, Name]]:
    """Return who writes and reads what, each pair once."""
    found: dict[tuple[Name, Name], None] = {}
    for flow in flows:
        key = _key_name(flow)
        found |= {(("svc", svc), key): None for svc in flow.writers}
        found |= {(key, ("svc", reader.svc)): None for reader in flow.readers}
    return list(found)


def _key_name(flow: FlowView) -> Name:
    """Return the name of a key's box: two buses may have the same key."""
    return "key", f"{flow.bus} {flow.key}"


def _make_service(svc: str, state: str, place: tuple[int, int]) -> Node:
    """Return the box of a service."""
    return Node("svc", _cut(svc), "" if state == "up" else state, state, *place)


def _make_key(flow: FlowView, place: tuple[int, int], *, is_wrong: bool) -> Node:
    """Return the box of a key."""
    behind = max((reader.lag or 0 for reader in flow.readers), default=0)
    rate = f", {flow.rate:.1f}/s" if flow.rate else ""
    text = _cut(f"{flow.bus}, {behind} behind" if behind else f"{flow.bus}{rate}", _TEXT)
    return Node("key", _cut(flow.key), text, "", *place, is_wrong=is_wrong)


def _cut(text: str, length: int = _LABEL) -> str:
    """Return a text as far as it fits into a box."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
