"""What `marketswarm doctor` concludes: each thing that is wrong is named, with its remedy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.cli.findings import (
    ArchiveReading,
    BoardPart,
    BoardReading,
    BusReading,
    FleetReading,
    Level,
    judge_all,
    judge_archive,
    judge_board,
    judge_bus,
    judge_fleet,
    parse_pubsub_limit,
)
from marketswarm.operator.service_reports import BackupReport, BackupState, DatabaseReport

LIMITS = "normal 134217728 67108864 60 slave 268435456 67108864 60 pubsub 268435456 67108864 60"
GOOD_INFO = {
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "maxmemory": 1 << 30,
    "used_memory": 1 << 20,
    "maxmemory_policy": "noeviction",
}


def bus(name="system-redis", **more):
    known = {
        "where": "127.0.0.1:6379",
        "revision": 3,
        "sha256": "abc",
        "info": GOOD_INFO,
        "config": {"client-output-buffer-limit": LIMITS, "timeout": "0"},
        "listeners": {"rss_agg": 1},
        "truth_followers": 4,
        "log_entries": 17,
        "notifier_lag": 0,
    }
    return BusReading(name, **(known | more))


GOOD_FLEET = FleetReading(leader="abc", channels=["team"], has_board=True, recorded_ago_sec=5.0)


def wrong(findings):
    return [one for one in findings if one.level is Level.WRONG]


def notes(findings):
    return [one for one in findings if one.level is Level.NOTE]


def test_a_fleet_in_which_all_is_well_has_neither_faults_nor_notes():
    found = judge_all([bus(), bus("market-redis", log_entries=None)], GOOD_FLEET)
    assert {one.level for one in found} == {Level.RIGHT}
    assert "truth" in {one.about for one in found}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"reason": "refused"}, "does not answer: refused"),
        ({"info": GOOD_INFO | {"aof_enabled": 0}}, "loses data at a restart"),
        ({"info": GOOD_INFO | {"aof_last_write_status": "err"}}, "last write to disk failed"),
        ({"info": GOOD_INFO | {"maxmemory_policy": "allkeys-lru"}}, "forgets keys"),
        ({"info": GOOD_INFO | {"used_memory": 1020 << 20}}, "99 % full"),
        ({"listeners": {"a": 0, "b": 1}}, "nobody listens to a, 1 of 2 services"),
        ({"notifier_lag": None}, "no notifier has ever read it"),
        ({"notifier_lag": 401}, "401 behind"),
    ],
)
def test_what_is_wrong_with_a_bus_is_named_with_its_remedy(more, text):
    (found,) = wrong(judge_bus(bus(**more)))
    assert text in found.text
    assert found.remedy


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"ahead_sec": 75.0}, "75 s ahead of the one here"),
        ({"ahead_sec": -3.0}, "3 s behind"),
        ({"info": None}, "INFO is refused"),
        ({"config": None}, "CONFIG GET is refused"),
        ({"listeners": None}, "PUBSUB is refused"),
        ({"config": {"client-output-buffer-limit": "pubsub 33554432 8388608 60"}}, "at 32 MB"),
        ({"config": {"timeout": "300"}}, "idle for 300 s"),
        ({"info": GOOD_INFO | {"maxmemory": 0}}, "maxmemory is 0"),
        ({"truth_followers": 0}, "no agent follows"),
    ],
)
def test_what_is_worth_knowing_of_a_bus_is_a_note(more, text):
    found = list(judge_bus(bus(**more)))
    assert not wrong(found)
    assert text in notes(found)[0].text
    assert notes(found)[0].remedy


def test_buses_that_differ_in_their_truth_are_wrong():
    (found,) = wrong(judge_all([bus(), bus("market-redis", revision=2, sha256="def")], None))
    assert found.text == "the buses differ: system-redis has 3, market-redis has 2"
    (missing,) = wrong(judge_all([bus(), bus("market-redis", truth_reason="missing")], None))
    assert missing.text == "has no valid truth: missing"


def test_the_same_revision_of_another_document_is_wrong():
    (found,) = wrong(judge_all([bus(), bus("market-redis", sha256="def")], None))
    assert found.about == "truth"


def test_a_bus_that_is_away_is_not_blamed_for_its_truth():
    found = wrong(judge_all([bus(), bus("market-redis", reason="timeout")], None))
    assert [one.text for one in found] == ["does not answer: timeout"]


@pytest.mark.parametrize(
    ("fleet", "text"),
    [
        (FleetReading(), "none leads"),
        (FleetReading(leader="a", lapsed_sec=9.0), "ran out 9 s ago"),
        (FleetReading(leader="a", down=[f"s{n}" for n in range(7)]), "s0, s1, s2, s3, s4 and 2 more"),
        (FleetReading(leader="a", has_notifier=False), "nobody gets a message"),
        (FleetReading(leader="a", stuck=2), "2 wait for a receiver"),
    ],
)
def test_what_is_wrong_with_a_fleet_is_named_with_its_remedy(fleet, text):
    (found,) = wrong(judge_fleet(fleet))
    assert text in found.text
    assert found.remedy


def test_a_history_that_is_not_recorded_is_a_note():
    for ago_sec in (None, 500.0):
        found = notes(
            judge_fleet(FleetReading("a", channels=["x"], has_board=True, recorded_ago_sec=ago_sec))
        )
        assert found[0].about == "history"


def test_the_limit_of_subscribers_is_found_among_the_others():
    assert parse_pubsub_limit(LIMITS) == 268435456
    assert parse_pubsub_limit("pubsub 0 0 0") == 0
    assert parse_pubsub_limit("normal 0 0 0") is None


@given(st.text(max_size=80))
def test_any_setting_is_read_without_an_error(setting):
    parse_pubsub_limit(setting)
    list(judge_bus(bus(config={"client-output-buffer-limit": setting, "timeout": setting})))


@given(
    st.dictionaries(st.sampled_from(sorted(GOOD_INFO)), st.none() | st.text() | st.integers() | st.floats())
)
def test_any_values_of_info_are_judged_without_an_error(info):
    list(judge_bus(bus(info=info)))


def archive(lag_sec=1.0, **backups):
    known = {"state": BackupState.IDLE, "ts": 900.0, "made_at": 500.0, "due_at": 90_000.0}
    report = BackupReport(**{**known, **backups})
    return ArchiveReading(1000.0, None, report, DatabaseReport(ts=999.0, lag_sec=lag_sec))


@pytest.mark.parametrize(
    ("reading", "about"),
    [
        (archive(lag_sec=601.0), "archive"),
        (ArchiveReading(1000.0), "archive"),
        (archive(state=BackupState.FAILED, why="no room"), "backup"),
        (archive(damaged="archive-1.dump"), "backup"),
        (ArchiveReading(9000.0, None, BackupReport(state=BackupState.IDLE, ts=1.0, due_at=2.0)), "backup"),
        (archive(verify_why="pg_restore failed"), "restore"),
    ],
)
def test_what_is_wrong_with_the_archive_is_named_with_a_remedy(reading, about):
    wrong = [each for each in judge_archive(reading) if each.level is Level.WRONG]
    assert about in {each.about for each in wrong}
    assert all(each.remedy for each in wrong)


def test_an_archive_in_order_is_right_and_one_that_may_not_be_read_is_a_note():
    levels = {each.about: each.level for each in judge_archive(archive(verified_at=700.0))}
    assert levels == {"archive": Level.RIGHT, "backup": Level.RIGHT, "restore": Level.RIGHT}
    assert [each.level for each in judge_archive(ArchiveReading(1.0, "auth"))] == [Level.NOTE]


def levels_of(board):
    return {each.about: each.level for each in judge_board(board)}


def test_a_board_that_is_named_and_silent_is_wrong_and_one_that_nobody_names_is_a_note():
    url = "http://127.0.0.1:8080"
    assert levels_of(BoardReading(url, True, "refused")) == {"board": Level.WRONG}
    assert levels_of(BoardReading(url, False, "refused")) == {"board": Level.NOTE}


@pytest.mark.parametrize(
    ("status", "level"), [("ok", Level.RIGHT), ("degraded", Level.WRONG), ("down", Level.WRONG)]
)
def test_the_parts_of_the_market_are_as_the_board_judges_them(status, level):
    part = BoardPart(status, 90.0, "2 critical series not fresh", "SPY:1d")
    found = list(judge_board(BoardReading("u", True, None, {"oldest_series": part, "system-redis": part})))
    assert [(each.about, each.level) for each in found] == [("board", Level.RIGHT), ("series", level)]
    assert "2 critical series not fresh, SPY:1d, " in found[1].text
    assert levels_of(BoardReading("u", True, None, {"gate": BoardPart("off")})) == {"board": Level.RIGHT}


def test_a_log_of_signals_without_new_ticks_or_cosignatures_is_wrong_and_says_why():
    parts = {
        "signals_tick": BoardPart("degraded", 90.0, "no tick is decided", "tick 7"),
        "signals_checkpoint": BoardPart("ok", 30.0),
        "signals_witness": BoardPart("degraded", 400.0, "11 entries are not cosigned", "w.example/one"),
        "signals_gap": BoardPart("off"),
    }
    found = {each.about: each for each in judge_board(BoardReading("u", True, None, parts))}
    levels = {"board": Level.RIGHT, "signals": Level.WRONG, "checkpoint": Level.RIGHT, "witness": Level.WRONG}
    assert {about: each.level for about, each in found.items()} == levels
    assert found["signals"].text.startswith("no tick is decided, tick 7, ")
    assert found["witness"].text.startswith("11 entries are not cosigned, w.example/one, ")
    assert "signals-operating.md" in found["witness"].remedy


@pytest.mark.parametrize(
    ("why", "sec", "level"),
    [("timeout", 5.0, Level.WRONG), (None, 3.0, Level.NOTE), (None, 0.1, Level.RIGHT)],
)
def test_a_chart_that_does_not_come_is_wrong_and_a_slow_one_is_a_note(why, sec, level):
    assert levels_of(BoardReading("u", True, None, {}, "SPY", why, sec))["chart"] is level


def test_a_board_that_keeps_its_parts_to_itself_is_a_note():
    assert levels_of(BoardReading("u", True))["market"] is Level.NOTE
