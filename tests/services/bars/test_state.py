"""What is stored of a symbol is read again whole, also what the releases before this one have stored."""

import struct
from dataclasses import replace
from datetime import date

import orjson
import pytest

from services.bars.quality import HeldBar, SuspectBar
from services.bars.state import (
    REST,
    VERSION,
    Covered,
    OpenBar,
    Restated,
    SymbolState,
    TickTimes,
    list_final_days,
    restore_days,
    restore_state,
)
from services.market.records import Adjustment, Bar, Provenance, VolumeKind

ORIGIN = Provenance("alpaca", 1_700_000_000.25, "ab" * 32, is_replay=True, played_at=1_600_000_000.5)
STORED = (
    b'{"epoch":7,"first":60000,"newest":120000,"replay":true,"sources":["alpaca"],'
    b'"open":[["1m",60000,120000,"alpaca",1700000000.25,"' + b"ab" * 32 + b'",true,1600000000.5]],'
    b'"ticks":[[60000,60001,61000]],'
    b'"suspect":[120000,130000,1.0,2.0,0.5,1.5,null,1.25,7,"alpaca",1700000000.25,"'
    + b"ab" * 32
    + b'",true,1600000000.5],"covered":{"5m":[0,300000,600000]}'
)
"""The field `rest` as it has been written since the first release that had all of it, without its end."""
SUSPECTS = b',"suspects":{"1d":[0,140000,1.0,2.0,0.5,1.5,null,1.25,7,"alpaca",0.0,"",false,0.0]}'
SPLITS = b',"adjusted":{"1d":"splits"},"splits":[["2024-06-10",10.0]],"applied":[]'
VOLUMES = b',"volume_kinds":{"1d":"venue"}'
RESTATED = b',"restated":{"source":"yahoo","ratio":0.1}}'
"""What has come later: without it the field is still read."""


def make_state():
    state = SymbolState("SPY", epoch=7, first_ms=60_000, newest_ms=120_000, is_replay=True)
    bar = Bar("SPY", "1m", 60_000, 1.0, 2.0, 0.5, 1.5)
    state.tables["1m"].open_slot(60_000).built = HeldBar(bar, 1, "alpaca", 130_000, is_complete=True)
    state.open_bars["1m", 60_000] = OpenBar(120_000, ORIGIN)
    state.ticks[60_000] = TickTimes(60_001, 61_000)
    suspect = Bar("SPY", "1m", 120_000, 1.0, 2.0, 0.5, 1.5, None, 1.25, 7)
    state.suspects["1m"] = SuspectBar(suspect, 130_000, ORIGIN)
    state.suspects["1d"] = SuspectBar(
        replace(suspect, timeframe="1d", start_ms=0),
        140_000,
        Provenance("alpaca", adjustment=Adjustment.SPLITS, volume_kind=VolumeKind.VENUE),
    )
    state.splits = ((date(2024, 6, 10), 10.0),)
    state.restated = Restated("yahoo", 0.1)
    state.covered["5m"] = Covered(0, 300_000, 600_000)
    return state


def store(state):
    return {name.encode(): raw for name, raw in state.pack_changes().items()} | {VERSION.encode(): b"1"}


def test_the_state_is_stored_as_before_and_read_again_whole():
    state = make_state()
    stored = store(state)
    assert stored[REST.encode()] == STORED + SUSPECTS + SPLITS + VOLUMES + RESTATED
    found = restore_state("SPY", stored)
    for name in ("epoch", "first_ms", "newest_ms", "is_replay", "open_bars", "ticks", "suspects", "covered"):
        assert getattr(found, name) == getattr(state, name), name
    assert (found.splits, found.applied, found.restated) == (state.splits, (), state.restated)
    assert found.sources.names == ["alpaca"]
    assert found.tables["1m"][60_000].built == state.tables["1m"][60_000].built


def test_a_state_of_a_release_that_knew_suspects_of_minutes_alone_is_read():
    state = make_state()
    found = restore_state("SPY", store(state) | {REST.encode(): STORED + b"}"})
    assert found.suspects == {"1m": state.suspects["1m"]}
    known = restore_state("SPY", store(state) | {REST.encode(): STORED + SUSPECTS + b"}"})
    assert known.splits == ()
    assert known.suspects["1d"].provenance.adjustment is Adjustment.RAW
    known = restore_state("SPY", store(state) | {REST.encode(): STORED + SUSPECTS + SPLITS + b"}"})
    assert known.suspects["1d"].provenance == Provenance("alpaca", adjustment=Adjustment.SPLITS)
    known = restore_state("SPY", store(state) | {REST.encode(): STORED + SUSPECTS + SPLITS + VOLUMES + b"}"})
    assert known.restated is None


