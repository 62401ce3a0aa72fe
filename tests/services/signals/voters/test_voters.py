"""Each voter says what its file promises, on bars that a person can look at, and nothing on broken ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.signals.consensus.consensus import UNIT
from services.signals.view import BarWindow
from services.signals.voters import breakout, reversion, trend, volume
from services.signals.voters.votes import NoVote, Vote

VOTERS = [trend, reversion, breakout, volume]
COUNT = 40


def make_window(closes, volumes=None, spread=1.0) -> BarWindow:
    close = np.array(closes, dtype=np.float64)
    traded = np.full(len(close), 1000.0) if volumes is None else np.array(volumes, dtype=np.float64)
    starts = np.arange(len(close), dtype=np.int64) * 60_000
    return BarWindow(starts, close, close + spread / 2, close - spread / 2, close, traded)


RISING = make_window([100 + n for n in range(COUNT)])
FALLING = make_window([200 - n for n in range(COUNT)])
STILL = make_window([100.0] * COUNT, spread=0.0)


def test_a_market_that_rises_is_a_trend_up_and_one_that_falls_down():
    up, down = trend.vote(RISING, 5), trend.vote(FALLING, 5)
    assert (up.direction, down.direction) == (1, -1)
    assert up.strength == down.strength
    assert up.confidence == UNIT
    assert up.expires_ms == 5
    # the means are 10 apart, the deviation of 30 numbers in a row is the root of (900 - 1) / 12
    assert up.strength == pytest.approx(10 / (899 / 12) ** 0.5 / 2 * UNIT)
    assert "above" in up.reasons[0]


def test_a_market_that_stands_still_is_a_vote_for_flat():
    for voter in (trend, breakout, reversion):
        assert voter.vote(STILL, 5).opinion == 0


def test_a_jump_out_of_a_quiet_market_is_to_come_back_and_a_break():
    quiet = [100 + (n % 2) * 0.5 for n in range(COUNT)]
    jumped = make_window([*quiet, 106.0])
    back, on = reversion.vote(jumped, 5), breakout.vote(jumped, 5)
    assert (back.direction, on.direction) == (-1, 1)
    assert back.strength > UNIT * 9 // 10
    assert on.strength == UNIT
    fallen = make_window([*quiet, 94.0])
    assert (reversion.vote(fallen, 5).direction, breakout.vote(fallen, 5).direction) == (1, -1)


def test_a_close_within_one_deviation_has_nothing_to_come_back_from():
    assert reversion.vote(make_window([100 + (n % 2) for n in range(COUNT)]), 5).opinion == 0


def test_a_straight_way_is_no_reason_to_come_back():
    assert reversion.vote(RISING, 5).confidence == 0


def test_volume_on_rising_bars_says_up():
    closes = [100 + (n % 2) for n in range(COUNT)]
    volumes = [3000.0 if n % 2 else 1000.0 for n in range(COUNT)]
    found = volume.vote(make_window(closes, volumes), 5)
    assert (found.direction, found.strength, found.confidence) == (1, UNIT // 2, UNIT)
    assert found.reasons == ("75% of the volume of 20 bars was on rising ones, 25% on falling ones",)


@pytest.mark.parametrize("unknown", [[float("nan")] * COUNT, [0.0] * COUNT])
def test_without_volume_only_its_voter_abstains(unknown):
    window = make_window([100 + n for n in range(COUNT)], unknown)
    assert volume.vote(window, 5) is NoVote.NO_VOLUME
    assert isinstance(trend.vote(window, 5), Vote)


@pytest.mark.parametrize("voter", VOTERS)
def test_too_few_bars_are_no_vote(voter):
    assert voter.vote(make_window([100.0] * 5), 5) is NoVote.TOO_FEW_BARS
    assert voter.vote(make_window([]), 5) is NoVote.TOO_FEW_BARS


@pytest.mark.parametrize("voter", VOTERS)
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_price_that_is_no_number_is_no_vote(voter, broken):
    assert voter.vote(make_window([*([100.0] * COUNT), broken]), 5) is NoVote.NOT_A_NUMBER


prices = st.floats(-1e300, 1e300, allow_nan=False) | st.floats(0.01, 1000)


@pytest.mark.parametrize("voter", VOTERS)
@given(st.lists(prices, min_size=31, max_size=60), st.floats(0, 1e300))
def test_any_prices_give_a_vote_in_its_range_or_none(voter, closes, traded):
    found = voter.vote(make_window(closes, [traded] * len(closes)), 5)
    if isinstance(found, Vote):
        assert -UNIT <= found.opinion <= UNIT
        assert found.direction in {-1, 0, 1}
        assert all(len(each) <= 200 and each.isprintable() for each in found.reasons)


@pytest.mark.parametrize("voter", VOTERS)
@given(st.lists(st.floats(50, 150), min_size=45, max_size=60))
def test_prices_in_another_unit_and_older_bars_change_no_vote(voter, closes):
    found = voter.vote(make_window(closes), 5)
    assert voter.vote(make_window([1.0, *closes]), 5) == found
    doubled = voter.vote(make_window([2 * each for each in closes], spread=2.0), 5)
    assert (doubled.direction, doubled.strength) == (
        found.direction,
        pytest.approx(found.strength, abs=10**5),
    )
