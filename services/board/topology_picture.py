"""Lay out the flow of data as a picture: services and keys as boxes in columns, from left to right. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # pages.py has the filters of view.py, and so this module
    from services.board.pages import FlowLine

MAX_NODES: Final = 120
"""A picture with more boxes could not be read."""
_NODE_WIDTH, _NODE_HEIGHT = 184, 40
_COLUMN_GAP, _ROW_GAP, _MARGIN = 64, 14, 4
_LABEL: Final = 24  # characters that fit into a box
_TEXT: Final = 27  # of the second line, which is smaller
_SWEEPS: Final = 4


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
class Edge:
    """A line between two boxes, as the path of an SVG."""

    path: str
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """The boxes and lines of a picture, and its size in pixels."""

    width: int
    height: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    node_width: int = _NODE_WIDTH
    node_height: int = _NODE_HEIGHT


_Name = tuple[str, str]  # the kind of a box, and its name
_Pair = tuple[_Name, _Name]


def draw_picture(lines: Sequence["FlowLine"]) -> Picture | None:
    """Return the picture of some flows; None if there are none, or too many to be read."""
    edges = _list_edges(lines)
    names = list(dict.fromkeys(name for edge in edges for name in edge))
    if not names or len(names) > MAX_NODES:
        return None
    places = _place_boxes(names, edges)
    keys = {_key_name(line): line for line in lines}
    states = {("svc", end.svc): str(end.state) for line in lines for end in (*line.writers, *line.readers)}
    nodes = tuple(_make_node(name, places[name], keys, states) for name in names)
    return Picture(
        width=max(x for x, _ in places.values()) + _NODE_WIDTH + _MARGIN,
        height=max(y for _, y in places.values()) + _NODE_HEIGHT + _MARGIN,
        nodes=nodes,
        edges=tuple(
            _draw_edge(places[one], places[two], edge_is_wrong(one, two, keys)) for one, two in edges
        ),
    )


def edge_is_wrong(one: _Name, two: _Name, keys: Mapping[_Name, "FlowLine"]) -> bool:
    """Return True if something is wrong with the key at the one end."""
    line = keys.get(one) or keys.get(two)
    return line is not None and bool(line.faults)


def _list_edges(lines: Iterable["FlowLine"]) -> list[_Pair]:
    """Return who writes and reads what, each pair once."""
    found: dict[_Pair, None] = {}
    for line in lines:
        key = _key_name(line)
        found |= {(("svc", end.svc), key): None for end in line.writers}
        found |= {(key, ("svc", end.svc)): None for end in line.readers}
    return list(found)


def _key_name(line: "FlowLine") -> _Name:
    """Return the name of a key's box: two buses may have the same key."""
    return "key", f"{line.bus} {line.key}"


def _place_boxes(names: Sequence[_Name], edges: Sequence[_Pair]) -> dict[_Name, tuple[int, int]]:
    """Return the place of each box: in a column behind all that it follows, near to its neighbours."""
    ranks = _rank(names, edges)
    columns: dict[int, list[_Name]] = {}
    for name in names:
        columns.setdefault(ranks[name], []).append(name)
    near: dict[_Name, list[_Name]] = {name: [] for name in names}
    for one, two in edges:
        near[one].append(two)
        near[two].append(one)
    tallest = max(map(len, columns.values()))
    rows = {
        name: _centre(row, len(column), tallest)
        for column in columns.values()
        for row, name in enumerate(column)
    }
    for _ in range(_SWEEPS):
        for rank in sorted(columns):
            columns[rank].sort(
                key=lambda name: sum(rows[each] for each in near[name]) / max(1, len(near[name]))
            )
            rows |= {
                name: _centre(row, len(columns[rank]), tallest) for row, name in enumerate(columns[rank])
            }
    step_x, step_y = _NODE_WIDTH + _COLUMN_GAP, _NODE_HEIGHT + _ROW_GAP
    order = {rank: place for place, rank in enumerate(sorted(columns))}
    return {
        name: (_MARGIN + order[ranks[name]] * step_x, _MARGIN + int(rows[name] * step_y)) for name in names
    }


def _centre(row: int, count: int, tallest: int) -> float:
    """Return the row of a box in a column of `count` boxes beside one of `tallest`."""
    return row + (tallest - count) / 2


def _rank(names: Sequence[_Name], edges: Sequence[_Pair]) -> dict[_Name, int]:
    """Return the column of each box: one behind the last that leads to it, on ways without circles."""
    back = _find_back_edges(names, edges)
    onward = [edge for edge in edges if edge not in back]
    ranks = dict.fromkeys(names, 0)
    for _ in names:  # no way is longer
        before = dict(ranks)
        for one, two in onward:
            ranks[two] = max(ranks[two], ranks[one] + 1)
        if ranks == before:
            break
    return ranks


def _find_back_edges(names: Sequence[_Name], edges: Sequence[_Pair]) -> set[_Pair]:
    """Return edges without which there is no circle: those that lead back to where a walk came from.

    The walks begin at boxes to which nothing leads, then at the others in their order.
    """
    following: dict[_Name, list[_Name]] = {name: [] for name in names}
    for one, two in edges:
        following[one].append(two)
    led_to = {two for _, two in edges}
    found: set[_Pair] = set()
    done: set[_Name] = set()
    for start in sorted(names, key=lambda name: name in led_to):
        walk = [] if start in done else [(start, iter(following[start]))]
        here = {name for name, _ in walk}
        while walk:
            name, rest = walk[-1]
            after = next(rest, None)
            if after is None:
                done.add(name)
                here.discard(name)
                walk.pop()
            elif after in here:
                found.add((name, after))
            elif after not in done:
                here.add(after)
                walk.append((after, iter(following[after])))
    return found


def _make_node(
    name: _Name, place: tuple[int, int], keys: Mapping[_Name, "FlowLine"], states: Mapping[_Name, str]
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


def _draw_edge(one: tuple[int, int], two: tuple[int, int], is_wrong: bool) -> Edge:
    """Return the line from the right of one box to the left of another, or back from left to right."""
    is_back = two[0] < one[0]
    x1, x2 = (one[0], two[0] + _NODE_WIDTH) if is_back else (one[0] + _NODE_WIDTH, two[0])
    y1, y2 = one[1] + _NODE_HEIGHT // 2, two[1] + _NODE_HEIGHT // 2
    bend = (x2 - x1) // 2
    return Edge(f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}", is_wrong)
