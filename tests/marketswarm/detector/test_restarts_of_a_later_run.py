"""What happened while the healer was away, told by the run that comes next. I = 10, T = 30."""

import pytest

from marketswarm.detector import SavedBeat, SavedService, State
from support.simulation.manual_detector import WALL, Hand, gaps, says, watch

AWAY = 100.0
"""How long the healer was away, in the tests of a later run."""


def noted(**more) -> SavedBeat:
    """The beat that an earlier run heard last, AWAY seconds before the new one begins."""
    return SavedBeat(**{"boot": "old", "i": 50, "ts": WALL - AWAY, "wall": WALL - AWAY, **more})


def later_run(key=None, *, state=State.UP, note=None, **more) -> Hand:
    """A healer that begins with a memory of `a`; `key` is what `beat:a` says at that moment."""
    known = SavedService(state, since=WALL - 200, last_beat=note or noted(**more))
    return Hand(watch(), known={"a": known}, beats={"a": key} if key else None)


def test_a_restart_while_the_healer_was_away_is_told_once_by_whoever_comes_next():
    marks = set()
    for i in (9, 30, 60):  # three runs, each of which finds what the first one noted
        hand = later_run(says(5, boot="new", i=i))
        hand.run(2)
        hand.beat(boot="new", i=i + 1)
        hand.beating(100, 10, boot="new")
        assert gaps(hand) == [("a", True, 0.0)]
        marks |= {verdict.event_id for verdict in hand.verdicts}
    assert len(marks) == 1


def test_the_silence_of_a_restart_is_what_the_second_witness_had_seen_before_it():
    hand = later_run(says(20, boot="old", i=58, ts=WALL - 20))
    hand.run(7)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == [("a", True, 27.0)]


def test_what_the_second_witness_had_seen_is_nothing_to_hold_on_to_after_another_gap():
    hand = later_run(says(5, boot="old", i=58, ts=WALL - 5))
    hand.run(1)
    hand.cut(60)
    hand.run(1)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == [("a", True, 0.0)]


@pytest.mark.parametrize(
    ("i", "told"),
    [
        (51, [("a", False, 102.0)]),
        (52, [("a", False, 51.0)]),
        (53, [("a", False, 34.0)]),
        (54, []),  # 102 / 4
        (60, []),
    ],
)
def test_skipped_beats_are_told_by_the_least_silence_that_so_many_beats_leave(i, told):
    hand = later_run()
    hand.run(2)
    hand.beat(boot="old", i=i)
    hand.run(10)
    hand.beating(100, 10, boot="old")
    assert gaps(hand) == told


@pytest.mark.parametrize(
    ("i", "pace", "told"),
    [
        (53, 10.0, [("a", False, 80.0)]),  # 102 - 2 * 11
        (56, 10.0, [("a", False, 47.0)]),
        (57, 10.0, [("a", False, 36.0)]),
        (58, 10.0, []),  # 25 is less than a timeout
        (53, 5.0, [("a", False, 80.0)]),  # the truth's interval is the least that counts
        (53, 28.0, [("a", False, 40.4)]),
        (54, 28.0, []),  # a service as slow as its timeout lets it
    ],
)
def test_of_whom_a_pace_was_measured_more_is_proven(i, pace, told):
    hand = later_run(pace_sec=pace)
    hand.run(2)
    hand.beat(boot="old", i=i)
    hand.run(10)
    hand.beating(100, 10, boot="old")
    assert gaps(hand) == told


