"""Views without gaps: what is filled is marked, and nothing is filled while the market is closed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.filled_bars import fill_gaps
from services.market.records import DAY_MS, MINUTE_MS, TIMEFRAME_SEC, Bar
from services.market.sessions import get_session

YORK = get_session("XNYS")
OPENS = 1_795_789_800_000  # 2026-11-27, 14:30 UTC; an early close is at 18:00


def bar_at(start_ms, close=100.0, timeframe="1m"):
    return Bar("SPY", timeframe, start_ms, 99, 101, 98, close, 5.0)


def test_a_view_without_gaps_marks_what_it_filled_and_invents_no_trade():
    late = OPENS + 207 * MINUTE_MS
    bars = [bar_at(OPENS, 100.5), bar_at(OPENS + 3 * MINUTE_MS, 99.5), bar_at(late)]
    view = list(fill_gaps(bars, YORK, "1m", late + 3 * MINUTE_MS + 3 * DAY_MS))
    assert [each.bar for each in view if not each.is_filled] == bars
    filled = [each.bar for each in view if each.is_filled]
    assert {(bar.volume, bar.trades) for bar in filled} == {(0.0, 0)}
    assert [bar.close for bar in filled[:3]] == [100.5, 100.5, 99.5]
    starts = [each.bar.start_ms for each in view]
    # to the early close, and on with Monday's open
    friday = [start for start in starts if start < OPENS + DAY_MS]
    assert friday == list(range(OPENS, OPENS + 210 * MINUTE_MS, MINUTE_MS))
    assert starts[len(friday)] == OPENS + 3 * DAY_MS


@pytest.mark.parametrize(
    ("timeframe", "count"), [("1m", 210), ("5m", 42), ("15m", 14), ("1h", 4), ("4h", 1), ("1d", 1)]
)
def test_a_day_that_closes_early_has_as_many_intervals_as_begin_in_it(timeframe, count):
    view = list(fill_gaps([bar_at(OPENS, timeframe=timeframe)], YORK, timeframe, OPENS + DAY_MS))
    assert len(view) == count


@given(st.sets(st.integers(0, 400), min_size=1), st.sampled_from(["1m", "1h", "1d"]))
def test_a_full_view_needs_no_filling(numbers, timeframe):
    length_ms = 1000 * TIMEFRAME_SEC[timeframe]
    bars = [bar_at(number * length_ms, timeframe=timeframe) for number in sorted(numbers)]
    end_ms = bars[-1].start_ms + length_ms
    whole = [each.bar for each in fill_gaps(bars, get_session("24x7"), timeframe, end_ms)]
    assert [bar.start_ms for bar in whole] == list(range(bars[0].start_ms, end_ms, length_ms))
    again = list(fill_gaps(whole, get_session("24x7"), timeframe, end_ms))
    assert again == [replace(each, is_filled=False) for each in again]
