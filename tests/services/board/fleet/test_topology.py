"""The picture of what flows."""

import re
from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from marketswarm.status.topology_view import FlowView, ReaderView
from services.board.fleet.frame import Frame
from services.board.fleet.topology import (
    BOX_HEIGHT,
    BOX_WIDTH,
    MAX_BOXES,
    MAX_COLUMNS,
    Picture,
    TopologyPage,
    draw_picture,
    find_columns,
    is_monitoring,
    lay_out,
)
from support.board_examples import make_small
from support.board_pages import FAULTS, make_flows

NUMBER = re.compile(r"[MLHC]|-?\d+")
EDGES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), min_size=1, max_size=40, unique=True
)


def line(key: str, writers: str = "", readers: str = "") -> FlowView:
    """Return a key with these writers and readers."""
    return FlowView("b", key, writers.split(), [ReaderView(svc) for svc in readers.split()])


def draw_small() -> Picture:
    """Return the picture of the work of a small fleet."""
    snapshot = make_small()
    page = TopologyPage(Frame("", "", snapshot, ""), make_flows(snapshot), FAULTS)
    assert page.picture is not None
    return page.picture


def places(*lines: FlowView) -> dict[str, tuple[int, int]]:
    """Return the place of each box."""
    picture = draw_picture(lines, {}, {})
    assert picture is not None
    return {node.label: (node.x, node.y) for node in picture.nodes}


