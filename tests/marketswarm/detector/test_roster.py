"""A change of the roster in steps: between two of them, each service is watched as before, or as planned."""

from dataclasses import replace

import pytest

from marketswarm.detector import RosterChange, SavedService, State, plan_change
from marketswarm.detector.roster import SERVICES_AT_ONCE
from marketswarm.truth import JobRule, Watch
from support.simulation.manual_detector import WALL, Hand, watch

MANY = [f"s{n:03}" for n in range(2 * SERVICES_AT_ONCE)]
"""Two steps' worth of services."""


def plan(hand: Hand, *watches: Watch) -> RosterChange:
    return plan_change(
        hand.detector.services, watches, {watch.bus: 10.0 for watch in watches} | {"spare": 10.0}
    )


def take_step(hand: Hand, change: RosterChange) -> None:
    hand.record(hand.detector.change_roster(change, hand.now))


def finish(hand: Hand, change: RosterChange) -> None:
    while not change.is_done:
        take_step(hand, change)


def listened_to(hand: Hand, bus: str = "bus") -> dict[bytes, str]:
    return {channel: each.svc for channel, each in hand.detector.buses[bus].channels.items()}


def test_a_plan_names_what_is_new_changed_and_dropped_and_no_other():
    hand = Hand(*map(watch, "abc"))
    change = plan(hand, watch("a"), watch("b", 5.0, 20.0), watch("d", bus="far"))
    assert list(change.dropped) == ["c"]
    assert [each.svc for each in change.changed] == ["b", "d"]
    assert change.services == 3
    assert change.channels == {
        "bus": {"a:heartbeat", "b:heartbeat"},
        "far": {"d:heartbeat"},
        "spare": frozenset(),
    }
    assert list(hand.detector.services) == ["a", "b", "c"]


def test_a_roster_that_is_the_same_is_in_force_in_one_step():
    hand = Hand(watch())
    known = hand.detector.services["a"]
    change = plan(hand, watch())
    take_step(hand, change)
    assert change.is_done
    assert hand.detector.services["a"] is known


def test_between_two_steps_all_are_heard_those_that_moved_and_those_that_did_not_yet():
    hand = Hand(*map(watch, MANY))
    for svc in MANY:
        hand.beat(svc)
    change = plan(hand, *(watch(svc, 5.0, 20.0) for svc in MANY))
    take_step(hand, change)
    assert not change.is_done
    hand.run(15)
    for svc in MANY:
        hand.beat(svc)
    assert all(hand.detector.services[svc].silence_sec(hand.clock().proven) < 1 for svc in MANY)
    finish(hand, change)
    assert {hand.detector.services[svc].rule.timeout_sec for svc in MANY} == {20.0}
    hand.run(60)
    assert sorted((svc, state) for _, svc, state in hand.said) == sorted(
        (svc, state) for svc in MANY for state in ("up", "down")
    )
    # last heard at 15, one timeout of 20 ago; those of the second step get their warm-up from that
    assert {at for at, _, state in hand.said if state == "down"} == {35.0}


def test_a_service_that_is_down_and_dropped_is_closed_once_and_another_bus_is_left_last():
    hand = Hand(*map(watch, MANY), watch("z", bus="far"), known={"z": SavedService(State.DOWN, since=WALL)})
    change = plan(hand, *(watch(svc, 5.0, 20.0) for svc in MANY))
    take_step(hand, change)
    assert [(svc, state) for _, svc, state in hand.said] == [("z", "unwatched")]
    assert "far" in hand.detector.buses
    finish(hand, change)
    assert len(hand.said) == 1
    assert list(hand.detector.buses) == ["bus", "spare"]


def test_two_services_that_change_their_channels_for_each_others_are_both_heard():
    a, b = watch("a"), watch("b")
    hand = Hand(a, b)
    hand.rewatch(replace(a, channel=b.channel), replace(b, channel=a.channel))
    assert listened_to(hand) == {b"b:heartbeat": "a", b"a:heartbeat": "b"}


def test_a_service_that_gives_its_channel_to_a_new_one_keeps_none_of_it():
    hand = Hand(watch("a"))
    hand.rewatch(replace(watch("new"), channel="a:heartbeat"), replace(watch("a"), channel="x"))
    assert listened_to(hand) == {b"a:heartbeat": "new", b"x": "a"}
    hand.rewatch(replace(watch("a"), channel="a:heartbeat"))
    assert listened_to(hand) == {b"a:heartbeat": "a"}


@pytest.mark.parametrize("then", [[watch()], []])
def test_a_job_that_is_none_any_more_is_not_evaluated_after_a_gap(then):
    hand = Hand(replace(watch(), job=JobRule(max_run_sec=5.0)))
    hand.rewatch(*then)
    hand.cut(1)
    hand.run(1)
    assert not hand.detector.jobs
    assert not hand.detector.buses["bus"].postponed
