"""Yields, spreads and sentiment by the series that there are."""

from services.board.market.pictures import draw_curve
from services.board.market.rates import (
    CREDIT,
    YIELDS,
    MeasureSeries,
    SeriesValue,
    list_missing_series,
    list_positions,
    measure_all,
    measure_slopes,
    subtract_series,
)
from services.market.records import DAY_MS

DAY = 20_000
"""2024-10-04, in days since 1970."""


def make_values(*values, every=1, last=DAY):
    first = last - every * (len(values) - 1)
    return [SeriesValue((first + every * n) * DAY_MS, value, "fred") for n, value in enumerate(values)]


def test_a_measure_has_the_values_that_were_known_a_month_and_a_year_before():
    values = {"DGS10": make_values(*[3.0] * 70, *[4.0] * 330, *[4.2] * 29, 4.28)}
    (one,) = measure_all(YIELDS, values)
    assert (one.label, one.series, one.day, one.value, one.years) == (
        "10 years",
        "DGS10",
        "2024-10-04",
        4.28,
        10,
    )
    assert (one.month_ago, one.year_ago, one.low, one.high, one.source) == (4.0, 3.0, 3.0, 4.28, "fred")
    assert "US.2Y" in list_missing_series(YIELDS, [one])
    assert "US.10Y" not in list_missing_series(YIELDS, [one])


def test_the_name_of_the_catalogue_comes_before_that_of_fred():
    values = {"US.10Y": make_values(4.0), "DGS10": make_values(9.0), "US.2Y": []}
    (one,) = measure_all(YIELDS, values)
    assert (one.series, one.value, one.month_ago) == ("US.10Y", 4.0, None)


def test_a_slope_is_the_exact_difference_of_two_yields_of_one_day():
    values = {
        "US.10Y": make_values(4.28),
        "US.2Y": make_values(4.19),
        "US.3M": make_values(5.0, last=DAY - 1),
    }
    assert 4.28 - 4.19 != 0.09
    assert measure_slopes(measure_all(YIELDS, values)) == {"10y_2y": 0.09, "10y_3m": None}
    assert measure_slopes(()) == {"10y_2y": None, "10y_3m": None}


def test_the_difference_of_two_series_is_that_of_the_times_that_both_have():
    values = {"A": make_values(3.5, 3.6, 3.7), "B": make_values(1.5, 1.55, every=2)}
    found = subtract_series(values, "A", "B")
    assert [(one.start // DAY_MS, one.value, one.source) for one in found] == [
        (DAY - 2, 2.0, "fred"),
        (DAY, 2.15, "fred"),
    ]
    assert subtract_series({}, "A", "B") == []
    assert list_missing_series(CREDIT, ()) == ["US.HIGH_YIELD_SPREAD", "US.CORPORATE_SPREAD"]


def test_positions_need_both_sides():
    assert list_positions(["US.COT.GC.LONG", "US.COT.GC.SHORT", "US.COT.SI.LONG", "US.CPI"]) == [
        ("Net position of speculators, GC", "US.COT.GC.LONG", "US.COT.GC.SHORT")
    ]


def test_a_curve_is_drawn_of_two_maturities_at_least():
    values = {"US.10Y": make_values(4.28), "US.2Y": make_values(4.19)}
    both = measure_all(YIELDS, values)
    assert draw_curve(both).count("<path") == 1, "a past that is not known is not drawn"
    assert draw_curve(both[:1]) == ""
    assert measure_all([MeasureSeries("x", ("x",))], values) == ()
