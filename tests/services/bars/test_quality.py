"""Each check: what passes it, what fails it, and at which border, by bars made by chance."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.bars.bar_table import EARLIEST_MS
from services.bars.quality import (
    ATR_BARS,
    CHECKS,
    NEVER_SKIPPED,
    VWAP_SHARE,
    Candidate,
    Check,
    Finding,
    HeldBar,
    Known,
    SuspectBar,
    average_true_range,
    check_agreement,
    check_duplicate,
    check_future,
    check_jump,
    check_lateness,
    check_monotone_time,
    check_positive,
    check_price_order,
    check_session,
    find_rejection,
    list_findings,
)
from services.bars.settings import CheckSettings
from services.market.intervals import Interval
from services.market.records import Bar, Provenance
from support.scenes.bars import MIDNIGHT, MINUTE

LIMITS = CheckSettings()
NOTHING = Known(oldest_ms=EARLIEST_MS)
PRICES = st.floats(0.01, 1e6)
RATES = st.floats(-0.5, 0.5)


@st.composite
def bars(draw, start_ms=MIDNIGHT, timeframe="1m"):
    low, *inner, high = sorted(draw(st.lists(PRICES, min_size=4, max_size=4)))
    opens, close = draw(st.permutations(inner))
    volume = draw(st.none() | st.floats(0, 1e9))
    return Bar("BTC/USD", timeframe, start_ms, opens, high, low, close, volume)


def candidate(bar, source="one", seen_ms=None, interval=True):
    seen_ms = bar.start_ms + MINUTE if seen_ms is None else seen_ms
    whole = Interval("1m", bar.start_ms, bar.start_ms + MINUTE) if interval else None
    return Candidate(bar, source, seen_ms, whole)


def held(bar, source="one", seen_ms=0, *, is_complete=True):
    return HeldBar(bar, 1, source, seen_ms, is_complete)


def calm(count=ATR_BARS, price=100.0, spread=0.1):
    """Minutes up to MIDNIGHT whose average true range is `spread`."""
    starts = range(MIDNIGHT - count * MINUTE, MIDNIGHT, MINUTE)
    return [
        Bar("BTC/USD", "1m", start, price, price + spread / 2, price - spread / 2, price) for start in starts
    ]


def flat(price, start_ms=MIDNIGHT):
    return Bar("BTC/USD", "1m", start_ms, price, price, price, price)


@given(bars())
def test_a_sane_bar_that_comes_first_passes_every_check(bar):
    assert find_rejection(candidate(bar), NOTHING, LIMITS) is None
    assert list_findings(candidate(bar), NOTHING, LIMITS) == []


@given(bars(), st.sampled_from(["open", "high", "low", "close", "vwap"]), st.floats(-1e6, 0))
def test_a_price_that_is_not_positive_fails(bar, name, wrong):
    assert check_positive(candidate(bar), NOTHING, LIMITS) is None
    assert check_positive(candidate(replace(bar, **{name: wrong})), NOTHING, LIMITS)


@given(bars(), st.sampled_from(["volume", "trades"]), st.integers(1, 10**9))
def test_a_negative_volume_or_count_fails_and_none_or_zero_passes(bar, name, size):
    assert check_positive(candidate(replace(bar, **{name: -size})), NOTHING, LIMITS)
    assert check_positive(candidate(replace(bar, **{name: 0})), NOTHING, LIMITS) is None
    assert check_positive(candidate(replace(bar, **{name: None})), NOTHING, LIMITS) is None


@given(bars(), st.sampled_from(["open", "close"]), st.floats(1e-6, 10), st.booleans())
def test_an_open_or_close_outside_of_low_to_high_fails(bar, name, by, above):
    wrong = bar.high + by if above else bar.low - by
    assert check_price_order(candidate(replace(bar, **{name: wrong})), NOTHING, LIMITS)
    edge = bar.high if above else bar.low
    assert check_price_order(candidate(replace(bar, **{name: edge})), NOTHING, LIMITS) is None


@given(bars(), st.floats(-0.9, 2))
def test_a_vwap_that_no_trades_between_low_and_high_can_have_fails(bar, rate):
    edge = bar.high if rate > 0 else bar.low
    failed = check_price_order(candidate(replace(bar, vwap=edge * (1 + rate))), NOTHING, LIMITS) is not None
    if abs(abs(rate) - VWAP_SHARE) > 1e-9:
        assert failed == (abs(rate) > VWAP_SHARE)


@given(bars())
def test_a_bar_without_an_interval_of_its_session_fails(bar):
    assert check_session(candidate(bar, interval=False), NOTHING, LIMITS)
    assert check_session(candidate(bar), NOTHING, LIMITS) is None


@given(bars(), st.floats(0, 600), st.integers(-1_000_000, 1_000_000))
def test_a_bar_that_begins_after_it_was_seen_by_more_than_the_clocks_differ_fails(bar, ahead_sec, early_ms):
    limits = CheckSettings(ahead_sec=ahead_sec)
    failed = check_future(candidate(bar, seen_ms=bar.start_ms - early_ms), NOTHING, limits) is not None
    assert failed == (early_ms > 1000 * ahead_sec)


@given(bars(), st.integers(-(10**9), 10**9))
def test_a_bar_older_than_what_can_be_revised_fails_even_if_it_was_released(bar, late_ms):
    known = Known(oldest_ms=bar.start_ms + late_ms)
    assert (check_lateness(candidate(bar), known, LIMITS) is not None) == (late_ms > 0)
    rejection = find_rejection(candidate(bar), known, LIMITS, is_released=True)
    assert (rejection.check if rejection else None) == (Check.TOO_LATE if late_ms > 0 else None)


@given(bars(), st.integers(-(10**6), 10**6), st.sampled_from(["one", "two"]))
def test_an_answer_older_than_the_one_that_we_hold_of_that_source_fails(bar, later_ms, source):
    mine = candidate(bar, seen_ms=bar.start_ms + 10**7)
    known = replace(NOTHING, held=held(bar, source, mine.seen_ms + later_ms))
    failed = check_monotone_time(mine, known, LIMITS) is not None
    assert failed == (later_ms > 0 and source == "one")


@given(bars(), st.sampled_from(["open", "high", "low", "close", "volume", "vwap", "trades"]), st.booleans())
def test_a_bar_with_the_values_that_we_hold_fails_and_with_any_other_passes(bar, name, is_final):
    known = replace(NOTHING, held=held(bar, is_complete=is_final), is_held_final=is_final)
    assert check_duplicate(candidate(bar), known, LIMITS)
    assert check_duplicate(candidate(bar, source="two"), known, LIMITS)
    other = replace(bar, **{name: (getattr(bar, name) or 0) + 1})
    assert check_duplicate(candidate(other), known, LIMITS) is None
    assert check_duplicate(candidate(bar), NOTHING, LIMITS) is None


@given(bars(timeframe="1d"))
def test_a_day_that_was_seen_whole_only_now_is_no_duplicate(bar):
    known = replace(NOTHING, held=held(bar, is_complete=False))
    whole = Interval("1d", bar.start_ms, bar.start_ms + 86_400_000)
    early = Candidate(bar, "one", whole.close_ms - 1, whole)
    assert check_duplicate(early, known, LIMITS)
    assert check_duplicate(replace(early, seen_ms=whole.close_ms), known, LIMITS) is None


@given(bars(), RATES, st.booleans(), st.sampled_from(["one", "two"]))
def test_a_close_too_far_from_the_final_one_of_another_source_fails(bar, rate, is_final, source):
    other = replace(bar, close=bar.close * (1 + rate))
    known = replace(NOTHING, held=held(bar, "one"), is_held_final=is_final)
    failed = check_agreement(candidate(other, source), known, LIMITS) is not None
    share = abs(other.close - bar.close) / bar.close
    assert failed == (is_final and source == "two" and share > LIMITS.disagree_share)


@given(bars(), RATES, st.sampled_from(["ws", "rest"]), st.sampled_from(["ws", "rest"]))
def test_both_ways_of_massive_are_one_source_that_may_correct_itself(bar, rate, first, second):
    other = replace(bar, close=bar.close * (1 + rate))
    known = replace(NOTHING, held=held(bar, first), is_held_final=True)
    assert check_agreement(candidate(other, second), known, LIMITS) is None


@given(bars(timeframe="1d"), RATES, st.booleans())
def test_a_whole_bar_whose_close_is_too_far_outside_of_the_prices_of_its_minutes_fails(bar, rate, is_whole):
    other = replace(bar, close=bar.close * (1 + rate))
    day = Interval("1d", bar.start_ms, bar.start_ms + 86_400_000)
    mine = Candidate(other, "one", day.close_ms - (not is_whole), day)
    failed = check_agreement(mine, replace(NOTHING, built=held(bar, "one")), LIMITS) is not None
    above, below = other.close / bar.high - 1, 1 - other.close / bar.low
    assume(all(abs(share - LIMITS.disagree_share) > 1e-9 for share in (above, below)))
    assert failed == (is_whole and max(above, below) > LIMITS.disagree_share)


@given(bars(), st.integers(1, 60_000), st.sampled_from(["one", "two"]), st.booleans())
def test_an_answer_from_before_the_end_of_a_minute_does_not_replace_one_from_after_it(
    bar, early_ms, source, is_complete
):
    ends = bar.start_ms + MINUTE
    mine = candidate(bar, source, ends - early_ms)
    known = replace(NOTHING, held=held(bar, "one", ends + 1, is_complete=is_complete))
    failed = check_monotone_time(mine, known, LIMITS) is not None
    assert failed == (source == "one" or is_complete)
    assert check_monotone_time(candidate(bar, "two", ends), known, LIMITS) is None


@given(st.floats(-0.9, 2), st.floats(0.01, 1), st.floats(1, 100), st.floats(0.001, 0.5))
def test_a_minute_fails_if_it_jumps_by_more_than_both_limits_allow(rate, spread, atr, share):
    limits = CheckSettings(jump_atr=atr, jump_share=share)
    before = calm(spread=spread)
    assert average_true_range(before) == pytest.approx(spread)
    known = replace(NOTHING, before=before)
    moved = abs(rate) * 100
    allowed = max(atr * average_true_range(before), share * 100)
    if abs(moved - allowed) > 1e-6:
        failed = check_jump(candidate(flat(100 * (1 + rate))), known, limits) is not None
        assert failed == (moved > allowed)


@given(st.floats(0.01, 0.5))
def test_the_first_minute_after_the_market_was_closed_may_be_further_away(rate):
    known = replace(NOTHING, before=calm())
    opening = candidate(flat(100 * (1 + rate)))
    assert (check_jump(opening, known, LIMITS) is not None) == (rate > LIMITS.jump_share)
    known = replace(known, is_after_break=True)
    assert (check_jump(opening, known, LIMITS) is not None) == (rate > LIMITS.open_share)


def test_one_wild_price_within_a_minute_is_a_jump_too():
    known = replace(NOTHING, before=calm())
    assert check_jump(candidate(replace(flat(100), low=0.01)), known, LIMITS)


def test_too_few_minutes_before_it_say_nothing_about_a_jump():
    known = replace(NOTHING, before=calm(ATR_BARS - 1))
    assert check_jump(candidate(flat(200)), known, LIMITS) is None


@given(st.floats(1.1, 3))
def test_a_jump_is_confirmed_by_the_next_minute_or_by_another_source_but_not_by_itself(rate):
    price = 100 * rate
    known = replace(NOTHING, before=calm(), suspect=SuspectBar(flat(price), MIDNIGHT, Provenance("one")))
    assert check_jump(candidate(flat(price)), known, LIMITS)
    assert check_jump(candidate(flat(price), "two"), known, LIMITS) is None
    assert check_jump(candidate(flat(price, MIDNIGHT + MINUTE)), known, LIMITS) is None
    assert check_jump(candidate(flat(price * 2, MIDNIGHT + MINUTE)), known, LIMITS)


@given(bars(), st.integers(0, 50), st.integers(-5, 5))
def test_missing_minutes_before_the_newest_are_found_and_rejected_by_nothing(bar, missing, after):
    known = replace(NOTHING, newest_ms=bar.start_ms - after * MINUTE, missing=missing)
    assert (Finding.GAP in list_findings(candidate(bar), known, LIMITS)) == (missing > 0 and after > 0)
    assert find_rejection(candidate(bar), known, LIMITS) is None


@given(bars(), st.integers(0, 10_000), st.booleans())
def test_a_newest_minute_that_is_old_when_it_comes_is_found_and_rejected_by_nothing(bar, age_sec, is_newest):
    known = replace(NOTHING, newest_ms=bar.start_ms + (-MINUTE if is_newest else MINUTE))
    late = candidate(bar, seen_ms=bar.start_ms + MINUTE + 1000 * age_sec)
    assert (Finding.STALE in list_findings(late, known, LIMITS)) == (is_newest and age_sec > LIMITS.stale_sec)
    assert find_rejection(late, known, LIMITS) is None


def test_every_check_has_a_function_but_the_schema():
    assert {*CHECKS, Check.SCHEMA} == set(Check)
    assert set(Check) >= NEVER_SKIPPED
