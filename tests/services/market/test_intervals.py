"""Intervals: each minute of a session is in one of each timeframe, and shorter ones fill longer ones."""

import functools
from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.intervals import Grid
from services.market.records import MINUTE_MS, TIMEFRAMES
from services.market.sessions import get_session

YEAR = st.integers(1_735_689_600_000 // MINUTE_MS, 1_798_761_600_000 // MINUTE_MS)  # 2025 and 2026


@functools.cache
def make_grid(code):
    return Grid(get_session(code))


def ms(text):
    return round(1000 * datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize("code", ["24x7", "24x5", "XNYS"])
@given(minute=YEAR)
def test_a_minute_is_in_one_interval_of_each_timeframe_and_those_are_nested(code, minute):
    grid = make_grid(code)
    at_ms = minute * MINUTE_MS
    found = [grid.find(at_ms, timeframe) for timeframe in TIMEFRAMES]
    if found[0] is None:
        assert found == [None] * len(TIMEFRAMES)
        return
    *shorter_ones, week, month = found
    for shorter, longer in [*pairwise(shorter_ones), (shorter_ones[-1], week), (shorter_ones[-1], month)]:
        assert longer.open_ms <= shorter.open_ms <= at_ms < shorter.close_ms <= longer.close_ms
    for interval in found:
        for inside in (interval.open_ms, interval.close_ms - MINUTE_MS):
            assert grid.find(inside, interval.timeframe) == interval
        assert grid.find(interval.close_ms, interval.timeframe) != interval


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_a_time_at_which_the_market_is_closed_is_in_no_interval_whatever_was_asked_before(timeframe):
    grid = Grid(get_session("XNYS"))
    for at in ("2026-11-25T15:31", "2026-11-24T15:31"):
        assert grid.find(ms(at), timeframe) is not None
        assert grid.find(ms("2026-11-25T03:00"), timeframe) is None, "a night within a week and a month"


@pytest.mark.parametrize(
    ("at", "timeframe", "opens", "closes"),
    [
        ("2026-11-25T15:31", "1h", "2026-11-25T15:30", "2026-11-25T16:30"),
        ("2026-11-25T20:59", "1h", "2026-11-25T20:30", "2026-11-25T21:00"),
        ("2026-11-25T20:59", "4h", "2026-11-25T18:30", "2026-11-25T21:00"),
        ("2026-11-27T17:59", "1h", "2026-11-27T17:30", "2026-11-27T18:00"),  # an early close
        ("2026-11-27T17:59", "1d", "2026-11-27T14:30", "2026-11-27T18:00"),
        ("2026-03-09T13:30", "5m", "2026-03-09T13:30", "2026-03-09T13:35"),  # summer time since Sunday
        ("2026-11-27T17:59", "30m", "2026-11-27T17:30", "2026-11-27T18:00"),
        ("2026-11-27T17:59", "1w", "2026-11-23T14:30", "2026-11-27T18:00"),
        ("2026-09-09T15:00", "1w", "2026-09-08T13:30", "2026-09-11T20:00"),  # Monday is Labor Day
        ("2026-11-27T17:59", "1mo", "2026-11-02T14:30", "2026-11-30T21:00"),
        ("2026-12-31T15:00", "1w", "2026-12-28T14:30", "2026-12-31T21:00"),  # a week of two years
    ],
)
def test_intervals_of_new_york(at, timeframe, opens, closes):
    interval = Grid(get_session("XNYS")).find(ms(at), timeframe)
    assert (interval.open_ms, interval.close_ms) == (ms(opens), ms(closes))


@pytest.mark.parametrize(
    ("code", "start", "opens"),
    [
        ("XNYS", "2026-11-25T00:00", "2026-11-25T14:30"),  # midnight of UTC
        ("XNYS", "2026-11-25T05:00", "2026-11-25T14:30"),  # midnight of New York
        ("XNYS", "2026-11-25T14:30", "2026-11-25T14:30"),
        ("XNYS", "2026-11-26T00:00", None),  # Thanksgiving
        ("XNYS", "2026-11-28T00:00", None),  # a Saturday
        ("XTKS", "2026-11-25T00:00", "2026-11-25T00:00"),
        ("XTKS", "2026-11-24T15:00", "2026-11-25T00:00"),  # midnight of Tokyo
        ("24x5", "2026-11-25T00:00", "2026-11-24T22:00"),
        ("24x5", "2026-11-22T00:00", None),  # a Sunday, though its evening is of Monday's day
        ("24x7", "2026-11-22T00:00", "2026-11-22T00:00"),
        ("XNYS", "1801-01-01T00:00", None),  # before any calendar
        ("XNYS", "2026-11-24T21:00", None),  # the close of the day before
        ("XNYS", "2026-11-25T18:00", None),
        ("XNYS", "2026-11-25T05:00:01", None),
        ("XTKS", "2026-11-25T05:00", "2026-11-25T00:00"),  # midnight of New York, as sources name any date
        ("XNZE", "2026-01-13T11:00", "2026-01-13T21:00"),  # midnight of Auckland
        ("XNZE", "2026-01-14T00:00", "2026-01-13T21:00"),
        ("24x5", "2026-07-01T21:00", "2026-07-01T21:00"),
        ("24x5", "2026-07-02T04:00", "2026-07-01T21:00"),  # midnight of New York
        ("24x5", "2026-07-01T23:00", "2026-07-01T21:00"),  # midnight of London
        (
            "us_volatility",
            "2023-03-09T06:00",
            "2023-03-09T14:30",
        ),  # midnight of Chicago, of massive
        ("us_volatility", "2026-07-01T05:00", "2026-07-01T13:30"),  # in summer
        ("us_volatility", "2026-07-01T04:00", "2026-07-01T13:30"),  # midnight of New York
        ("us_volatility", "2026-11-25T05:00", "2026-11-25T14:30"),
        ("us_volatility", "2026-11-26T06:00", None),  # Thanksgiving
        ("XNYS", "2026-11-25T06:00", None),
        ("24x7", "2026-11-22T16:00", None),  # midnight of Singapore
        ("24x7", "2026-11-22T05:00", None),
    ],
)
def test_a_day_is_found_by_its_open_or_by_a_midnight_at_which_sources_name_it(code, start, opens):
    interval = Grid(get_session(code)).place(ms(start), "1d")
    assert (interval and interval.open_ms) == (opens and ms(opens))


def test_a_shorter_bar_must_begin_with_an_interval():
    grid = Grid(get_session("XNYS"))
    assert grid.place(ms("2026-11-25T15:30"), "1h") is not None
    assert grid.place(ms("2026-11-25T15:00"), "1h") is None
    assert grid.place(ms("2026-11-25T15:00") + 1, "1m") is None


def test_missing_minutes_are_counted_within_a_day_only():
    grid = Grid(get_session("XNYS"))
    last, opens = ms("2026-11-24T20:59"), ms("2026-11-25T14:30")
    assert grid.count_missing(last, opens + 5 * MINUTE_MS) == 0
    assert grid.count_missing(opens, opens + MINUTE_MS) == 0
    assert grid.count_missing(opens, opens + 5 * MINUTE_MS) == 4


def test_minutes_of_a_lunch_break_are_not_missing():
    session = get_session("XTKS")
    day = session.find_date(date(2026, 11, 25))
    pauses, resumes = day.break_ms
    grid = Grid(session)
    assert grid.count_missing(pauses - MINUTE_MS, resumes) == 0
    assert grid.count_missing(pauses - 3 * MINUTE_MS, resumes + MINUTE_MS) == 3
    assert grid.count_missing(day.open_ms, day.open_ms + 5 * MINUTE_MS) == 4


def test_a_day_of_futures_may_be_named_by_the_pause_before_it():
    session = get_session("us_futures")
    day = session.find_date(date(2026, 11, 25))
    assert Grid(session).place(day.open_ms - 60 * MINUTE_MS, "1d").open_ms == day.open_ms
    assert Grid(session).place(day.open_ms - 30 * MINUTE_MS, "1d") is None
