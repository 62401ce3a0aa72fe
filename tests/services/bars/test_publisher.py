"""Indicators of a symbol: at each bar, after corrections, gaps, restarts and changes of the truth."""

from dataclasses import replace

import pytest

from services.bars.live_indicators import STORE_EVERY
from services.bars.settings import BarsOptions
from services.market.records import DAY_MS, Bar
from services.market.sessions import get_session
from support.scenes.bars import (
    CRYPTO,
    MIDNIGHT,
    MINUTE,
    SymbolScene,
    arrival,
    assert_same_as_batch,
    batch,
    minutes,
    play_all,
    values_of,
    walk,
)


def test_indicators_of_a_recording_stay_marked_when_a_real_source_corrects_a_bar_before():
    scene = SymbolScene(get_session("24x7"))
    first, played, last = walk(MIDNIGHT + number * MINUTE for number in range(3))
    scene.play([arrival(first)])
    scene.play([arrival(played, replay="1", played_at=str(played.start_ms / 1000 + 60))])
    scene.play([arrival(last)])
    outputs = scene.play([arrival(replace(first, volume=1), seen_ms=last.start_ms + DAY_MS)])
    found = {e["start"]: e.get("replay") for e in outputs.indicators if e["timeframe"] == "1m"}
    assert found == {str(first.start_ms): None, str(played.start_ms): "1", str(last.start_ms): None}


def test_indicators_of_all_later_bars_follow_a_correction_with_higher_revisions():
    bars = minutes(60)
    scene = play_all(bars)
    bar = bars[40]
    corrected = Bar(bar.symbol, "1m", bar.start_ms, bar.open, bar.high + 1, bar.low, bar.high + 1, bar.volume)
    outputs = scene.play([arrival(corrected, 999, seen_ms=bar.start_ms + DAY_MS)])
    later = [entry for entry in outputs.indicators if entry["timeframe"] == "1m"]
    assert [int(entry["start"]) for entry in later] == [each.start_ms for each in bars[40:]]
    assert {entry["rev"] for entry in later} == {"1"}
    assert_same_as_batch(scene.bars, scene.indicators, [*bars[:40], corrected, *bars[41:]], CRYPTO)


def test_bars_and_indicators_are_known_at_the_end_and_since_a_correction_where_it_changed_them():
    bars = minutes(30)
    scene = SymbolScene(CRYPTO, timeframes=["1m", "5m"])
    outputs = scene.play(map(arrival, bars))
    assert all("known_at" not in entry for entry in outputs.bars)
    length_ms = {"1m": MINUTE, "5m": 5 * MINUTE}
    for entry in outputs.indicators:
        assert int(entry["known_at"]) == int(entry["start"]) + length_ms[entry["timeframe"]]
    seen_ms = bars[-1].start_ms + DAY_MS
    corrected = replace(bars[12], volume=bars[12].volume + 1)
    outputs = scene.play([arrival(corrected, 999, seen_ms=seen_ms)])
    found = {(entry["timeframe"], int(entry["start"])): entry.get("known_at") for entry in outputs.bars}
    final = {("1m", bars[12].start_ms), ("5m", bars[10].start_ms)}
    assert found == dict.fromkeys(final, str(seen_ms))
    of_minutes = [entry for entry in outputs.indicators if entry["timeframe"] == "1m"]
    assert len(of_minutes) > 1
    assert {entry["known_at"] for entry in of_minutes} == {str(seen_ms)}
    # what comes after it is known in its time
    following = walk([bars[-1].start_ms + 2 * DAY_MS])
    entries = scene.play([arrival(following[0])]).indicators
    newest = [entry for entry in entries if int(entry["start"]) > seen_ms]
    assert {int(entry["known_at"]) - int(entry["start"]) for entry in newest} == set(length_ms.values())


def test_a_longer_bar_is_known_since_the_newest_correction_of_its_minutes_whichever_comes_last():
    bars = minutes(30)
    scene = SymbolScene(CRYPTO, timeframes=["5m", "15m", "1d"], indicators=["obv"])
    scene.play(map(arrival, bars))
    newest_ms = bars[-1].start_ms + DAY_MS

    def correct(numbers):
        found = [replace(bars[number], volume=bars[number].volume + 1) for number in numbers]
        ages_ms = {11: 0, 12: MINUTE, 13: 2 * MINUTE}
        return scene.play(
            arrival(bar, seen_ms=newest_ms - ages_ms[number])
            for number, bar in zip(numbers, found, strict=True)
        )

    for numbers in ([11, 12], [13]):
        outputs = correct(numbers)
        known = {(each["timeframe"], each["known_at"]) for each in outputs.bars if each["final"] == "1"}
        assert known == {("5m", str(newest_ms)), ("15m", str(newest_ms))}
        values = {each["known_at"] for each in outputs.indicators if each["final"] == "1"}
        assert values == {str(newest_ms)}
        scene.restart()


