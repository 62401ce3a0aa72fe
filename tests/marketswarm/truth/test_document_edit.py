"""Services and pages that are added, changed, paused and removed, in texts as people write them."""

import json
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.agent.service_config import load_with_sections
from marketswarm.truth import TruthError, parse_truth
from marketswarm.truth.document_edit import (
    AddedKind,
    EditError,
    EntryFields,
    add_entry,
    diff_texts,
    edit_entry,
    pause_entry,
    read_entry,
    remove_entry,
    resume_entry,
)

SHIPPED = (Path(__file__).parents[3] / "truth.json").read_text("utf-8")
STARTER = '{\n  "version": 1,\n  "services": {\n    "healer": {},\n    "sentinel": {}\n  }\n}\n'
TABS = SHIPPED.replace("  ", "\t").replace("\n", "\r\n")
COMPACT = '{"services":{"a":{},"b":{"depends_on":["a"]}}}'
TEXTS = {"shipped": SHIPPED, "starter": STARTER, "tabs": TABS, "compact": COMPACT}
JOB = EntryFields(schedule="0 3 * * *", time_zone="Europe/Berlin", grace_sec=1800.0, description="Saves")
PAGE = EntryFields(url="https://shop.example/health", contains="ok", every_sec=30.0)

names = st.one_of(st.sampled_from(["backup", "a", "healer", "system-redis", "massive"]), st.text(max_size=8))
words = st.one_of(st.none(), st.text(max_size=12))
seconds = st.one_of(st.none(), st.just(""), st.floats(), st.sampled_from([60.0, 86_400.0]))
lists = st.one_of(st.none(), st.lists(st.text(max_size=6), max_size=3).map(tuple))
entry_fields = st.builds(
    EntryFields,
    description=words,
    tags=lists,
    depends_on=lists,
    severity=st.one_of(words, st.sampled_from(["info", "critical"])),
    every_sec=seconds,
    timeout_sec=seconds,
    schedule=st.one_of(words, st.sampled_from(["0 3 * * *", "@daily", "Mon..Fri 18:30"])),
    time_zone=st.one_of(words, st.just("Europe/Berlin")),
    grace_sec=seconds,
    max_run_sec=seconds,
    url=st.one_of(words, st.just("https://shop.example/")),
    contains=words,
)


def flatten(value: object, place: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], object]]:
    """Return every value with its place, in the order of the document."""
    pairs = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if pairs is None:
        return [(place, value)]
    return [(place, type(value)), *(one for key, each in pairs for one in flatten(each, (*place, key)))]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_job_is_added_after_all_others_and_nothing_else_changes(text: str):
    added = add_entry(text, AddedKind.JOB, "backup", JOB)
    beat = load_with_sections(added.encode()).truth.services["backup"].heartbeat
    assert (beat.schedule, beat.time_zone, beat.grace_sec) == ("0 3 * * *", "Europe/Berlin", 1800)
    assert list(json.loads(added)["services"])[-1] == "backup"
    assert remove_entry(added, "backup") == text


@pytest.mark.parametrize("name", ["shipped", "tabs"])
def test_a_preview_has_the_added_lines_alone(name: str):
    text = TEXTS[name]
    lines = diff_texts(text, add_entry(text, AddedKind.PAGE, "shop", PAGE))
    changed = [line for line in lines if line[0] in "+-"]
    assert len(changed) == 3  # a comma behind the last target, and the new one
    assert changed[-1].strip("+ \t").startswith('{"name": "shop", "url": "https://shop.example/health"')


def test_a_page_brings_the_service_that_probes_it_with_what_it_writes():
    added = add_entry(STARTER, AddedKind.PAGE, "shop", PAGE)
    loaded = load_with_sections(added.encode())
    assert loaded.warnings == ()
    points = loaded.truth.services["massive"].access_points.publish_to
    assert {point.key for point in points} == {
        "massive:probes",
        "massive:roster",
        "massive:alerts",
        "massive:heartbeat",
    }


