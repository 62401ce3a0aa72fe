"""A bus that is lost and found: one fact, whoever beats there. Its timeout is 10 s."""

import pytest
from by_hand import Hand, watch

from marketswarm.liveness import Moment, State, Told


def test_a_lost_bus_is_one_fact_with_its_reason():
    hand = Hand(watch("a"), watch("b"))
    hand.beating(20, 10, "a", "b")
    hand.lose(reason="auth")
    hand.run(60)
    (miss,) = hand.verdicts[2:]
    # the canaries say no more than refused; the last one came back at 20
    assert (miss.svc, miss.of_bus, miss.state, miss.reason) == ("bus", True, State.DOWN, "auth")
    assert miss.late_sec == pytest.approx(10, abs=0.3)
    assert miss.timeout_sec == 10
    assert miss.since == pytest.approx(hand.now.wall - 60, abs=0.3)


def test_a_bus_that_is_back_is_ok_with_the_whole_outage():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    hand.lose()
    hand.run(59.75)
    hand.find()
    hand.run(1)
    ok = hand.verdicts[-1]
    assert (ok.svc, ok.of_bus, ok.state, ok.told) == ("bus", True, State.UP, Told.ALERT)
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


def test_a_bus_that_was_never_heard_is_missed_and_its_first_canary_is_ok_without_an_outage():
    hand = Hand(watch("a"))
    fresh = Hand(watch("a"), buses={"bus": 10.0, "other": 10.0})
    fresh.lose("other")
    assert hand.verdicts == fresh.verdicts == []
    life = fresh.life
    life.buses["other"].state = State.UNKNOWN
    fresh.run(11)
    (miss,) = [v for v in fresh.verdicts if v.of_bus]
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
    assert hand.life.canary("gone", 1, Moment(0, 0)) is None
