"""The layout of a graph in columns."""

import re
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.board.fleet.layered_layout import (
    BOX_HEIGHT,
    BOX_WIDTH,
    MAX_BOXES,
    MAX_COLUMNS,
    Edge,
    Layout,
    Name,
    find_back_edges,
    find_columns,
    lay_out,
)

NUMBER = re.compile(r"[MLHVCQ]|-?\d+")
GRAPHS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), min_size=1, max_size=40, unique=True
)


def name(number: int) -> Name:
    return "svc", f"s{number}"


def key(number: int) -> Name:
    return "key", f"k{number}"


def graph(*pairs: str) -> tuple[list[Name], list[Edge]]:
    """Return the graph of some `a>b`: a name that begins with k is a key."""
    edges = [
        (("key" if one[0] == "k" else "svc", one), ("key" if two[0] == "k" else "svc", two))
        for one, two in (pair.split(">") for pair in pairs)
    ]
    return list(dict.fromkeys(end for edge in edges for end in edge)), edges


def make(edges: list[Edge]) -> Layout | None:
    names = list(dict.fromkeys(end for edge in edges for end in edge))
    return lay_out(names, edges, {each for each in names if each[0] == "key"})


def points(path: str) -> Iterator[tuple[float, float]]:
    """Yield points of an SVG path, close to each other; every command in it is absolute."""
    parts = NUMBER.findall(path)
    x = y = 0.0
    at = 0
    while at < len(parts):
        command, at = parts[at], at + 1
        count = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "Q": 4}[command]
        values = [float(each) for each in parts[at : at + count]]
        at += count
        if command == "H":
            values = [values[0], y]
        if command == "V":
            values = [x, values[0]]
        corners = [(x, y), *zip(values[::2], values[1::2], strict=True)]
        for step in range(1, 41) if command != "M" else (40,):
            yield curve(corners, step / 40)
        x, y = corners[-1]


def curve(corners: list[tuple[float, float]], part: float) -> tuple[float, float]:
    """Return the point of a Bézier curve."""
    while len(corners) > 1:
        corners = [(x1 + (x2 - x1) * part, y1 + (y2 - y1) * part) for (x1, y1), (x2, y2) in pairwise(corners)]
    return corners[0]


def check(layout: Layout) -> None:
    """Hold that no boxes overlap, that all is inside, and that no line is inside of a box."""
    boxes = list(layout.places.values())
    for number, (x, y) in enumerate(boxes):
        assert 0 <= x <= layout.width - BOX_WIDTH
        assert 0 <= y <= layout.height - BOX_HEIGHT
        for x2, y2 in boxes[number + 1 :]:
            assert abs(x - x2) >= BOX_WIDTH or abs(y - y2) >= BOX_HEIGHT + 8
    for edge, path in layout.paths.items():
        for x, y in points(path):
            assert 0 <= x <= layout.width, edge
            assert 0 <= y <= layout.height, edge
            for left, top in boxes:
                assert not (left < x < left + BOX_WIDTH and top < y < top + BOX_HEIGHT), (edge, x, y)


def test_nothing_has_no_layout_and_neither_has_too_much():
    assert lay_out([], []) is None
    assert lay_out([name(number) for number in range(MAX_BOXES + 1)], []) is None
    assert make([(name(one), key(two)) for one in range(30) for two in range(30)]) is None
    chain = [edge for n in range(MAX_COLUMNS) for edge in ((name(n), key(n)), (key(n), name(n + 1)))]
    assert make(chain) is None
    assert make(chain[: MAX_COLUMNS - 1]) is not None


def test_each_box_is_behind_what_leads_to_it_and_near_to_what_it_leads_to():
    names, edges = graph("a>k1", "k1>b", "b>k2", "k2>c", "d>k3", "k3>c")
    columns = find_columns(names, edges, {each for each in names if each[0] == "key"})
    assert {text: column for (_, text), column in columns.items()} == {
        "a": 0,
        "k1": 1,
        "b": 2,
        "k2": 3,
        "c": 4,
        "d": 0,
        "k3": 1,
    }
    names, edges = graph("a>k1", "k1>b", "b>k2", "d>k2")
    assert find_columns(names, edges)["svc", "d"] == 2


