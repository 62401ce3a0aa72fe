"""Lay out a directed graph in columns from left to right, so that no line crosses a box. Pure.

The method is Sugiyama's: leave out the edges that close a cycle, put each box into a column behind all that
lead to it, let a long line pass through each column between in a row of its own, order the rows so that few
lines cross, and move them near to their neighbours. An edge that closes a cycle is drawn round, below all
boxes between its ends. The same graph always has the same layout.
"""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

BOX_WIDTH: Final = 184
BOX_HEIGHT: Final = 40
COLUMN_GAP: Final = 72
ROW_GAP: Final = 14
MARGIN: Final = 4
MAX_BOXES: Final = 400
MAX_EDGES: Final = 800
MAX_COLUMNS: Final = 16
SHELF_WIDTH: Final = 1240
"""Parts that are not connected stand beside each other up to this width, in pixels."""
_LINE_HEIGHT: Final = 4  # of the row of a line in a column
_LANE_GAP: Final = 14
_LANES_APART: Final = 4  # how many lines go down or up beside each other
_LOOP_MARGIN: Final = 44  # beside a part with lines that are drawn round
_PART_GAP: Final = 36
_SWEEPS: Final = 8
_HEAD: Final = 6  # of an arrow
_STEP: Final = BOX_WIDTH + COLUMN_GAP
Name = tuple[str, str]
"""The kind of a box, and its name."""
Edge = tuple[Name, Name]
Point = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Line:
    """Stand for the lines from one box where they pass through a column."""

    start: Name
    column: int


Row = Name | Line


@dataclass(frozen=True, slots=True)
class Layout:
    """Hold the upper left corner of each box, the path (SVG) of each edge, and the size, all in pixels."""

    width: int
    height: int
    places: Mapping[Name, Point]
    paths: Mapping[Edge, str]


def lay_out(names: Sequence[Name], edges: Sequence[Edge], second: Collection[Name] = ()) -> Layout | None:
    """Return the layout of a graph; None if it is empty or too large to be read.

    Args:
        names: the boxes.
        edges: pairs of boxes, each pair once.
        second: the boxes that are never in the first column.
    """
    if not names or len(names) > MAX_BOXES or len(edges) > MAX_EDGES:
        return None
    parts = [
        _GraphPart(some, [edge for edge in edges if edge[0] in some], second) for some in _split(names, edges)
    ]
    if max(part.columns for part in parts) > MAX_COLUMNS:
        return None
    for part in parts:
        part.arrange()
    return _pack(sorted(parts, key=lambda part: -len(part.names)))


def find_back_edges(names: Iterable[Name], edges: Iterable[Edge]) -> set[Edge]:
    """Return edges without which the graph has no cycles: those that lead back to where a walk came from."""
    after: dict[Name, list[Name]] = {name: [] for name in names}
    entered = set()
    for one, two in edges:
        after[one].append(two)
        entered.add(two)
    found: set[Edge] = set()
    seen: set[Name] = set()
    for start in sorted(after, key=lambda name: name in entered):
        if start in seen:
            continue
        seen.add(start)
        walk, here = [(start, iter(after[start]))], {start}
        while walk:
            name, rest = walk[-1]
            following = next(rest, None)
            if following is None:
                here.discard(name)
                walk.pop()
            elif following in here:
                found.add((name, following))
            elif following not in seen:
                seen.add(following)
                here.add(following)
                walk.append((following, iter(after[following])))
    return found


def find_columns(
    names: Iterable[Name], edges: Iterable[Edge], second: Collection[Name] = ()
) -> dict[Name, int]:
    """Return the column of each box of a graph without cycles: behind all that lead to it.

    A box to which nothing leads is moved right, to the column before the first box that it leads to.
    """
    before: dict[Name, list[Name]] = {name: [] for name in names}
    after: dict[Name, list[Name]] = {name: [] for name in before}
    for one, two in edges:
        before[two].append(one)
        after[one].append(two)
    columns = {name: int(name in second) for name in before}
    missing = {name: len(some) for name, some in before.items()}
    ready = [name for name, count in missing.items() if not count]
    for one in ready:  # grows
        for two in after[one]:
            columns[two] = max(columns[two], columns[one] + 1)
            missing[two] -= 1
            if not missing[two]:
                ready.append(two)
    for name, some in before.items():
        if not some and after[name]:
            columns[name] = min(columns[two] for two in after[name]) - 1
    first = min(columns.values())
    return {name: column - first for name, column in columns.items()}


def _split(names: Sequence[Name], edges: Iterable[Edge]) -> list[dict[Name, None]]:
    """Return the parts of a graph that are not connected with each other, in the order of their first box."""
    near: dict[Name, list[Name]] = {name: [] for name in names}
    for one, two in edges:
        near[one].append(two)
        near[two].append(one)
    parts: list[dict[Name, None]] = []
    seen: set[Name] = set()
    for start in names:
        if start in seen:
            continue
        part = {start: None}
        found = [start]
        for name in found:  # grows
            new = [other for other in near[name] if other not in part]
            part |= dict.fromkeys(new)
            found += dict.fromkeys(new)
        seen |= part.keys()
        parts.append({name: None for name in names if name in part})
    return parts


