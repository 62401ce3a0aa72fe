"""Lines of problems, and a section that is added, in texts as people write them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.truth import Problem, TruthError, parse_truth
from marketswarm.truth.document_text import find_lines, remove_value, set_value

TEXT = """{
  "services": {
    "rss agg.x": {
      "tags": ["a",
        7],
      "heartbeat": {"interval_sec": "}{[]:,\\" x"}
    },
    "mesh": {}
  }
}
"""


def lines_of(text: str, *paths: str) -> list[int | None]:
    problems = [Problem(path, "wrong") for path in paths]
    found = find_lines(text, problems)
    return [found.get(each) for each in problems]


def test_a_problem_has_the_line_of_its_place():
    place = 'services["rss agg.x"]'
    assert lines_of(
        TEXT, place, f"{place}.tags[0]", f"{place}.tags[1]", f"{place}.heartbeat.interval_sec"
    ) == [
        3,
        4,
        5,
        6,
    ]
    assert lines_of(TEXT, "services.mesh") == [8]


def test_what_is_missing_has_the_line_of_what_is_around_it():
    assert lines_of(TEXT, "services.mesh.heartbeat.channel", "buses.x", "truth") == [8, None, None]


def test_the_parser_names_the_same_places():
    text = TEXT.replace("7]", "8]").replace('"mesh": {}', '"mesh": {"depends_on": ["nobody"]}')
    with pytest.raises(TruthError) as error:
        parse_truth(text.encode())
    found = find_lines(text, error.value.problems)
    assert {each.path: found.get(each) for each in error.value.problems}[
        'services["rss agg.x"].heartbeat.interval_sec'
    ] == 6


def test_a_text_that_is_no_json_has_the_line_that_the_parser_names():
    with pytest.raises(TruthError) as error:
        parse_truth(b'{\n  "services": {\n    nothing\n')
    assert list(find_lines("{", error.value.problems).values()) == [3]


@given(st.text(alphabet='{}[]:,"\\ \nab1', max_size=60))
def test_no_text_is_too_strange(text: str):
    find_lines(text, [Problem("a.b[0]", "x"), Problem("truth", "x")])
    remove_value(text, ("services", "a"))
    remove_value(text, ("a", "b"))


@pytest.mark.parametrize("text", [TEXT.replace("7]", '"b"]').replace('"}{[]', '"'), '{"services": {}}'])
def test_a_service_is_added_after_the_others(text: str):
    before, section = json.loads(text), {"tags": ["pinged"]}
    added = set_value(text, ("services", 'new "one"'), section)
    after = json.loads(added)
    assert list(after["services"]) == [*before["services"], 'new "one"']
    assert after["services"].pop('new "one"') == section
    assert after == before
    assert added.startswith(text[: text.index("services") + 10])


def test_services_are_added_where_there_are_none():
    assert json.loads(set_value('{"version": 1}', ("services", "a"), {})) == {
        "version": 1,
        "services": {"a": {}},
    }