def test_nothing_gives_no_picture_and_neither_does_too_much():
    assert draw_picture([], {}, {}) is None
    assert draw_picture([line("k")], {}, {}) is None
    assert draw_picture([line(f"k{n}", f"s{n}") for n in range(MAX_BOXES)], {}, {}) is None
    assert (
        draw_picture([line(f"k{n}", " ".join(f"s{n}" for n in range(30))) for n in range(30)], {}, {}) is None
    )
    chain = [line(f"k{n}", f"s{n}", f"s{n + 1}") for n in range(MAX_COLUMNS // 2)]
    assert draw_picture(chain, {}, {}) is None
    assert draw_picture(chain[1:], {}, {}) is not None


def test_each_box_is_to_the_right_of_what_it_follows():
    at = places(line("k1", "a", "b"), line("k2", "b", "c"), line("k3", "a", "c"))
    columns = {name: x for name, (x, _) in at.items()}
    assert columns["a"] < columns["k1"] < columns["b"] < columns["k2"] < columns["c"]
    assert columns["a"] < columns["k3"] < columns["c"]


def test_a_box_to_which_nothing_leads_is_near_to_what_it_leads_to():
    at = places(line("k1", "a", "b"), line("k2", "b d"))
    assert at["d"][0] == at["b"][0]


def test_lines_do_not_cross_where_they_need_not():
    lines = [
        line("k1", "a", "d"),
        line("k2", "a", "d"),
        line("k3", "b", "c"),
        line("k4", "b", "c"),
        line("k5", "c d"),
    ]
    at = {name: y for name, (_, y) in places(*lines).items()}
    assert (at["a"] < at["b"]) == (at["d"] < at["c"]) == (max(at["k1"], at["k2"]) < min(at["k3"], at["k4"]))


def list_points(path: str) -> Iterator[tuple[float, float]]:
    """Yield points of an SVG path, close to each other; every command in it is absolute."""
    parts, x, y, at = NUMBER.findall(path), 0.0, 0.0, 0
    while at < len(parts):
        count = {"M": 2, "L": 2, "H": 1, "C": 6}[parts[at]]
        values = [float(each) for each in parts[at + 1 : at + 1 + count]]
        values += [y] * (count == 1)
        corners = [(x, y), *zip(values[::2], values[1::2], strict=True)]
        for step in range(1, 41) if parts[at] != "M" else (40,):
            yield find_point(corners, step / 40)
        (x, y), at = corners[-1], at + 1 + count


def find_point(corners: list[tuple[float, float]], part: float) -> tuple[float, float]:
    """Return the point of a Bézier curve."""
    while len(corners) > 1:
        corners = [(x1 + (x2 - x1) * part, y1 + (y2 - y1) * part) for (x1, y1), (x2, y2) in pairwise(corners)]
    return corners[0]


@given(EDGES)
def test_no_boxes_overlap_and_no_line_crosses_a_box(pairs: list[tuple[int, int, bool]]):
    named = [(("svc", f"s{one}"), ("key", f"k{two}"), writes) for one, two, writes in pairs]
    edges = [(svc, key) if writes else (key, svc) for svc, key, writes in named]
    layout = lay_out(edges)
    if layout is None:
        assert max(find_columns([name for edge in edges for name in edge], edges).values()) >= MAX_COLUMNS
        return
    assert lay_out(edges) == layout
    boxes = list(layout.places.values())
    for number, (x, y) in enumerate(boxes):
        assert 0 <= x <= layout.width - BOX_WIDTH
        assert 0 <= y <= layout.height - BOX_HEIGHT
        for x2, y2 in boxes[number + 1 :]:
            assert abs(x - x2) >= BOX_WIDTH or abs(y - y2) >= BOX_HEIGHT + 8
    assert layout.paths.keys() == set(edges)
    for edge, path in layout.paths.items():
        for x, y in list_points(path):
            assert 0 <= x <= layout.width, edge
            assert 0 <= y <= layout.height, edge
            for left, top in boxes:
                assert not (left < x < left + BOX_WIDTH and top < y < top + BOX_HEIGHT), (edge, x, y)


def test_a_circle_begins_at_its_first_box():
    at = places(line("k1", "a", "b"), line("k2", "b", "a"))
    columns = {name: x for name, (x, _) in at.items()}
    assert columns["a"] < columns["k1"] < columns["b"] < columns["k2"]


def test_who_reads_what_it_writes_stands_behind_those_who_only_write():
    at = places(line("log", "healer sentinel", "notifier sentinel"), line("told", "notifier", "sentinel"))
    order = sorted(at, key=lambda name: at[name][0])
    assert order == ["healer", "log", "notifier", "told", "sentinel"]


def test_no_two_boxes_share_a_place_and_all_are_in_the_picture():
    picture = draw_small()
    taken = [(node.x, node.y) for node in picture.nodes]
    assert len(set(taken)) == len(taken) == 7
    assert all(x + picture.node_width <= picture.width for x, _ in taken)
    assert all(y + picture.node_height <= picture.height for _, y in taken)


def test_the_same_key_on_two_buses_is_two_boxes():
    lines = [line("k", "a"), FlowView("other", "k", ("a",))]
    picture = draw_picture(lines, {}, {})
    assert picture is not None
    assert [node.text for node in picture.nodes if node.kind == "key"] == ["b", "other"]


def test_what_is_wrong_and_who_is_down_is_marked():
    picture = draw_small()
    wrong = [node.label for node in picture.nodes if node.is_wrong]
    assert wrong == ["rss:items"]
    assert sum(edge.is_wrong for edge in picture.edges) == 2
    states = {node.label: node.state for node in picture.nodes if node.kind == "svc"}
    assert (states["rss_agg"], states["massive"]) == ("down", "up")


def test_a_long_name_is_cut():
    picture = draw_picture([line("k" * 60, "a")], {}, {})
    assert picture is not None
    assert picture.nodes[1].label == "k" * 23 + "…"


def test_keys_that_monitor_the_fleet_are_told_from_those_that_carry_its_work():
    monitoring = [one.key for one in make_flows(make_small()) if is_monitoring(one)]
    assert monitoring == ["healer:alerts", "mesh:topology"]
    assert [is_monitoring(line(key)) for key in ("health:*", "notifier:dead", "healers", "mesh:jobs")] == [
        True,
        True,
        False,
        False,
    ]


def test_lines_with_faults_are_drawn_over_the_others():
    picture = draw_picture([line("k1", "a"), line("k2", "a")], {("b", "k1"): ("slow",)}, {})
    assert picture is not None
    assert [edge.is_wrong for edge in picture.edges] == [False, True]
