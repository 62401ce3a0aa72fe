"""A section put into a text: the document has it, and all around it is as it was."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.cli.truth_text import with_section

ROOT = Path(__file__).parents[3]
SECTION = {
    "heartbeat": {"interval_sec": 10},
    "access_points": {"publish_to": [{"bus": "b", "key": "k"}]},
    "tags": ["ä"],
}


def test_the_shipped_truth_grows_by_lines_of_its_own_kind():
    text = (ROOT / "truth.json").read_text(encoding="utf-8")
    longer = with_section(text, "prices", SECTION)
    assert longer.startswith(text[: text.rindex("}\n  }\n}")])
    assert longer.removeprefix(text[: text.rindex("\n  }\n}")]) == (
        ",\n"
        '    "prices": {\n'
        '      "heartbeat": {"interval_sec": 10},\n'
        '      "access_points": {"publish_to": [{"bus": "b", "key": "k"}]},\n'
        '      "tags": ["ä"]\n'
        "    }\n"
        "  }\n"
        "}\n"
    )


@pytest.mark.parametrize(
    ("text", "longer"),
    [
        ('{"services": {}}', '{"services": {\n  "p": 1\n}}'),
        ('{"services":{"a":{}}}\n', '{"services":{"a":{}, "p": 1}}\n'),
        ('{\n\t"services": {\n\t\t"a": {}\n\t}\n}', '{\n\t"services": {\n\t\t"a": {},\n\t\t"p": 1\n\t}\n}'),
        (
            '{\r\n "services": {\r\n  "a": {}\r\n }\r\n}',
            '{\r\n "services": {\r\n  "a": {},\r\n  "p": 1\r\n }\r\n}',
        ),
        ('{\n    "services": {\n    }\n}', '{\n    "services": {\n        "p": 1\n    }\n}'),
        (
            '{"x": {"services": {"y": 1}}, "services": {"}": "{\\"services\\": {"}, "z": {}}',
            '{"x": {"services": {"y": 1}}, "services": {"}": "{\\"services\\": {", "p": 1}, "z": {}}',
        ),
    ],
)
def test_each_text_grows_in_its_own_way(text, longer):
    assert with_section(text, "p", 1) == longer


NAMES = st.text(max_size=6) | st.sampled_from(["services", "{", "}", '"', "\\", "a b", ","])
VALUES = st.recursive(
    st.none() | st.integers() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
)


@given(
    st.dictionaries(NAMES.filter(lambda name: name != "services"), VALUES, max_size=3),
    st.dictionaries(NAMES, VALUES, max_size=3),
    st.sampled_from([None, 0, 2, 4, "\t"]),
    st.booleans(),
)
def test_whatever_the_document_it_means_the_same_and_one_section_more(around, services, indent, escaped):
    document = around | {"services": services}
    text = json.dumps(document, indent=indent, ensure_ascii=escaped)
    assert json.loads(with_section(text, "new one", SECTION)) == document | {
        "services": services | {"new one": SECTION}
    }


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"a": {"services": {}}}', '{"services": []}', '["services", {}]']
)
def test_where_there_is_no_place_it_says_so(text):
    with pytest.raises(ValueError, match="no object of services"):
        with_section(text, "p", SECTION)
