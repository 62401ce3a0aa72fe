"""Splits and dividends: prices of any basis become prices of any other, and come back."""

import math
import random
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.market.adjust import AS_TRADED, CLOSE_DAYS, Adjuster, GivenClose, PriceBasis
from services.market.records import ActionKind, Adjustment, Bar, CorporateAction
from support.examples import examples

SPLIT_DAY = date(2024, 6, 10)
# closes of NVIDIA that were traded, around its split of ten for one on 2024-06-10
NVDA = {
    date(2024, 6, 5): 1224.40,
    date(2024, 6, 6): 1209.98,
    date(2024, 6, 7): 1208.88,
    date(2024, 6, 10): 121.79,
    date(2024, 6, 11): 120.91,
    date(2024, 6, 12): 125.20,
}
RET_1 = (-0.01185, -0.00091, 0.00743, -0.00725, 0.03487)
LATER = date(2026, 11, 29)


def split(day, ratio, symbol="NVDA"):
    return CorporateAction(symbol, ActionKind.SPLIT, day, ratio=ratio)


def dividend(day, amount, symbol="NVDA"):
    return CorporateAction(symbol, ActionKind.DIVIDEND, day, amount=amount)


NVDA_SPLIT = split(SPLIT_DAY, 10.0)


def bar(close, volume=None, vwap=None, trades=None):
    return Bar("NVDA", "1d", 0, close, close, close, close, volume, vwap, trades)


def adjust(closes, bases, wanted, actions, given_closes=()):
    bars = [bar(close) for close in closes.values()]
    adjuster = Adjuster(actions, given_closes)
    return [each.close for each in adjuster.adjust_bars(bars, list(closes), bases, wanted)]


def returns(closes):
    return [math.log(after / before) for before, after in pairwise(closes)]


FROM_YAHOO = [PriceBasis(Adjustment.SPLITS, LATER)] * len(NVDA)
FROM_MASSIVE = [AS_TRADED] * len(NVDA)


def yahoo_closes():
    return {day: close / 10 if day < SPLIT_DAY else close for day, close in NVDA.items()}


@pytest.mark.parametrize(
    ("closes", "bases"),
    [
        pytest.param(yahoo_closes(), FROM_YAHOO, id="adjusted"),
        pytest.param(NVDA, FROM_MASSIVE, id="raw"),
        pytest.param(
            {day: (yahoo_closes() if n % 2 else NVDA)[day] for n, day in enumerate(NVDA)},
            [(FROM_YAHOO if n % 2 else FROM_MASSIVE)[n] for n in range(len(NVDA))],
            id="both",
        ),
        pytest.param(
            NVDA,
            [PriceBasis(Adjustment.SPLITS, day) for day in NVDA],
            id="adjusted, each asked on its own day",
        ),
    ],
)
def test_nvidias_split_is_no_fall_whichever_source_gave_the_days(closes, bases):
    found = adjust(closes, bases, PriceBasis(Adjustment.SPLITS, LATER), [NVDA_SPLIT])
    assert found[2] == 120.888
    assert found[3] == 121.79
    assert returns(found) == pytest.approx(RET_1, abs=1e-5)
    raw = adjust(closes, bases, AS_TRADED, [NVDA_SPLIT])
    assert raw == list(NVDA.values())


def test_before_the_ex_day_nothing_is_adjusted():
    before = SPLIT_DAY - timedelta(days=1)
    assert adjust(NVDA, FROM_MASSIVE, PriceBasis(Adjustment.SPLITS, before), [NVDA_SPLIT]) == list(
        NVDA.values()
    )
    assert (
        adjust(yahoo_closes(), FROM_YAHOO, PriceBasis(Adjustment.SPLITS, before), [NVDA_SPLIT])[2] == 1208.88
    )
    on_the_day = adjust(NVDA, FROM_MASSIVE, PriceBasis(Adjustment.SPLITS, SPLIT_DAY), [NVDA_SPLIT])
    assert on_the_day[2:4] == [120.888, 121.79]