def test_series_are_stored_every_64_bars_and_those_of_other_symbols_at_other_minutes():
    moments = set()
    for symbol in ("BTC/USD", "ETH/USD", "SOL/USD"):
        scene = SymbolScene(CRYPTO, symbols=[symbol], timeframes=["1m"], indicators=["sma"])
        stored, at = [], []
        for number, bar in enumerate(minutes(150, symbol=symbol)):
            scene.play([arrival(bar)])
            if scene.stored.get(b"1m indicators") not in stored:
                stored.append(scene.stored[b"1m indicators"])
                at.append(number)
        assert at[0] == 0
        assert at[1] <= STORE_EVERY
        assert at[2] - at[1] == STORE_EVERY
        moments.add(at[1])
    assert len(moments) == 3


def test_a_backlog_longer_than_what_can_be_corrected_has_indicators_at_every_bar_after_a_restart():
    bars = minutes(1300)
    scene = play_all(bars[:100])
    scene.restart()
    scene.play(arrival(bar, number) for number, bar in enumerate(bars[100:], 100))
    assert_same_as_batch(scene.bars, scene.indicators, bars, CRYPTO)


def test_a_long_gap_that_is_filled_after_a_restart_has_indicators_at_every_bar():
    bars = minutes(1300)
    scene = play_all(bars[:100])
    scene.play([arrival(bars[1290], 1290)])  # as the first minute that a stream brings
    scene.restart()
    scene.play(arrival(bar, number) for number, bar in enumerate(bars[100:1290], 100))
    scene.play(arrival(bar, number) for number, bar in enumerate(bars[1291:], 1291))
    assert_same_as_batch(scene.bars, scene.indicators, bars, CRYPTO)


def test_indicators_follow_minutes_that_are_corrected_or_come_a_day_late_also_after_restarts():
    bars = minutes(2200)
    missing, wrong = bars[500], bars[1250]  # two blocks apart
    first = Bar(
        wrong.symbol, "1m", wrong.start_ms, wrong.open, wrong.high, wrong.low, wrong.open, wrong.volume
    )
    scene = SymbolScene(CRYPTO)
    came = [first if bar is wrong else bar for bar in bars[:2100] if bar is not missing]
    scene.play(arrival(bar, number) for number, bar in enumerate(came))
    for late in (missing, wrong):
        scene.restart()
        # with the next minute in one batch
        scene.play([arrival(late, 999, seen_ms=late.start_ms + 2 * DAY_MS), arrival(bars[len(came) + 1])])
        came.append(bars[len(came) + 1])
    scene.play(arrival(bar, number) for number, bar in enumerate(bars[2102:], 2102))
    assert_same_as_batch(scene.bars, scene.indicators, bars, CRYPTO)


def test_after_a_pause_longer_than_bars_are_kept_a_restart_goes_on_with_all_that_came_before_it():
    scene = SymbolScene(CRYPTO, timeframes=["1m"])
    scene.options = BarsOptions(settle_sec=10, revise_days=1)
    # few enough that the series is not stored for their number
    pause = MIDNIGHT + 3 * DAY_MS
    bars = walk(
        [*range(MIDNIGHT, MIDNIGHT + 40 * MINUTE, MINUTE), *range(pause, pause + 40 * MINUTE, MINUTE)]
    )
    for number, bar in enumerate(bars):
        if number in (0, 41):
            scene.restart()
        scene.play([arrival(bar, number)])
    assert values_of(scene.indicators, "1m") == batch(bars, CRYPTO)


def test_a_symbol_without_indicators_has_the_same_bars_and_what_was_final_stays_final():
    bars, scenes = minutes(40), [SymbolScene(CRYPTO), SymbolScene(CRYPTO, indicators=[])]
    corrected = replace(bars[2], close=bars[2].low)
    for scene in scenes:
        scene.play([arrival(bar) for bar in bars[:20]], clock_ms=MIDNIGHT + DAY_MS)
        scene.restart()
        scene.play([arrival(bar) for bar in bars[20:]])
        scene.play([arrival(corrected, seen_ms=MIDNIGHT + DAY_MS)])
    assert scenes[0].bars == scenes[1].bars
    assert scenes[0].bars["5m", MIDNIGHT]["final"] == "1"
    assert scenes[1].indicators == {}


def test_a_timeframe_that_is_published_later_has_the_indicators_of_all_bars_that_are_kept():
    bars = minutes(900)
    scene = SymbolScene(CRYPTO, timeframes=["1m", "5m"])
    scene.play(arrival(bar) for bar in bars[:300])
    scene.restart(timeframes=("1m",))
    scene.play(arrival(bar) for bar in bars[300:600])
    scene.restart(timeframes=("1m", "5m", "15m"))
    for number, bar in enumerate(bars[600:]):
        scene.play([arrival(bar)])
        if number == 150:
            scene.restart()
    for timeframe in ("1m", "5m", "15m"):
        expected = batch(scene.state.tables[timeframe].list_since(MIDNIGHT), CRYPTO)
        assert values_of(scene.indicators, timeframe)[-20:] == expected[-20:], timeframe


