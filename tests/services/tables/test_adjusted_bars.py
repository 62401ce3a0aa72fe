"""The trading day of a row of bars, from which on actions count."""

from datetime import UTC, date, datetime

import pytest

from services.market.sessions import get_session
from services.tables.adjusted_bars import find_day_as_of, find_row_day


@pytest.mark.parametrize(
    ("start", "day", "timeframe", "found"),
    [
        ("2026-01-01T22:00", None, "1d", "2026-01-02"),  # of forex, in winter
        ("2026-07-01T21:00", None, "1d", "2026-07-02"),  # in summer
        ("2026-01-02T14:30", None, "1d", "2026-01-02"),  # of New York
        ("2026-01-05T00:00", None, "1d", "2026-01-05"),  # of Tokyo
        ("2026-01-02T20:59", None, "1m", "2026-01-02"),
        ("2026-01-01T22:00", "2026-01-02", "1d", "2026-01-02"),
        ("2026-01-05T14:30", "2026-01-05", "1w", "2026-01-11"),
        ("2026-01-02T14:30", "2026-01-01", "1mo", "2026-01-31"),
    ],
)
def test_a_row_is_of_the_day_that_it_names_else_of_the_day_that_its_session_begins(
    start, day, timeframe, found
):
    moment = datetime.fromisoformat(start).replace(tzinfo=UTC)
    named = None if day is None else date.fromisoformat(day)
    for begun in (moment, round(1000 * moment.timestamp())):
        assert find_row_day(begun, named, timeframe) == date.fromisoformat(found)
        assert find_row_day(begun, day, timeframe) == date.fromisoformat(found)


@pytest.mark.parametrize(
    ("code", "at", "day"),
    [
        ("XTKS", "2024-06-10T00:00:00Z", "2024-06-09"),  # so `as_of=2024-06-09` arrives
        ("XTKS", "2024-06-10T00:00:01Z", "2024-06-10"),
        ("XTKS", "2024-06-09T15:00:00Z", "2024-06-10"),
        ("XLON", "2024-06-10T00:00:00Z", "2024-06-09"),
        ("XNYS", "2024-06-10T00:00:00Z", "2024-06-09"),
        ("XNYS", "2024-06-10T03:59:59Z", "2024-06-09"),
        ("XNYS", "2024-06-10T04:00:00Z", "2024-06-10"),
        (None, "2024-06-10T00:00:00Z", "2024-06-09"),
        (None, "2024-06-09T23:00:00Z", "2024-06-09"),
        (None, "2024-06-10T00:00:01Z", "2024-06-10"),
    ],
)
def test_the_day_as_of_an_instant_is_where_the_market_is_and_a_date_is_the_end_of_that_date(code, at, day):
    at_ms = round(1000 * datetime.fromisoformat(at).timestamp())
    session = None if code is None else get_session(code)
    assert find_day_as_of(at_ms, session) == date.fromisoformat(day)
