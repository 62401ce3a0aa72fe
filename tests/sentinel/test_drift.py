"""Which bus has drifted, and when that is settled."""

import pytest

from marketswarm.detector import Publication, State, Subject
from sentinel.drift import SETTLE_SEC, DriftDetector, DriftReason, HeldTruth, find_drifted

WALL = 1_762_433_458.0
STEP = 0.5
OLD, NEW = HeldTruth("a", 3), HeldTruth("b", 4)
HAND = HeldTruth("c", None)
NOTHING, NONSENSE = HeldTruth(unusable=DriftReason.MISSING), HeldTruth(unusable=DriftReason.INVALID)

CASES = [
    (NEW, NEW, {}),
    (HAND, HAND, {}),
    (None, None, {}),
    (NEW, None, {}),
    (None, NEW, {}),
    (NEW, NOTHING, {"market": "missing"}),
    (NONSENSE, NEW, {"system": "invalid"}),
    (None, NOTHING, {"market": "missing"}),
    (NOTHING, NONSENSE, {"system": "missing", "market": "invalid"}),
    (NOTHING, NOTHING, {"system": "missing", "market": "missing"}),
    (OLD, NEW, {"system": "differs"}),
    (NEW, OLD, {"market": "differs"}),
    (HAND, OLD, {"system": "differs"}),
    (OLD, HAND, {"market": "differs"}),
    (HeldTruth("a", 3), HeldTruth("a", 4), {"system": "differs"}),
    (HeldTruth("a", 3), HeldTruth("z", 3), {"market": "differs"}),
    (HeldTruth("a"), HeldTruth("z"), {"market": "differs"}),
]


@pytest.mark.parametrize(("system", "market", "found"), CASES)
def test_the_one_that_is_named_is_the_one_without_else_the_older(system, market, found):
    assert find_drifted({"system": system, "market": market}) == found


def test_of_three_each_that_is_not_as_the_newest_is_named():
    assert set(find_drifted({"a": OLD, "b": NEW, "c": OLD})) == {"a", "c"}


def look(drift: DriftDetector, system: HeldTruth | None, market: HeldTruth | None, now: float):
    verdicts = drift.evaluate({"system": system, "market": market}, now, WALL + now)
    return [(verdict.svc, verdict.state.value, verdict.reason) for verdict in verdicts]


def watch(drift: DriftDetector, system, market, begin: float, sec: float = 2 * SETTLE_SEC):
    """What is told when they stand like that for so long."""
    told = []
    for n in range(round(sec / STEP) + 1):
        told += look(drift, system, market, begin + n * STEP)
    return told


def test_a_drift_is_told_once_when_it_is_settled_and_its_end_at_once():
    drift = DriftDetector()
    assert watch(drift, NEW, OLD, 0, SETTLE_SEC - 0.5) == []
    assert drift.is_unsettled
    assert watch(drift, NEW, OLD, SETTLE_SEC, 20) == [("market", "down", "differs")]
    assert (drift.is_unsettled, drift.drifted) == (False, ["market"])
    assert look(drift, NEW, NEW, 30) == [("market", "up", None)]
    assert watch(drift, NEW, NEW, 31, 20) == []


def test_a_verdict_is_one_on_the_truth_for_everyone():
    drift = DriftDetector()
    watch(drift, NEW, NOTHING, 0, SETTLE_SEC - 0.5)
    (verdict,) = drift.evaluate({"system": NEW, "market": NOTHING}, SETTLE_SEC, WALL)
    assert (verdict.subject, verdict.state, verdict.publication) == (
        Subject.TRUTH,
        State.DOWN,
        Publication.ALERT,
    )
    assert (verdict.svc, verdict.ts) == ("market", WALL)


def test_a_seeding_between_its_two_writes_is_no_drift():
    drift = DriftDetector()
    for n in range(50):  # each look finds another one in progress
        now, revision = n * 0.2, n
        old, new = (HeldTruth(str(r), r) for r in (revision, revision + 1))
        assert look(drift, new, old, now) == []
    assert look(drift, new, new, 11) == []


def test_two_looks_a_long_time_apart_settle_nothing():
    drift = DriftDetector()
    assert look(drift, NEW, OLD, 0) == []
    assert look(drift, NEW, OLD, 100) == []
    assert look(drift, NEW, OLD, 100.1) == [("market", "down", "differs")]


def test_a_doubt_that_went_begins_anew():
    drift = DriftDetector()
    assert watch(drift, NEW, OLD, 0, SETTLE_SEC - 0.5) == []
    assert look(drift, NEW, NEW, SETTLE_SEC) == []
    assert watch(drift, NEW, OLD, SETTLE_SEC + 0.5, SETTLE_SEC - 0.5) == []


def test_both_without_have_both_drifted():
    drift = DriftDetector()
    assert watch(drift, NOTHING, NOTHING, 0) == [("market", "down", "missing"), ("system", "down", "missing")]
    assert look(drift, NEW, NEW, 10) == [("market", "up", None), ("system", "up", None)]


def test_a_bus_that_is_away_has_not_drifted_and_nothing_is_right_again_meanwhile():
    drift = DriftDetector()
    assert watch(drift, NEW, None, 0) == []
    assert watch(drift, NEW, OLD, 10) == [("market", "down", "differs")]
    assert watch(drift, NEW, None, 20) == []
    assert watch(drift, None, None, 30) == []
    assert look(drift, NEW, NEW, 40) == [("market", "up", None)]


def test_it_may_get_worse_or_turn_around_without_being_told_twice():
    drift = DriftDetector()
    assert watch(drift, NEW, NOTHING, 0) == [("market", "down", "missing")]
    assert watch(drift, NEW, OLD, 10) == []
    assert watch(drift, OLD, NEW, 20) == [("market", "up", None), ("system", "down", "differs")]


def test_what_an_earlier_run_told_is_not_told_again_and_its_end_is():
    drift = DriftDetector()
    drift.restore("market", State.UP, WALL - 50)
    drift.restore("market", State.DOWN, WALL - 20)
    drift.restore("market", State.UP, WALL - 30)
    assert watch(drift, NEW, OLD, 0) == []
    assert look(drift, NEW, NEW, 10) == [("market", "up", None)]


def test_a_bus_that_the_truth_names_no_more_is_right_again():
    drift = DriftDetector()
    watch(drift, NEW, OLD, 0)
    (verdict,) = drift.evaluate({"system": NEW}, 10, WALL)
    assert (verdict.svc, verdict.state) == ("market", State.UP)
