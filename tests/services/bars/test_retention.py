"""What is too late, and what is kept: the same for a history before the minutes and after them."""

from dataclasses import replace

import pytest

from services.market.records import (
    DAY_MS,
    PERIODS,
    SOURCE_TIMEFRAMES,
    TIMEFRAME_SEC,
    TIMEFRAMES,
    Bar,
)
from services.market.sessions import get_session
from services.sources.settings import HISTORY_DAYS
from support.scenes.bars import (
    CRYPTO,
    MIDNIGHT,
    MINUTE,
    SymbolScene,
    arrival,
    values_of,
    walk,
)


@pytest.mark.parametrize("size", [1, 2, 6])
def test_minutes_of_weeks_ago_are_too_late_however_the_entries_are_batched(size):
    now = walk(MIDNIGHT + 20 * DAY_MS + number * MINUTE for number in range(3))
    old = walk(MIDNIGHT + number * MINUTE for number in range(3))
    entries = [arrival(bar) for bar in (*now, *old)]
    scene = SymbolScene(get_session("24x7"))
    for at in range(0, len(entries), size):
        scene.play(entries[at : at + size])
    assert [each["check"] for each in scene.quarantine] == ["too_late"] * 3
    assert [bar.start_ms for bar in scene.shown("1m")] == [bar.start_ms for bar in now]


@pytest.mark.parametrize("cut", [0, 30, 1440])
def test_of_a_day_that_is_too_old_no_bar_is_published_with_half_its_minutes(cut):
    now = arrival(walk([MIDNIGHT + 20 * DAY_MS])[0])
    day = [arrival(bar) for bar in walk(range(MIDNIGHT, MIDNIGHT + DAY_MS, MINUTE))]
    scene = SymbolScene(CRYPTO, indicators=())
    scene.play([now, *day[:cut]])
    scene.play(day[cut:])
    assert [each["check"] for each in scene.quarantine] == ["too_late"] * len(day)
    assert {start_ms for _, start_ms in scene.bars} == {MIDNIGHT + 20 * DAY_MS}


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_minutes_of_weeks_ago_are_not_among_those_that_a_jump_is_measured_by(is_forgotten):
    session, again = get_session("24x7"), MIDNIGHT + 20 * DAY_MS
    scene = SymbolScene(session, options={"revise_days": 1})
    old = [arrival(bar) for bar in walk(MIDNIGHT + number * MINUTE for number in range(30))]
    high = [
        arrival(Bar("BTC/USD", "1m", again + number * MINUTE, price, price, price, price, 1))
        for number, price in enumerate((100, 200))
    ]
    for entries in [old, high[:1], high[1:]] if is_forgotten else [[*old, *high]]:
        scene.play(entries)
    assert scene.quarantine == []
    assert [bar.close for bar in scene.shown("1m")][-2:] == [100, 200]


FIRST_LOAD_DAYS = {frame: days for frame, days in HISTORY_DAYS.items() if frame in SOURCE_TIMEFRAMES[1:]} | {
    "1d": 1200
}


SHORT_DAYS = {"5m": 4, "15m": 5, "30m": 5, "1h": 33, "4h": 64, "1d": 820}
"""A few days more than bars are kept, if minutes may be revised for a day."""


IS_RESTARTED = [True, pytest.param(False, marks=pytest.mark.nightly("the same test with restarts"))]


HISTORIES = [
    *((frame, days, 1, 5) for frame, days in SHORT_DAYS.items()),
    *(
        pytest.param(frame, days, 5, 1, marks=pytest.mark.nightly("SHORT_DAYS, and one of five minutes"))
        for frame, days in FIRST_LOAD_DAYS.items()
    ),
]


