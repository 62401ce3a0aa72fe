"""The notifier's time never goes back."""

from marketswarm.testing import ManualClock
from notifier.app import SteadyClock


def test_it_runs_on_when_the_wall_clock_goes_back_and_follows_it_forward():
    hands = ManualClock()
    clock = SteadyClock(hands.monotonic, hands.time)
    began = clock()
    hands.advance(10)
    assert clock() == began + 10
    hands.set_wall(began - 3600)
    assert clock() == began + 10
    hands.advance(5)
    assert clock() == began + 15
    hands.set_wall(began + 100)
    assert clock() == began + 100
    hands.set_wall(began + 50)
    hands.advance(1)
    assert clock() == began + 101
