"""A bus that is lost and found: one fact, whoever beats there. Its timeout is 10 s."""

from collections import deque

import pytest

from marketswarm.detector import CANARY_EVERY_SEC, Detector, Moment, Publication, State, restore_lost_bus
from marketswarm.detector.bus import WatchedBus
from marketswarm.detector.clock import GOOD_FROM
from support.simulation.manual_detector import WALL, Hand, watch


def test_a_lost_bus_is_one_fact_with_its_reason():
    hand = Hand(watch("a"), watch("b"))
    hand.beating(20, 10, "a", "b")
    hand.lose(reason="auth")
    hand.run(60)
    (miss,) = hand.verdicts[2:]
    # the canaries say no more than refused; the last one came back at 20
    assert (miss.subject, miss.svc, miss.state, miss.reason) == ("bus", "bus", State.DOWN, "auth")
    assert miss.late_sec == pytest.approx(10, abs=0.3)
    assert miss.timeout_sec == 10
    assert miss.since == pytest.approx(hand.now.wall - 60, abs=0.3)


def test_a_bus_that_is_back_is_ok_with_the_whole_outage():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    hand.cut(59.75)
    hand.run(1)
    ok = hand.verdicts[-1]
    assert (ok.svc, ok.subject == "bus", ok.state, ok.publication) == (
        "bus",
        True,
        State.UP,
        Publication.ALERT,
    )
    assert ok.down_sec == pytest.approx(60, abs=0.3)
    hand.run(5)
    assert hand.verdicts[-1] is ok


def test_a_stall_while_a_bus_is_lost_does_not_shorten_its_outage():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    hand.lose()
    hand.run(40)
    hand.stall(20)
    hand.find()
    hand.run(1)
    assert hand.verdicts[-1].down_sec == pytest.approx(60, abs=0.3)


def test_a_listener_that_stalls_now_and_then_still_calls_a_lost_bus_lost():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    hand.lose()
    for _ in range(5):
        hand.run(4)
        hand.stall(2)
    (miss,) = hand.verdicts[1:]
    assert miss.reason == "refused"
    assert miss.late_sec == pytest.approx(10, abs=0.5)


def turn(hand, sec):
    """One turn of a loop that is held up until `sec` after the last."""
    hand.stall(sec)
    hand.look()
    hand.canaries()


def test_delays_too_short_for_a_gap_are_no_silence_of_a_bus_however_often_they_come():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    hand.lose()
    for _ in range(36):
        turn(hand, 1)
    assert hand.verdicts[1:] == [], "a quarter of each second was the bus's own"
    for _ in range(8):
        turn(hand, 1)
    (miss,) = hand.verdicts[1:]
    assert miss.late_sec == pytest.approx(10, abs=0.5)


def test_turns_that_are_hardly_late_leave_a_bus_its_timeout():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    hand.lose()
    for _ in range(30):
        turn(hand, CANARY_EVERY_SEC + 0.09)
    (miss,) = hand.verdicts[1:]
    assert miss.ts == pytest.approx(WALL + 30, abs=0.4)


def test_a_bus_that_was_never_heard_is_missed_and_its_first_canary_is_ok_without_an_outage():
    hand = Hand(watch("a"))
    fresh = Hand(watch("a"), buses={"bus": 10.0, "other": 10.0})
    fresh.lose("other")
    assert hand.verdicts == fresh.verdicts == []
    detector = fresh.detector
    detector.buses["other"].state = State.UNKNOWN
    fresh.run(11)
    (miss,) = [v for v in fresh.verdicts if v.subject == "bus"]
    assert (miss.svc, miss.since) == ("other", None)
    fresh.find("other")
    fresh.canaries()
    ok = fresh.verdicts[-1]
    assert (ok.svc, ok.state, ok.since, ok.down_sec) == ("other", State.UP, None, None)


def test_one_bus_away_does_not_stop_the_others_clock():
    hand = Hand(watch("a"), watch("b", bus="other"))
    hand.beat("a")
    hand.beat("b", bus="other")
    hand.lose("bus")
    hand.run(40)
    assert [(svc, state) for _, svc, state in hand.said[2:]] == [("bus", "down"), ("b", "down")]


def test_a_canary_of_a_bus_that_is_no_longer_watched_means_nothing():
    hand = Hand(watch("a"))
    assert hand.detector.take_canary("gone", 1, Moment(0, 0)) == []


# -- heard for too little of the time


def cut_again_and_again(hand: Hand, times: int, *, heard_sec: float, away_sec: float) -> None:
    """The session ends, and is rebuilt after `away_sec`; it proves `heard_sec`, less a canary's time."""
    for _ in range(times):
        hand.cut(away_sec)
        hand.run(heard_sec)


def of_bus(hand: Hand) -> list[tuple[float, str, str | None]]:
    return [
        (each.at, str(each.verdict.state), each.verdict.reason)
        for each in hand.told
        if each.verdict.subject == "bus"
    ]


