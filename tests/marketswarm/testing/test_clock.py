import pytest

from marketswarm.testing import ManualClock


def test_a_manual_clock_stands_still_until_moved():
    clock = ManualClock(monotonic=5.0, wall=100.0)
    assert (clock.monotonic(), clock.time()) == (5.0, 100.0)
    assert clock.advance(2.5) == 7.5
    assert clock.time() == 102.5
    clock.set_wall(3.0)
    assert (clock.monotonic(), clock.time()) == (7.5, 3.0)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)
