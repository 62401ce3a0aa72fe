"""Holds the page of log events to the code, and the tool that makes it to what it says of itself."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from support.pages import PAGES, ROOT


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

OLD = """
archive.stream_anew bars.follows bars.stream_anew board.pings_anew bus.used channel.mended direct.failed
direct.heard direct.no_way_out direct.records_refused direct.records_taken direct.refused direct.sent
direct.told_by_others direct.unheard direct.unsent direct.ways_out flow.well forks.failed item.dead
item.failed medic.muted mesh.deaf mesh.hearing mesh.not_recalled mesh.recall_resumed mesh.recalled
mesh.stranger monitor.deaf monitor.memory_away monitor.memory_back monitor.recalled replay.begun_anew
term.not_begun term.over term.timed_out truth.doubt truth.mistake truth.trouble truth.unfit truth.unheard
truth.well users.old
"""
OLD_NAMES = frozenset(OLD.split())
"""Names that events had before they were renamed: the changelog has the table. None of them may come back."""


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


def test_no_event_has_an_old_name_and_no_page_or_program_uses_one():
    assert len(OLD_NAMES) == 43
    assert OLD_NAMES.isdisjoint({event.name for event in tool.find_events()})
    quoted = re.compile(r"""["`']([a-z_]+\.[a-z_]+)["`']""")
    places = [
        path for part in (*tool.PACKAGES, "bench", "tests", "tools") for path in find_sources(ROOT / part)
    ]
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in [*places, *(page for page in PAGES if page.name != "CHANGELOG.md")]
        for name in OLD_NAMES.intersection(quoted.findall(path.read_text(encoding="utf-8")))
    }
    assert found == set()


def find_sources(folder):
    return [path for path in folder.rglob("*.*") if path.suffix in {".py", ".toml", ".lua", ".js", ".html"}]


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