@pytest.mark.parametrize(("timeframe", "days", "minute_days", "step"), HISTORIES)
@pytest.mark.parametrize("is_restarted", IS_RESTARTED)
def test_a_history_is_the_same_whether_it_comes_before_or_after_the_minutes(
    timeframe, days, minute_days, step, is_restarted
):
    session, now = CRYPTO, MIDNIGHT + 10 * DAY_MS + 400 * MINUTE
    length_ms = 1000 * TIMEFRAME_SEC[timeframe]
    first_ms = (now - days * DAY_MS) // DAY_MS * DAY_MS
    starts = range(first_ms, now // length_ms * length_ms, length_ms)
    history = [arrival(replace(bar, timeframe=timeframe), seen_ms=now) for bar in walk(starts, seed=2)]
    oldest_ms = (now - minute_days * DAY_MS) // DAY_MS * DAY_MS
    minutes_ = [arrival(bar, seen_ms=now) for bar in walk(range(oldest_ms, now, step * MINUTE))]
    options = {"revise_days": minute_days + (minute_days > 1)}
    scenes = []
    for parts in ([history, minutes_], [minutes_, history], [minutes_[-1:], history, minutes_[:-1]]):
        scene = SymbolScene(session, options, indicators=(), checks={"disagree_share": 10})
        for part in parts:
            half = len(part) // 2
            scene.play(part[:half], now)
            if is_restarted:
                scene.restart()
            scene.play(part[half:], now)
        assert [each for each in scene.quarantine if each["check"] != "duplicate"] == []
        scenes.append(scene)
    for frame in TIMEFRAMES:
        first, *others = [scene.shown(frame) for scene in scenes]
        assert all(other == first for other in others), frame
    assert [bar.start_ms for bar in scenes[0].shown(timeframe)][: len(starts)] == list(starts)
    assert all(
        entry["final"] == "1"
        for (frame, start), entry in scenes[1].bars.items()
        if frame not in PERIODS and start < oldest_ms
    )


@pytest.mark.parametrize(("timeframe", "days"), [("4h", 100), ("1d", 900)])
@pytest.mark.parametrize("is_restarted", IS_RESTARTED)
def test_indicators_are_the_same_whether_a_history_comes_before_or_after_the_minutes(
    timeframe, days, is_restarted
):
    now = MIDNIGHT + 10 * DAY_MS + 400 * MINUTE
    length_ms = 1000 * TIMEFRAME_SEC[timeframe]
    starts = range(MIDNIGHT - days * DAY_MS, now // length_ms * length_ms, length_ms)
    history = [arrival(replace(bar, timeframe=timeframe), seen_ms=now) for bar in walk(starts, seed=2)]
    minutes_ = [arrival(bar, seen_ms=now) for bar in walk(range(now - 400 * MINUTE, now, MINUTE))]
    found = []
    for parts in ([history, minutes_], [minutes_, history], [minutes_[-1:], history, minutes_[:-1]]):
        scene = SymbolScene(CRYPTO, timeframes=(timeframe,), checks={"disagree_share": 10})
        for part in parts:
            for some in (part[: len(part) // 3], part[len(part) // 3 :]):
                scene.play(some, now)
                if is_restarted:
                    scene.restart()
        found.append({key: entry["values"] for key, entry in scene.indicators.items()})
    assert len(found[0]) == len(starts) + 1
    assert found[0] == found[1] == found[2]


def test_a_history_that_reaches_the_kept_bars_leaves_their_indicators_known_since_they_were_corrected():
    starts = range(MIDNIGHT - 900 * DAY_MS, MIDNIGHT, DAY_MS)
    days = [replace(bar, timeframe="1d") for bar in walk(starts, seed=2)]
    scene = SymbolScene(CRYPTO, timeframes=("1d",), indicators=("obv",))
    corrected_ms = MIDNIGHT + DAY_MS
    known = {("1d", bar.start_ms): bar.start_ms + DAY_MS for bar in days}
    scene.play([arrival(bar, seen_ms=bar.start_ms + DAY_MS) for bar in days[-9:]])
    scene.play([arrival(replace(days[-5], volume=7.0), seen_ms=corrected_ms)])
    known |= {("1d", bar.start_ms): corrected_ms for bar in days[-5:]}
    scene.restart()
    scene.play([arrival(bar, seen_ms=MIDNIGHT + 2 * DAY_MS) for bar in days[:-9]])
    assert {
        int(entry["rev"]) for (_, start), entry in scene.indicators.items() if start >= days[-5].start_ms
    } == {2}
    assert {key: int(entry["known_at"]) for key, entry in scene.indicators.items()} == known


@pytest.mark.parametrize("is_restarted", IS_RESTARTED)
def test_a_history_that_ends_where_bars_were_forgotten_changes_no_indicators_of_later_ones(is_restarted):
    """A source that had only 120 of 150 days at first says the others later; bars of 90 are kept."""
    length_ms = 1000 * TIMEFRAME_SEC["4h"]
    starts = range(MIDNIGHT - 150 * DAY_MS, MIDNIGHT, length_ms)
    bars = [replace(bar, timeframe="4h") for bar in walk(starts, seed=2)]
    cut, now = 30 * DAY_MS // length_ms, MIDNIGHT
    scene = SymbolScene(CRYPTO, timeframes=("4h",))
    for part in (bars[cut:400], bars[400:-1]):
        scene.play([arrival(bar, seen_ms=now) for bar in part], now)
    known = {key: entry["values"] for key, entry in scene.indicators.items()}
    for part in (bars[:100], bars[100:cut], bars[-1:]):
        scene.play([arrival(bar, seen_ms=now) for bar in part], now)
        if is_restarted:
            scene.restart()
    assert [bar.start_ms for bar in scene.shown("4h")] == list(starts)
    found = {key: entry["values"] for key, entry in scene.indicators.items()}
    assert {key: found[key] for key in known} == known
    assert len(found) == len(starts)


@pytest.mark.parametrize(
    "timeframe",
    [pytest.param("5m", marks=pytest.mark.nightly("1h and 1d of the same test")), "1h", "1d"],
)
def test_state_stays_small_without_any_minutes(timeframe):
    scene = SymbolScene(CRYPTO, options={"revise_days": 1}, indicators=[])
    length_ms = 1000 * TIMEFRAME_SEC[timeframe]
    count = {"5m": 40 * 288, "1h": 80 * 24, "1d": 1000}[timeframe]
    bars = [
        replace(bar, timeframe=timeframe)
        for bar in walk(range(MIDNIGHT, MIDNIGHT + count * length_ms, length_ms))
    ]
    for at in range(0, count, 500):  # while they are forming: each is open until it is forgotten
        scene.play(arrival(bar, seen_ms=bar.start_ms + MINUTE) for bar in bars[at : at + 500])
    kept = scene.state.tables[timeframe].list_since(0)
    kept_days = {"5m": 32, "1h": 61, "1d": 809}[timeframe]
    assert kept[-1].start_ms - kept[0].start_ms <= kept_days * DAY_MS
    assert len([name for name in scene.stored if name.startswith(timeframe.encode() + b":")]) < 1200
    scene.play([arrival(Bar("BTC/USD", "1m", bars[-1].start_ms + 100 * DAY_MS, 1, 1, 1, 1, 1))])
    left = [key for key in scene.state.open_bars if key[0] == timeframe]
    assert len(left) <= (810 if timeframe == "1d" else 1)


def test_state_stays_small_however_long_the_history_is():
    scene = SymbolScene(CRYPTO, options={"revise_days": 1}, timeframes=["1h"])
    bars = walk(range(MIDNIGHT, MIDNIGHT + 4 * DAY_MS, 10 * MINUTE))
    for at in range(0, len(bars), 6):
        scene.play(arrival(bar, at) for bar in bars[at : at + 6])
    table = scene.state.tables["1m"]
    kept = table.list_since(0)
    assert kept[-1].start_ms - kept[0].start_ms <= (scene.options.revise_days + 1) * DAY_MS
    stored = [name for name in scene.stored if name.startswith(b"1m:")]
    assert len(stored) <= 2 * 180
    assert TIMEFRAMES[0] not in {frame for frame, _ in scene.bars}


@pytest.mark.parametrize("count", [300, 560])
def test_each_older_minute_that_comes_later_has_indicators(count):
    """A source's history is asked for in parts, the newest first: 800 minutes can be revised one by one."""
    minutes = walk(MIDNIGHT + number * MINUTE for number in range(count + 303))
    scene = SymbolScene(CRYPTO, timeframes=("1m",))
    scene.play(arrival(bar) for bar in minutes[303:])
    late_ms = minutes[-1].start_ms + 2 * MINUTE
    scene.play(arrival(bar, seen_ms=late_ms) for bar in minutes[:303])
    whole = SymbolScene(CRYPTO, timeframes=("1m",))
    whole.play(arrival(bar) for bar in minutes)
    assert values_of(scene.indicators, "1m") == values_of(whole.indicators, "1m")