def test_a_process_that_became_somewhat_slower_over_a_long_absence_has_no_silence():
    long_ago = WALL - 3000
    hand = later_run(wall=long_ago, ts=long_ago, pace_sec=10.0)
    hand.run(2)
    hand.beat(boot="old", i=50 + 3000 // 14)
    hand.run(14)
    hand.beating(100, 14, boot="old")
    assert gaps(hand) == []


def test_the_pace_is_measured_while_it_beats():
    hand = Hand(watch())
    paces = []
    for _ in range(12):
        hand.beating(28, 28, boot="b")
        hand.restarts.take_unsaved(hand.now.mono)
        paces.append(hand.detector.services["a"].history.pace_sec)
    assert paces[0] == 0.0
    assert paces[1:] == pytest.approx(11 * [28])
    for _ in range(12):
        hand.beating(20, 10, boot="b")
        hand.restarts.take_unsaved(hand.now.mono)
    assert hand.detector.services["a"].history.pace_sec == pytest.approx(10, abs=1)
    hand.beating(20, 10, boot="another")
    hand.restarts.take_unsaved(hand.now.mono)
    assert hand.detector.services["a"].history.pace_sec == 0.0


def test_the_second_witness_tells_one_silence_from_another():
    # 7 beats in 80 s, then none in 20 + 12
    hand = later_run(says(20, boot="old", i=57, ts=WALL - 20))
    hand.run(12)
    hand.beat(boot="old", i=58)
    hand.run(10)
    hand.beating(100, 10, boot="old")
    assert gaps(hand) == [("a", False, 32.0)]


def test_a_wall_clock_that_stepped_while_the_healer_was_away_proves_nothing():
    hand = later_run(wall=WALL - 3600)  # ours; the beats' own `ts` says 100 s
    hand.run(2)
    hand.beat(boot="old", i=60)
    hand.run(10)
    hand.beating(100, 10, boot="old")
    assert gaps(hand) == []


def test_a_sender_whose_clock_stepped_while_the_healer_was_away_proves_nothing():
    hand = later_run(ts=WALL - 3600)
    hand.run(2)
    hand.beat(boot="old", i=60)
    hand.run(10)
    hand.beating(100, 10, boot="old")
    assert gaps(hand) == []


@pytest.mark.parametrize(
    ("noted_goodbye", "key", "told"),
    [
        (True, None, 102.0),  # it was silent all the while
        (False, ("stopping", 20), None),
        (False, ("stopping", 40), 42.0),
        (True, ("ok", 5), 102.0),  # the new one's
    ],
)
def test_a_planned_restart_is_told_only_with_a_silence_longer_than_the_timeout(noted_goodbye, key, told):
    words = {}
    if key is not None:
        status, age = key
        boot = "old" if status == "stopping" else "new"
        words["key"] = says(age, boot=boot, i=51 if boot == "old" else 0, ts=WALL - age, status=status)
    hand = later_run(stopped=noted_goodbye, **words)
    hand.run(2)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == ([] if told is None else [("a", True, told)])


def test_instances_that_were_noted_beside_each_other_are_no_restarts():
    hand = later_run(others={"two": 50})
    hand.run(2)
    hand.beat(boot="two", i=70)
    hand.beating(100, 10, boot="two")
    assert gaps(hand) == []


def test_an_instance_that_was_noted_is_known_in_later_gaps_too():
    hand = later_run(others={"two": 50})
    hand.run(2)
    hand.beat(boot="old", i=60)
    hand.beating(20, 10, boot="old")
    hand.cut(10)
    hand.run(1)
    hand.beating(100, 10, boot="two")
    assert gaps(hand) == []


def test_an_ok_that_was_told_and_not_noted_any_more_is_no_restart():
    known = SavedService(State.UP, since=WALL - 200, boot="new", i=1, last_beat=noted())
    hand = Hand(watch(), known={"a": known})
    hand.run(2)
    hand.beat(boot="new", i=2)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == []


def test_who_is_remembered_down_gets_its_ok_alone():
    hand = later_run(state=State.DOWN)
    hand.run(2)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == []
    assert [v.down_sec is not None for v in hand.verdicts] == [True]


def test_a_restart_heard_before_the_memory_was_read_is_told():
    hand = Hand(watch(), held=True)
    hand.beating(15, 10, boot="new")
    known = SavedService(State.UP, since=WALL - 200, last_beat=noted())
    hand.recall({"a": known})
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == [("a", True, 0.0)]


def test_a_goodbye_that_was_noted_is_the_reason_of_the_miss():
    hand = later_run(stopped=True)
    hand.run(60)
    assert [(v.state, v.reason) for v in hand.verdicts] == [(State.DOWN, "stopped")]


@pytest.mark.parametrize(
    ("timeout", "told"), [(0.0, [("a", False, 102.0)]), (120.0, []), (90.0, [("a", False, 102.0)])]
)
def test_the_timeout_that_was_in_force_when_it_was_noted_measures_its_silence(timeout, told):
    hand = later_run(timeout_sec=timeout)
    hand.run(2)
    hand.beat(boot="old", i=51)
    hand.run(10)
    hand.beating(100, 10, boot="old")
    assert gaps(hand) == told