def test_a_bus_that_is_cut_off_again_and_again_is_deaf_after_two_windows():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    cut_again_and_again(hand, 15, heard_sec=0.6, away_sec=1.4)
    ((at, state, reason),) = of_bus(hand)
    assert (state, reason) == ("down", "deaf")
    assert at == pytest.approx(40, abs=1)
    miss = hand.verdicts[-1]
    assert miss.late_sec == pytest.approx(20, abs=1)
    assert (miss.timeout_sec, miss.since) == (10, pytest.approx(hand.now.wall - 30, abs=1))


def test_a_deaf_bus_is_not_found_by_a_canary_but_by_a_window_that_is_well_heard():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    cut_again_and_again(hand, 30, heard_sec=0.6, away_sec=1.4)
    hand.run(30)
    (lost_at, *_), (found_at, state, _) = of_bus(hand)
    assert state == "up"
    assert 10 * GOOD_FROM <= found_at - 80 <= 20
    ok = next(verdict for verdict in hand.verdicts if verdict.subject == "bus" and verdict.state is State.UP)
    assert ok.down_sec == pytest.approx(found_at - lost_at + 20, abs=0.1)


@pytest.mark.parametrize(
    ("heard_sec", "away_sec", "told"),
    [(1.6, 0.4, []), (1.25, 0.75, []), (0.75, 1.25, ["down"])],
    ids=["most", "more than half", "less than half"],
)
def test_on_the_edge_it_is_one_thing_or_the_other_and_never_flaps(heard_sec, away_sec, told):
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    cut_again_and_again(hand, 100, heard_sec=heard_sec, away_sec=away_sec)
    assert [state for _, state, _ in of_bus(hand)] == told


def test_a_short_burst_makes_nobody_deaf():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    cut_again_and_again(hand, 4, heard_sec=0.6, away_sec=1.4)
    hand.run(30)
    cut_again_and_again(hand, 4, heard_sec=0.6, away_sec=1.4)
    assert of_bus(hand) == []


def test_a_listener_that_stalls_calls_no_bus_deaf():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    for _ in range(20):
        hand.stall(3)
        hand.run(1)
    assert of_bus(hand) == []


def lose_with_work(work_share: float, *, late_sec: float, for_sec: int) -> tuple[str | None, WatchedBus]:
    """Why a bus is lost whose canaries come back late to a listener that works for a share of the time."""
    bus, sent = WatchedBus("bus", 10.0, Moment(0.0, WALL)), deque[tuple[int, float]]()
    bus.clock.note_session_opened()
    bus.clock.note_canary_sent(1, 0.0)
    bus.clock.note_canary_received(1, Moment(0.0, WALL))
    bus.note_heard(Moment(0.0, WALL))
    for number in range(2, 4 * for_sec):
        now = Moment(number / 4, WALL + number / 4)
        bus.clock.note_canary_sent(number, now.mono, work_share * now.mono)
        sent.append((number, now.mono))
        while sent[0][1] + late_sec <= now.mono:
            bus.clock.note_canary_received(sent.popleft()[0], now, work_share * now.mono)
        bus.clock.check_canary(now.mono)
        if (lost := bus.evaluate(now, may_blame=True)) is not None:
            return lost.reason, bus
    return None, bus


@pytest.mark.parametrize(("work_share", "late_sec"), [(0.9, 3.0), (0.9, 9.0), (0.8, 15.0)])
def test_canaries_that_wait_behind_the_listeners_own_work_make_no_bus_deaf(work_share, late_sec):
    reason, bus = lose_with_work(work_share, late_sec=late_sec, for_sec=120)
    assert reason is None
    assert bus.is_poorly_heard, "the other healer may hear it better"


def test_canaries_that_come_late_to_an_idle_listener_make_a_bus_deaf():
    assert lose_with_work(0.5, late_sec=3.0, for_sec=120)[0] == "deaf"


@pytest.mark.parametrize(("work_share", "reason"), [(0.9, None), (0.0, "deaf")])
def test_a_bus_is_not_silent_while_its_messages_are_handled(work_share, reason):
    assert lose_with_work(work_share, late_sec=100.0, for_sec=60)[0] == reason


def test_work_before_a_session_was_cut_is_no_sign_of_the_bus():
    _, bus = lose_with_work(0.9, late_sec=100.0, for_sec=30)
    bus.clock.note_session_lost("refused")
    assert bus.evaluate(Moment(30.0, WALL + 30), may_blame=True) is not None


def test_a_later_run_does_not_take_a_deaf_bus_for_found_either():
    hand = Hand(watch("a"))
    restore_lost_bus(hand.detector, "bus", WALL - 60, hand.now, as_deaf=True)
    hand.run(5)
    assert of_bus(hand) == []
    hand.run(10)
    assert [state for _, state, _ in of_bus(hand)] == ["up"]
    assert hand.verdicts[-1].down_sec == pytest.approx(70, abs=6)


# -- no bus at all

BOTH = {"bus": 10.0, "other": 10.0}


def two_buses() -> Hand:
    hand = Hand(watch("a"), watch("b", bus="other"), buses=BOTH)
    hand.run(20)
    return hand


