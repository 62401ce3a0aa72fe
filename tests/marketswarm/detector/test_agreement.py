"""What the detector holds twice: where two copies differ, that is mended and returned."""

import pytest

from marketswarm.detector import State
from marketswarm.detector.bus import OVERLOOKED_SEC
from marketswarm.detector.trouble import ServiceOutage
from marketswarm.detector.verdict import Copies, Mended
from support.simulation.manual_detector import Hand, watch
from support.simulation.manual_jobs import hand_of, minutely


def check_all(hand: Hand) -> list[Mended]:
    """What is mended within some seconds, in which each service is looked at."""
    found: list[Mended] = []
    for _ in range(4):
        hand.elapsed += 0.25
        hand.canaries()
        hand.elapsed += 0.80
        hand.detector.note_awake(hand.now)
        hand.canaries()
        found += hand.detector.tick(hand.now).mended
    return found


def up(*services: str) -> Hand:
    """Services that are up."""
    hand = Hand(*(watch(svc) for svc in services))
    for svc in services:
        hand.beat(svc, boot="b")
    hand.run(1)
    return hand


def test_where_all_copies_agree_nothing_is_mended():
    hand = up("a", "b")
    hand.run(100)  # both are down
    hand.beat("a", boot="b")
    assert check_all(hand) == []


def test_a_service_that_the_wheel_has_lost_is_put_there_again_and_missed():
    hand = up("a", "b")
    bus = hand.detector.buses["bus"]
    bus.wheel.pop_due(bus.clock.proven + 100)  # and nobody looks at what it returns
    found: list[Mended] = []
    for _ in range(int(4 * (22.5 + OVERLOOKED_SEC + 3))):
        hand.canaries()
        hand.elapsed += 0.25
        tick = hand.detector.tick(hand.now)
        found += tick.mended
        hand.record([hand.detector.evaluate_suspect(each.svc, None, hand.now) for each in tick.suspects])
    assert sorted(found) == [("a", Copies.WHEEL), ("b", Copies.WHEEL)]
    hand.run(10)
    assert [hand.detector.services[svc].state for svc in "ab"] == [State.DOWN, State.DOWN]
    assert check_all(hand) == []


@pytest.mark.parametrize("state", [State.UP, State.DOWN])
def test_a_service_is_down_exactly_while_it_has_an_outage(state):
    hand = up("a")
    if state is State.DOWN:
        hand.run(40)
    service = hand.detector.services["a"]
    assert service.state is state
    service.outage = ServiceOutage(hand.now) if service.outage is None else None
    assert check_all(hand) == [("a", Copies.OUTAGE)]
    assert (service.outage is not None) is (state is State.DOWN)


def test_a_service_that_its_bus_does_not_know_is_heard_again():
    hand = up("a")
    del hand.detector.buses["bus"].channels[b"a:heartbeat"]
    assert check_all(hand) == [("a", Copies.CHANNEL)]
    hand.run(40)
    hand.beat("a", boot="b")
    assert hand.verdicts[-1].state is State.UP


def test_a_job_that_is_not_among_the_jobs_is_added():
    hand = hand_of(minutely())
    hand.run(1)
    del hand.detector.jobs["a"]
    assert check_all(hand) == [("a", Copies.JOBS)]
    assert hand.detector.jobs == hand.detector.services


def test_a_service_that_nobody_lets_be_watched_again_is():
    hand = up("a")
    hand.detector.set_refused_channels("bus", ["a:heartbeat"], hand.now)
    del hand.detector.refused["a"]
    hand.detector.buses["bus"].refused_channels = frozenset()
    assert check_all(hand) == [("a", Copies.REFUSAL)]
    hand.run(10)
    assert hand.detector.services["a"].channel_refused_at is None
    hand.run(60)
    assert hand.detector.services["a"].state is State.DOWN
