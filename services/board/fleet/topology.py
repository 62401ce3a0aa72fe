"""Draw the flow of data: services and keys as boxes, who writes and reads what as lines. Pure.

Each box is in a column behind all that lead to it. An edge that closes a circle does not count for that, and
is drawn round below all boxes. A line that passes a column has a row of its own there: it crosses no box.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, Final

from marketswarm.keys import MESH_EVENTS, MESH_FLOW, MESH_TOPOLOGY, RESERVED_PREFIXES
from marketswarm.status.service_rows import ServiceState
from marketswarm.status.topology_view import FlowView
from services.board.fleet.frame import Frame

_MESH_KEYS: Final = (MESH_TOPOLOGY, MESH_EVENTS, MESH_FLOW)
Place = tuple[str, str]  # A bus and a key on it
BOX_WIDTH: Final = 184
BOX_HEIGHT: Final = 40
MAX_BOXES: Final = 400
MAX_EDGES: Final = 800
MAX_COLUMNS: Final = 16
_COLUMN_GAP: Final = 72
_STEP: Final = BOX_WIDTH + _COLUMN_GAP
_ROW_GAP: Final = 14
_LINE_HEIGHT: Final = 4  # of the row of a line in a column
_BEND: Final = 44  # how far a line that is drawn round leaves the columns
_MARGIN: Final = 4
_SWEEPS: Final = 3
_LABEL: Final = 24  # characters that fit into a box
_TEXT: Final = 27  # of the second line, which is smaller
Name = tuple[str, str]  # the kind of a box, and its name
Edge = tuple[Name, Name]
Slot = tuple[Name, int]
"""A place in a column: a box, or the lines that come from one where they pass a later column."""


def is_monitoring(flow: FlowView) -> bool:
    """Return True if a key serves to monitor the fleet, and carries none of its work."""
    return is_monitoring_key(flow.key)


def is_monitoring_key(key: str) -> bool:
    return key.startswith(RESERVED_PREFIXES) or key in _MESH_KEYS


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
class Layout:
    """The upper left corner of each box, the path (SVG) of each edge, and the size, all in pixels."""

    width: int
    height: int
    places: Mapping[Name, tuple[int, int]]
    paths: Mapping[Edge, str]


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
    flows: Sequence[FlowView], faults: Mapping[tuple[str, str], Sequence[str]], states: Mapping[str, str]
) -> Picture | None:
    """Return None if there are no flows, or too many to be read; `faults` are by bus and name of a key."""
    edges = _list_edges(flows)
    keys = {_key_name(flow): flow for flow in flows}
    wrong = {name for name, flow in keys.items() if faults.get((flow.bus, flow.key))}
    layout = lay_out(edges)
    if layout is None:
        return None
    nodes = []
    for name, place in layout.places.items():
        if name in keys:
            nodes.append(_make_key(keys[name], place, is_wrong=name in wrong))
        else:
            state = states.get(name[1], "unknown")
            nodes.append(Node("svc", _cut(name[1]), "" if state == "up" else state, state, *place))
    lines = (PictureEdge(path, not wrong.isdisjoint(edge)) for edge, path in layout.paths.items())
    drawn = sorted(lines, key=lambda line: line.is_wrong)  # what is wrong lies above
    return Picture(layout.width, layout.height, tuple(nodes), tuple(drawn))


@dataclass(frozen=True, slots=True)
class TopologyPage:
    """The flow of data; `faults` has what is wrong with a key, in words, by its bus and name.

    `notes` say what limits the page, such as a mesh that is away.
    """

    template: ClassVar = "topology.html"
    frame: Frame
    flows: tuple[FlowView, ...] = ()
    faults: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def work(self) -> tuple[FlowView, ...]:
        return tuple(one for one in self.flows if not is_monitoring(one))

    @property
    def monitoring(self) -> tuple[FlowView, ...]:
        return tuple(one for one in self.flows if is_monitoring(one))

    @property
    def states(self) -> Mapping[str, ServiceState]:
        return {one.svc: one.state for one in self.frame.snapshot.services}

    @property
    def picture(self) -> Picture | None:
        return draw_picture(self.work, self.faults, self.states)


def lay_out(edges: Sequence[Edge]) -> Layout | None:
    """Return the layout of the boxes that edges connect; None if there are none, or too many to be read."""
    names = list(dict.fromkeys(name for edge in edges for name in edge))
    if not names or len(names) > MAX_BOXES or len(edges) > MAX_EDGES:
        return None
    column_of = find_columns(names, edges)
    count = 1 + max(column_of.values())
    if count > MAX_COLUMNS:
        return None
    ways: dict[Edge, list[Slot]] = {}
    for one, two in edges:
        between = range(column_of[one], column_of[two])
        if between:
            ways[one, two] = [*((one, column) for column in between), (two, column_of[two])]
    middles = _place_slots(list(column_of.items()), ways.values(), count)
    rounds = [edge for edge in edges if edge not in ways]
    left = _MARGIN + (_BEND if rounds else 0)
    bottom = max(middle + BOX_HEIGHT // 2 for middle in middles.values())
    paths = {edge: _draw_through(way, middles, left) for edge, way in ways.items()}
    for number, (one, two) in enumerate(rounds, 1):
        begin = left + column_of[one] * _STEP + BOX_WIDTH, middles[one, column_of[one]]
        end = left + column_of[two] * _STEP, middles[two, column_of[two]]
        paths[one, two] = _draw_round(begin, end, bottom + number * _ROW_GAP)
    return Layout(
        2 * left + count * _STEP - _COLUMN_GAP,
        bottom + len(rounds) * _ROW_GAP + _MARGIN,
        {
            name: (left + column * _STEP, middles[name, column] - BOX_HEIGHT // 2)
            for name, column in column_of.items()
        },
        {edge: paths[edge] for edge in edges},
    )


def find_columns(names: Iterable[Name], edges: Iterable[Edge]) -> dict[Name, int]:
    """Return the column of each box: behind all that lead to it, unless they are in a circle with it.

    A circle begins at its first box. A key is never in the first column, which is that of services. A box to
    which nothing leads is in the column before the first box that it leads to.
    """
    before: dict[Name, list[Name]] = {name: [] for name in names}
    after: dict[Name, list[Name]] = {name: [] for name in before}
    for one, two in edges:
        before[two].append(one)
        after[one].append(two)
    columns: dict[Name, int] = {}
    waiting = dict.fromkeys(before)
    while waiting:
        free = (name for name in waiting if waiting.keys().isdisjoint(before[name]))
        name = next(free, next(iter(waiting)))
        del waiting[name]
        columns[name] = max(
            [int(name[0] == "key"), *(1 + columns[one] for one in before[name] if one in columns)]
        )
    for name, some in before.items():
        if not some and after[name]:
            columns[name] = min(columns[two] for two in after[name]) - 1
    first = min(columns.values())
    return {name: columns[name] - first for name in before}


def _place_slots(boxes: Sequence[Slot], ways: Iterable[Sequence[Slot]], count: int) -> dict[Slot, int]:
    """Return the height of the middle of each box, and of each line that passes a column.

    Each one goes as near to the mean of its neighbours as those above it leave room, from column to column,
    there and back.
    """
    columns: list[dict[Slot, None]] = [{} for _ in range(count)]
    near: dict[Slot, list[Slot]] = defaultdict(list)
    for slot in (*boxes, *(slot for way in ways for slot in way)):
        columns[slot[1]][slot] = None
    for one, two in dict.fromkeys(pair for way in ways for pair in pairwise(way)):
        near[one].append(two)
        near[two].append(one)
    boxed = set(boxes)
    half = {slot: (BOX_HEIGHT if slot in boxed else _LINE_HEIGHT) / 2 for slots in columns for slot in slots}
    y: dict[Slot, float] = {}
    for slots in (*columns, *columns[::-1]) * _SWEEPS:
        wanted = {slot: _mean([y[one] for one in near[slot] if one in y], y.get(slot, 0.0)) for slot in slots}
        top = float("-inf")
        for slot in sorted(slots, key=lambda slot: wanted[slot]):
            y[slot] = max(wanted[slot], top + half[slot])
            top = y[slot] + half[slot] + _ROW_GAP
        shift = _mean([y[slot] - wanted[slot] for slot in slots], 0.0)
        y |= {slot: y[slot] - shift for slot in slots}
    above = min(y[slot] - half[slot] for slot in y) - _MARGIN
    return {slot: round(middle - above) for slot, middle in y.items()}


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _draw_through(way: Sequence[Slot], middles: Mapping[Slot, int], left: int) -> str:
    """Return a line through columns: it rises and falls between them only."""
    x, y = left + way[0][1] * _STEP + BOX_WIDTH, middles[way[0]]
    path = f"M{x} {y}"
    for slot in way[1:]:
        middle, begin, new = x + _COLUMN_GAP // 2, x + _COLUMN_GAP, middles[slot]
        path += f"C{middle} {y} {middle} {new} {begin} {new}"
        x, y = begin + BOX_WIDTH, new
        path += "" if slot is way[-1] else f"H{x}"
    return path + _draw_head(x - BOX_WIDTH, y)


def _draw_round(begin: tuple[int, int], end: tuple[int, int], low: int) -> str:
    """Return a line from the right of a box, below all boxes, to the left of a box that is not behind it."""
    (x1, y1), (x2, y2) = begin, end
    right, left = x1 + _BEND, x2 - _BEND
    down = f"M{x1} {y1}C{right} {y1} {right} {low} {x1} {low}"
    return f"{down}H{x2}C{left} {low} {left} {y2} {x2} {y2}" + _draw_head(x2, y2)


def _draw_head(x: int, y: int) -> str:
    return f"M{x - 6} {y - 4}L{x} {y}L{x - 6} {y + 4}"


def _list_edges(flows: Iterable[FlowView]) -> list[Edge]:
    found: dict[Edge, None] = {}
    for flow in flows:
        key = _key_name(flow)
        found |= {(("svc", svc), key): None for svc in flow.writers}
        found |= {(key, ("svc", reader.svc)): None for reader in flow.readers}
    return list(found)


def _key_name(flow: FlowView) -> Name:
    """Return the name of a key's box; two buses may have the same key."""
    return "key", f"{flow.bus} {flow.key}"


def _make_key(flow: FlowView, place: tuple[int, int], *, is_wrong: bool) -> Node:
    behind = max((reader.lag or 0 for reader in flow.readers), default=0)
    rate = f", {flow.rate:.1f}/s" if flow.rate else ""
    text = _cut(f"{flow.bus}, {behind} behind" if behind else f"{flow.bus}{rate}", _TEXT)
    return Node("key", _cut(flow.key), text, "", *place, is_wrong=is_wrong)


def _cut(text: str, length: int = _LABEL) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
