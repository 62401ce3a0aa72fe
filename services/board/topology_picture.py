"""Draw the flow of data: services and keys as boxes, who writes and reads what as lines. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.status.topology_view import FlowView
from services.board.layered_layout import BOX_HEIGHT, BOX_WIDTH, Layout, Name, lay_out

_LABEL: Final = 24  # characters that fit into a box
_TEXT: Final = 27  # of the second line, which is smaller


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