def lose(hand: Hand, *buses: str, reason: str = "refused") -> None:
    for bus in buses:
        hand.lose(bus, reason)


def what(hand: Hand) -> list[tuple[str, str]]:
    return [
        (verdict.svc, f"{verdict.subject} {verdict.state}")
        for verdict in hand.verdicts
        if verdict.subject != "service"
    ]


def test_who_hears_no_bus_blames_none_and_tells_one_fact_when_one_is_back():
    hand = two_buses()
    lose(hand, *BOTH)
    hand.run(60)
    assert what(hand) == []
    for bus in BOTH:
        hand.find(bus)
    hand.run(60)
    assert what(hand) == [("healer", "reach up")]
    (gap,) = (verdict for verdict in hand.verdicts if verdict.subject == "reach")
    assert gap.gap_sec == pytest.approx(60, abs=0.5)
    assert gap.since == pytest.approx(gap.ts - gap.gap_sec, abs=0.01)


@pytest.mark.parametrize("begun", [0.0, 0.1, 0.2])
def test_the_fact_begins_when_the_last_answer_came_also_where_the_wires_swallow_all(begun):
    hand = two_buses()
    hand.run(5 + begun)
    hand.swallowed = set(BOTH)
    cut_at = hand.now.wall
    hand.run(60)
    hand.swallowed = set()
    hand.run(10)
    assert what(hand) == [("healer", "reach up")]
    (gap,) = (verdict for verdict in hand.verdicts if verdict.subject == "reach")
    assert cut_at - CANARY_EVERY_SEC - 0.01 <= gap.since <= cut_at


def test_a_bus_that_stays_away_when_another_is_back_is_missed_then_a_timeout_later():
    hand = two_buses()
    lose(hand, *BOTH)
    hand.run(60)
    hand.find("other")
    hand.run(9.5)
    assert what(hand) == [("healer", "reach up")]
    hand.run(1)
    assert what(hand) == [("healer", "reach up"), ("bus", "bus down")]
    assert hand.verdicts[-1].late_sec == pytest.approx(70, abs=1)
    hand.find("bus")
    hand.run(1)
    assert what(hand)[-1] == ("bus", "bus up")


def test_a_bus_that_is_lost_while_the_other_is_heard_is_told_as_ever_and_then_nothing_of_the_other():
    hand = two_buses()
    hand.lose("bus")
    hand.run(11)
    hand.lose("other")
    hand.run(60)
    assert what(hand) == [("bus", "bus down")]
    hand.find("other")
    hand.run(0.5)
    assert what(hand) == [("bus", "bus down"), ("healer", "reach up")]
    assert hand.verdicts[-1].gap_sec == pytest.approx(60, abs=0.5)


@pytest.mark.parametrize("reason", ["oom", "readonly", "misconf", "auth", "loading"])
def test_a_bus_that_refuses_is_reached_and_so_each_is_told(reason):
    hand = two_buses()
    hand.lose("bus")
    hand.lose("other", reason)
    hand.run(15)
    assert sorted(what(hand)) == [("bus", "bus down"), ("other", "bus down")]


def test_buses_that_answer_and_bring_back_no_canary_are_reached_and_so_each_is_told():
    hand = two_buses()
    hand.deaf = set(BOTH)
    hand.run(15)
    assert sorted(what(hand)) == [("bus", "bus down"), ("other", "bus down")]
    assert {verdict.reason for verdict in hand.verdicts} == {"deaf"}


def test_a_short_loss_of_all_is_no_fact():
    hand = two_buses()
    lose(hand, *BOTH)
    hand.run(9)
    for bus in BOTH:
        hand.find(bus)
    hand.run(30)
    assert what(hand) == []


def test_a_start_that_reaches_no_bus_for_long_has_lost_no_reach():
    hand = Hand(watch("a"), buses=BOTH, held=True)
    hand.detector = Detector(hand.now)
    hand.rewatch(watch("a"), buses=BOTH)
    hand.away = set(BOTH)
    hand.run(30)
    for bus in BOTH:
        hand.find(bus)
    hand.run(5)
    assert what(hand) == []


def test_both_healers_give_the_fact_the_same_mark_as_far_as_they_lost_reach_at_once():
    marks = set()
    for _ in range(2):
        hand = two_buses()
        lose(hand, *BOTH)
        hand.run(15)
        hand.find("bus")
        hand.run(1)
        marks |= {verdict.event_id for verdict in hand.verdicts if verdict.subject == "reach"}
    assert len(marks) == 1


@pytest.mark.parametrize("away_sec", [9.5, 10.5, 12, 14, 18, 25])
@pytest.mark.parametrize("begun", [0, 3, 5, 6, 9])
def test_one_loss_of_the_reach_makes_no_bus_deaf_whenever_it_begins(away_sec, begun):
    hand = two_buses()
    hand.run(begun)
    lose(hand, *BOTH)
    hand.run(away_sec)
    for bus in BOTH:
        hand.find(bus)
    hand.run(40)
    assert what(hand) == [("healer", "reach up")] * (away_sec > 10)
