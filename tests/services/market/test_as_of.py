"""What a view shows: of each record the last version that was known by its instant, and nothing later."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.as_of import TRADED_MS, View, collect_bars, collect_observations, find_last_known
from services.market.records import DAY_MS, Bar, Observation

AUGUST = 1_690_848_000_000  # 2023-08-01, which the figure is about
PRINTED, REVISED = AUGUST + 31 * DAY_MS, AUGUST + 66 * DAY_MS
SEPTEMBER = AUGUST + 31 * DAY_MS
UNRATE = [
    (PRINTED, Observation("US.UNRATE", AUGUST, 3.8)),
    (REVISED, Observation("US.UNRATE", AUGUST, 3.7)),
    (REVISED, Observation("US.UNRATE", SEPTEMBER, 3.8)),
]


def day(number, symbol="SPY", close=100.0):
    return Bar(symbol, "1d", number * DAY_MS, close, close, close, close)


def days(*numbers, symbol="SPY"):
    return collect_bars(((number + 1) * DAY_MS, day(number, symbol)) for number in numbers)


@pytest.mark.parametrize(
    ("at_ms", "starts", "values"),
    [
        (PRINTED, [AUGUST], [3.8]),
        (REVISED - 1, [AUGUST], [3.8]),
        (REVISED, [AUGUST, SEPTEMBER], [3.7, 3.8]),
        (REVISED + DAY_MS, [AUGUST, SEPTEMBER], [3.7, 3.8]),
    ],
)
def test_a_revision_replaces_the_first_print_from_when_it_was_known(at_ms, starts, values):
    series = {"US.UNRATE": collect_observations(UNRATE[::-1])}
    seen = View(at_ms, observations=series).see_observations("US.UNRATE")
    assert seen.start_ms.tolist() == starts
    assert seen.columns["value"].tolist() == values


def test_a_bar_is_known_at_its_end_and_a_series_that_begins_later_is_missing():
    view = View(3 * DAY_MS, {"SPY": days(0, 1, 2, 3), "NEW": days(3, 4, symbol="NEW")})
    assert view.see_bars("SPY").start_ms.tolist() == [0, DAY_MS, 2 * DAY_MS]
    with pytest.raises(KeyError, match="NEW"):
        view.see_bars("NEW")
    with pytest.raises(KeyError, match="NONE"):
        view.see_bars("NONE")


def test_a_corrected_bar_has_its_first_values_until_the_correction_was_known():
    wrong, right = day(0, close=1.0), day(0, close=100.0)
    bars = {"SPY": collect_bars([(DAY_MS, wrong), (3 * DAY_MS, right), (2 * DAY_MS, day(1))])}
    assert View(2 * DAY_MS, bars).see_bars("SPY").columns["close"].tolist() == [1.0, 100.0]
    assert View(3 * DAY_MS, bars).see_bars("SPY").columns["close"].tolist() == [100.0, 100.0]


def test_the_universe_has_what_was_delisted_since_and_not_what_began_later():
    bars = {"OLD": days(*range(10), symbol="OLD"), "SPY": days(*range(40)), "NEW": days(30, 31, symbol="NEW")}
    assert View(10 * DAY_MS, bars).list_universe() == ["OLD", "SPY"]
    assert View(10 * DAY_MS + TRADED_MS, bars).list_universe() == ["SPY"]
    assert View(32 * DAY_MS, bars).list_universe() == ["NEW", "SPY"]
    assert View(0, bars).list_universe() == []


@pytest.mark.parametrize(
    "rows",
    [
        [(2 * DAY_MS, day(1)), (DAY_MS, day(0))],
        [(DAY_MS, day(0)), (DAY_MS, day(0, close=1.0))],
        [(2 * DAY_MS, day(0)), (DAY_MS, day(0, close=1.0))],
    ],
)
def test_rows_out_of_order_are_refused(rows):
    with pytest.raises(ValueError, match="not in order"):
        collect_bars(rows)


def test_what_is_known_at_the_very_instant_is_known():
    known = np.array([10, 20, 30])
    assert find_last_known(known, np.array([9, 10, 29, 30, 99])).tolist() == [-1, 0, 1, 2, 2]
    assert find_last_known(known[:0], np.array([9])).tolist() == [-1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), unique=True), st.integers(-1, 21))
def test_a_view_is_the_same_when_all_that_was_known_later_is_removed(versions, at_ms):
    """Held against the plain way: of each start the version that was known last."""
    rows = [(known, Observation("X", start, float(known))) for start, known in versions]
    past = collect_observations(row for row in rows if row[0] <= at_ms)
    seen = collect_observations(rows).see(at_ms)
    newest = {
        start: known for known, start in sorted((known, start) for start, known in versions if known <= at_ms)
    }
    assert dict(zip(seen.start_ms.tolist(), seen.known_at.tolist(), strict=True)) == newest
    again = past.see(at_ms)
    assert [again.start_ms.tolist(), again.columns["value"].tolist()] == [
        seen.start_ms.tolist(),
        seen.columns["value"].tolist(),
    ]
