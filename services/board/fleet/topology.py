"""Draw the flow of data: services and keys as boxes, who writes and reads what as lines. Pure.

Each box is in a column behind all that lead to it, unless they are in a circle with it: then a line leads
back to the left. Services and keys take turns, so that a line always leads to another column. A line that
passes a column has a row of its own there, and crosses no box.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import ClassVar, Final

from marketswarm.keys import MESH_EVENTS, MESH_FLOW, MESH_TOPOLOGY, RESERVED_PREFIXES
from marketswarm.status.service_rows import ServiceState
from marketswarm.status.topology_graph import Graph, Node, build_graph
from marketswarm.status.topology_view import FlowView, TopologyView, format_rate
from marketswarm.text import escape_text
from services.board.fleet.frame import Frame

_MESH_KEYS: Final = (MESH_TOPOLOGY, MESH_EVENTS, MESH_FLOW)
BOX_WIDTH: Final = 184
BOX_HEIGHT: Final = 40
MAX_BOXES: Final = 400
MAX_ARROWS: Final = 800
MAX_COLUMNS: Final = 16
_COLUMN_GAP: Final = 72
_ROW_GAP: Final = 14
_LINE_HEIGHT: Final = 4  # of the row of a line in a column
_MARGIN: Final = 4
_SWEEPS: Final = 3
_LABEL: Final = 24  # characters that fit into a box
_TEXT: Final = 27  # of the second line, which is smaller
Slot = tuple[str, int]
"""A place in a column: that of a box (by its id), or of the lines that come from it and pass the column."""


def is_monitoring_key(key: str) -> bool:
    """Return True if a key serves to monitor the fleet, and carries none of its work."""
    return key.startswith(RESERVED_PREFIXES) or key in _MESH_KEYS


@dataclass(frozen=True, slots=True)
class Box:
    """A box: its upper left corner in pixels, its name as far as it fits, and a second line."""

    x: int
    y: int
    name: str
    text: str
    state: str | None = None  # of a service; a key has none
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line between two boxes, as the path of an SVG."""

    path: str
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """The boxes and lines of a picture, and its size in pixels."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT


@dataclass(frozen=True, slots=True)
class TopologyPage:
    """The flow of data: the `work` of the fleet, and apart from it the keys by which it is monitored."""

    template: ClassVar = "topology.html"
    frame: Frame
    topology: TopologyView

    @property
    def work(self) -> Sequence[FlowView]:
        return [one for one in self.topology.flows if not is_monitoring_key(one.key)]

    @property
    def monitoring(self) -> Sequence[FlowView]:
        return [one for one in self.topology.flows if is_monitoring_key(one.key)]

    @property
    def states(self) -> Mapping[str, ServiceState]:
        return {one.svc: one.state for one in self.frame.snapshot.services}

    @property
    def picture(self) -> Picture | None:
        return draw_picture(build_graph(replace(self.topology, flows=self.work)), self.states)


def draw_picture(graph: Graph, states: Mapping[str, ServiceState]) -> Picture | None:
    """Return the picture of a graph, with the states of services; None if it has no arrows, or too many.

    A box without arrows is left out.
    """
    arrows = [(one.start, one.end) for one in graph.arrows]
    names = list(dict.fromkeys(name for arrow in arrows for name in arrow))
    if not names or len(names) > MAX_BOXES or len(arrows) > MAX_ARROWS:
        return None
    keys = {node.id: node for nodes in graph.keys.values() for node in nodes}
    column_of = find_columns(names, arrows, keys)
    if max(column_of.values()) >= MAX_COLUMNS:
        return None
    ways = [_find_way(start, end, column_of) for start, end in arrows]
    middles = _place_slots(list(column_of.items()), ways)
    nodes = keys | {node.id: node for node in graph.services}
    boxes = [
        _make_box(nodes[name], _find_left(column), middles[name, column] - BOX_HEIGHT // 2, states)
        for name, column in column_of.items()
    ]
    wrong = {name for name in names if nodes[name].is_wrong}
    lines = [
        Line(_draw_line(way, middles), not wrong.isdisjoint(arrow))
        for way, arrow in zip(ways, arrows, strict=True)
    ]
    return Picture(
        max(box.x for box in boxes) + BOX_WIDTH + _MARGIN,
        max(middles.values()) + BOX_HEIGHT // 2 + _MARGIN,
        tuple(boxes),
        tuple(sorted(lines, key=lambda line: line.is_wrong)),  # what is wrong lies above
    )


def find_columns(
    names: Iterable[str], arrows: Sequence[tuple[str, str]], keys: Mapping[str, Node]
) -> dict[str, int]:
    """Return the column of each box: behind all that lead to it, unless they are in a circle with it.

    A circle begins at its first box. A key is never in the first column, which is that of services. A box to
    which nothing leads is in the column before the first box that it leads to.
    """
    before = {name: [start for start, end in arrows if end == name] for name in names}
    columns: dict[str, int] = {}
    waiting = dict.fromkeys(before)
    while waiting:
        free = (name for name in waiting if waiting.keys().isdisjoint(before[name]))
        name = next(free, next(iter(waiting)))
        del waiting[name]
        columns[name] = max(
            [int(name in keys), *(1 + columns[one] for one in before[name] if one in columns)]
        )
    for name, some in before.items():
        if not some:
            columns[name] = min(columns[end] for start, end in arrows if start == name) - 1
    first = min(columns.values())
    return {name: columns[name] - first for name in before}


def _find_way(start: str, end: str, column_of: Mapping[str, int]) -> list[Slot]:
    """Return the slots of a line from box to box, one in each column."""
    step = 1 if column_of[start] < column_of[end] else -1
    passed = range(column_of[start], column_of[end], step)
    return [*((start, column) for column in passed), (end, column_of[end])]


def _place_slots(boxes: Sequence[Slot], ways: Iterable[Sequence[Slot]]) -> dict[Slot, int]:
    """Return the height of the middle of each slot.

    Each one goes as near to the mean of its neighbours as those above it leave room, from column to column,
    there and back.
    """
    near: dict[Slot, dict[Slot, None]] = {slot: {} for slot in boxes}
    for one, two in (pair for way in ways for pair in pairwise(way)):
        near.setdefault(one, {})[two] = None
        near.setdefault(two, {})[one] = None
    half = dict.fromkeys(near, _LINE_HEIGHT / 2) | dict.fromkeys(boxes, BOX_HEIGHT / 2)
    columns = [[slot for slot in near if slot[1] == column] for column in sorted({slot[1] for slot in near})]
    y: dict[Slot, float] = {}
    for slots in (*columns, *columns[::-1]) * _SWEEPS:
        wanted = {
            slot: fmean([y[one] for one in near[slot] if one in y] or [y.get(slot, 0.0)]) for slot in slots
        }
        top = float("-inf")
        for slot in sorted(slots, key=lambda slot: wanted[slot]):
            y[slot] = max(wanted[slot], top + half[slot])
            top = y[slot] + half[slot] + _ROW_GAP
        shift = fmean(y[slot] - wanted[slot] for slot in slots)
        y |= {slot: y[slot] - shift for slot in slots}
    above = min(y[slot] - half[slot] for slot in y) - _MARGIN
    return {slot: round(middle - above) for slot, middle in y.items()}


def _find_left(column: int) -> int:
    return _MARGIN + column * (BOX_WIDTH + _COLUMN_GAP)


def _draw_line(way: Sequence[Slot], middles: Mapping[Slot, int]) -> str:
    """Return a line from box to box with its head: it rises and falls only between two columns."""
    step = way[1][1] - way[0][1]
    x, y = _find_left(way[0][1]) + (BOX_WIDTH if step > 0 else 0), middles[way[0]]
    path = f"M{x} {y}"
    for slot in way[1:]:
        bend, end, new = x + step * _COLUMN_GAP // 2, x + step * _COLUMN_GAP, middles[slot]
        path += f"C{bend} {y} {bend} {new} {end} {new}"
        x, y = end + step * BOX_WIDTH, new
        path += (
            f"H{x}"
            if slot is not way[-1]
            else f"M{end - 6 * step} {y - 4}L{end} {y}L{end - 6 * step} {y + 4}"
        )
    return path


def _make_box(node: Node, x: int, y: int, states: Mapping[str, ServiceState]) -> Box:
    flow = node.flow
    if flow is None:
        state = states.get(node.name, ServiceState.UNKNOWN)
        return Box(x, y, _cut(node.name), "" if state is ServiceState.UP else state, state)
    behind = max((reader.lag or 0 for reader in flow.readers), default=0)
    rate = f", {format_rate(flow.rate)}" if flow.rate else ""
    text = f"{flow.bus}, {behind} behind" if behind else f"{flow.bus}{rate}"
    return Box(x, y, _cut(node.name), _cut(text, _TEXT), None, node.is_wrong)


def _cut(text: str, length: int = _LABEL) -> str:
    text = escape_text(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"
