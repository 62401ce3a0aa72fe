"""Services that are known to be starting: they get the time for that, and no outage is hidden for long."""

import pytest

from marketswarm.detector import START_UP_SEC, SavedService, State
from support.simulation.manual_detector import WALL, Hand, says, watch

SILENT_SINCE = SavedService(State.UP, since=WALL - 7200, silent_sec=29.0)


def misses(hand: Hand) -> list[float]:
    return [round(each.at) for each in hand.told if getattr(each.verdict, "state", None) is State.DOWN]


def starting(known: SavedService | None, within_sec: float = START_UP_SEC) -> Hand:
    hand = Hand(watch(), held=True)
    hand.detector.expect_start(["a", "unknown"], within_sec, hand.now)
    hand.recall({} if known is None else {"a": known})
    return hand


@pytest.mark.parametrize("known", [None, SILENT_SINCE], ids=["the first start", "a planned restart"])
def test_one_that_is_known_to_be_starting_is_not_missed_before_it_can_beat(known):
    hand = starting(known)
    hand.run(50)
    assert misses(hand) == [], "without that it is missed after a warm-up, 22.5 s"
    hand.beating(60, 10, boot="b")
    assert misses(hand) == []


STOPPED = SavedService(State.UP, since=WALL - 7200, boot="a", i=5)
"""A service that was stopped together with its healer, and as that one, hours ago."""


@pytest.mark.parametrize("known", [None, SILENT_SINCE, STOPPED], ids=["first", "silent", "stopped"])
@pytest.mark.parametrize("goodbye", [False, True])
def test_a_start_that_nobody_announces_has_a_warm_up_as_docs_say_of_containers_and_units(known, goodbye):
    """Without STARTING_SERVICES: in containers, on Kubernetes, under systemd."""
    beats = {"a": says(1.0, boot="a", i=6, status="stopping")} if goodbye else {}

    def start() -> Hand:
        hand = Hand(watch(), known={} if known is None else {"a": known}, beats=beats)
        hand.run(22)
        return hand

    hand = start()
    hand.beating(60, 10, boot="b")
    assert misses(hand) == []
    hand = start()
    hand.run(10)
    (missed_at,) = misses(hand)
    assert 22 <= missed_at <= 30


@pytest.mark.parametrize("known", [None, SILENT_SINCE])
@pytest.mark.parametrize("within_sec", [40.0, START_UP_SEC, 1e9])
def test_one_that_does_not_start_is_missed_when_its_time_is_over(known, within_sec):
    hand = starting(known, within_sec)
    hand.run(70)
    assert misses(hand) == [min(within_sec, START_UP_SEC)]


def test_the_first_beat_ends_that_time_so_a_crash_right_after_it_is_missed_as_ever():
    hand = starting(None)
    hand.run(5)
    hand.beat()
    hand.run(40)
    assert misses(hand) == [35]


def test_a_failure_and_what_is_down_already_do_not_wait():
    hand = starting(None)
    hand.beat(run="failed")
    hand.run(1)
    assert misses(hand) == [0]


def test_a_reseed_in_that_time_takes_nothing_from_it():
    hand = starting(None)
    hand.run(5)
    hand.rewatch(watch(timeout=20))
    hand.run(50)
    assert misses(hand) == []
    hand.run(10)
    assert misses(hand) == [60]
