"""Gaps of charts, held against the calendar of their market."""

from bisect import bisect_left
from datetime import UTC, date, datetime
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.board.market.bar_table import MAX_GAPS, Gap, find_gaps
from services.market.records import DAY_MS, MINUTE_MS, TIMEFRAME_SEC
from services.market.sessions import get_session

NEW_YORK, FOREX, CRYPTO = "XNYS", "24x5", "24x7"
HOUR_MS = 60 * MINUTE_MS


def at(text):
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@cache
def list_intervals(code, timeframe, first, last):
    """The starts of all intervals of the trading days that open in a range, each as its day has it."""
    step = 1000 * TIMEFRAME_SEC[timeframe]
    return [
        start
        for day in get_session(code).iter_days(at(first), at(last))
        for start in ([day.open_ms] if timeframe == "1d" else range(day.open_ms, day.close_ms, step))
    ]


@pytest.mark.parametrize("timeframe", ["1m", "15m", "1h", "4h", "1d"])
@pytest.mark.parametrize(
    ("code", "first", "last"),
    [
        (NEW_YORK, "2026-11-23", "2026-12-05"),  # Thanksgiving, and the early close after it
        (NEW_YORK, "2026-03-02", "2026-03-14"),  # the clocks are put forward
        (FOREX, "2026-03-02", "2026-03-20"),
        (CRYPTO, "2026-03-02", "2026-03-05"),
    ],
)
def test_nights_weekends_holidays_and_early_closes_are_no_gaps(code, first, last, timeframe):
    starts = list_intervals(code, timeframe, first, last)
    assert find_gaps(starts, timeframe, get_session(code)) == []


@given(
    code=st.sampled_from([NEW_YORK, FOREX, CRYPTO]),
    timeframe=st.sampled_from(["5m", "1h", "4h", "1d"]),
    holes=st.sets(st.integers(1, 200), max_size=120),
)
def test_every_interval_without_a_bar_is_in_a_gap_once(code, timeframe, holes):
    wanted = list_intervals(code, timeframe, "2026-11-23", "2026-12-03")
    missing = [start for number, start in enumerate(wanted[:-1]) if number in holes]
    starts = sorted(set(wanted).difference(missing))
    gaps = find_gaps(starts, timeframe, get_session(code))
    assert [start for start in missing for gap in gaps if gap.from_ms <= start < gap.to_ms] == missing
    assert all(bisect_left(starts, gap.from_ms) == bisect_left(starts, gap.to_ms) for gap in gaps)
    assert sum(gap.missing for gap in gaps) == len(missing)
    assert all(one.to_ms < other.from_ms for one, other in pairwise(gaps))


def test_a_whole_day_of_a_stock_is_a_gap():
    # Monday's last minute, then Wednesday's third one
    starts = [at("2026-01-05T20:59"), at("2026-01-07T14:32")]
    assert find_gaps(starts, "1m", get_session(NEW_YORK)) == [
        Gap(at("2026-01-06T14:30"), at("2026-01-06T21:00"), 390),
        Gap(at("2026-01-07T14:30"), at("2026-01-07T14:32"), 2),
    ]


def test_a_gap_after_an_early_close_begins_with_the_next_session():
    # on the day after Thanksgiving New York closes at 18:00 UTC
    starts = [at("2026-11-27T17:58"), at("2026-11-30T14:31")]
    assert find_gaps(starts, "1m", get_session(NEW_YORK)) == [
        Gap(at("2026-11-27T17:59"), at("2026-11-27T18:00"), 1),
        Gap(at("2026-11-30T14:30"), at("2026-11-30T14:31"), 1),
    ]


def test_a_gap_ends_with_the_session_though_the_last_interval_is_shorter():
    starts = [at("2026-01-05T19:30"), at("2026-01-06T14:30")]
    (gap,) = find_gaps(starts, "1h", get_session(NEW_YORK))
    assert gap == Gap(at("2026-01-05T20:30"), at("2026-01-05T21:00"), 1)


def test_days_that_are_named_by_their_midnight_are_days():
    week = [at(f"2026-04-0{day}") for day in (1, 2, 6, 7)]  # Easter: the third is a holiday
    assert find_gaps(week, "1d", get_session(NEW_YORK)) == []
    (gap,) = find_gaps([week[0], week[2]], "1d", get_session(NEW_YORK))
    assert (gap.from_ms, gap.missing) == (at("2026-04-02T13:30"), 1)


def test_days_without_a_break_between_them_are_one_gap():
    assert find_gaps([0, 9 * DAY_MS], "1d", get_session(CRYPTO)) == [Gap(DAY_MS, 9 * DAY_MS, 8)]
    starts = [at("2026-01-05T22:00"), at("2026-01-08T21:00")]  # of forex from Monday evening to Thursday
    (gap,) = find_gaps(starts, "1h", get_session(FOREX))
    assert (gap.from_ms, gap.to_ms, gap.missing) == (starts[0] + HOUR_MS, starts[1], 70)


def test_bars_beside_the_grid_cover_the_intervals_that_they_touch():
    starts = [at("2026-01-05T15:00:07"), at("2026-01-05T15:02:07")]
    assert find_gaps(starts, "1m", get_session(NEW_YORK)) == []


def test_of_too_many_gaps_the_newest_are_said():
    starts = [2 * MINUTE_MS * number for number in range(MAX_GAPS + 11)]
    gaps = find_gaps(starts, "1m", get_session(CRYPTO))
    assert (len(gaps), gaps[-1].to_ms) == (MAX_GAPS, starts[-1])


def test_what_no_calendar_knows_has_no_gaps():
    assert find_gaps([at("1950-01-03"), at("1950-06-01")], "1d", get_session(NEW_YORK)) == []


def test_a_lunch_break_is_no_gap():
    tokyo = get_session("XTKS")
    day = tokyo.find_date(date(2026, 11, 25))
    pauses, resumes = day.break_ms
    assert find_gaps([pauses - MINUTE_MS, resumes], "1m", tokyo) == []
    gaps = find_gaps([pauses - 3 * MINUTE_MS, resumes + 2 * MINUTE_MS], "1m", tokyo)
    assert [(gap.from_ms, gap.missing) for gap in gaps] == [(pauses - 2 * MINUTE_MS, 2), (resumes, 2)]
    whole = find_gaps([day.open_ms, day.close_ms - MINUTE_MS], "1m", tokyo)
    assert sum(gap.missing for gap in whole) == 390 - 60 - 2
