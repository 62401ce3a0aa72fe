"""A jump of any bar of a source waits aside until something confirms it: pence for pounds, a lost digit."""

from dataclasses import replace

import pytest

from services.bars.quality import ATR_BARS
from services.bars.worker import JUMP_TOLD_SEC, describe_jumps
from services.market.intervals import LENGTH_MS
from services.market.records import Bar
from support.scenes.bars import CRYPTO, MIDNIGHT, SymbolScene, arrival

LONGER = ("5m", "15m", "1h", "4h", "1d")
CALM = ATR_BARS + 4


def start_of(timeframe, number):
    return MIDNIGHT + number * LENGTH_MS[timeframe]


def bar(timeframe, number, price, **more):
    return Bar(
        "BTC/USD", timeframe, start_of(timeframe, number), price, price * 1.001, price * 0.999, price, **more
    )


def give(scene, given, source="one", at=None):
    """Let a source give a bar a second after its end."""
    seen = given.start_ms + LENGTH_MS[given.timeframe] + 1000 if at is None else at
    scene.play([arrival(given, seen_ms=seen, source=source)], clock_ms=seen)


def play_calm(timeframe, count=CALM):
    scene = SymbolScene(CRYPTO, indicators=())
    for number in range(count):
        give(scene, bar(timeframe, number, 100.0 + number % 2))
    return scene


def list_checks(scene):
    return [each["check"] for each in scene.quarantine]


@pytest.mark.parametrize("timeframe", LONGER)
@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_jump_waits_and_the_next_bar_near_it_brings_it_back(timeframe, is_restarted):
    scene = play_calm(timeframe)
    give(scene, bar(timeframe, CALM, 1.0))
    assert (list_checks(scene), (timeframe, start_of(timeframe, CALM)) in scene.bars) == (["jump"], False)
    if is_restarted:
        scene.restart()
    give(scene, bar(timeframe, CALM + 1, 1.01))
    assert [each.close for each in scene.shown(timeframe)][-2:] == [1.0, 1.01]
    assert scene.state.suspects == {}


@pytest.mark.parametrize("timeframe", LONGER)
def test_a_next_bar_that_does_not_jump_refutes_it(timeframe):
    scene = play_calm(timeframe)
    give(scene, bar(timeframe, CALM, 1.0))
    give(scene, bar(timeframe, CALM + 1, 101.0))
    assert [each.close for each in scene.shown(timeframe)][-2:] == [101.0, 101.0]
    assert (timeframe, start_of(timeframe, CALM)) not in scene.bars
    assert scene.state.suspects == {}
    give(scene, bar(timeframe, CALM, 100.5), at=start_of(timeframe, CALM + 3))  # its source corrects it
    assert scene.bars[timeframe, start_of(timeframe, CALM)]["close"] == "100.5"


@pytest.mark.parametrize("timeframe", ["1m", *LONGER])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_was_a_jump_over_a_hole_is_taken_once_the_hole_is_filled(timeframe, is_restarted):
    scene = play_calm(timeframe)
    rise = [100.0 * 1.06**number for number in range(1, 7)]
    give(scene, bar(timeframe, CALM + 5, rise[5]))  # of a stream, after an outage
    assert list_checks(scene) == ["jump"]
    if is_restarted:
        scene.restart()
    for number, price in enumerate(rise[:5]):  # the hole is asked for
        give(scene, bar(timeframe, CALM + number, price), at=start_of(timeframe, CALM + 6) + 5_000)
    give(scene, bar(timeframe, CALM + 6, rise[5]))
    assert [each.close for each in scene.shown(timeframe)][-7:] == pytest.approx([*rise, rise[5]])
    assert scene.state.suspects == {}


@pytest.mark.parametrize("timeframe", LONGER)
def test_the_same_bar_of_another_source_confirms_it_and_that_of_its_own_does_not(timeframe):
    scene = play_calm(timeframe)
    jump = bar(timeframe, CALM, 1.0)
    give(scene, jump)
    give(scene, replace(jump, close=1.0001, volume=3.0), at=start_of(timeframe, CALM + 2))
    assert list_checks(scene) == ["jump", "jump"]
    give(scene, jump, source="two")
    assert scene.bars[timeframe, jump.start_ms]["source"] == "two"


def test_a_split_that_nobody_announced_waits_for_tomorrow():
    scene = play_calm("1d")
    for number in range(CALM, CALM + 3):
        give(scene, bar("1d", number, 10.0))
    assert list_checks(scene) == ["jump"]
    assert [each.close for each in scene.shown("1d")][-3:] == [10.0, 10.0, 10.0]


def test_a_flash_crash_within_a_day_is_no_jump():
    scene = play_calm("1d")
    give(scene, replace(bar("1d", CALM, 100.0), low=1.0))
    assert list_checks(scene) == []


def test_what_minutes_have_confirmed_is_no_jump():
    scene = play_calm("5m")
    start = start_of("5m", CALM)
    minutes = [Bar("BTC/USD", "1m", start + 60_000 * n, 1.0, 1.001, 0.999, 1.0) for n in range(6)]
    scene.play([arrival(each, number) for number, each in enumerate(minutes)], clock_ms=start + 400_000)
    give(scene, bar("5m", CALM, 1.0), at=start + 401_000)
    assert list_checks(scene) == []
    assert scene.bars["5m", start]["close"] == "1"


@pytest.mark.parametrize("timeframe", LONGER)
def test_without_enough_bars_before_it_nothing_is_a_jump(timeframe):
    scene = play_calm(timeframe, ATR_BARS - 1)
    give(scene, bar(timeframe, ATR_BARS - 1, 1.0))
    assert list_checks(scene) == []


def test_suspects_of_two_timeframes_wait_each_for_their_own():
    scene = play_calm("1d")
    day = start_of("1d", CALM)
    hours = [Bar("BTC/USD", "1h", day - 3_600_000 * n, 100.0, 100.1, 99.9, 100.0) for n in range(CALM, 0, -1)]
    for each in hours:
        give(scene, each)
    give(scene, bar("1d", CALM, 1.0))
    give(scene, Bar("BTC/USD", "1h", day, 1.0, 1.0, 1.0, 1.0))
    assert list(scene.state.suspects) == ["1d", "1h"]
    give(scene, Bar("BTC/USD", "1h", day + 3_600_000, 100.0, 100.1, 99.9, 100.0))
    now = day / 1000
    assert describe_jumps([scene.state], now) == "waits for a second word on a jump: BTC/USD:1d at 1 by one"
    assert describe_jumps([scene.state], now + JUMP_TOLD_SEC + 100_000) is None, "not for ever"
    of_minute = play_calm("1m")
    give(of_minute, bar("1m", CALM, 1.0))
    assert (list(of_minute.state.suspects), describe_jumps([of_minute.state], now)) == (["1m"], None)
