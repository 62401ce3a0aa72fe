"""The notifier's time runs with the monotonic clock, and is set by the wall clock in known steps."""

import pytest

from marketswarm.testing import ManualClock
from notifier.app import CLOCK_STEP_SEC, SteadyClock


@pytest.mark.parametrize("step_sec", [-3600.0, 3600.0])
def test_a_wall_clock_that_is_set_changes_the_time_only_when_it_is_followed(step_sec):
    hands = ManualClock()
    clock = SteadyClock(hands.monotonic, hands.time)
    began = clock()
    hands.advance(10)
    assert clock() == began + 10
    hands.set_wall(began + 10 + step_sec)
    hands.advance(5)
    assert clock() == began + 15
    assert clock.follow_wall() == step_sec
    assert clock() == hands.time() == began + 15 + step_sec
    assert clock.follow_wall() == 0.0


def test_a_wall_clock_that_is_ahead_for_a_second_leaves_nothing_behind():
    hands = ManualClock()
    clock = SteadyClock(hands.monotonic, hands.time)
    hands.set_wall(hands.time() + 3600)
    assert clock.follow_wall() == 3600.0
    hands.advance(1)
    hands.set_wall(hands.time() - 3600)
    assert clock.follow_wall() == -3600.0
    assert clock() == hands.time()


def test_a_clock_that_drifts_by_less_than_a_second_is_not_followed():
    hands = ManualClock()
    clock = SteadyClock(hands.monotonic, hands.time)
    hands.set_wall(hands.time() + 0.9 * CLOCK_STEP_SEC)
    assert clock.follow_wall() == 0.0
