"""A symbol's bars: whatever the order and the batches in which minutes come, the end is that of one pass."""

import random
from dataclasses import replace
from datetime import date
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.bars.indicators import batch
from services.bars.live_indicators import STORE_EVERY
from services.bars.outputs import Arrival
from services.bars.quality import CHECKS, NEVER_SKIPPED, Check
from services.bars.settings import BarsOptions
from services.bars.state import restore_state
from services.market.entries import encode_entry
from services.market.records import DAY_MS, TIMEFRAME_SEC, AssetClass, Bar, Provenance, Quote, RecordKind
from services.market.sessions import get_session
from services.sources.settings import HISTORY_DAYS
from support.examples import examples
from support.scenes.bars import (
    MIDNIGHT,
    MINUTE,
    SymbolScene,
    aggregate_all,
    arrival,
    assert_same_as_batch,
    assert_same_bars,
    values_of,
    walk,
)

CRYPTO = get_session("24x7")
FRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")


def minutes(count, first=MIDNIGHT, **more):
    return walk((first + MINUTE * number for number in range(count)), **more)


def play_all(bars):
    """A scene in which these bars came as one batch."""
    scene = SymbolScene(CRYPTO)
    scene.play(arrival(bar, number) for number, bar in enumerate(bars))
    return scene


