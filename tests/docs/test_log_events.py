"""Holds the page of log events to the code, and the tool that makes it to what it says of itself."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from support.pages import ROOT


def load_tool():
    place = spec_from_file_location("log_events", ROOT / "tools" / "log_events.py")
    assert place is not None
    assert place.loader is not None
    module = module_from_spec(place)
    sys.modules["log_events"] = module
    place.loader.exec_module(module)
    return module


tool = load_tool()
OF_TESTS = {"stand_in.started", "report.written"}
"""What programs of tests log; those on `support.scenes.agent` log more."""


def find(source):
    return [(call.event, call.levels, call.fields) for call in tool.find_calls("some.py", source)]


@pytest.mark.slow
def test_the_page_is_current_and_each_event_on_it_has_a_dotted_name_and_a_sentence():
    events = {event.name: event for event in tool.find_events()}
    assert tool.PAGE.read_text(encoding="utf-8") == tool.render_page(), (
        "run .venv/bin/python tools/log_events.py"
    )
    assert len(events) > 150
    for name, event in events.items():
        assert tool.EVENT.fullmatch(name), name
        assert event.meaning.endswith("."), name
        assert event.levels, name
    assert tool.MEANINGS.keys() <= events.keys()


def test_each_event_for_which_a_test_looks_is_on_the_page():
    looked_for = set()
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "support.scenes.agent" not in text:
            looked_for |= set(re.findall(r"\b(?:wait_log|logs)\(\s*\"([a-z_]+\.[a-z_]+)\"", text))
    assert len(looked_for) > 40
    shown = set(
        re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", tool.PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert looked_for - OF_TESTS <= shown


def test_other_calls_of_those_names_are_no_events():
    assert find('scene.log("heartbeat_miss")\nmath.log(2)\nself.catalog.info("a.b")\nprint("a.b")') == []


def test_an_event_that_can_not_be_found_out_is_an_error():
    with pytest.raises(LookupError, match=r"some\.py:2: which event is name"):
        find("def f(name):\n    log.info(name)")
