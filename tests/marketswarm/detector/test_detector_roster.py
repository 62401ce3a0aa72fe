import pytest

from marketswarm.detector import Publication, State, Subject
from marketswarm.event import UNWATCHED_REASON
from support.simulation.manual_detector import Hand, watch

# I = 10, T = 30, W = 22.5


def test_a_service_that_is_added_gets_a_warm_up_from_then_on():
    hand = Hand(watch("a"))
    hand.beating(100, 10)
    hand.rewatch(watch("a"), watch("b"))
    hand.beating(40, 10)
    assert hand.said == [(0, "a", "up"), (122.5, "b", "down")]


def test_what_did_not_change_goes_on_as_if_nothing_was():
    hand = Hand(watch("a"))
    hand.beat()
    hand.run(20)
    before = hand.detector.services["a"]
    hand.rewatch(watch("a"), watch("b"))
    assert hand.detector.services["a"] is before
    hand.run(11)
    assert hand.said == [(0, "a", "up"), (30, "a", "down")]


@pytest.mark.parametrize(
    ("was", "told"), [("unknown", Publication.NONE), ("up", Publication.NONE), ("down", Publication.ALERT)]
)
def test_a_service_that_is_dropped_is_forgotten_and_if_it_was_down_that_is_closed(was, told):
    hand = Hand(watch("a"), watch("b"))
    if was == "up":
        hand.beat("a")
    hand.run(1 if was == "unknown" else 10 if was == "up" else 25)
    assert hand.detector.services["a"].state == was
    hand.told.clear()
    hand.rewatch(watch("b"))
    (gone,) = hand.verdicts
    assert (gone.svc, gone.state, gone.publication) == ("a", State.UNWATCHED, told)
    assert hand.detector.silences.unsaved["a"] is None
    hand.beat("a")
    hand.run(100)
    assert [svc for _, svc, _ in hand.said].count("a") == 1


def test_a_dropped_service_that_was_down_tells_since_when():
    hand = Hand(watch("a"))
    hand.beat("a")
    wall = hand.now.wall
    hand.run(31)
    hand.rewatch()
    assert (hand.verdicts[-1].publication, hand.verdicts[-1].since) == (Publication.ALERT, wall)


@pytest.mark.parametrize("was_heard", [True, False])
def test_a_lost_bus_that_is_dropped_is_closed_once(was_heard):
    hand = Hand(watch("a"), buses={"bus": 10.0, "extra": 10.0})
    last_heard = hand.now.wall
    if not was_heard:
        hand.rewatch(watch("a"))
        hand.away.add("extra")
        hand.rewatch(watch("a"), buses={"bus": 10.0, "extra": 10.0})
    hand.lose("extra")
    hand.run(15)
    assert [(verdict.svc, verdict.state) for verdict in hand.verdicts] == [("extra", "down")]
    hand.rewatch(watch("a"), buses={"bus": 10.0})
    ok = hand.verdicts[-1]
    assert (ok.svc, ok.subject, ok.state, ok.publication) == (
        "extra",
        Subject.BUS,
        State.UP,
        Publication.ALERT,
    )
    assert (ok.reason, ok.down_sec) == (UNWATCHED_REASON, None), "nobody knows that it is back"
    assert ok.since == (last_heard if was_heard else None)
    hand.rewatch(watch("a"), buses={"bus": 10.0})
    hand.beating(50, 10)
    assert [svc for _, svc, _ in hand.said].count("extra") == 2


def test_a_bus_that_is_dropped_while_it_is_heard_closes_nothing():
    hand = Hand(watch("a"), buses={"bus": 10.0, "extra": 10.0})
    hand.run(1)
    hand.rewatch(watch("a"), buses={"bus": 10.0})
    assert not hand.verdicts


def test_a_case_that_is_with_the_witness_is_dropped_with_its_service():
    hand = Hand(watch("a"))
    hand.run(22.4)
    hand.elapsed = 22.5
    hand.canaries()
    assert [each.svc for each in hand.detector.tick(hand.now).suspects] == ["a"]
    hand.rewatch()
    assert hand.detector.evaluate_suspect("a", None, hand.now) is None
    hand.detector.retry_suspect("a")
    hand.run(50)
    assert [(svc, state) for _, svc, state in hand.said] == [("a", "unwatched")]


@pytest.mark.parametrize(
    "change", [{"timeout": 15.0, "interval": 5.0}, {"interval": 14.0}, {"timeout": 45.0}]
)
def test_after_a_change_nothing_is_due_before_a_warm_up_from_then(change):
    hand = Hand(watch("a"))
    hand.beat("a")
    hand.run(29)
    changed = watch("a", **change)
    hand.rewatch(changed)
    record = hand.detector.services["a"]
    want = max(record.rule.warm_up_sec + 29, changed.timeout_sec)  # the silence goes on counting from 0
    hand.run(want - 29 - 0.3)
    assert hand.said == [(0, "a", "up")]
    hand.run(0.6)
    assert hand.said == [(0, "a", "up"), (round(want, 3), "a", "down")]
    assert hand.verdicts[-1].late_sec == pytest.approx(want, abs=0.01)
    assert hand.verdicts[-1].timeout_sec == changed.timeout_sec


