"""Weeks and months: what is published is what a plain grouping of the final days by their dates gives."""

import random
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.market.records import DAY_MS, PERIODS, TIMEFRAMES, Bar
from services.market.sessions import get_session
from support.examples import examples
from support.scenes.bars import (
    CRYPTO,
    MIDNIGHT,
    MINUTE,
    SymbolScene,
    aggregate_days,
    arrival,
    assert_same_bars,
    batch,
    values_of,
    walk,
)

NEW_YORK = get_session("XNYS")


def daily(session, first, count, seed=1):
    """Bars of trading days from a date on, with volumes that can be added without rounding."""
    start_ms = (first - date(1970, 1, 1)).days * DAY_MS
    opens = []
    for day in session.iter_days(start_ms - 180 * MINUTE, start_ms + 2 * count * DAY_MS):
        opens.append(day.open_ms)
        if len(opens) == count:
            break
    return [replace(bar, timeframe="1d") for bar in walk(opens, seed, whole=True)]


def come(bar, session, number=0, late_ms=1000):
    """The entry of a day that a source gave some time after its close."""
    return arrival(bar, number, seen_ms=session.find_day(bar.start_ms).close_ms + late_ms)


def make_scene(session=CRYPTO, **more):
    return SymbolScene(session, checks={"jump_share": 10, "disagree_share": 10}, **more)