def test_a_daemon_is_missed_after_three_beats():
    added = add_entry(STARTER, AddedKind.DAEMON, "worker", EntryFields(every_sec=20.0))
    loaded = load_with_sections(added.encode())
    watch = next(each for each in loaded.truth.watched() if each.svc == "worker")
    assert (watch.interval_sec, watch.timeout_sec, loaded.warnings) == (20, 60, ())


def test_a_job_without_a_schedule_has_an_hour_beyond_its_interval():
    added = add_entry(STARTER, AddedKind.JOB, "backup", EntryFields(every_sec=86_400.0))
    parsed = parse_truth(added.encode())
    assert parsed.truth.timeout_of("backup") == 90_000
    assert parsed.warnings == parse_truth(STARTER.encode()).warnings


def test_an_entry_is_read_as_the_document_has_it():
    text = add_entry(add_entry(STARTER, AddedKind.JOB, "backup", JOB), AddedKind.PAGE, "shop", PAGE)
    job, page = read_entry(text, "backup"), read_entry(pause_entry(text, "massive/shop"), "massive/shop")
    assert (job.is_page, job.is_paused, page.is_page, page.is_paused) == (False, False, True, True)
    assert job.fields == {
        "description": "Saves",
        "schedule": "0 3 * * *",
        "time_zone": "Europe/Berlin",
        "grace_sec": 1800,
    }
    assert page.fields == {"url": "https://shop.example/health", "contains": "ok", "every_sec": 30}
    assert read_entry(text, "healer").fields == {}
    with pytest.raises(EditError, match="nobody"):
        read_entry(text, "nobody")


def test_an_empty_time_removes_a_key_and_an_interval_that_goes_leaves_a_schedule():
    text = add_entry(STARTER, AddedKind.JOB, "backup", JOB)
    assert read_entry(text, "backup").fields["grace_sec"] == 1800
    assert (
        "grace_sec" not in read_entry(edit_entry(text, "backup", EntryFields(grace_sec="")), "backup").fields
    )
    assert '"schedule": "0 3 * * *"' in edit_entry(text, "backup", EntryFields(every_sec=""))


