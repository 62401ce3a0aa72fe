"""Returns over trading days, their ranks, and the breadth of a group."""

import pytest

from services.board.market.rotation import PERIODS, DailyClose, PeriodReturn, measure_breadth, rank_returns


def make_closes(*prices, last_day=1000):
    """Closes of days that are named by numbers, the last one `last_day`."""
    first = last_day - len(prices) + 1
    return [DailyClose(f"{first + number:04}", price) for number, price in enumerate(prices)]


def test_a_return_counts_the_trading_days_of_its_period_exactly():
    prices = [100.0] * 247 + [200.0] + [50.0] * 4 + [110.0]
    (one,) = rank_returns({"XLK": make_closes(*prices)}, "1m")
    assert one.last == DailyClose("1000", 110.0)
    assert one.returns == {
        "1w": PeriodReturn(-45.0, "0995", 1),
        "1m": PeriodReturn(10.0, "0979", 1),
        "3m": PeriodReturn(10.0, "0937", 1),
        "12m": PeriodReturn(10.0, "0748", 1),
    }
    assert PERIODS == {"1w": 5, "1m": 21, "3m": 63, "12m": 252}


def test_a_return_has_four_decimals():
    (one,) = rank_returns({"XLK": make_closes(581.11, *[500.0] * 4, 581.2)}, "1w")
    assert one.returns["1w"].percent == 0.0155


def test_symbols_are_ranked_by_their_return_and_one_that_is_too_young_comes_last():
    closes = {
        "XLE": make_closes(*[100.0] * 21, 90.0),
        "XLF": make_closes(*[100.0] * 21, 120.5),
        "XLC": make_closes(100.0, 300.0),
        "XLK": make_closes(*[100.0] * 21, 120.5),
        "XLU": [],
    }
    ranked = rank_returns(closes, "1m")
    assert [one.symbol for one in ranked] == ["XLF", "XLK", "XLE", "XLC"]
    assert [one.returns["1m"].rank for one in ranked[:3]] == [1, 2, 3]
    assert ranked[0].returns["1m"].percent == 20.5
    assert ranked[3].returns == {}


def test_breadth_counts_the_newest_day_alone():
    closes = {
        "UP": make_closes(1.0, 2.0),
        "DOWN": make_closes(2.0, 1.0),
        "FLAT": make_closes(2.0, 2.0),
        "NEW": make_closes(2.0),
        "OLD": make_closes(1.0, 9.0, last_day=999),
    }
    found = measure_breadth(closes)
    assert (found.day, found.advancers, found.decliners, found.unchanged) == ("1000", 1, 1, 1)
    assert (found.behind, found.measured) == (("OLD",), 0)


@pytest.mark.parametrize(
    ("prices", "highs", "lows"),
    [
        ([5.0] * 251 + [6.0], ("A",), ()),
        ([5.0] * 251 + [4.0], (), ("A",)),
        ([9.0] + [5.0] * 251 + [6.0], ("A",), ()),  # the 9 is more than a year ago
        ([9.0] + [5.0] * 250 + [6.0], (), ()),
        ([5.0] * 250 + [6.0], (), ()),  # less than a year is known
        ([5.0] * 252, ("A",), ()),
    ],
)
def test_a_close_is_a_new_high_of_252_trading_days(prices, highs, lows):
    found = measure_breadth({"A": make_closes(*prices)})
    assert (found.highs, found.lows) == (highs, lows)
    assert found.measured == (len(prices) >= 252)


def test_without_closes_there_is_no_breadth():
    assert measure_breadth({"A": []}).day is None