def test_change_upon_change_never_hides_a_silence_for_longer_than_they_go_on():
    hand = Hand(watch("a"))
    hand.beat("a")
    for n in range(4):
        hand.run(20)
        hand.rewatch(watch("a", timeout=30 + n % 2 + 0.5))
    assert hand.said == [(0, "a", "up")]
    hand.run(30)
    assert [state for _, _, state in hand.said] == ["up", "down"]


def test_a_change_of_a_service_that_is_down_leaves_it_down():
    hand = Hand(watch("a"))
    hand.beat("a", boot="b")
    hand.run(31)
    hand.rewatch(watch("a", timeout=60.0))
    hand.run(100)
    hand.beat("a", boot="b")
    assert hand.said == [(0, "a", "up"), (30, "a", "down"), (131, "a", "up")]
    assert hand.verdicts[-1].down_sec == pytest.approx(131)


def test_a_change_keeps_the_incarnations_and_the_goodbye():
    hand = Hand(watch("a"))
    hand.beat("a", boot="b", i=7)
    hand.beat("a", boot="b", i=8, status="stopping")
    hand.rewatch(watch("a", timeout=40.0))
    hand.beat("a", boot="b", i=7)
    assert hand.detector.counts.replayed == 1
    hand.run(50)
    assert hand.verdicts[-1].reason == "stopped"


def test_what_was_taken_at_sight_is_parsed_before_a_change_takes_it_over():
    hand = Hand(watch("a"))
    hand.beat("a", boot="b", i=7)
    hand.run(10)
    hand.beat("a", boot="b", i=8)
    hand.rewatch(watch("a", timeout=40.0))
    hand.beat("a", boot="b", i=8)
    assert hand.detector.counts.replayed == 1


def test_a_bus_that_changed_carries_the_silence_over_to_the_new_buses_clock():
    both = {"bus": 10.0, "other": 10.0}
    hand = Hand(watch("a"), buses=both)
    hand.beat("a")
    hand.run(10)
    hand.lose("other")
    hand.run(5)
    hand.find("other")
    hand.run(5)
    hand.rewatch(watch("a", bus="other"), buses=both)
    hand.beat("a", bus="bus")  # nobody is watched there any more
    hand.run(30)
    assert hand.said == [(0, "a", "up"), (42.5, "a", "down")]
    assert hand.verdicts[-1].late_sec == pytest.approx(42.5, abs=0.01)
    hand.beat("a", bus="other")
    assert hand.verdicts[-1].down_sec == pytest.approx(50)


def test_a_silence_that_is_remembered_is_remembered_on_the_new_clock_after_a_change():
    hand = Hand(watch("a"))
    hand.beat("a")
    hand.run(23)
    hand.detector.silences.take()  # saved
    hand.rewatch(watch("a", timeout=100.0))
    record = hand.detector.services["a"]
    assert hand.detector.silences.unsaved == {"a": record}
    hand.detector.silences.take()
    hand.beat("a")
    assert hand.detector.silences.unsaved == {"a": None}


def test_a_bus_that_is_no_longer_listened_to_goes_with_its_clock():
    hand = Hand(watch("a"), watch("b", bus="other"))
    hand.rewatch(watch("a"))
    assert "other" not in hand.detector.buses
    hand.rewatch(watch("a"), watch("b", bus="other"))
    assert not hand.clock("other").is_listening


def test_a_timeout_of_a_bus_changes_while_it_runs():
    hand = Hand(watch("a"), buses={"bus": 10.0, "other": 10.0})
    hand.rewatch(watch("a"), buses={"bus": 3.0, "other": 10.0})
    hand.lose()
    hand.run(4)
    assert hand.verdicts[0].timeout_sec == 3


def test_a_channel_that_moves_to_another_service_is_heard_for_that_one():
    hand = Hand(watch("a"))
    moved = watch("b")
    object.__setattr__(moved, "channel", "a:heartbeat")
    hand.rewatch(moved)
    hand.detector.take_messages("bus", [[b"message", b"a:heartbeat", b'{"svc":"b","i":1,"ts":1}']], hand.now)
    assert hand.detector.services["b"].state is State.UP


def test_a_change_that_comes_right_after_a_stall_grants_no_more_than_a_warm_up():
    # found by the machine: the stall counted as listening, and the floor lay beyond it
    hand = Hand(watch())
    hand.beat()
    hand.run(5)
    hand.stall(100)
    hand.rewatch(watch(timeout=20.0))
    hand.run(60)
    assert [state for *_, state in hand.said] == ["up", "down"]
    assert hand.said[-1][0] == pytest.approx(125, abs=0.5)
