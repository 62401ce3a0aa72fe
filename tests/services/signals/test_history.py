"""The past of a symbol: whether it trades at weekends."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from services.signals.history import make_daily_history

FIRST = date(2024, 1, 1)  # a Monday


@pytest.mark.parametrize("first", range(7))
def test_a_coin_of_any_number_of_days_trades_at_weekends_once_it_has_had_one(first):
    week = make_daily_history({"COIN": [10]}, FIRST).symbols["COIN"]
    days = [FIRST.toordinal() + first + number for number in range(70)]
    for count in range(len(days) + 1):
        had_one = any(date.fromordinal(day).weekday() >= 5 for day in days[:count])
        assert replace(week, days=days[:count]).has_weekends == had_one, count
    missed = [day for number, day in enumerate(days) if number % 10]
    assert replace(week, days=missed).has_weekends


@pytest.mark.parametrize("weekday", [5, 6])
@pytest.mark.parametrize("begins", range(7))
def test_a_market_that_is_open_on_one_day_of_each_weekend_has_no_weekends(weekday, begins):
    spy = make_daily_history({"SPY": [10]}, FIRST).symbols["SPY"]
    for length in range(8, 70):
        dates = [FIRST + timedelta(begins + number) for number in range(length)]
        days = [day.toordinal() for day in dates if day.weekday() < 4 or day.weekday() == weekday]
        if days[-1] - days[0] >= 7:
            assert not replace(spy, days=days).has_weekends, length
