from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest

from services.market.records import TIMEFRAME_SEC, AssetClass, Bar, Provenance, RecordKind, settle_range


def test_timeframes_are_in_order_and_each_divides_the_next_within_a_day():
    lengths = [TIMEFRAME_SEC[name] for name in ("1m", "5m", "15m", "30m", "1h", "4h", "1d")]
    assert all(after % before == 0 for before, after in pairwise(lengths))
    assert list(TIMEFRAME_SEC.values()) == sorted(TIMEFRAME_SEC.values())


def test_names_are_those_of_the_truth():
    assert [str(kind) for kind in RecordKind] == ["bars", "quotes", "observations", "actions"]
    assert AssetClass("stocks") is AssetClass.STOCKS


def test_a_record_cannot_be_changed():
    bar = Bar("SPY", "1m", 0, 1.0, 2.0, 0.5, 1.5)
    with pytest.raises(FrozenInstanceError):
        bar.close = 3.0


@pytest.mark.parametrize(
    ("provenance", "as_of"),
    [
        (Provenance("kraken", asked_at=100.0), 100.0),
        (Provenance("replay", asked_at=100.0, is_replay=True, played_at=900.0), 900.0),
        (Provenance("unknown"), 0.0),
    ],
)
def test_a_replay_is_as_old_as_its_playing_and_all_else_as_its_answer(provenance, as_of):
    assert provenance.as_of == as_of


@pytest.mark.parametrize(
    ("prices", "settled"),
    [
        ((10.0, 10.5, 9.5, 10.2), (10.5, 9.5)),
        ((10.0, 10.5, 9.5, 10.5001), (10.5001, 9.5)),
        ((9.49995, 10.5, 9.5, 10.0), (10.5, 9.49995)),
        ((10.0, 10.5, 9.5, 10.51), (10.5, 9.5)),  # more than rounding
        ((9.4, 10.5, 9.5, 10.5001), (10.5, 9.5)),
        ((-37.63, -37.63, -37.63, -37.6299), (-37.6299, -37.63)),
    ],
)
def test_a_price_a_hair_outside_of_the_range_is_in_it(prices, settled):
    bar = settle_range(Bar("SPY", "1m", 0, *prices))
    assert (bar.high, bar.low) == settled
    assert settle_range(bar) == bar