@dataclass(slots=True)
class _GraphPart:
    """A connected part of the graph, while it is laid out.

    A row of a column is a box or a line that passes: lines that come from the same box pass together. A box
    has its name, a line the pair of its first box and the column.
    """

    names: Collection[Name]
    edges: Sequence[Edge]
    second: Collection[Name]
    back: set[Edge] = field(init=False)
    column_of: dict[Name, int] = field(init=False)
    rows: list[list[Row]] = field(init=False)
    left: dict[Row, list[Row]] = field(default_factory=lambda: defaultdict(list))
    right: dict[Row, list[Row]] = field(default_factory=lambda: defaultdict(list))
    y: dict[Row, float] = field(default_factory=dict)
    """The middle of each row."""
    lanes: dict[Edge, float] = field(default_factory=dict)
    """The height of the lowest part of each line that is drawn round."""

    def __post_init__(self) -> None:
        self.back = find_back_edges(self.names, self.edges)
        forward = [edge for edge in self.edges if edge not in self.back]
        self.column_of = find_columns(self.names, forward, self.second)

    @property
    def columns(self) -> int:
        """The number of columns."""
        return 1 + max(self.column_of.values())

    def arrange(self) -> None:
        """Fill the columns, order their rows, and find the height of all."""
        self.rows = [[] for _ in range(self.columns)]
        for name in self.names:
            self.rows[self.column_of[name]].append(name)
        for edge in self.edges:
            if edge not in self.back:
                self._connect(self.passed(edge))
        self._order_rows()
        self._place_rows()
        self._place_lanes()

    def passed(self, edge: Edge) -> list[Row]:
        """Return the rows that an edge leads through, with its ends."""
        one, two = edge
        between = range(self.column_of[one] + 1, self.column_of[two])
        return [one, *(Line(one, column) for column in between), two]

    def _connect(self, rows: Sequence[Row]) -> None:
        """Make each row the neighbour of the next; new ones are the lines that pass."""
        for one, two in pairwise(rows):
            if isinstance(two, Line) and two not in self.left:
                self.rows[two.column].append(two)
            if two not in self.right[one]:
                self.right[one].append(two)
                self.left[two].append(one)

    def _order_rows(self) -> None:
        """Order the rows of each column so that few lines cross: try, and keep what was best."""
        best, fewest = [list(rows) for rows in self.rows], self._count_crossings()
        for sweep in range(_SWEEPS):
            if not fewest:
                break
            is_right = sweep % 2 == 0
            near = self.left if is_right else self.right
            for rows in self.rows if is_right else reversed(self.rows):
                at = {row: place for column in self.rows for place, row in enumerate(column)}
                rows.sort(key=lambda row: _mean([at[one] for one in near[row]], at[row]))
            crossings = self._count_crossings()
            if crossings < fewest:
                best, fewest = [list(rows) for rows in self.rows], crossings
        self.rows = best

    def _count_crossings(self) -> int:
        """Return how often lines between neighbouring columns cross."""
        count = 0
        for rows, following in pairwise(self.rows):
            at = {row: place for place, row in enumerate(following)}
            ends: list[int] = []
            for row in rows:
                mine = sorted(at[one] for one in self.right[row])
                count += sum(len(ends) - bisect_right(ends, end) for end in mine)
                for end in mine:
                    insort(ends, end)
        return count

    def _place_rows(self) -> None:
        """Move each row near to its neighbours, as far as its column has room."""
        for rows in self.rows:
            self.y |= zip(rows, _separate(rows, [0.0] * len(rows)), strict=True)
        both = {row: self.left[row] + self.right[row] for rows in self.rows for row in rows}
        for near in (self.left, self.right, self.left, both, both, both):
            for rows in reversed(self.rows) if near is self.right else self.rows:
                wanted = [_mean([self.y[one] for one in near[row]], self.y[row]) for row in rows]
                self.y |= zip(rows, _separate(rows, wanted), strict=True)
        top = min(self.y[row] - _height(row) / 2 for rows in self.rows for row in rows)
        self.y = {row: y - top for row, y in self.y.items()}

    # -- what is drawn, with the part's upper left corner at (x, y)

    @property
    def margin(self) -> int:
        """The room on both sides for lines that are drawn round."""
        return _LOOP_MARGIN if self.back else 0

    @property
    def width(self) -> int:
        """The width in pixels."""
        return self.columns * _STEP - COLUMN_GAP + 2 * self.margin

    def find_height(self) -> int:
        """Return the height in pixels, with the lines below the boxes."""
        lowest = max(y + _height(row) / 2 for row, y in self.y.items())
        return int(max([lowest + 1, *(lane + _LANE_GAP / 2 for lane in self.lanes.values())]))

    def place_boxes(self, x: int, y: int) -> Iterator[tuple[Name, Point]]:
        """Yield each box with its upper left corner."""
        for name in self.names:
            yield name, (self._find_x(name, x), y + round(self.y[name]) - BOX_HEIGHT // 2)

    def draw_edges(self, x: int, y: int) -> Iterator[tuple[Edge, str]]:
        """Yield each edge with its path."""
        for edge in self.edges:
            if edge in self.back:
                yield edge, self._draw_round(edge, x, y)
            else:
                yield edge, self._draw_through(self.passed(edge), x, y)

    def _find_x(self, row: Row, x: int) -> int:
        """Return the left end of a row."""
        column = row.column if isinstance(row, Line) else self.column_of[row]
        return x + self.margin + column * _STEP

    def _draw_through(self, rows: Sequence[Row], x: int, y: int) -> str:
        """Return a line through rows of neighbouring columns: it rises and falls between the columns only."""
        before, height = self._find_x(rows[0], x) + BOX_WIDTH, y + round(self.y[rows[0]])
        path = f"M{before} {height}"
        for row in rows[1:]:
            begin, new = self._find_x(row, x), y + round(self.y[row])
            middle = (before + begin) // 2
            path += f"C{middle} {height} {middle} {new} {begin} {new}"
            before, height = begin + BOX_WIDTH, new
            if isinstance(row, Line):
                path += f"H{before}"
        return path + _draw_head(before - BOX_WIDTH, height)

    def _place_lanes(self) -> None:
        """Find a lane for each line that is drawn round, the shortest first."""
        lowest = [max((self.y[row] + _height(row) / 2 for row in rows), default=0.0) for rows in self.rows]
        for one, two in sorted(
            (edge for edge in self.edges if edge in self.back),
            key=lambda edge: self.column_of[edge[0]] - self.column_of[edge[1]],
        ):
            first, last = self.column_of[two], self.column_of[one]
            lane = max(lowest[first : last + 1]) + _LANE_GAP
            lowest[first : last + 1] = [lane] * (last + 1 - first)
            self.lanes[one, two] = lane

    def _draw_round(self, edge: Edge, x: int, y: int) -> str:
        """Return a line from the right of a box, below all boxes, to the left of a box before it."""
        one, two = edge
        number = list(self.lanes).index(edge) % _LANES_APART
        begin, end = self._find_x(one, x) + BOX_WIDTH, self._find_x(two, x)
        right, left = begin + 14 + 7 * number, end - 14 - 7 * number
        y1, y2, low = y + round(self.y[one]), y + round(self.y[two]), y + round(self.lanes[edge])
        return (
            f"M{begin} {y1}H{right - 6}Q{right} {y1} {right} {y1 + 6}"
            f"V{low - 6}Q{right} {low} {right - 6} {low}"
            f"H{left + 6}Q{left} {low} {left} {low - 6}V{y2 + 6}Q{left} {y2} {left + 6} {y2}H{end}"
        ) + _draw_head(end, y2)


def _height(row: Row) -> int:
    """Return the height of a row."""
    return _LINE_HEIGHT if isinstance(row, Line) else BOX_HEIGHT


def _mean(values: Sequence[float], otherwise: float) -> float:
    """Return the mean of some values; `otherwise` if there are none."""
    return sum(values) / len(values) if values else otherwise


def _separate(rows: Sequence[Row], wanted: Sequence[float]) -> list[float]:
    """Return the middles of the rows of a column, in their order, as near to those wanted as they have room.

    This is the isotonic regression by pooling: neighbours that are too close to each other move together.
    """
    if not rows:
        return []
    offsets = [0.0]
    for one, two in pairwise(rows):
        offsets.append(offsets[-1] + (_height(one) + _height(two)) / 2 + ROW_GAP)
    pools: list[tuple[float, int]] = []  # the mean of some neighbours without their offsets, and their number
    for value, offset in zip(wanted, offsets, strict=True):
        mean, count = value - offset, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _draw_head(x: int, y: int) -> str:
    """Return the head of an arrow that ends at a point."""
    return f"M{x - _HEAD} {y - 4}L{x} {y}L{x - _HEAD} {y + 4}"


def _pack(parts: Iterable[_GraphPart]) -> Layout:
    """Return the layout of parts beside each other, in as many shelves as they need."""
    places: dict[Name, Point] = {}
    paths: dict[Edge, str] = {}
    x = y = MARGIN
    width = tallest = 0
    for part in parts:
        if x > MARGIN and x + part.width > SHELF_WIDTH:
            x, y, tallest = MARGIN, y + tallest + _PART_GAP, 0
        places |= part.place_boxes(x, y)
        paths |= part.draw_edges(x, y)
        x += part.width
        width, tallest = max(width, x), max(tallest, part.find_height())
        x += COLUMN_GAP
    return Layout(width + MARGIN, y + tallest + MARGIN, places, paths)