@settings(max_examples=examples(15))
@given(
    st.integers(0, 2**32), st.sampled_from(["24x7", "24x5", "XNYS"]), st.integers(1, 150), st.floats(0, 0.3)
)
def test_weeks_and_months_are_those_of_their_final_days_for_any_order_corrections_and_restarts(
    seed, code, count, lost
):
    chance, session = random.Random(seed), get_session(code)
    days = [bar for bar in daily(session, date(2026, 1, 14), count, seed) if chance.random() >= lost]
    arrivals = [come(bar, session, number) for number, bar in enumerate(days)]
    for number in chance.sample(range(len(days)), len(days) // 5):
        days[number] = replace(days[number], close=days[number].low, volume=7.0)
        arrivals.append(come(days[number], session, late_ms=DAY_MS))
    if chance.random() < 0.5:
        arrivals.sort(key=lambda each: (each.fields[b"asked_at"], chance.random()))
    scene = make_scene(session, indicators=("sma", "obv"))
    while arrivals:
        size = chance.randint(1, 40)
        scene.play(arrivals[:size])
        del arrivals[:size]
        if chance.random() < 0.3:
            scene.restart()
    for timeframe in PERIODS:
        expected = aggregate_days(days, timeframe, session)
        assert_same_bars(scene.shown(timeframe), expected)
        assert values_of(scene.indicators, timeframe) == batch(expected, session, ("sma", "obv"))
        finals = [entry["final"] for (frame, _), entry in sorted(scene.bars.items()) if frame == timeframe]
        assert set(finals[1:-1]) <= {"1"}, "the first one may have begun before, and the last one goes on"


def test_a_week_is_final_with_its_last_trading_day_and_is_named_by_its_monday():
    # Thanksgiving is on Thursday, and Friday is short; the Monday of the week after has no holiday
    days = daily(NEW_YORK, date(2026, 11, 20), 8)  # Friday, then Monday to Friday without Thursday
    scene = make_scene(NEW_YORK, symbols=("SPY",), asset="stocks")
    for number, bar in enumerate(days[:5]):
        scene.play([come(replace(bar, symbol="SPY"), NEW_YORK)])
        found = scene.bars.get(("1w", days[1].start_ms))
        assert (found is None) == (number == 0)
        assert found is None or found["final"] == ("1" if number == 4 else "0")
    assert found["day"] == "2026-11-23"
    assert int(found["end"]) == NEW_YORK.find_date(date(2026, 11, 27)).close_ms
    assert scene.bars["1mo", first_of(scene, "1mo")]["day"] == "2026-11-01"
    assert scene.bars["1w", first_of(scene, "1w")]["final"] == "0", "its beginning was not seen"
    before = int(found["rev"])
    scene.play(
        [come(replace(days[2], symbol="SPY", volume=1.0, close=days[2].low), NEW_YORK, late_ms=DAY_MS)]
    )
    corrected = scene.bars["1w", days[1].start_ms]
    assert (corrected["final"], int(corrected["rev"]) > before) == ("1", True)


def test_a_corrected_week_and_what_is_computed_of_it_are_known_since_the_correction():
    days = daily(CRYPTO, date(2026, 11, 2), 21)  # three weeks, from a Monday on
    scene = make_scene(timeframes=("1d", "1w"), indicators=("sma", "obv"))
    for bar in days:
        scene.play([come(bar, CRYPTO)])
    first, second = days[0].start_ms, days[7].start_ms
    assert "known_at" not in scene.bars["1w", first]
    assert scene.indicators["1w", first]["known_at"] == scene.bars["1w", first]["end"]
    # of its days another one than the last, which the week has its source of
    seen_ms = days[-1].start_ms + 2 * DAY_MS
    corrected = replace(days[1], close=days[1].low, volume=days[1].volume + 1)
    scene.play([arrival(corrected, seen_ms=seen_ms)])
    assert scene.bars["1w", first]["known_at"] == str(seen_ms)
    assert "known_at" not in scene.bars["1w", second], "no day of it is another one"
    for start_ms in (first, second):
        assert scene.indicators["1w", start_ms]["known_at"] == str(seen_ms)
    # a day that is corrected next, by a source that was asked before, leaves it known since the newest one
    scene.restart()
    earlier = replace(days[4], close=days[4].low, volume=days[4].volume + 1)
    scene.play([arrival(earlier, seen_ms=seen_ms - DAY_MS)])
    assert scene.bars["1w", first]["known_at"] == str(seen_ms)


def first_of(scene, timeframe):
    return min(start for frame, start in scene.bars if frame == timeframe)


def test_a_week_whose_last_day_has_no_bar_is_final_once_a_later_day_is_known():
    days = daily(CRYPTO, date(2026, 11, 2), 8)  # from a Monday to the next one
    scene = make_scene()
    scene.play([come(bar, CRYPTO) for bar in days[:6]], days[7].start_ms + 60 * MINUTE)
    assert scene.bars["1w", days[0].start_ms]["final"] == "0", "Sunday may still come"
    scene.play([come(days[7], CRYPTO)])
    assert scene.bars["1w", days[0].start_ms]["final"] == "1"


def test_a_week_of_minutes_has_its_final_days_and_says_of_how_many_minutes_it_is():
    monday = MIDNIGHT + 5 * DAY_MS
    scene = make_scene(indicators=())
    for day in range(8):
        starts = range(monday + day * DAY_MS, monday + (day + 1) * DAY_MS, 30 * MINUTE)
        outputs = scene.play([arrival(bar) for bar in walk(starts, day, whole=True)])
        assert len([each for each in outputs.bars if each["timeframe"] == "1w"]) <= 1, (
            "one a day, not one a minute"
        )
        if day:
            assert_same_bars(scene.shown("1w")[:1], aggregate_days(scene.shown("1d")[:day], "1w", CRYPTO)[:1])
    week = scene.bars["1w", monday]
    assert (week["final"], week["minutes"], week["missing"]) == ("1", str(7 * 48), str(7 * (1440 - 48)))
    assert scene.bars["30m", monday]["minutes"] == "1"


def test_weeks_of_a_source_are_not_taken():
    scene = make_scene()
    for timeframe in PERIODS:
        scene.play([arrival(Bar("BTC/USD", timeframe, MIDNIGHT, 1, 1, 1, 1), seen_ms=MIDNIGHT + 40 * DAY_MS)])
    assert (scene.bars, scene.quarantine) == ({}, [])
    assert scene.builder.counts == {("one", "skipped"): 2}


def test_weeks_of_a_state_of_a_release_that_built_none_follow_with_the_next_entry():
    days = daily(CRYPTO, date(2026, 9, 1), 60)
    scene = make_scene()
    scene.play([come(bar, CRYPTO) for bar in days[:-1]])
    scene.stored = {name: raw for name, raw in scene.stored.items() if not name.startswith((b"1w", b"1mo"))}
    scene.bars.clear()
    scene.seen.clear()
    scene.restart(timeframes=TIMEFRAMES)
    scene.play([come(days[-1], CRYPTO)])
    for timeframe in PERIODS:
        assert_same_bars(scene.shown(timeframe), aggregate_days(days, timeframe, CRYPTO))


@pytest.mark.parametrize("is_restarted", [True, False])
def test_a_history_that_is_older_than_what_is_kept_has_its_weeks_when_it_comes_after_newer_days(is_restarted):
    days = daily(CRYPTO, date(2023, 3, 1), 900)
    scene = make_scene(indicators=())
    scene.play([come(days[-1], CRYPTO)])
    at = 0
    for size in (3, 50, 20, 30, 400, 396):
        seen_ms = days[-1].start_ms + 2 * DAY_MS
        scene.play([arrival(bar, number, seen_ms=seen_ms) for number, bar in enumerate(days[at : at + size])])
        at += size
        if is_restarted:
            scene.restart()
    for timeframe in PERIODS:
        expected = aggregate_days(days, timeframe, CRYPTO)
        assert_same_bars(scene.shown(timeframe), expected)
        finals = [entry["final"] for (frame, _), entry in sorted(scene.bars.items()) if frame == timeframe]
        assert finals[1:-1] == ["1"] * (len(expected) - 2)


def test_a_day_that_was_released_though_the_market_was_closed_is_of_no_week():
    """Otherwise it was in a week that was built after it came, and not in one that was built before."""
    days = daily(NEW_YORK, date(2026, 9, 1), 4)
    closed = replace(days[2], start_ms=days[2].start_ms + 12 * 60 * MINUTE, high=1e6)
    entries = [come(bar, NEW_YORK) for bar in days]
    released = arrival(closed, seen_ms=days[-1].start_ms, released="1")
    for batches in ([[*entries[:3], released, *entries[3:]]], [[each] for each in [*entries, released]]):
        scene = make_scene(NEW_YORK)
        for some in batches:
            scene.play(some)
        assert ("1d", closed.start_ms) in scene.bars, "what is released is taken"
        for timeframe in PERIODS:
            assert_same_bars(scene.shown(timeframe), aggregate_days(days, timeframe, NEW_YORK))
