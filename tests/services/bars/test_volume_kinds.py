"""Whose trades the volume of a bar counts: the bar says it, and two kinds are never added."""

from dataclasses import replace
from datetime import date
from itertools import product

import orjson
import pytest

from services.bars.bar_table import BarTable, SourceNames
from services.bars.builder import settle_volume
from services.bars.quality import HeldBar
from services.bars.state import PAST_DAYS, VERSION, SymbolState, restore_state
from services.market.records import Adjustment, Bar, Provenance, VolumeKind
from services.market.sessions import get_session
from support.scenes.bars import CRYPTO, MIDNIGHT, MINUTE, SymbolScene, arrival, minutes

VENUE, CONSOLIDATED, NONE = VolumeKind
NYSE = get_session("XNYS")


def play(scene, kinds, bars=None):
    """Take minutes, each with a volume of its kind; None says nothing."""
    bars = minutes(len(kinds)) if bars is None else bars
    scene.play(
        arrival(bar, number, **({} if kind is None else {"volume_kind": str(kind)}))
        for number, (bar, kind) in enumerate(zip(bars, kinds, strict=True))
    )
    return bars


def find_kinds(scene, timeframe):
    return [
        entry.get("volume_kind") for (frame, _), entry in sorted(scene.bars.items()) if frame == timeframe
    ]


def test_a_minute_and_every_bar_that_is_built_of_it_say_whose_volume_it_is():
    scene = SymbolScene(CRYPTO)
    bars = play(scene, [VENUE] * 10)
    for timeframe, count in (("1m", 10), ("5m", 2), ("1h", 1), ("1d", 1)):
        assert find_kinds(scene, timeframe) == ["venue"] * count
    assert scene.shown("1h")[0].volume == pytest.approx(sum(bar.volume for bar in bars))
    assert all("volume_kind" not in entry for entry in scene.indicators.values())


def test_a_bar_of_two_kinds_has_no_volume_and_its_neighbours_have_theirs():
    scene = SymbolScene(CRYPTO)
    bars = play(scene, [*[VENUE] * 7, *[CONSOLIDATED] * 8])
    assert find_kinds(scene, "5m") == ["venue", None, "consolidated"]
    first, mixed, last = scene.shown("5m")
    assert (mixed.volume, mixed.vwap, mixed.trades) == (None, None, None)
    assert (mixed.open, mixed.close) == (bars[5].open, bars[9].close)
    assert first.volume == pytest.approx(sum(bar.volume for bar in bars[:5]))
    assert last.volume == pytest.approx(sum(bar.volume for bar in bars[10:]))
    for longer in ("15m", "1h", "1d"):  # of parts of which one has none
        assert [bar.volume for bar in scene.shown(longer)] == [None]
        assert find_kinds(scene, longer) == [None]


def test_once_all_minutes_are_of_one_kind_the_volume_is_there_again():
    scene = SymbolScene(CRYPTO)
    bars = play(scene, [VENUE, VENUE, CONSOLIDATED])
    assert scene.shown("5m")[0].volume is None
    corrected = replace(bars[2], volume=bars[2].volume + 1)
    scene.play([arrival(corrected, 9, seen_ms=bars[2].start_ms + 3 * MINUTE, volume_kind="venue")])
    assert find_kinds(scene, "5m") == ["venue"]
    assert scene.shown("5m")[0].volume == pytest.approx(sum(bar.volume for bar in bars) + 1)


def test_minutes_of_before_keep_their_sum_whose_kind_is_unknown():
    scene = SymbolScene(CRYPTO)
    bars = play(scene, [None, None, VENUE])
    assert find_kinds(scene, "5m") == [None]
    assert scene.shown("5m")[0].volume == pytest.approx(sum(bar.volume for bar in bars))


@pytest.mark.parametrize("kinds", list(product([None, *VolumeKind], repeat=3)), ids=str)
def test_no_two_kinds_are_ever_added(kinds):
    held = [
        HeldBar(bar, 1, "one", 0, is_complete=True, volume_kind=kind)
        for bar, kind in zip(minutes(3), kinds, strict=True)
    ]
    merged = Bar("BTC/USD", "5m", MIDNIGHT, 1.0, 2.0, 0.5, 1.5, 60.0, 1.2, 6)
    bar, kind = settle_volume(merged, held)
    known = set(kinds) - {None}
    assert kind is (kinds[0] if len(set(kinds)) == 1 else None)
    if len(known) > 1:
        assert bar == replace(merged, volume=None, vwap=None, trades=None)
    else:
        assert bar is merged


def give_day(day, kind, volume=1000.0, close=100.0):
    bar = Bar("SPY", "1d", day.open_ms, close, close + 1, close - 1, close, volume)
    return arrival(bar, day.date.day, seen_ms=day.close_ms + 3_600_000, volume_kind=kind, asset="stocks")


