"""The tables and plots of docs/performance.md."""

import xml.etree.ElementTree as ET

import pytest

from bench.figures import Figure, Pair, Result
from bench.report import (
    BEGIN,
    END,
    describe_origin,
    format_number,
    make_rows,
    render_plot,
    render_table,
    replace_figures,
    strip_marks,
)

SVG = "{http://www.w3.org/2000/svg}"
BENCHES = {
    "heard": {
        "rate": Figure("beats <heard>", "beats/s", "bare", goal_ratio=1.0, is_rate=True),
        "late": Figure("late", "ms", "empty loop", goal=20),
        "unmeasured": Figure("no", "ms", "no"),
    },
    "other": {"x": Figure("x", "s", "y")},
}
RESULTS = {
    "heard": Result(
        "abc",
        "2026-11-25",
        {
            "late": [Pair(30.0, 3.0)],
            "rate": [Pair(400_000.0, 400_000.0), Pair(200_000.0, 400_000.0), Pair(450_000.0, 450_000.0)],
        },
    )
}


def parse(svg):
    return ET.fromstring(svg)  # noqa: S314 - what we wrote


@pytest.fixture
def rows():
    return list(make_rows(BENCHES, RESULTS))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.012345, "0.0123"),
        (1.0, "1.00"),
        (9.999, "10.0"),
        (99.96, "100"),
        (123.4, "123"),
        (412_345.6, "412,000"),
    ],
)
def test_a_number_has_three_digits(value, text):
    assert format_number(value) == text


def test_rows_are_in_the_order_of_the_table_and_only_of_what_was_measured(rows):
    assert [row.figure.text for row in rows] == ["beats <heard>", "late"]


def test_a_table_has_the_spread_of_values_and_of_ratios_the_limit_and_the_goal(rows):
    _, _, rate, late = render_table(rows).splitlines()
    assert rate == (
        "| `heard`: beats <heard> | beats/s | bare: 400,000 | 200,000, **400,000**, 450,000 "
        "| 1.00, **1.00**, 2.00 | ≤ 1 times: met |"
    )
    assert late == "| `heard`: late | ms | empty loop: 3.00 | 30.0 | 10.0 | ≤ 20.0: **missed** |"


def test_a_terminal_gets_no_marks(rows):
    assert strip_marks(rows[1]) == ["heard: late", "ms", "empty loop: 3.00", "30.0", "10.0", "≤ 20.0: missed"]


def test_a_plot_is_svg_with_a_range_and_a_dot_for_each_figure_and_the_limit_at_one(rows):
    root = parse(render_plot("Times & limits", rows))
    lines = [line.attrib for line in root.iter(f"{SVG}line")]
    (limit,) = [line for line in lines if line["class"] == "limit"]
    low_to_high = [(float(line["x1"]), float(line["x2"])) for line in lines if line["class"] == "range"]
    dots = [float(dot.attrib["cx"]) for dot in root.iter(f"{SVG}circle")]
    at_limit, at_ten = float(limit["x1"]), low_to_high[1][0]
    assert low_to_high[0] == pytest.approx((at_limit, at_limit + 0.301 * (at_ten - at_limit)), abs=0.5)
    assert dots == [at_limit, at_ten]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"Times & limits", "heard: beats <heard>", "1", "10"} <= set(texts)


def test_a_plot_leaves_room_for_what_is_better_than_the_limit():
    rows = list(
        make_rows({"b": {"x": Figure("x", "s", "y")}}, {"b": Result("c", "d", {"x": [Pair(0.05, 1.0)]})})
    )
    root = parse(render_plot("", rows))
    axis = [float(line.attrib["x1"]) for line in root.iter(f"{SVG}line") if line.attrib["class"] != "range"]
    (dot,) = (float(dot.attrib["cx"]) for dot in root.iter(f"{SVG}circle"))
    assert min(axis) < dot < max(axis)


def test_the_origin_names_the_machine_and_each_commit():
    results = {**RESULTS, "other": Result("def", "2026-11-26")}
    said = describe_origin({"processor": "X", "cores": "2"}, results)
    assert said == "Measured on: processor X, cores 2. Commit: abc (2026-11-25), def (2026-11-26)."


def test_only_what_is_between_the_markers_is_replaced():
    page = f"# Performance\n\n{BEGIN}\nold\n{END}\n\n## More\n"
    once = replace_figures(page, "new\n")
    assert once == f"# Performance\n\n{BEGIN}\n\nnew\n\n{END}\n\n## More\n"
    assert replace_figures(once, "new") == once


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_a_page_without_both_markers_is_left_alone(page):
    with pytest.raises(ValueError, match="lacks"):
        replace_figures(page, "new")