@pytest.mark.parametrize("damage", ["epoch", "open", "ticks", "suspect", "covered"])
def test_a_state_that_lacks_something_or_has_another_form_is_unreadable(damage):
    stored, rest = store(make_state()), orjson.loads(STORED + SUSPECTS + SPLITS + VOLUMES + RESTATED)
    others = {name: value for name, value in rest.items() if name != damage}
    for wrong in (others, {**rest, damage: "x"}, {**rest, damage: [[1]]}):
        damaged = {**stored, REST.encode(): orjson.dumps(wrong)}
        with pytest.raises(ValueError, match=r"^the state of a symbol can't be read: \w+$"):
            restore_state("SPY", damaged)
        assert list_final_days(restore_days("SPY", damaged)) == []


def test_what_is_open_of_a_timeframe_that_is_unknown_is_left_out():
    rest = orjson.loads(STORED + SUSPECTS + SPLITS + VOLUMES + RESTATED)
    rest["open"].append(["2m", *rest["open"][0][1:]])
    rest["covered"]["2m"] = [0, 0, 0]
    found = restore_state("SPY", store(make_state()) | {REST.encode(): orjson.dumps(rest)})
    assert list(found.open_bars) == [("1m", 60_000)]
    assert list(found.covered) == ["5m"]


def test_bars_of_a_release_that_did_not_count_their_minutes_are_read_and_their_minutes_are_unknown():
    state = make_state()
    bar = Bar("SPY", "1h", 0, 1.0, 2.0, 0.5, 1.5, 100.0)
    held = HeldBar(bar, 3, "alpaca", 130_000, is_complete=True, rank=2, minutes=57)
    given = replace(held, changes=1, minutes=0)
    slot = state.tables["1h"].open_slot(0)
    slot.built, slot.given = held, given
    stored = store(state)
    rows = stored[b"1h:0"]
    assert restore_state("SPY", stored).tables["1h"][0].built == held
    length = len(rows) // 2
    former = b"".join(rows[at : at + length - 2] for at in (0, length))
    found = restore_state("SPY", stored | {b"1h:0": former}).tables["1h"][0]
    assert (found.built, found.given) == (replace(held, minutes=0), given)
    with pytest.raises(ValueError, match="length"):
        restore_state("SPY", stored | {b"1h:0": former[1:]})


@pytest.mark.parametrize("names", [("built",), ("given",), ("built", "given")])
def test_since_when_indicators_are_known_stands_in_a_row_that_another_release_takes_for_the_bar_after_it(
    names,
):
    state = make_state()
    table, bar = state.tables["1h"], Bar("SPY", "1h", 0, 1.0, 2.0, 0.5, 1.5, 100.0)
    held = HeldBar(
        bar, 3, "alpaca", 130_000, is_complete=True, volume_kind=VolumeKind.VENUE, rank=2, minutes=57
    )
    for number, name in enumerate(names):
        setattr(table.open_slot(0), name, replace(held, changes=number + 1))
    table.open_slot(0).indicator_rev = 4
    without = store(state)[b"1h:0"]
    table.open_slot(0).known_ms, table[0].corrected_ms = 1_700_000_000_123, 1_600_000_000_123
    stored = store(state)
    rows = stored[b"1h:0"]
    length = len(without) // len(names)
    assert (len(rows), rows[length:]) == (len(without) + length, without)
    found = restore_state("SPY", stored).tables["1h"][0]
    assert found == replace(table[0], packed=b"")
    # the first row but for two bits and two times is the second one
    assert sum(one != other for one, other in zip(rows[:length], without, strict=False)) <= 17
    assert restore_state("SPY", stored | {b"1h:0": without}).tables["1h"][0].known_ms == 0


@pytest.mark.parametrize(("changes", "corrected_ms"), [(1, 0), (2, 130_000)])
def test_a_row_of_a_release_that_kept_one_time_alone_has_that_of_the_bar_but_not_after_it_was_seen(
    changes, corrected_ms
):
    state = make_state()
    bar = Bar("SPY", "1h", 0, 1.0, 2.0, 0.5, 1.5, 100.0)
    slot = state.tables["1h"].open_slot(0)
    slot.built = HeldBar(bar, changes, "alpaca", 130_000, is_complete=True)
    slot.known_ms = 1_700_000_000_123
    stored = store(state)
    row = bytearray(stored[b"1h:0"])
    row[struct.calcsize("<q7dqIi") + 1] &= 0xBF  # without the bit that says that a second time stands there
    found = restore_state("SPY", stored | {b"1h:0": bytes(row)}).tables["1h"][0]
    assert (found.known_ms, found.corrected_ms) == (slot.known_ms, corrected_ms)