@settings(max_examples=examples(30))
@given(st.integers(0, 2**32), st.integers(30, 150), st.floats(0, 0.3), st.integers(1, 60))
def test_streaming_equals_batch_for_any_order_batches_corrections_and_restarts(seed, count, lost, most):
    chance = random.Random(seed)
    # from the evening, across midnight
    wanted = [
        bar for bar in minutes(count, MIDNIGHT + DAY_MS - 75 * MINUTE, seed=seed) if chance.random() >= lost
    ]
    arrivals = [arrival(bar, number, seen_ms=bar.start_ms + 2 * DAY_MS) for number, bar in enumerate(wanted)]
    for number in chance.sample(range(len(wanted)), len(wanted) // 10):
        # what came first was wrong, and is corrected later, by a later answer
        bar = wanted[number]
        wrong = Bar(bar.symbol, "1m", bar.start_ms, bar.open, bar.high, bar.low, bar.open, bar.volume)
        arrivals.append(arrival(wrong, seen_ms=bar.start_ms + DAY_MS))
    order = sorted(arrivals, key=lambda each: (each.fields[b"asked_at"], chance.random()))
    late = chance.sample(range(len(order)), len(order) // 10)
    for at in late:  # and some are late
        other = min(len(order) - 1, at + chance.randint(0, 50))
        if order[at].fields[b"start"] != order[other].fields[b"start"]:
            order[at], order[other] = order[other], order[at]
    scene = SymbolScene(CRYPTO, checks={"jump_share": 10})
    held = {}
    while order:
        size = chance.randint(1, most)
        batch, order = order[:size], order[size:]
        for each in batch:
            start, asked = int(each.fields[b"start"]), float(each.fields[b"asked_at"])
            held[start] = max(held.get(start, 0), asked)
        scene.play(batch)
        if chance.random() < 0.1:  # another instance takes over
            scene.restart()
    assert all(each["check"] in ("monotone_time", "duplicate") for each in scene.quarantine), scene.quarantine
    assert_same_as_batch(scene.bars, scene.indicators, wanted, CRYPTO)
    assert_final_is_what_is_over_and_was_seen_from_its_open(scene, wanted)


def assert_final_is_what_is_over_and_was_seen_from_its_open(scene, bars):
    first_ms, newest_ms = bars[0].start_ms, bars[-1].start_ms
    for (timeframe, start_ms), entry in scene.bars.items():
        is_over = scene.grid.find(start_ms, timeframe).close_ms <= newest_ms
        assert (entry["final"] == "1") == (is_over and start_ms >= first_ms), (timeframe, start_ms)


def test_a_bar_of_which_only_a_part_was_seen_is_not_final_until_its_beginning_comes():
    session = get_session("XNYS")
    day, following = list(session.iter_days(MIDNIGHT, MIDNIGHT + 2 * DAY_MS))
    bars = walk([*range(day.open_ms, day.close_ms, MINUTE), following.open_ms])
    scene = SymbolScene(session)
    scene.play((arrival(bar) for bar in bars[200:]), clock_ms=day.close_ms + 2 * DAY_MS)

    def starts_of_open():
        return {key for key, entry in scene.bars.items() if entry["final"] == "0"}

    hour_ms = 60 * MINUTE
    assert starts_of_open() == {
        ("1d", day.open_ms),
        ("4h", day.open_ms),
        ("1h", day.open_ms + 3 * hour_ms),
        ("15m", day.open_ms + 195 * MINUTE),
    }
    assert not scene.builder.find_due(day.close_ms + 3 * DAY_MS)
    scene.restart()
    scene.play((arrival(bar) for bar in bars[100:200]), clock_ms=day.close_ms + 2 * DAY_MS)
    assert starts_of_open() == {
        ("1d", day.open_ms),
        ("4h", day.open_ms),
        ("1h", day.open_ms + hour_ms),
        ("15m", day.open_ms + 90 * MINUTE),
    }
    scene.play((arrival(bar) for bar in bars[:100]), clock_ms=day.close_ms + 2 * DAY_MS)
    assert starts_of_open() == set()
    assert_same_as_batch(scene.bars, scene.indicators, bars, session)


def test_the_end_of_a_bar_is_that_of_its_interval():
    session = get_session("XNYS")
    day = session.find_date(date(2026, 11, 27))  # an early close
    scene = SymbolScene(session)
    scene.play(arrival(bar) for bar in walk(range(day.open_ms, day.close_ms, MINUTE)))
    ends = {(frame, start): int(entry["end"]) for (frame, start), entry in scene.bars.items()}
    hour_ms = 60 * MINUTE
    assert ends["1d", day.open_ms] == ends["4h", day.open_ms] == day.close_ms
    assert ends["1h", day.open_ms] == day.open_ms + hour_ms
    assert ends["1h", day.open_ms + 3 * hour_ms] == day.close_ms
    assert ends["1m", day.open_ms] == day.open_ms + MINUTE


def test_a_late_minute_ripples_up_by_one_revision_in_each_timeframe():
    all_of_them = minutes(300)
    late = all_of_them[17]
    scene = SymbolScene(CRYPTO)
    scene.play(arrival(bar, at) for at, bar in enumerate(all_of_them) if bar is not late)
    before = dict(scene.bars)
    outputs = scene.play([arrival(late, 999)])
    starts = {entry["timeframe"]: int(entry["start"]) for entry in outputs.bars}
    assert starts == {
        "1m": late.start_ms,
        "5m": MIDNIGHT + 15 * MINUTE,
        "15m": MIDNIGHT + 15 * MINUTE,
        "1h": MIDNIGHT,
        "4h": MIDNIGHT,
        "1d": MIDNIGHT,
    }
    for entry in outputs.bars[1:]:
        key = (entry["timeframe"], int(entry["start"]))
        assert int(entry["rev"]) == int(before[key]["rev"]) + 1
        assert entry["final"] == before[key]["final"]
    assert outputs.bars[0]["rev"] == "0"
    for frame in ("1m", "5m", "15m", "1h", "4h", "1d"):
        assert_same_bars(scene.shown(frame), aggregate_all(all_of_them, CRYPTO)[frame])


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


def test_a_bar_is_final_when_the_next_minute_is_seen():
    scene = SymbolScene(CRYPTO)
    bars = minutes(6)
    scene.play([arrival(bar) for bar in bars[:5]])
    assert scene.bars["5m", MIDNIGHT]["final"] == "0"
    assert [scene.bars["1m", bar.start_ms]["final"] for bar in bars[:5]] == ["1", "1", "1", "1", "0"]
    before = scene.bars["5m", MIDNIGHT]
    scene.play([arrival(bars[5])])
    assert scene.bars["5m", MIDNIGHT] == before | {"final": "1"}
    assert scene.indicators["5m", MIDNIGHT]["final"] == "1"
    assert scene.bars["15m", MIDNIGHT]["final"] == "0"


def test_a_bar_is_final_when_its_end_is_over_for_long_enough():
    scene = SymbolScene(CRYPTO)
    end = MIDNIGHT + 5 * MINUTE
    scene.play([arrival(bar) for bar in minutes(5)], clock_ms=end + 9_999)
    assert scene.bars["5m", MIDNIGHT]["final"] == "0"
    assert not scene.builder.find_due(end + 9_999)
    assert scene.builder.find_due(end + 10_000)
    outputs = scene.play([], clock_ms=end + 10_000)
    assert {(entry["timeframe"], entry["final"]) for entry in outputs.bars} == {("1m", "1"), ("5m", "1")}
    assert not scene.builder.find_due(end + 10_000)


def test_what_was_final_stays_final_when_it_is_corrected_or_the_clock_goes_back():
    scene = SymbolScene(CRYPTO)
    bars = minutes(5)
    scene.play([arrival(bar) for bar in bars], clock_ms=MIDNIGHT + DAY_MS)
    changed = Bar("BTC/USD", "1m", bars[2].start_ms, 100.0, 101.0, 99.0, 100.5)
    scene.play([arrival(changed, seen_ms=MIDNIGHT + DAY_MS)], clock_ms=0)
    assert (scene.bars["5m", MIDNIGHT]["rev"], scene.bars["5m", MIDNIGHT]["final"]) == ("5", "1")


def test_a_day_that_its_source_gave_after_its_end_stands_above_its_minutes():
    scene = SymbolScene(CRYPTO)
    given = Bar("BTC/USD", "1d", MIDNIGHT, 100, 120, 90, 110, 5_000)
    early = arrival(given, 1, seen_ms=MIDNIGHT + DAY_MS // 2)
    scene.play([early])
    assert scene.bars["1d", MIDNIGHT]["close"] == "110"
    assert scene.bars["1d", MIDNIGHT]["final"] == "0"
    bars = minutes(3)
    scene.play([arrival(bar) for bar in bars])
    assert scene.shown("1d")[0].close == bars[-1].close  # the minutes are better than half a day
    scene.play([arrival(given, 2, seen_ms=MIDNIGHT + DAY_MS)])
    whole = scene.bars["1d", MIDNIGHT]
    assert (whole["close"], whole["final"], whole["rev"]) == ("110", "1", "4")
    outputs = scene.play([arrival(minutes(4)[3])])
    assert "1d" not in {entry["timeframe"] for entry in outputs.bars}
    assert scene.bars["1h", MIDNIGHT]["rev"] == "3"


def test_a_day_that_is_named_by_midnight_is_the_session_of_that_date():
    scene = SymbolScene(get_session("XNYS"), symbols=["SPY"], asset="stocks")
    holiday, friday = 1_795_651_200_000, 1_795_737_600_000  # Thanksgiving 2026, and the day after
    for start in (holiday, friday):
        scene.play([arrival(Bar("SPY", "1d", start, 100, 120, 90, 110, 5_000), seen_ms=start + DAY_MS)])
    assert [bar.start_ms for bar in scene.shown("1d")] == [friday + 14 * 3_600_000 + 30 * MINUTE]
    assert [each["check"] for each in scene.quarantine] == ["wrong_session"]


@pytest.mark.parametrize(
    ("code", "minutes_before", "is_restarted"),
    [
        ("24x7", 33, False),
        ("24x7", 601, True),
        ("XNYS", 100, False),
        *(
            pytest.param(*case, marks=pytest.mark.nightly("24x7-33, 24x7-601 and XNYS-100 of the same test"))
            for case in [("24x7", 1, False), ("24x7", 1, True), ("24x7", 33, True), ("XNYS", 100, True)]
        ),
    ],
)
def test_a_correction_is_in_every_longer_bar_or_too_late_for_all(code, minutes_before, is_restarted):
    session = get_session(code)
    days = session.iter_days(MIDNIGHT - 6 * DAY_MS, MIDNIGHT - 4 * DAY_MS)
    starts = [start for day in days for start in range(day.open_ms, day.close_ms, MINUTE)][:-minutes_before]
    bars = walk(starts, whole=True)
    scene = SymbolScene(session, checks={"jump_share": 10}, options={"revise_days": 1}, indicators=[])
    for at in range(0, len(bars), 500):
        scene.play(arrival(bar, at) for bar in bars[at : at + 500])
    if is_restarted:
        scene.restart()
    border = bars[-1].start_ms - DAY_MS
    edges = (border, (session.find_day(border) or session.next_day(border)).open_ms)
    near = [n for n, bar in enumerate(bars) if any(-20 <= (bar.start_ms - at) // MINUTE < 20 for at in edges)]
    for number in near:
        corrected = replace(bars[number], volume=(bars[number].volume or 0) + 1)
        scene.play([arrival(corrected, 9, seen_ms=bars[-1].start_ms + MINUTE)])
        if scene.quarantine:
            assert scene.quarantine.pop()["check"] == "too_late"
        else:
            bars[number] = corrected
    expected = aggregate_all(bars, session)
    for timeframe in FRAMES:
        assert_same_bars(scene.shown(timeframe), expected[timeframe])


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


FIRST_LOAD_DAYS = {frame: days for frame, days in HISTORY_DAYS.items() if frame in FRAMES[1:]} | {"1d": 1200}
SHORT_DAYS = {"5m": 4, "15m": 5, "1h": 33, "4h": 64, "1d": 820}
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
    for frame in FRAMES:
        first, *others = [scene.shown(frame) for scene in scenes]
        assert all(other == first for other in others), frame
    assert [bar.start_ms for bar in scenes[0].shown(timeframe)][: len(starts)] == list(starts)
    assert all(entry["final"] == "1" for key, entry in scenes[1].bars.items() if key[1] < oldest_ms)


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


FUTURE = MIDNIGHT + 3650 * DAY_MS


FAILING = {
    Check.SCHEMA: lambda bar, _: replace(bar, symbol="?"),
    Check.POSITIVE: lambda bar, _: replace(bar, open=0, high=0, low=0, close=0, vwap=None),
    Check.PRICE_ORDER: lambda bar, _: replace(bar, open=bar.high + 1),
    Check.WRONG_SESSION: lambda bar, _: replace(bar, start_ms=bar.start_ms + 1234),
    Check.FUTURE: lambda bar, _: replace(bar, start_ms=FUTURE),
    Check.TOO_LATE: lambda bar, _: replace(bar, start_ms=MIDNIGHT - 30 * DAY_MS),
    Check.MONOTONE_TIME: lambda _, last: replace(last, close=last.low),
    Check.DUPLICATE: lambda _, last: last,
    Check.SOURCE_DISAGREEMENT: lambda _, last: replace(last, close=1, low=1),
    Check.JUMP: lambda bar, _: replace(bar, low=1),
}
"""Of each check a bar that fails it, made of a sound bar or of the one before it."""


def test_each_check_that_rejects_has_an_example():
    assert FAILING.keys() == {Check.SCHEMA, *CHECKS}


@pytest.mark.parametrize("check", FAILING)
def test_a_release_is_taken_or_refused_and_harms_no_other_bar(check):
    bars = minutes(60)
    scene = play_all(bars[:50])
    is_older = check is Check.MONOTONE_TIME
    entry = arrival(
        FAILING[check](bars[50], bars[49]),
        number=9,
        seen_ms=bars[50].start_ms + (0 if is_older else 3 * MINUTE),
        source="two" if check is Check.SOURCE_DISAGREEMENT else "one",
    )
    scene.play([entry])
    assert [each["check"] for each in scene.quarantine] == [check]
    scene.play([Arrival(entry.kind, entry.id, entry.fields | {b"released": b"1"})])
    assert len(scene.quarantine) == (2 if check in NEVER_SKIPPED else 1)
    scene.restart()
    scene.play([arrival(bar, seen_ms=bar.start_ms + 9 * MINUTE) for bar in bars[50:]])
    assert {each["check"] for each in scene.quarantine} == {check}
    assert set(bars[:49] + bars[51:]) <= set(scene.shown("1m"))
    assert scene.state.newest_ms == bars[-1].start_ms


def jumping(bar, price):
    return replace(bar, open=price, high=price, low=price, close=price, vwap=None)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_jump_that_lasts_is_believed_and_its_first_minute_is_taken_as_well(is_restarted):
    bars = minutes(40)
    bars = bars[:30] + [jumping(bar, 1.0) for bar in bars[30:]]
    scene = play_all(bars[:31])
    assert [each["check"] for each in scene.quarantine] == ["jump"]
    assert scene.shown("1m") == bars[:30]
    if is_restarted:
        scene.restart()
    scene.play(arrival(bar) for bar in bars[31:])
    assert len(scene.quarantine) == 1
    assert_same_as_batch(scene.bars, scene.indicators, bars, CRYPTO)


def test_a_wild_minute_confirms_none_that_comes_after_calm_ones():
    bars = minutes(400)
    wild = [jumping(bars[100], 1.0), jumping(bars[300], 1.0)]
    scene = SymbolScene(CRYPTO, indicators=())
    for bar in [*bars[:100], wild[0], *bars[101:300], wild[1], *bars[301:]]:
        scene.play([arrival(bar)])
    assert [each["check"] for each in scene.quarantine] == ["jump"] * 2
    assert min(bar.low for bar in scene.shown("1d")) > 50


def test_a_wild_minute_is_found_at_the_beginning_of_a_day_as_well():
    bars = minutes(1445)
    wild = jumping(bars[1440], 1.0)
    scene = SymbolScene(CRYPTO, indicators=())
    scene.play(arrival(bar) for bar in [*bars[:1440], wild, *bars[1441:]])
    assert [each["check"] for each in scene.quarantine] == ["jump"]


def test_an_exchange_may_open_far_from_its_last_close_but_not_at_any_price():
    session = get_session("XNYS")
    first, second = list(session.iter_days(MIDNIGHT, MIDNIGHT + 2 * DAY_MS))
    before = walk(range(first.open_ms, first.close_ms, MINUTE))
    opening = [jumping(replace(before[0], start_ms=second.open_ms), price) for price in (1.0, 112.0)]
    scene = SymbolScene(session, indicators=())
    scene.play(arrival(bar) for bar in [*before, *opening])
    assert [each["check"] for each in scene.quarantine] == ["jump"]
    assert scene.shown("1d")[1].close == 112


def test_a_day_that_a_source_gives_is_held_against_our_minutes_of_it():
    scene = SymbolScene(CRYPTO, indicators=())
    bars = minutes(1441)
    scene.play(arrival(bar) for bar in bars)
    close = bars[1439].close
    wrong = Bar("BTC/USD", "1d", MIDNIGHT, 1e4, 1e4, 1e4, 1e4, 1.0)
    scene.play([arrival(wrong, 1, seen_ms=MIDNIGHT + DAY_MS, source="two")])
    assert [each["check"] for each in scene.quarantine] == ["source_disagreement"]
    right = Bar("BTC/USD", "1d", MIDNIGHT, close, close * 1.2, close * 0.8, close * 1.01, 1.0)
    scene.play([arrival(right, 1, seen_ms=MIDNIGHT + DAY_MS, source="two")])
    assert len(scene.quarantine) == 1
    assert scene.shown("1d")[0] == right


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("timeframe", ["1m", "1h"])
def test_between_two_sources_the_first_of_the_cascade_is_right_and_not_who_answered_first(
    timeframe, is_restarted
):
    bars = [
        Bar("BTC/USD", timeframe, MIDNIGHT + n * 1000 * TIMEFRAME_SEC[timeframe], 100, 110, 90, 100, 1.0)
        for n in range(2)
    ]
    wrong, seen = replace(bars[0], close=103), MIDNIGHT + DAY_MS
    scenes = []
    for order in ((wrong, bars[0]), (bars[0], wrong)):
        scene = SymbolScene(CRYPTO, indicators=())
        for number, bar in enumerate(order):
            rank = {"source": "second", "rank": "1"} if bar is wrong else {"source": "first"}
            # each is asked after the other in one of the orders
            scene.play([arrival(bar, number, seen_ms=seen + number * MINUTE, **rank)])
            if is_restarted:
                scene.restart()
            if number == 0:
                scene.play([arrival(bars[1], 9, seen_ms=seen, source="first")])
        scenes.append(scene)
    for scene in scenes:
        assert scene.shown(timeframe) == bars
        (loser,) = scene.quarantine
        assert (loser["check"], loser["source"]) == ("source_disagreement", "second")
        assert orjson.loads(loser["fields"])["close"] == "103"
    assert scenes[0].quarantine[0]["why"].startswith("a source before it replaced it: ")


@pytest.mark.parametrize("is_given_first", [True, False])
def test_a_day_of_utc_gives_way_to_the_day_of_the_session_that_is_built_of_all_minutes(is_given_first):
    session = get_session("24x5")
    day = session.find_date(date(2023, 11, 15))
    bars = walk(range(day.open_ms, day.close_ms, MINUTE), symbol="EUR/USD")
    close = bars[-1].close
    given = Bar("EUR/USD", "1d", MIDNIGHT, close, close * 1.2, close * 0.8, close)
    parts = [
        [arrival(given, seen_ms=MIDNIGHT + DAY_MS, other_hours="1")],
        [arrival(bar, seen_ms=day.close_ms) for bar in bars],
    ]
    scene = SymbolScene(session, symbols=["EUR/USD"], indicators=())
    for part in parts if is_given_first else parts[::-1]:
        scene.play(part, clock_ms=day.close_ms + DAY_MS)
        scene.restart()
    assert scene.quarantine == []
    (shown,) = scene.shown("1d")
    assert (shown.start_ms, shown.high) == (day.open_ms, max(bar.high for bar in bars))
    assert scene.bars["1d", day.open_ms]["final"] == "1"
    alone = SymbolScene(session, symbols=["EUR/USD"], indicators=())
    alone.play(parts[0])
    assert [bar.high for bar in alone.shown("1d")] == [given.high]
    assert alone.bars["1d", day.open_ms]["final"] == "1"


def test_a_commodity_may_cost_less_than_nothing():
    prices = [2.0, 0.01, 0.0, -13.1, -40.32, -37.63, -1.0, 1.43]
    bars = [
        Bar("CL", "1m", MIDNIGHT + n * MINUTE, price, max(price, after), min(price, after), after, 5.0, price)
        for n, (price, after) in enumerate(pairwise(prices))
    ]
    oil = SymbolScene(get_session("us_futures"), symbols=["CL"], asset="commodities")
    oil.play(arrival(bar) for bar in bars)
    given = Bar("CL", "1d", MIDNIGHT - 60 * MINUTE, 2, 3, -40.32, -37.63, 9.0)
    oil.play([arrival(given, seen_ms=MIDNIGHT + 2 * DAY_MS)])
    assert oil.quarantine == []
    assert oil.shown("1m") == bars
    coin = SymbolScene(CRYPTO)
    coin.play(arrival(replace(bar, symbol="BTC/USD")) for bar in bars)
    assert {each["check"] for each in coin.quarantine} == {"positive"}


def test_a_later_source_that_says_nearly_the_same_replaces_no_whole_bar_of_the_first():
    bars = minutes(3)
    scene = SymbolScene(CRYPTO)
    scene.play(arrival(bar, source="first") for bar in bars)
    near = replace(bars[0], volume=bars[0].volume / 2)
    scene.play([arrival(near, 5, seen_ms=MIDNIGHT + DAY_MS, source="second", rank="1")])
    assert scene.shown("1m") == bars
    assert scene.quarantine == []
    assert scene.builder.counts["second", "skipped"] == 1
    scene.play([arrival(near, 6, seen_ms=MIDNIGHT + DAY_MS, source="second", rank="1", released="1")])
    assert scene.shown("1m")[0] == near


def test_an_answer_from_within_a_minute_replaces_no_whole_one_of_another_source():
    bars = minutes(2)
    scene = SymbolScene(CRYPTO)
    scene.play([arrival(bars[0])])
    part = replace(bars[0], volume=0.1, close=bars[0].open)
    scene.play([arrival(part, 1, seen_ms=MIDNIGHT + 20_000, source="two")])
    assert scene.shown("1m") == bars[:1]
    assert [each["check"] for each in scene.quarantine] == ["monotone_time"]


def test_what_is_no_bar_is_counted_for_its_source():
    scene = SymbolScene(CRYPTO)
    bar = replace(minutes(1)[0], symbol="?")
    scene.play([arrival(bar, source="kraken"), arrival(bar, source="x" * 300)])
    assert [each["source"] for each in scene.quarantine] == ["kraken", "unknown"]


def test_each_record_is_counted_once_and_what_is_found_about_it_elsewhere():
    bars = minutes(40)
    scene = SymbolScene(CRYPTO)
    arrivals = [arrival(bar) for bar in [*bars[:10], *bars[20:], bars[3], replace(bars[5], open=0)]]
    scene.play(arrivals)
    assert sum(scene.builder.counts.values()) == len(arrivals)
    assert scene.builder.findings == {("one", "gap"): 1}


def test_a_replay_that_does_not_say_when_it_was_played_brings_no_bar_of_the_future():
    scene = SymbolScene(CRYPTO)
    bars = minutes(3)
    scene.play([arrival(bars[0])])
    fields = arrival(replace(bars[0], start_ms=FUTURE)).fields
    fields = {name: value for name, value in fields.items() if name != b"asked_at"} | {b"replay": b"1"}
    scene.play([Arrival(RecordKind.BARS, b"%d-0" % (MIDNIGHT + 90_000), fields)])
    assert [each["check"] for each in scene.quarantine] == ["future"]
    scene.play([arrival(bars[1])])
    assert scene.shown("1m") == bars[:2]


def test_what_no_archive_could_keep_is_not_taken_even_if_it_is_released():
    scene = SymbolScene(CRYPTO)
    scene.play([arrival(Bar("BTC/USD", "1m", MIDNIGHT, 100, 99, 98, 100), released="1")])
    scene.play([arrival(Bar("BTC/USD", "1m", MIDNIGHT, 0, 0, 0, 0), released="1")])
    assert [each["check"] for each in scene.quarantine] == ["price_order", "positive"]


WORDS = st.binary(max_size=40) | st.sampled_from(
    [b"1e18", b"-1e18", b"0", b"-1", b"1700006400000", b"1d", b"1"]
)


@given(
    st.dictionaries(
        st.sampled_from(
            [*arrival(minutes(1)[0]).fields, b"at", b"price", b"replay", b"played_at", b"released"]
        ),
        WORDS,
    ),
    st.sampled_from([RecordKind.BARS, RecordKind.QUOTES]),
    st.booleans(),
)
def test_no_entry_whatever_is_in_it_ends_the_builder(fields, kind, quotes):
    scene = SymbolScene(CRYPTO, quotes=quotes)
    good = {**arrival(minutes(1)[0]).fields, b"at": b"%d" % MIDNIGHT, b"price": b"100"}
    for number, each in enumerate((good, {**good, **fields}, fields, {**good, **fields}, good)):
        scene.play([Arrival(kind, b"%d-%d" % (MIDNIGHT + 90_000, number), each)], MIDNIGHT + number * MINUTE)
    restored = restore_state("BTC/USD", scene.stored)
    assert restored.newest_ms == scene.state.newest_ms


@pytest.mark.parametrize(
    "broken",
    [
        {b"open": b"much"},
        {b"start": b"1e99"},
        {b"timeframe": b"\xff"},
        {b"volume": b"nan"},
        {b"sym": b"?" * 300},
    ],
)
def test_what_is_no_bar_is_quarantined_with_its_fields(broken):
    scene = SymbolScene(CRYPTO)
    good = arrival(minutes(1)[0])
    scene.play([Arrival(RecordKind.BARS, b"5-1", {**good.fields, **broken}), good])
    (entry,) = scene.quarantine
    assert (entry["check"], entry["entry"], entry["stream"]) == ("schema", "5-1", "market:bars")
    assert len(scene.shown("1m")) == 1


def tick(at_ms, price):
    fields = encode_entry(Quote("BTC/USD", at_ms, price), AssetClass.CRYPTO, Provenance("one", at_ms / 1000))
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    return Arrival(RecordKind.QUOTES, b"%d-0" % at_ms, raw)


@settings(max_examples=examples(50))
@given(
    st.lists(
        st.tuples(st.integers(0, 179_999), st.floats(99, 101)),
        min_size=1,
        max_size=40,
        unique_by=lambda at: at[0],
    ),
    st.randoms(use_true_random=False),
)
def test_ticks_make_the_minutes_that_all_of_them_together_make(ticks, chance):
    in_order = sorted(ticks)
    mixed = list(ticks)
    chance.shuffle(mixed)
    # within one minute in any order, and the minutes in theirs
    mixed.sort(key=lambda at: at[0] // MINUTE)
    scene = SymbolScene(CRYPTO, quotes=True)
    for at_ms, price in mixed:
        scene.play([tick(MIDNIGHT + at_ms, price)])
    expected = []
    for number in sorted({at_ms // MINUTE for at_ms, _ in ticks}):
        prices = [price for at_ms, price in in_order if at_ms // MINUTE == number]
        start = MIDNIGHT + number * MINUTE
        expected.append(Bar("BTC/USD", "1m", start, prices[0], max(prices), min(prices), prices[-1]))
    assert_same_bars(scene.shown("1m"), expected)
    assert scene.quarantine == []


def test_a_tick_of_a_minute_that_is_over_is_too_late():
    scene = SymbolScene(CRYPTO, quotes=True)
    scene.play([tick(MIDNIGHT + 5 * MINUTE, 100), tick(MIDNIGHT, 100)])
    assert [each["check"] for each in scene.quarantine] == ["too_late"]


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


def test_volumes_whose_sum_no_entry_can_hold_end_no_instance_that_takes_the_symbol_over():
    scene = SymbolScene(CRYPTO)
    huge = [Bar("BTC/USD", "1m", MIDNIGHT + number * MINUTE, 1, 1, 1, 1, 9e17) for number in range(3)]
    scene.play([arrival(huge[0])])
    scene.play([arrival(huge[1])])
    scene.restart()
    scene.play([arrival(huge[2])])
    assert [bar.volume for bar in scene.shown("1m")] == [9e17] * 3
    assert [bar.volume for bar in scene.shown("5m")] == [None]
    assert values_of(scene.indicators, "5m") == batch(scene.shown("5m"), CRYPTO)


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
    kept = list(scene.state.tables[timeframe].iter_shown(0))
    kept_days = {"5m": 32, "1h": 61, "1d": 809}[timeframe]
    assert kept[-1].start_ms - kept[0].start_ms <= kept_days * DAY_MS
    assert len([name for name in scene.stored if name.startswith(timeframe.encode() + b":")]) < 1200
    scene.play([arrival(Bar("BTC/USD", "1m", bars[-1].start_ms + 100 * DAY_MS, 1, 1, 1, 1, 1))])
    left = [key for key in scene.state.open_bars if key[0] == timeframe]
    assert len(left) <= (810 if timeframe == "1d" else 1)


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
        expected = batch(list(scene.state.tables[timeframe].iter_shown(MIDNIGHT)), CRYPTO)
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
    expected = batch(list(scene.state.tables["5m"].iter_shown(MIDNIGHT)), CRYPTO)
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
    kept = list(scene.state.tables["5m"].iter_shown(MIDNIGHT))
    assert kept[0].start_ms > first
    scene.play(arrival(bar) for bar in bars[-10:])
    expected = batch(list(scene.state.tables["5m"].iter_shown(kept[0].start_ms)), CRYPTO)
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


def test_state_stays_small_however_long_the_history_is():
    scene = SymbolScene(CRYPTO, options={"revise_days": 1}, timeframes=["1h"])
    bars = walk(range(MIDNIGHT, MIDNIGHT + 4 * DAY_MS, 10 * MINUTE))
    for at in range(0, len(bars), 6):
        scene.play(arrival(bar, at) for bar in bars[at : at + 6])
    table = scene.state.tables["1m"]
    kept = list(table.iter_shown(0))
    assert kept[-1].start_ms - kept[0].start_ms <= (scene.options.revise_days + 1) * DAY_MS
    stored = [name for name in scene.stored if name.startswith(b"1m:")]
    assert len(stored) <= 2 * 180
    assert FRAMES[0] not in {frame for frame, _ in scene.bars}
