"""A currency's day of UTC ends after the session's: nothing of it is known before."""

from dataclasses import replace
from datetime import date

import orjson
import pytest

from services.bars.feature_writer import compute_new
from services.bars.state import PAST_DAYS
from services.market.fields import MAX_MS
from services.market.records import DAY_MS, Bar
from services.market.sessions import get_session
from support.scenes.bars import MINUTE, SymbolScene, arrival, walk

SESSION = get_session("24x5")
FIRST_MS = 1_672_617_600_000  # 2023-01-02, midnight in UTC
TIMEFRAMES = ("1d", "1w", "1mo")


def list_days(count):
    """Return the trading days of a currency, each with the bar that a source has of it by days of UTC."""
    starts = range(FIRST_MS, FIRST_MS + 2 * count * DAY_MS, DAY_MS)
    named = [
        (day, start)
        for start in starts
        if (day := SESSION.find_date(date.fromordinal(719_163 + start // DAY_MS)))
    ]
    return [
        (day, Bar("EUR/USD", "1d", start, *([bar.open, bar.high, bar.low, bar.close])))
        for (day, start), bar in zip(named[:count], walk(range(count)), strict=True)
    ]


def give(bar, seen_ms=None):
    return arrival(bar, seen_ms=bar.start_ms + DAY_MS + 1000 if seen_ms is None else seen_ms, other_hours="1")


def make_scene():
    return SymbolScene(
        SESSION, symbols=("EUR/USD",), asset="forex", timeframes=TIMEFRAMES, indicators=("sma", "obv")
    )


def list_known(entries):
    return {key: int(entry["known_at"]) for key, entry in entries.items()}


def find_ends(days):
    """Return when each day, week and month has ended with its last day of UTC, by timeframe and start."""
    ends = {}
    for day, bar in days:
        for timeframe, label in zip(
            TIMEFRAMES, (day.date, day.date.isocalendar()[:2], day.date.timetuple()[:2]), strict=True
        ):
            start_ms, _ = ends.get((timeframe, label), (day.open_ms, 0))
            ends[timeframe, label] = start_ms, bar.start_ms + DAY_MS
    last, _ = days[-1]
    unfinished = {("1w", last.date.isocalendar()[:2]), ("1mo", last.date.timetuple()[:2])}
    return {(key[0], start_ms): end_ms for key, (start_ms, end_ms) in ends.items() if key not in unfinished}


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_day_of_utc_its_week_its_month_and_what_is_computed_of_them_are_known_at_its_end(is_kept):
    days = list_days(70 if is_kept else 900)
    seen_ms = days[-1][1].start_ms + 2 * DAY_MS
    scene = make_scene()
    if not is_kept:  # the newest one comes first, so the others are older than what is kept
        scene.play([give(days[-1][1], seen_ms)])
        scene.restart()
    scene.play([give(bar, seen_ms) for _, bar in days])
    scene.restart()
    ends = find_ends(days)
    assert all(end_ms > SESSION.find_day(start_ms).close_ms for (_, start_ms), end_ms in ends.items())
    for entries in (scene.bars, scene.indicators):
        known = list_known({key: entry for key, entry in entries.items() if key in ends})
        assert known == ends
    assert is_kept or any(each.is_other_hours for each in scene.state.past_days)


@pytest.mark.parametrize("is_former", [True, False])
def test_days_that_are_not_kept_are_stored_with_their_hours_and_those_of_the_release_before_are_read(
    is_former,
):
    days, scene = list_days(900), make_scene()
    for some in (days[-1:], days[:7]):
        scene.play([give(bar, days[-1][1].start_ms + 2 * DAY_MS) for _, bar in some])
    if is_former:
        stored = orjson.loads(scene.stored[PAST_DAYS.encode()])
        assert stored.pop("other_hours") == [True] * 7
        scene.stored[PAST_DAYS.encode()] = orjson.dumps(stored)
    before = list(scene.state.past_days)
    scene.restart()
    assert scene.state.past_days == [replace(each, is_other_hours=not is_former) for each in before]
    assert len(before) == 7


def test_features_of_a_day_of_utc_are_known_at_its_end():
    scene, days = make_scene(), list_days(5)
    scene.play([give(bar) for _, bar in days])
    groups, sessions = {"EUR/USD": scene.group}, {"EUR/USD": SESSION}
    (new,), _ = compute_new({"EUR/USD": scene.stored}, sessions, groups, "SPY", MAX_MS)
    assert [int(entry["known_at"]) for entry in new.entries] == [bar.start_ms + DAY_MS for _, bar in days]


def test_a_correction_of_a_day_of_utc_is_known_since_it_was_asked_for_and_a_day_of_minutes_at_its_close():
    scene, days = make_scene(), list_days(3)
    scene.play([give(bar) for _, bar in days[:2]])
    (day, _), (last, bar) = days[1:]
    corrected = Bar("EUR/USD", "1d", days[1][1].start_ms, bar.open, bar.high, bar.low, bar.close)
    seen_ms = last.close_ms
    scene.play([give(corrected, seen_ms)])
    assert int(scene.bars["1d", day.open_ms]["known_at"]) == seen_ms
    minutes = walk(range(last.open_ms, last.close_ms, MINUTE), symbol="EUR/USD")
    scene.play([arrival(minute) for minute in minutes], last.close_ms + DAY_MS)
    assert "known_at" not in scene.bars["1d", last.open_ms]
    assert int(scene.indicators["1d", last.open_ms]["known_at"]) == last.close_ms


@pytest.mark.parametrize("has_minutes", [True, False])
def test_a_day_of_the_sessions_hours_that_is_given_again_as_one_of_utc_is_known_at_its_end(has_minutes):
    """A source whose days were taken for the session's says of each what it is, with the same values."""
    scene, days = make_scene(), list_days(12)
    day, given = days[3]
    minutes = walk(range(day.open_ms, day.close_ms, MINUTE), symbol="EUR/USD") if has_minutes else []
    scene.play([arrival(minute) for minute in minutes])
    seen_ms = days[-1][1].start_ms + 2 * DAY_MS
    scene.play([arrival(bar, seen_ms=seen_ms) for _, bar in days])
    assert not any("known_at" in entry for entry in scene.bars.values())
    assert float(scene.bars["1d", day.open_ms]["close"]) == given.close
    scene.restart()
    outputs = scene.play([give(bar, seen_ms + DAY_MS) for _, bar in days])
    assert not outputs.quarantine
    ends = find_ends(days)
    if has_minutes:  # nearly all of them came, so the day that was built of them is shown now
        assert float(scene.bars["1d", day.open_ms]["close"]) == minutes[-1].close != given.close
        assert int(scene.bars["1d", day.open_ms]["rev"]) >= len(minutes)
    else:
        for entries in (scene.bars, scene.indicators):
            assert list_known({key: each for key, each in entries.items() if key in ends}) == ends
    again = scene.play([give(bar, seen_ms + 2 * DAY_MS) for _, bar in days])
    assert {entry["check"] for entry in again.quarantine} == {"duplicate"}