def test_what_was_corrected_while_a_timeframe_was_not_published_counts_when_it_is_again():
    bars = minutes(200)
    scene = SymbolScene(CRYPTO, timeframes=["1m", "5m"])
    scene.play(arrival(bar) for bar in bars[:150])
    scene.restart(timeframes=("1m",))
    corrected = replace(bars[42], volume=10 * bars[42].volume, trades=None)
    scene.play([arrival(corrected, seen_ms=MIDNIGHT + DAY_MS)])
    scene.restart(timeframes=("1m", "5m"))
    scene.play(arrival(bar) for bar in bars[150:])
    expected = batch(scene.state.tables["5m"].list_since(MIDNIGHT), CRYPTO)
    assert values_of(scene.indicators, "5m")[-9:] == expected[-9:]


def test_the_revisions_of_indicators_go_on_after_a_time_without_them():
    bars = minutes(60)
    scene = play_all(bars)

    def correct(number: int, close: float) -> None:
        corrected = replace(bars[number], close=close)
        scene.play([arrival(corrected, seen_ms=MIDNIGHT + DAY_MS)])

    for close in (bars[40].low, bars[40].high):
        correct(40, close)
    scene.restart(indicators=())
    correct(41, bars[41].low)
    scene.restart(indicators=("sma", "obv"))
    correct(40, bars[40].low)
    assert scene.indicators["1m", bars[41].start_ms]["rev"] == "3"


def test_a_timeframe_that_was_not_published_for_longer_than_its_bars_are_kept_begins_with_those():
    scene = SymbolScene(
        CRYPTO, options={"revise_days": 1}, timeframes=["1m", "5m"], indicators=["sma", "obv"]
    )
    first, last = MIDNIGHT + 600 * MINUTE, MIDNIGHT + 2 * DAY_MS + 60 * MINUTE
    bars = walk([*range(MIDNIGHT, first, MINUTE), *range(first, last, 5 * MINUTE)], whole=True)
    scene.play(arrival(bar) for bar in bars[:600])
    scene.restart(timeframes=("1m",))
    for at in range(600, len(bars) - 10, 100):
        scene.play(arrival(bar) for bar in bars[at : at + 100][: len(bars) - 10 - at])
    scene.restart(timeframes=("1m", "5m"))
    kept = scene.state.tables["5m"].list_since(MIDNIGHT)
    assert kept[0].start_ms > first
    scene.play(arrival(bar) for bar in bars[-10:])
    expected = batch(scene.state.tables["5m"].list_since(kept[0].start_ms), CRYPTO)
    for got, wanted in zip(values_of(scene.indicators, "5m")[-2:], expected[-2:], strict=True):
        assert got == {name: wanted[name] for name in ("sma_20", "obv")}


def test_values_that_change_with_an_earlier_bar_have_a_higher_revision_also_when_the_bar_becomes_final():
    bars = minutes(60)
    scene = play_all(bars)
    key = ("1m", bars[-1].start_ms)
    before = scene.indicators[key]
    corrected = replace(bars[55], close=bars[55].high)
    later_ms = bars[-1].start_ms + MINUTE + 10_000
    scene.play([arrival(corrected, seen_ms=later_ms)], clock_ms=later_ms)
    after = scene.indicators[key]
    assert (before["final"], after["final"]) == ("0", "1")
    assert before["values"] != after["values"]
    assert int(after["rev"]) > int(before["rev"])


@pytest.mark.parametrize("indicators", [["sma", "obv"], []])
def test_a_volume_that_becomes_unknown_corrects_nothing_and_another_number_does(indicators):
    """A source whose volumes make no sense any more gives all of its days again, with the same prices."""
    start_ms = 1_672_617_600_000  # a Monday
    days = [replace(bar, timeframe="1d") for bar in walk(range(start_ms, start_ms + 21 * DAY_MS, DAY_MS))]
    scene = SymbolScene(CRYPTO, timeframes=["1d", "1w"], indicators=indicators)
    scene.play(arrival(bar, seen_ms=bar.start_ms + DAY_MS) for bar in days)
    seen_ms, later_ms = days[-1].start_ms + 3 * DAY_MS, days[-1].start_ms + 5 * DAY_MS
    corrected = replace(days[9], volume=days[9].volume + 1)
    scene.play([arrival(corrected, seen_ms=seen_ms)])
    scene.restart()

    def list_known():
        found = (scene.bars, scene.indicators)
        return [{key: each.get("known_at", each.get("end")) for key, each in some.items()} for some in found]

    before = list_known()
    bars = before[0]
    assert bars["1d", days[9].start_ms] == bars["1w", days[7].start_ms] == str(seen_ms)
    outputs = scene.play(arrival(replace(bar, volume=None), seen_ms=later_ms) for bar in days)
    assert len(outputs.bars) == 21 + 3
    assert list_known() == before
    assert all("volume" not in entry for entry in scene.bars.values())
    scene.play([arrival(replace(days[3], volume=7.0), seen_ms=later_ms)])
    assert scene.bars["1d", days[3].start_ms]["known_at"] == str(later_ms)