def test_volume_goes_the_other_way_vwap_with_the_prices_and_trades_stay():
    before = Bar("NVDA", "1d", 0, 1197.70, 1216.92, 1180.22, 1208.88, 41_238_580.0, 1201.5, 991_234)
    adjuster = Adjuster([NVDA_SPLIT, dividend(date(2024, 6, 11), 0.01)], [GivenClose(SPLIT_DAY, 121.79)])
    day = date(2024, 6, 7)
    (found,) = adjuster.adjust_bars([before], [day], [AS_TRADED], PriceBasis(Adjustment.SPLITS, LATER))
    assert found == Bar("NVDA", "1d", 0, 119.770, 121.692, 118.022, 120.888, 412_385_800.0, 120.15, 991_234)
    (whole,) = adjuster.adjust_bars([before], [day], [AS_TRADED], PriceBasis(Adjustment.ALL, LATER))
    assert whole.volume == 412_385_800.0
    assert whole.trades == 991_234
    assert whole.vwap == pytest.approx(120.15 * (1 - 0.01 / 121.79), rel=1e-11)
    unknown = bar(1208.88)
    (found,) = adjuster.adjust_bars([unknown], [day], [AS_TRADED], PriceBasis(Adjustment.ALL, LATER))
    assert (found.volume, found.vwap, found.trades) == (None, None, None)


def test_a_dividend_lowers_the_days_before_by_its_share_of_the_raw_close():
    days = [date(2024, 6, 7), date(2024, 6, 10), date(2024, 6, 11)]
    actions = [NVDA_SPLIT, dividend(date(2024, 6, 11), 0.01), dividend(SPLIT_DAY, 1.0)]
    closes = {day: NVDA[day] for day in days}
    given_closes = [GivenClose(*pair) for pair in closes.items()]
    found = adjust(closes, [AS_TRADED] * 3, PriceBasis(Adjustment.ALL, LATER), actions, given_closes)
    second = 1 - 0.01 / 121.79
    first = 1 - 1.0 / 1208.88  # of the price before the split of the same day: amounts are never adjusted
    assert found == pytest.approx([120.888 * first * second, 121.79 * second, 120.91], rel=1e-11)


@pytest.mark.parametrize("adjustment", list(Adjustment))
def test_the_close_that_a_dividend_is_compared_with_may_have_any_basis(adjustment):
    actions = [NVDA_SPLIT, dividend(date(2024, 6, 11), 0.01), dividend(date(2024, 6, 6), 2.0)]
    raw = [GivenClose(*pair) for pair in NVDA.items()]
    basis = PriceBasis(adjustment, LATER)
    closes = adjust(NVDA, FROM_MASSIVE, basis, actions, raw)
    given_closes = [GivenClose(day, close, basis) for day, close in zip(NVDA, closes, strict=True)]
    wanted = PriceBasis(Adjustment.ALL, LATER)
    assert adjust(NVDA, FROM_MASSIVE, wanted, actions, given_closes) == pytest.approx(
        adjust(NVDA, FROM_MASSIVE, wanted, actions, raw), rel=1e-11
    )


def test_a_dividend_without_a_close_just_before_it_is_left_out_and_named():
    paid = dividend(date(2024, 7, 10), 5.0)
    old = GivenClose(paid.ex_day - timedelta(days=CLOSE_DAYS + 1), 120.0)
    adjuster = Adjuster([paid, NVDA_SPLIT], [old, GivenClose(paid.ex_day, 130.0)])
    assert adjuster.left_out == (paid,)
    near = GivenClose(paid.ex_day - timedelta(days=CLOSE_DAYS), 120.0)
    assert Adjuster([paid, NVDA_SPLIT], [old, near]).left_out == ()


@pytest.mark.parametrize(
    "action",
    [
        split(SPLIT_DAY, 0.0),
        split(SPLIT_DAY, -10.0),
        split(SPLIT_DAY, math.nan),
        split(SPLIT_DAY, math.inf),
        split(SPLIT_DAY, None),
        dividend(SPLIT_DAY, -1.0),
        dividend(SPLIT_DAY, math.nan),
        dividend(SPLIT_DAY, 1208.88),
    ],
)
def test_an_action_that_cant_be_is_left_out_and_costs_no_other(action):
    good = dividend(date(2024, 6, 12), 1.0)
    adjuster = Adjuster([action, good], [GivenClose(*pair) for pair in NVDA.items()])
    assert adjuster.left_out == (action,)
    found = adjuster.adjust_bars(
        [bar(100.0)], [date(2024, 6, 7)], [AS_TRADED], PriceBasis(Adjustment.ALL, LATER)
    )
    assert found[0].close == pytest.approx(100 * (1 - 1 / 120.91))