@pytest.mark.parametrize("name", ["backup", "massive/shop"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_pause_is_undone_by_resume_to_the_letter(text: str, name: str):
    text = add_entry(add_entry(text, AddedKind.JOB, "backup", JOB), AddedKind.PAGE, "shop", PAGE)
    paused = pause_entry(text, name)
    truth = load_with_sections(paused.encode()).truth
    if name == "backup":
        assert "backup" not in {watch.svc for watch in truth.watched()}
    else:
        assert truth.services["massive"].settings["targets"][-1]["alert"] is False
    with pytest.raises(EditError, match="paused already"):
        pause_entry(paused, name)
    assert resume_entry(paused, name) == text
    with pytest.raises(EditError, match="is not paused"):
        resume_entry(text, name)


def test_a_service_without_a_heartbeat_is_paused_and_resumed():
    assert resume_entry(pause_entry(STARTER, "sentinel"), "sentinel") == STARTER


def test_a_removed_service_is_not_monitored_by_its_channel_either():
    removed = remove_entry(SHIPPED, "rss_agg")
    assert "rss_agg" not in {watch.svc for watch in parse_truth(removed.encode()).truth.watched()}


def test_who_removes_what_others_need_is_refused_in_the_words_of_validate():
    with pytest.raises(TruthError, match='"a" is not a known service'):
        load_with_sections(remove_entry(COMPACT, "a").encode())


def test_a_schedule_takes_the_place_of_an_interval_and_the_other_way_round():
    text = add_entry(STARTER, AddedKind.JOB, "backup", JOB)
    by_interval = edit_entry(text, "backup", EntryFields(every_sec=3600.0, timeout_sec=7200.0))
    beat = json.loads(by_interval)["services"]["backup"]["heartbeat"]
    assert beat == {"interval_sec": 3600, "timeout_sec": 7200}
    by_schedule = edit_entry(by_interval, "backup", EntryFields(schedule="@daily"))
    assert json.loads(by_schedule)["services"]["backup"]["heartbeat"] == {"schedule": "@daily"}


def test_an_empty_value_removes_a_key():
    text = add_entry(STARTER, AddedKind.JOB, "backup", JOB)
    edited = edit_entry(text, "backup", EntryFields(description="", tags=("ops",)))
    assert set(json.loads(edited)["services"]["backup"]) == {"heartbeat", "tags"}


@pytest.mark.parametrize(
    ("kind", "name", "given", "why"),
    [
        ("job", "backup", EntryFields(), "say when the job runs"),
        ("job", "backup", EntryFields(schedule="@daily", every_sec=60.0), "not both"),
        ("daemon", "healer", EntryFields(), "has a service healer already"),
        ("page", "shop", EntryFields(), "a page needs its address"),
        ("page", "shop", EntryFields(url="https://a.example/", schedule="@daily"), "has no schedule"),
    ],
)
def test_what_can_not_be_added_is_said(kind: str, name: str, given: EntryFields, why: str):
    with pytest.raises(EditError, match=why):
        add_entry(SHIPPED, AddedKind(kind), name, given)


@pytest.mark.parametrize("change", [pause_entry, resume_entry, remove_entry])
def test_an_unknown_name_is_answered_with_a_near_one(change):
    with pytest.raises(EditError, match=r"the truth names no rss_ag; did you mean rss_agg\?"):
        change(SHIPPED, "rss_ag")


def test_a_page_is_added_once():
    text = add_entry(SHIPPED, AddedKind.PAGE, "shop", PAGE)
    with pytest.raises(EditError, match="massive/shop already"):
        add_entry(text, AddedKind.PAGE, "shop", PAGE)


@given(st.sampled_from(list(TEXTS)), st.sampled_from(list(AddedKind)), names, entry_fields)
def test_whatever_is_added_the_result_is_valid_or_refused_and_all_else_stays(which, kind, name, fields):
    text = TEXTS[which]
    try:
        added = add_entry(text, kind, name, fields)
    except EditError:
        return
    check_result(text, added, kind, name)
    try:
        load_with_sections(added.encode())
    except TruthError:
        return
    known = name if kind is not AddedKind.PAGE else f"massive/{name}"
    for change in (pause_entry, remove_entry):
        load_with_sections(change(added, known).encode())


def check_result(text: str, added: str, kind: AddedKind, name: str) -> None:
    after = orjson.loads(added) if "NaN" not in added and "Infinity" not in added else json.loads(added)
    if kind is AddedKind.PAGE:
        targets = after["services"]["massive"]["settings"]["targets"]
        assert targets.pop()["name"] == name
        if not targets and "massive" not in json.loads(text)["services"]:
            del after["services"]["massive"]
    else:
        assert list(after["services"])[-1] == name
        del after["services"][name]
    assert flatten(after) == flatten(json.loads(text))


@given(st.sampled_from(["backup", "massive/shop", "rss_agg"]), entry_fields)
def test_whatever_is_edited_the_result_is_valid_or_refused_and_all_else_stays(name, fields):
    text = add_entry(add_entry(SHIPPED, AddedKind.JOB, "backup", JOB), AddedKind.PAGE, "shop", PAGE)
    try:
        edited = edit_entry(text, name, fields)
    except EditError:
        return
    before, after = json.loads(text), json.loads(edited)
    assert flatten(without(before, name)) == flatten(without(after, name))
    try:
        load_with_sections(edited.encode())
    except TruthError:
        return
    json.dumps(after, allow_nan=False)


def without(document, name):
    if name == "massive/shop":
        document["services"]["massive"]["settings"]["targets"][-1] = {}
    else:
        document["services"][name] = {}
    return document