def test_a_cycle_is_opened_at_the_edge_that_leads_back():
    names, edges = graph("a>k1", "k1>b", "b>k2", "k2>a", "b>k3")
    assert find_back_edges(names, edges) == {(("key", "k2"), ("svc", "a"))}
    names, edges = graph("a>k1", "k1>b", "k1>c")
    assert find_back_edges(names, edges) == set()


def test_an_edge_that_leads_back_is_drawn_below_all_between():
    layout = make(graph("a>k1", "k1>b", "b>k2", "k2>a", "a>k3", "a>k4")[1])
    assert layout is not None
    lowest = max(y for _, y in layout.places.values()) + BOX_HEIGHT
    path = layout.paths[("key", "k2"), ("svc", "a")]
    assert max(y for _, y in points(path)) > lowest
    check(layout)


def test_a_long_edge_passes_between_the_boxes():
    layout = make(
        graph("a>k1", "k1>b", "b>k2", "k2>c", "b>k3", "k3>c", "k1>c", "b>k4", "a>k5", "k5>d", "d>k4")[1]
    )
    assert layout is not None
    check(layout)


def test_lines_do_not_cross_where_they_need_not():
    layout = make(graph(*["a>k1", "a>k2", "b>k3", "b>k4", "k4>c", "k1>d", "k3>c", "k2>d", "c>k5", "d>k5"])[1])
    assert layout is not None
    at = {text: y for (_, text), (_, y) in layout.places.items()}
    assert (at["a"] < at["b"]) == (at["d"] < at["c"]) == (max(at["k1"], at["k2"]) < min(at["k3"], at["k4"]))


def test_a_service_that_reads_what_it_writes_is_drawn():
    layout = make(graph("a>k1", "k1>a")[1])
    assert layout is not None
    check(layout)


@given(GRAPHS)
def test_no_boxes_overlap_and_no_line_crosses_a_box(pairs: list[tuple[int, int, bool]]):
    edges = [(name(one), key(two)) if writes else (key(two), name(one)) for one, two, writes in pairs]
    layout = make(edges)
    if layout is None:
        columns = find_columns(*_without_cycles(edges))
        assert max(columns.values()) >= MAX_COLUMNS - 1
        return
    assert layout.paths.keys() == set(edges)
    check(layout)
    assert make(edges) == layout


def _without_cycles(edges: list[Edge]) -> tuple[list[Name], list[Edge]]:
    names = list(dict.fromkeys(end for edge in edges for end in edge))
    back = find_back_edges(names, edges)
    return names, [edge for edge in edges if edge not in back]


FLEETS = {
    "one key": [(name(n), key(0)) for n in range(100)] + [(key(0), name(n)) for n in range(100, 200)],
    "pairs": [edge for n in range(0, 200, 2) for edge in ((name(n), key(n)), (key(n), name(n + 1)))],
    "a web": [
        edge
        for n in range(200)
        for edge in ((name(n), key(n % 190)), *((key(n * 7 % 190), name(n)) for _ in (0,)))
    ],
    "levels": [
        edge
        for n in range(150)
        for edge in (
            (name(n), key(n)),
            *((key(n), name(n - n % 30 + 30 + other % 30)) for other in (n, n * 7) if n < 150),
        )
    ],
}


@pytest.mark.parametrize("edges", FLEETS.values(), ids=FLEETS)
def test_two_hundred_services_are_drawn_soon_in_a_picture_of_limited_size(edges: list[Edge]):
    edges = list(dict.fromkeys(edges))
    begun = time.process_time()
    layout = make(edges)
    took_sec = time.process_time() - begun
    assert took_sec < 1
    if layout is not None:
        assert layout.width < MAX_COLUMNS * 2 * BOX_WIDTH
        assert layout.height < 200 * 2 * BOX_HEIGHT
