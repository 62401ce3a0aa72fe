"""The picture of what flows."""

from services.board.layered_layout import MAX_BOXES
from services.board.pages import FlowEnd, FlowLine
from services.board.snapshot import ServiceState
from services.board.topology_picture import draw_picture
from support.board_examples import make_lines, make_small


def line(key: str, writers: str = "", readers: str = "") -> FlowLine:
    ends = [tuple(FlowEnd(svc, ServiceState.UP) for svc in names.split()) for names in (writers, readers)]
    return FlowLine("b", key, *ends)


def places(*lines: FlowLine) -> dict[str, tuple[int, int]]:
    picture = draw_picture(lines)
    assert picture is not None
    return {node.label: (node.x, node.y) for node in picture.nodes}


def test_nothing_gives_no_picture_and_neither_does_too_much():
    assert draw_picture([]) is None
    assert draw_picture([line("k")]) is None
    assert draw_picture([line(f"k{n}", f"s{n}") for n in range(MAX_BOXES)]) is None


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
    picture = draw_picture(make_lines(make_small()))
    assert picture is not None
    taken = [(node.x, node.y) for node in picture.nodes]
    assert len(set(taken)) == len(taken) == 13
    assert all(x + picture.node_width <= picture.width for x, _ in taken)
    assert all(y + picture.node_height <= picture.height for _, y in taken)


def test_the_same_key_on_two_buses_is_two_boxes():
    lines = [line("k", "a"), FlowLine("other", "k", (FlowEnd("a", ServiceState.UP),))]
    picture = draw_picture(lines)
    assert picture is not None
    assert [node.text for node in picture.nodes if node.kind == "key"] == ["b", "other"]


def test_what_is_wrong_and_who_is_down_is_marked():
    picture = draw_picture(make_lines(make_small()))
    assert picture is not None
    wrong = [node.label for node in picture.nodes if node.is_wrong]
    assert wrong == ["rss:items"]
    assert sum(edge.is_wrong for edge in picture.edges) == 2
    states = {node.label: node.state for node in picture.nodes if node.kind == "svc"}
    assert (states["rss_agg"], states["mesh"]) == ("down", "up")


def test_a_long_name_is_cut():
    picture = draw_picture([line("k" * 60, "a")])
    assert picture is not None
    assert picture.nodes[1].label == "k" * 23 + "…"


def test_keys_that_monitor_the_fleet_are_told_from_those_that_carry_its_work():
    monitoring = [one.key for one in make_lines(make_small()) if one.is_monitoring]
    assert monitoring == ["healer:alerts", "mesh:topology"]
    assert [line(key).is_monitoring for key in ("health:*", "notifier:dead", "healers", "mesh:jobs")] == [
        True,
        True,
        False,
        False,
    ]


def test_lines_with_faults_are_drawn_over_the_others():
    picture = draw_picture(
        [FlowLine("b", "k1", (FlowEnd("a", ServiceState.UP),), faults=("slow",)), line("k2", "a")]
    )
    assert picture is not None
    assert [edge.is_wrong for edge in picture.edges] == [False, True]
