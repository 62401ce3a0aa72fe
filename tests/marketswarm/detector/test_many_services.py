"""Many services that are due at the same time: few are looked at in one evaluation, and none too late."""

import pytest

from marketswarm.detector.bus import MAX_PER_EVALUATION
from marketswarm.detector.service import WatchedService
from support.simulation.manual_detector import Hand, gaps, watch

COUNT = 5 * MAX_PER_EVALUATION
TIMEOUT_SEC = 30.0


@pytest.fixture
def looks(monkeypatch):
    """How many due times were computed since the list was cleared: one look computes four at most."""
    found: list[WatchedService] = []
    due = WatchedService.due

    def count(service):
        found.append(service)
        return due(service)

    monkeypatch.setattr(WatchedService, "due", count)
    return found


def evaluate_all(hand, looks) -> list[str]:
    """Evaluate until nothing is due; return the suspects, none of which has a beat elsewhere."""
    suspects: list[str] = []
    for _ in range(10 * COUNT // MAX_PER_EVALUATION):
        looks.clear()
        tick = hand.detector.tick(hand.now)
        assert len(looks) <= 4 * MAX_PER_EVALUATION
        suspects += [each.svc for each in tick.suspects]
        if tick.wake_in_sec > 0:
            return suspects
    pytest.fail("the evaluation does not end")


def evaluate_until(hand, looks, sec: float) -> None:
    """Evaluate with each canary, until so many seconds passed; none falls due."""
    for quarter in range(int(4 * sec) + 1):
        hand.elapsed = quarter / 4
        hand.canaries()
        assert evaluate_all(hand, looks) == []


@pytest.fixture
def names() -> list[str]:
    return [f"svc{n}" for n in range(COUNT)]


@pytest.fixture
def hand(names) -> Hand:
    """All of them beat at the same time, once."""
    hand = Hand(*(watch(svc, 10.0, TIMEOUT_SEC) for svc in names))
    for svc in names:
        hand.beat(svc)
    return hand


@pytest.mark.slow
def test_services_that_share_a_deadline_are_looked_at_in_portions_and_all_found_at_it(hand, names, looks):
    evaluate_until(hand, looks, TIMEOUT_SEC - 0.25)
    hand.elapsed = TIMEOUT_SEC
    hand.canaries()
    assert sorted(evaluate_all(hand, looks)) == sorted(names)


@pytest.mark.slow
def test_services_that_beat_while_they_wait_for_a_canary_are_looked_at_in_portions(hand, names, looks):
    evaluate_until(hand, looks, TIMEOUT_SEC - 0.25)
    hand.elapsed = TIMEOUT_SEC
    assert evaluate_all(hand, looks) == []
    bus = hand.detector.buses["bus"]
    assert len(bus.awaiting_canary) == COUNT
    for svc in names:
        hand.beat(svc)
    hand.canaries()
    assert evaluate_all(hand, looks) == []
    assert not bus.awaiting_canary


@pytest.mark.slow
def test_those_that_fell_due_first_are_asked_about_first_however_canaries_fall_between(names, looks):
    hand = Hand(*(watch(svc, 10.0, TIMEOUT_SEC) for svc in names))
    for svc in names:
        hand.elapsed += 0.0001  # so all fall due within a quarter of a second
        hand.beat(svc)
    first, last = TIMEOUT_SEC, TIMEOUT_SEC + hand.elapsed
    evaluate_until(hand, looks, TIMEOUT_SEC - 0.25)
    hand.elapsed = last + 0.05  # all are due, as far as is proven none is
    assert evaluate_all(hand, looks) == []
    bus, suspects = hand.detector.buses["bus"], list[str]()
    assert len(bus.awaiting_canary) == COUNT
    for number in range(200):
        # each canary proves some more, and comes before those that wait were all looked at
        bus.clock.proven = first + number * (last - first) / 100
        suspects += [each.svc for each in hand.detector.tick(hand.now).suspects]
    assert suspects == names


def test_services_that_beat_are_not_evaluated_and_their_silence_is_never_saved(looks):
    names = [f"svc{n}" for n in range(20)]
    hand = Hand(*(watch(svc, 10.0, 20.0) for svc in names))
    hand.beating(40, 10, *names, boot="b")
    looks.clear()
    hand.detector.silences.take()
    hand.beating(100, 10, *names, boot="b")
    assert (looks, hand.detector.silences.unsaved) == ([], {})


def test_gaps_that_may_be_published_at_the_same_time_are_concluded_in_portions(monkeypatch):
    monkeypatch.setattr("marketswarm.detector.restarts.MAX_PER_EVALUATION", 10)
    names = [f"svc{n}" for n in range(50)]
    hand = Hand(*(watch(svc, 10.0, TIMEOUT_SEC) for svc in names))
    hand.beating(20, 10, *names, boot="old")
    hand.cut(40)
    hand.beating(10, 10, "svc0", boot="new")  # it beats once, and is missed in place of its gap
    hand.beating(15, 10, *names[1:], boot="new")
    assert gaps(hand) == []
    portions = []
    for _ in range(80):
        hand.elapsed += 0.25
        hand.canaries()
        for svc in names[1:]:
            hand.beat(svc, boot="new")
        tick = hand.detector.tick(hand.now)
        hand.record(tick.verdicts)
        portions.append(sum(verdict.gap_sec is not None for verdict in tick.verdicts))
    assert 0 < max(portions) < 20
    assert sorted(svc for svc, _, _ in gaps(hand)) == sorted(names[1:])
