"""What makes the board unwell, and what only degrades it."""

import pytest

from marketswarm.operator.service_reports import BackupReport, BackupState
from services.board.fleet.snapshot import BusSnapshot
from services.board.market.states import GateState, StoredSeries
from services.board.operations.health import (
    HealthPart,
    PartStatus,
    judge_backup,
    judge_bar,
    judge_buses,
    judge_gate,
    judge_series,
    make_health,
)
from services.tables.rows import BarRow

NOW = 1_800_000_000.0
OK, OFF, DEGRADED, DOWN = PartStatus.OK, PartStatus.OFF, PartStatus.DEGRADED, PartStatus.DOWN


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([OK, OK], OK, 200),
        ([OK, OFF], OK, 200),
        ([OFF], OK, 200),
        ([OK, DEGRADED, OFF], DEGRADED, 200),
        ([DEGRADED, DOWN, OK], DOWN, 503),
    ],
)
def test_only_a_part_that_is_down_makes_a_503(parts, status, code):
    answer = make_health({str(n): HealthPart(each) for n, each in enumerate(parts)}, 5.04)
    assert (answer.status, answer.http_status, answer.uptime_sec) == (status, code, 5.0)


def test_a_bus_that_is_away_is_down_and_so_are_all_that_were_not_read():
    buses = BusSnapshot("a", "up"), BusSnapshot("b", "away", "refused"), BusSnapshot("c", "unheard")
    found = judge_buses(buses, 0.5, is_current=True)
    assert [(each.status, each.why) for each in found.values()] == [
        (OK, None),
        (DOWN, "refused"),
        (DEGRADED, "unheard"),
    ]
    assert {each.status for each in judge_buses(buses, 60.0, is_current=False).values()} == {DOWN}


def test_a_gate_that_is_not_open_degrades():
    closed = judge_gate(
        GateState(state="closed", started_at=NOW - 60, ended_at=NOW - 9, total=5, done=5), NOW
    )
    assert (closed.status, closed.age_sec, closed.why) == (DEGRADED, 9.0, "closed: 5 of 5 series")
    assert judge_gate(GateState(state="loading", started_at=NOW - 60), NOW).status is DEGRADED
    assert judge_gate(GateState(state="open", ended_at=NOW), NOW).status is OK
    assert judge_gate(None, NOW).status is OFF


def make_series(name, late_sec, *, critical=False):
    fresh = {"loaded_at": NOW - 100 - late_sec, "fresh_until": NOW - late_sec}
    return StoredSeries(id=name, symbol="SPY", critical=critical, **fresh)


def test_the_series_that_is_furthest_past_its_time_is_named_and_critical_ones_count():
    fine, late, worst = make_series("a", -50), make_series("b", 10), make_series("c", 500)
    found = judge_series([fine, late, worst], NOW)
    assert (found.status, found.name, found.age_sec) == (OK, "c", 600.0)
    found = judge_series([fine, make_series("d", 10, critical=True), worst], NOW)
    assert (found.status, found.name, found.why) == (DEGRADED, "c", "1 critical series not fresh")
    assert judge_series([make_series("d", -10, critical=True)], NOW).status is OK
    assert judge_series([StoredSeries(id="e", symbol="SPY", critical=True)], NOW).status is OFF


@pytest.mark.parametrize(("replay", "why"), [(False, None), (True, "played from a recording")])
def test_an_old_bar_is_no_fault_because_markets_close(replay, why):
    start = round(1000 * (NOW - 86_400))
    bar = BarRow("SPY", "1m", start, 1, 1, 1, 1, 5, None, None, True, 0, 1, "x", None, None, replay)
    found = judge_bar(bar, NOW)
    assert (found.status, found.age_sec, found.name, found.why) == (OK, 86_400.0, "SPY", why)
    assert judge_bar(None, NOW).status is OFF


def test_a_backup_that_failed_is_late_or_damaged_or_could_not_be_restored_degrades():
    def judge(state=BackupState.IDLE, **fields):
        return judge_backup(BackupReport(state=state, ts=NOW, made_at=NOW - 60, **fields), NOW)

    assert (judge().status, judge().age_sec) == (OK, 60.0)
    assert judge(due_at=NOW - 600).status is OK
    assert judge(due_at=NOW - 4000).status is DEGRADED
    assert judge(BackupState.FAILED, why="no space").why == "no space"
    assert judge(BackupState.FAILED).status is DEGRADED
    assert judge(damaged="archive-20261123T033000Z.dump").status is DEGRADED
    unrestored = judge(verify_why="pg_restore failed")
    assert unrestored.status is DEGRADED
    assert unrestored.why == "the newest backup could not be restored: pg_restore failed"
    assert judge(BackupState.OFF).status is OFF
    assert judge_backup(None, NOW).status is OFF
