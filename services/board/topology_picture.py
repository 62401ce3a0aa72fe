"""Draw the flow of data: services and keys as boxes, who writes and reads what as lines. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.board.layered_layout import BOX_HEIGHT, BOX_WIDTH, Layout, Name, lay_out

if TYPE_CHECKING:  # pages.py has the filters of view.py, and so this module
    from services.board.pages import FlowLine

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


def draw_picture(lines: Sequence["FlowLine"]) -> Picture | None:
    """Return the picture of some flows; None if there are none, or too many to be read."""
    edges = _list_edges(lines)
    keys = {_key_name(line): line for line in lines}
    layout = lay_out(list(dict.fromkeys(name for edge in edges for name in edge)), edges, keys.keys())
    if layout is None:
        return None
    states = {("svc", end.svc): str(end.state) for line in lines for end in (*line.writers, *line.readers)}
    return Picture(
        layout.width,
        layout.height,
        tuple(_make_node(name, place, keys, states) for name, place in layout.places.items()),
        tuple(sorted(_make_edges(layout, keys), key=lambda edge: edge.is_wrong)),
    )


def _make_edges(layout: Layout, keys: Mapping[Name, "FlowLine"]) -> Iterable[PictureEdge]:
    """Yield the lines of a picture."""
    for (one, two), path in layout.paths.items():
        yield PictureEdge(path, edge_is_wrong(one, two, keys))


def edge_is_wrong(one: Name, two: Name, keys: Mapping[Name, "FlowLine"]) -> bool:
    """Return True if something is wrong with the key at the one end."""
    line = keys.get(one) or keys.get(two)
    return line is not None and bool(line.faults)


def _list_edges(lines: Iterable["FlowLine"]) -> list[tuple[Name, Name]]:
    """Return who writes and reads what, each pair once."""
    found: dict[tuple[Name, Name], None] = {}
    for line in lines:
        key = _key_name(line)
        found |= {(("svc", end.svc), key): None for end in line.writers}
        found |= {(key, ("svc", end.svc)): None for end in line.readers}
    return list(found)


def _key_name(line: "FlowLine") -> Name:
    """Return the name of a key's box: two buses may have the same key."""
    return "key", f"{line.bus} {line.key}"


def _make_node(
    name: Name, place: tuple[int, int], keys: Mapping[Name, "FlowLine"], states: Mapping[Name, str]
) -> Node:
    """Return the box of a service or a key."""
    kind, text = name
    line = keys.get(name)
    if line is None:
        state = states.get(name, "unknown")
        return Node(kind, _cut(text), "" if state == "up" else state, state, *place)
    behind = max((end.lag or 0 for end in line.readers), default=0)
    rate = f", {line.rate:.1f}/s" if line.rate else ""
    text = _cut(f"{line.bus}, {behind} behind" if behind else f"{line.bus}{rate}", _TEXT)
    return Node(kind, _cut(line.key), text, "", *place, is_wrong=bool(line.faults))


def _cut(text: str, length: int = _LABEL) -> str:
    """Return a text as far as it fits into a box."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
