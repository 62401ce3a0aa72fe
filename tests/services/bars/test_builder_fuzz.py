"""Whatever entries come in whatever order, through restarts and other truths: a symbol's bars go on."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from marketswarm.market.entries import parse_bar
from marketswarm.market.records import DAY_MS, TIMEFRAME_SEC, Bar, RecordKind
from marketswarm.market.sessions import get_session
from services.bars.builder import Arrival
from services.bars.feature_writer import compute_new
from services.bars.indicators import batch
from services.bars.settings import TIMEFRAMES
from support.examples import examples
from support.scenes.bars import MINUTE, SymbolScene, fields_of, values_of

BASE = 1_795_789_800_000
"""2026-11-27, 14:30 UTC: New York opens, for half a day."""
FRAMES = (*["1m"] * 6, "5m", "15m", "1h", "4h", *["1d"] * 2, "1w")
PRICES = (1, 99, 100.0, 100.5, 0, -1, 1e-300, 5e17, 1e18)
VOLUMES = (None, 0, 1, 5.5, -1, 9e17, 1e18)


class EntryMaker:
    """Make entries by chance, many of which are sound, and some of which nobody should write."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def make(self, step: int, *, is_quoted: bool) -> Arrival:
        chance = self.chance
        marks = {}
        if chance.random() < 0.2:
            marks["released"] = "1"
        if chance.random() < 0.15:
            marks["replay"] = "1"
        if is_quoted and chance.random() < 0.7:
            at_ms = BASE + chance.randint(-10, 300) * chance.choice([1000, MINUTE])
            fields = {"sym": "BTC/USD", "asset": "crypto", "at": str(at_ms), "source": chance.choice("ab")}
            fields |= {"price": str(chance.choice(PRICES[:5]))} | marks
            return encode(RecordKind.QUOTES, BASE + step * 1000, fields)
        return self.make_bar(marks)

    def make_bar(self, marks: dict[str, str]) -> Arrival:
        chance = self.chance
        frame = chance.choice(FRAMES)
        length_ms = 1000 * TIMEFRAME_SEC[frame]
        start_ms = BASE + chance.choice(
            [
                chance.randint(-10, 10) * length_ms,
                chance.randint(-100, 10) * length_ms,
                chance.randint(-900, 10) * DAY_MS,
                chance.randint(0, 50) * MINUTE,
            ]
        )
        if chance.random() < 0.05:
            start_ms += chance.randint(0, MINUTE)
        # mostly of prices near each other
        opens = chance.choice(PRICES if chance.random() < 0.1 else PRICES[1:4])
        close = opens * chance.choice([1, 1, 1.01, 2])
        low, high = min(opens, close), max(opens, close)
        volume, vwap = chance.choice(VOLUMES), chance.choice([None, opens, 1e18])
        bar = Bar("BTC/USD", frame, start_ms, opens, high, low, close, volume, vwap)
        seen_ms = start_ms + chance.choice([0, length_ms, length_ms + 1000, 10**9])
        if chance.random() < 0.1:
            marks["played_at"] = str(chance.choice([start_ms / 1000, 0, 1e18, -1]))
        fields = fields_of(bar, seen_ms=seen_ms, source=chance.choice("ab"), **marks)
        return encode(RecordKind.BARS, seen_ms, fields)


def encode(kind: RecordKind, written_ms: int, fields: dict[str, str]) -> Arrival:
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    return Arrival(kind, b"%d-0" % max(written_ms, 0), raw)


@settings(max_examples=examples(60))
@given(st.integers(0, 2**32))
def test_no_entries_in_whatever_order_break_a_symbol_and_what_is_published_can_be_read(seed):
    chance = random.Random(seed)
    session = get_session(chance.choice(["24x7", "24x5", "XNYS"]))
    is_quoted = chance.random() < 0.3
    scene = SymbolScene(session, quotes=is_quoted, options={"revise_days": 1})
    maker = EntryMaker(chance)
    for step in range(chance.randint(1, 40)):
        entries = [maker.make(step, is_quoted=is_quoted) for _ in range(chance.randint(0, 4))]
        clock_ms = chance.choice([0, BASE, BASE + step * MINUTE, BASE + 10**9])
        outputs = scene.play(entries, clock_ms)
        for fields in outputs.bars:
            parse_bar({name.encode(): value.encode() for name, value in fields.items()})
        assert not scene.builder.is_changed
        if chance.random() < 0.25:
            frames = chance.choice([TIMEFRAMES, TIMEFRAMES, ("1m", "1h")])
            scene.restart(timeframes=frames, indicators=chance.choice([("sma", "obv", "vwap"), ()]))
    compute_new({"BTC/USD": scene.stored}, {"BTC/USD": session}, "BTC/USD")
    scene.restart(timeframes=TIMEFRAMES, indicators=("sma", "obv"))
    for frame, table in scene.state.tables.items():
        kept = list(table.iter_shown(-(2**53)))
        assert [bar.start_ms for bar in kept] == sorted({bar.start_ms for bar in kept}), frame
        assert len(batch(kept, session, ("sma",))) == len(kept)
    assert values_of(scene.indicators, "1w") == []
