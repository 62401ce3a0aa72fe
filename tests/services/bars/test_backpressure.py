"""bars waits for the readers of its results, but not for one that has stopped."""

from services.bars.worker import PATIENCE_SEC, Backpressure


def test_bars_waits_while_a_group_reads_and_has_more_than_half_of_the_stream_to_read():
    pressure = Backpressure()
    assert not pressure.must_wait(500, 1000, now=0)
    for step in range(10):
        assert pressure.must_wait(900 - step, 1000, now=step * 0.9 * PATIENCE_SEC)
    assert not pressure.must_wait(500, 1000, now=9 * PATIENCE_SEC)


def test_bars_goes_on_without_a_group_that_has_stopped_and_waits_again_once_it_reads():
    pressure = Backpressure()
    assert pressure.must_wait(900, 1000, now=0)
    assert pressure.must_wait(950, 1000, now=PATIENCE_SEC - 1)
    assert not pressure.must_wait(900, 1000, now=PATIENCE_SEC)
    assert not pressure.must_wait(1000, 1000, now=2 * PATIENCE_SEC)
    assert pressure.must_wait(899, 1000, now=3 * PATIENCE_SEC)
