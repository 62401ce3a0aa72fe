"""The symbols of an instant of the past, and where they are from."""

import pytest

from services.board.market.past import UniverseOf, make_past
from services.board.market.states import StoredSeries

SPY = StoredSeries(id="SPY:bars:1m", symbol="SPY", asset="stocks", group="indices")
TRUTH = [("GLD", "stocks", "metals", False), ("US.CPI", "economic", "economy", True)]
RECORDS = [("SPY", "stocks", None, None), ("US.CPI", "economic", None, None)]


@pytest.mark.parametrize(
    ("known_since", "rows", "of", "groups"),
    [
        (1000, TRUTH, UniverseOf.TRUTH, ["metals", "economy"]),
        (1001, RECORDS, UniverseOf.RECORDS, ["indices", None]),
        (None, RECORDS, UniverseOf.RECORDS, ["indices", None]),
    ],
)
def test_the_universe_is_that_of_the_truth_since_that_is_known_and_else_that_of_the_records(
    known_since, rows, of, groups
):
    past = make_past(1000, known_since, rows, {"SPY": (SPY,)})
    assert (past.of, past.describe()) == (of, {"of": of, "known_since": known_since})
    assert [one.group for one in past.states.series] == groups
    assert past.list_symbols(None) == [rows[0][0]]
    assert past.list_symbols(None, is_series=True) == ["US.CPI"]
    assert past.list_symbols("crypto") == []