@pytest.mark.parametrize("kind", [ActionKind.SPIN_OFF, ActionKind.MERGER, ActionKind.RIGHTS])
def test_what_no_source_says_the_worth_of_changes_no_price_and_is_named(kind):
    values = {"amount": 12.5} if kind is ActionKind.MERGER else {"ratio": 0.5}
    action = CorporateAction("NVDA", kind, SPLIT_DAY, new_symbol="X", **values)
    adjuster = Adjuster([action], [GivenClose(*pair) for pair in NVDA.items()])
    assert (adjuster.is_empty, adjuster.left_out) == (True, (action,))


def test_a_rename_changes_no_price():
    renamed = CorporateAction("FB", ActionKind.RENAME, SPLIT_DAY, new_symbol="META")
    assert Adjuster([renamed]).is_empty
    assert Adjuster([renamed]).left_out == ()


def test_without_a_change_of_basis_every_bit_stays():
    chance = random.Random(7)
    adjuster = Adjuster([split(SPLIT_DAY, 3.0), split(date(2025, 1, 6), 1 / 7)])
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(700)]
    bars = [bar(chance.uniform(1, 2000), chance.uniform(1, 1e9)) for _ in days]
    basis = PriceBasis(Adjustment.SPLITS, LATER)
    assert adjuster.adjust_bars(bars, days, [basis] * 700, basis) == bars
    assert adjuster.adjust_bars(bars, days, [AS_TRADED] * 700, AS_TRADED) == bars


DAYS = st.integers(0, 400).map(lambda number: date(2024, 1, 1) + timedelta(days=number))
RATIOS = st.sampled_from([2.0, 10.0, 1.5, 0.5, 0.1, 1 / 3, 7.0, 1.0523])
ACTIONS = st.lists(
    st.one_of(st.builds(split, DAYS, RATIOS), st.builds(dividend, DAYS, st.floats(0.01, 30))),
    max_size=8,
)
BASES = st.builds(PriceBasis, st.sampled_from(Adjustment), DAYS)
CLOSES = [GivenClose(date(2023, 12, 31) + timedelta(days=n), 100.0 + n % 50) for n in range(402)]


@settings(max_examples=examples(200))
@given(ACTIONS, DAYS, st.tuples(BASES, BASES), st.integers(1, 500_000), st.randoms())
def test_there_and_back_is_the_same_and_the_order_of_actions_is_nothing(actions, day, bases, cents, chance):
    price, (one, other) = cents / 100, bases
    adjuster = Adjuster(actions, CLOSES)
    given = bar(price, volume=price * 1000, vwap=price)
    (there,) = adjuster.adjust_bars([given], [day], [one], other)
    (back,) = adjuster.adjust_bars([there], [day], [other], one)
    assert back.close == price or back.close == pytest.approx(price, rel=1e-11)
    assert back.volume == pytest.approx(given.volume, rel=1e-11)
    (through,) = adjuster.adjust_bars(
        adjuster.adjust_bars([given], [day], [one], AS_TRADED), [day], [AS_TRADED], other
    )
    assert through.close == pytest.approx(there.close, rel=1e-11)
    chance.shuffle(actions)
    assert Adjuster(actions, CLOSES).adjust_bars([given], [day], [one], other) == [there]


@settings(max_examples=examples(200))
@given(ACTIONS, DAYS, st.floats(0.01, 5000))
def test_all_is_the_splits_and_the_dividends_and_turnover_is_the_same_after_splits(actions, day, price):
    def find(kept, adjustment):
        given = bar(price, volume=1000.0)
        adjuster = Adjuster(kept, CLOSES)
        return adjuster.adjust_bars([given], [day], [AS_TRADED], PriceBasis(adjustment, LATER))[0]

    dividends = [each for each in actions if each.kind is ActionKind.DIVIDEND]
    splits = [each for each in actions if each.kind is ActionKind.SPLIT]
    only_splits, whole = find(splits, Adjustment.SPLITS), find(actions, Adjustment.ALL)
    assert find(actions, Adjustment.SPLITS) == only_splits
    assert whole.close * price == pytest.approx(
        only_splits.close * find(dividends, Adjustment.ALL).close, rel=1e-11
    )
    assert only_splits.close * only_splits.volume == pytest.approx(price * 1000, rel=1e-11)
    assert whole.volume == only_splits.volume
