"""Records that fail a check: what they do to a symbol's bars, and what a release or the next minute does."""

from dataclasses import replace
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bars.outputs import Arrival
from services.bars.quality import CHECKS, NEVER_SKIPPED, Check
from services.bars.state import restore_state
from services.market.records import (
    DAY_MS,
    TIMEFRAME_SEC,
    Bar,
    RecordKind,
)
from services.market.sessions import get_session
from support.scenes.bars import (
    CRYPTO,
    MIDNIGHT,
    MINUTE,
    SymbolScene,
    arrival,
    assert_same_as_batch,
    minutes,
    play_all,
    walk,
)

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
