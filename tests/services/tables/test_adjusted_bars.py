"""The trading day of a row of bars, from which on actions count."""

from datetime import UTC, date, datetime

import pytest

from services.tables.adjusted_bars import find_row_day


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