def test_the_official_day_brings_its_own_kind_and_the_week_adds_one_kind_only():
    days = [NYSE.find_date(date(2023, 11, number)) for number in (13, 14, 15, 16, 17, 20, 21, 22)]
    scene = SymbolScene(NYSE, symbols=("SPY",), asset="stocks")
    built = minutes(390, days[-1].open_ms, symbol="SPY")
    scene.play(give_day(day, "consolidated") for day in days[:-1])
    scene.play(arrival(bar, number, volume_kind="venue") for number, bar in enumerate(built))
    scene.play([], days[-1].close_ms + MINUTE)
    assert find_kinds(scene, "1d") == ["consolidated"] * 7 + ["venue"]
    assert find_kinds(scene, "1w") == ["consolidated", None]
    assert [bar.volume for bar in scene.shown("1w")] == [5000.0, None]
    scene.play([give_day(days[-1], "consolidated", 9000.0, built[-1].close)])
    assert find_kinds(scene, "1d") == ["consolidated"] * 8
    assert find_kinds(scene, "1w") == ["consolidated"] * 2
    assert [bar.volume for bar in scene.shown("1w")] == [5000.0, 11_000.0]


@pytest.mark.parametrize("kind", [None, *VolumeKind], ids=str)
@pytest.mark.parametrize("adjustment", list(Adjustment))
def test_a_stored_bar_has_its_kind_beside_its_adjustment_and_its_source(kind, adjustment):
    sources = SourceNames(f"source {number}" for number in range(300))
    table = BarTable("SPY", "1d", sources)
    bar = Bar("SPY", "1d", 0, 1.0, 2.0, 0.5, 1.5, 100.0)
    held = HeldBar(bar, 1, "source 254", 5, is_complete=True, adjustment=adjustment, volume_kind=kind)
    table.open_slot(0).given = held
    found = BarTable("SPY", "1d", sources)
    found.restore(table.pack_changes())
    assert found[0].given == held


def test_an_instance_that_takes_over_knows_the_kinds_of_days_of_a_history_and_of_suspects():
    scene = SymbolScene(CRYPTO)
    play(scene, [VENUE] * 6)
    jump = replace(scene.shown("5m")[0], timeframe="5m", start_ms=MIDNIGHT + 10 * MINUTE)
    scene.restart()
    assert scene.state.tables["1m"][MIDNIGHT].built.volume_kind is VENUE
    assert scene.state.tables["5m"][MIDNIGHT].built.volume_kind is VENUE
    held = HeldBar(replace(jump, timeframe="1d"), 1, "one", 0, is_complete=True, volume_kind=VENUE)
    state = SymbolState("BTC/USD", past_days=[held, replace(held, volume_kind=None)], has_new_past=True)
    stored = {name.encode(): raw for name, raw in state.pack_changes().items()} | {VERSION.encode(): b"1"}
    found = restore_state("BTC/USD", stored).past_days
    assert [each.volume_kind for each in found] == [VENUE, None]
    past = orjson.loads(stored[PAST_DAYS.encode()])
    del past["volume_kinds"]  # as the releases before wrote it
    found = restore_state("BTC/USD", stored | {PAST_DAYS.encode(): orjson.dumps(past)}).past_days
    assert [(each.bar.start_ms, each.volume_kind) for each in found] == [(held.bar.start_ms, None)] * 2


def test_a_bar_that_waited_for_its_confirmation_keeps_its_kind():
    scene = SymbolScene(CRYPTO)
    bars = play(scene, [VENUE] * 20)
    at = bars[-1].start_ms + MINUTE
    jumps = [replace(bar, start_ms=at + number * MINUTE) for number, bar in enumerate(bars[:2])]
    jumps = [replace(bar, open=9e3, high=9e3, low=9e3, close=9e3, vwap=9e3) for bar in jumps]
    scene.play([arrival(jumps[0], volume_kind="venue")])
    assert scene.quarantine[-1]["check"] == "jump"
    scene.restart()
    assert scene.state.suspects["1m"].provenance == Provenance(
        "one", (at + MINUTE + 1000) / 1000, volume_kind=VENUE
    )
    scene.play([arrival(jumps[1], volume_kind="venue")])
    assert [
        entry.get("volume_kind")
        for (frame, start), entry in sorted(scene.bars.items())
        if frame == "1m" and start >= at
    ] == ["venue"] * 2


@pytest.mark.parametrize("text", ["", "all", "VENUE", "x" * 200])
def test_a_kind_that_is_unknown_costs_its_record_and_no_other(text):
    scene = SymbolScene(CRYPTO)
    one, other = minutes(2)
    scene.play([arrival(one, 1, volume_kind=text), arrival(other, 2)])
    expected = [] if text == "" else [one.start_ms]
    assert [int(orjson.loads(each["fields"])["start"]) for each in scene.quarantine] == expected
    assert len(scene.shown("1m")) == 2 - len(expected)
