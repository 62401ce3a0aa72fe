"""The picture of what flows."""

from marketswarm.status.topology_view import FlowView, ReaderView
from services.board.fleet.layered_layout import MAX_BOXES
from services.board.fleet.topology import Picture, TopologyPage, draw_picture, is_monitoring
from services.board.rendering import Frame
from support.board_examples import make_small
from support.board_pages import FAULTS, make_flows


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


def test_each_box_is_to_the_right_of_what_it_follows():
    at = places(line("k1", "a", "b"), line("k2", "b", "c"), line("k3", "a", "c"))
    columns = {name: x for name, (x, _) in at.items()}
    assert columns["a"] < columns["k1"] < columns["b"] < columns["k2"] < columns["c"]
    assert columns["a"] < columns["k3"] < columns["c"]


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
