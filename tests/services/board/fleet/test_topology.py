"""The picture of what flows."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from marketswarm.status.service_rows import ServiceState
from marketswarm.status.topology_graph import Graph, build_graph
from marketswarm.status.topology_view import FlowView, ReaderView, ServiceView, TopologyView
from marketswarm.truth.flows import FlowFault
from services.board.fleet.frame import Frame
from services.board.fleet.topology import (
    BOX_HEIGHT,
    BOX_WIDTH,
    MAX_BOXES,
    MAX_COLUMNS,
    Picture,
    TopologyPage,
    draw_picture,
    is_monitoring_key,
)
from support.board_examples import make_small
from support.board_pages import make_flows, make_topology

NUMBER = re.compile(r"[MLHC]|-?\d+")
EDGES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), min_size=1, max_size=40, unique=True
)


def line(key: str, writers: str = "", readers: str = "") -> FlowView:
    """Return a key with these writers and readers."""
    return FlowView("b", key, writers.split(), [ReaderView(svc) for svc in readers.split()])


def graph(*flows: FlowView, wrong: str = "") -> Graph:
    """Return the graph of these flows; the key `wrong` has a problem."""
    names = {svc for flow in flows for svc in (*flow.writers, *(one.svc for one in flow.readers))}
    problems = [FlowFault("slow", "b", wrong, None, "slow")]
    return build_graph(TopologyView(1, True, [*map(ServiceView, sorted(names))], flows, problems, ()))


def draw(*flows: FlowView, wrong: str = "") -> Picture:
    picture = draw_picture(graph(*flows, wrong=wrong), {})
    assert picture is not None
    return picture


def draw_small() -> Picture:
    """Return the picture of the work of a small fleet."""
    snapshot = make_small()
    page = TopologyPage(Frame("", "", snapshot, ""), make_topology(snapshot))
    assert page.picture is not None
    return page.picture


def places(*flows: FlowView) -> dict[str, tuple[int, int]]:
    """Return the place of each box."""
    return {box.name: (box.x, box.y) for box in draw(*flows).boxes}


def test_nothing_gives_no_picture_and_neither_does_too_much():
    many = " ".join(f"s{n}" for n in range(30))
    for flows in (
        [],
        [line("k")],
        [line(f"k{n}", f"s{n}") for n in range(MAX_BOXES)],
        [line(f"k{n}", many) for n in range(30)],
    ):
        assert draw_picture(graph(*flows), {}) is None
    chain = [line(f"k{n}", f"s{n}", f"s{n + 1}") for n in range(MAX_COLUMNS // 2)]
    assert draw_picture(graph(*chain), {}) is None
    assert draw_picture(graph(*chain[1:]), {}) is not None


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
def test_no_boxes_overlap_and_each_line_leads_from_box_to_box_across_no_other(
    pairs: list[tuple[int, int, bool]],
):
    flows = [
        line(
            f"k{key}",
            " ".join(f"s{svc}" for svc, other, writes in pairs if other == key and writes),
            " ".join(f"s{svc}" for svc, other, writes in pairs if other == key and not writes),
        )
        for key in {key for _, key, _ in pairs}
    ]
    picture = draw_picture(graph(*flows), {})
    if picture is None:  # too many columns, which takes as many boxes
        assert len({(svc, "s") for svc, _, _ in pairs} | {key for _, key, _ in pairs}) > MAX_COLUMNS
        return
    assert draw_picture(graph(*flows), {}) == picture
    boxes = {box.name: (box.x, box.y) for box in picture.boxes}
    for (x, y), (x2, y2) in combinations(boxes.values(), 2):
        assert abs(x - x2) >= BOX_WIDTH or abs(y - y2) >= BOX_HEIGHT + 8
    for x, y in boxes.values():
        assert 0 <= x <= picture.width - BOX_WIDTH
        assert 0 <= y <= picture.height - BOX_HEIGHT
    ends = Counter(find_ends(one.path, boxes) for one in picture.lines)
    assert ends == Counter((f"s{svc}", f"k{key}") if to else (f"k{key}", f"s{svc}") for svc, key, to in pairs)
    for one in picture.lines:
        for x, y in list_points(one.path):
            assert 0 <= x <= picture.width, one
            assert 0 <= y <= picture.height, one
            for left, top in boxes.values():
                assert not (left < x < left + BOX_WIDTH and top < y < top + BOX_HEIGHT), (one, x, y)


def find_ends(path: str, boxes: dict[str, tuple[int, int]]) -> tuple[str, str]:
    """Return the names of the boxes that a line begins and ends at; its head is at its end."""
    numbers = [int(each) for each in re.findall(r"-?\d+", path)]
    sides = {
        (left + aside, top + BOX_HEIGHT // 2): name
        for name, (left, top) in boxes.items()
        for aside in (0, BOX_WIDTH)
    }
    return sides[numbers[0], numbers[1]], sides[numbers[-4], numbers[-3]]


def test_a_circle_begins_at_its_first_box_and_a_line_leads_back_to_it():
    picture = draw(line("k1", "a", "b"), line("k2", "b", "a"))
    boxes = {box.name: (box.x, box.y) for box in picture.boxes}
    columns = {name: x for name, (x, _) in boxes.items()}
    assert columns["a"] < columns["k1"] < columns["b"] < columns["k2"]
    assert ("k2", "a") in [find_ends(one.path, boxes) for one in picture.lines]


def test_who_reads_what_it_writes_stands_behind_those_who_only_write():
    at = places(line("log", "healer sentinel", "notifier sentinel"), line("told", "notifier", "sentinel"))
    order = sorted(at, key=lambda name: at[name][0])
    assert order == ["healer", "log", "notifier", "told", "sentinel"]


def test_no_two_boxes_share_a_place_and_all_are_in_the_picture():
    picture = draw_small()
    taken = [(box.x, box.y) for box in picture.boxes]
    assert len(set(taken)) == len(taken) == 7
    assert all(x + picture.box_width <= picture.width for x, _ in taken)
    assert all(y + picture.box_height <= picture.height for _, y in taken)


def test_the_same_key_on_two_buses_is_two_boxes():
    picture = draw(line("k", "a"), FlowView("other", "k", ("a",)))
    assert [box.text for box in picture.boxes if box.state is None] == ["b", "other"]


def test_what_is_wrong_and_who_is_down_is_marked():
    picture = draw_small()
    assert [box.name for box in picture.boxes if box.is_wrong] == ["rss:items"]
    assert sum(one.is_wrong for one in picture.lines) == 2
    states = {box.name: box.state for box in picture.boxes if box.state}
    assert (states["rss_agg"], states["massive"]) == (ServiceState.DOWN, ServiceState.UP)


def test_a_key_says_its_bus_and_how_far_its_slowest_reader_is_behind_or_how_fast_it_is():
    texts = {box.name: box.text for box in draw_small().boxes}
    assert texts["rss:items"] == "market-redis, 412 behind"
    assert texts["massive:probes"] == "market-redis, 36/min"


def test_a_long_name_is_cut_and_steers_nothing():
    assert draw(line("k" * 60, "a")).boxes[1].name == "k" * 23 + "…"
    assert draw(line("k\u202e", "a")).boxes[1].name == r"k\u202e"


def test_keys_that_monitor_the_fleet_are_told_from_those_that_carry_its_work():
    monitoring = [one.key for one in make_flows(make_small()) if is_monitoring_key(one.key)]
    assert monitoring == ["healer:alerts", "mesh:topology"]
    assert [is_monitoring_key(key) for key in ("health:*", "notifier:dead", "healers", "mesh:jobs")] == [
        True,
        True,
        False,
        False,
    ]


def test_lines_with_faults_are_drawn_over_the_others():
    picture = draw(line("k1", "a"), line("k2", "a"), wrong="k1")
    assert [one.is_wrong for one in picture.lines] == [False, True]
