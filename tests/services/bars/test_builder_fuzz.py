"""Whatever entries come in whatever order, through restarts and other truths: a symbol's bars go on."""

import random
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.bars.feature_writer import compute_new
from services.bars.outputs import Arrival
from services.market.entries import parse_bar
from services.market.records import DAY_MS, PERIODS, TIMEFRAME_SEC, TIMEFRAMES, Bar, RecordKind
from services.market.sessions import get_session
from support.examples import examples
from support.scenes.bars import MINUTE, SymbolScene, batch, fields_of

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
        assert len(scene.builder.flush(clock_ms)) == 0, "nothing is left, and nothing is published twice"
        if chance.random() < 0.25:
            frames = chance.choice([TIMEFRAMES, TIMEFRAMES, ("1m", "1h")])
            scene.restart(timeframes=frames, indicators=chance.choice([("sma", "obv", "vwap"), ()]))
    groups = {"BTC/USD": scene.group}
    compute_new({"BTC/USD": scene.stored}, {"BTC/USD": session}, groups, "BTC/USD", BASE)
    scene.restart(timeframes=TIMEFRAMES, indicators=("sma", "obv"))
    for frame, table in scene.state.tables.items():
        kept = table.list_since(-(2**53))
        assert [bar.start_ms for bar in kept] == sorted({bar.start_ms for bar in kept}), frame
        assert len(batch(kept, session, ("sma",))) == len(kept)
    weeks = [entry for (frame, _), entry in scene.bars.items() if frame == "1w"]
    assert {entry["start"] for entry in weeks} <= {
        str(bar.start_ms) for bar in scene.state.tables["1w"].list_since(-(2**53))
    }


class Journey:
    """Minutes and ticks of a symbol that leap by weeks, with older ones among them."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.newest_ms, self.price = chance, BASE, 100.0

    def make(self, number: int, *, is_quoted: bool) -> Arrival:
        """Make the next entry: mostly the next minute, or one of weeks later, or an older one."""
        chance = self.chance
        kind = chance.choices(("next", "leap", "old"), (8, 1, 3))[0]
        if kind == "next":
            start_ms = self.newest_ms + MINUTE
        elif kind == "leap":
            start_ms = self.newest_ms + chance.randint(0, 25) * DAY_MS + chance.randint(0, 600) * MINUTE
        else:
            start_ms = self.newest_ms - chance.choice(
                [
                    chance.randint(0, 40) * MINUTE,
                    chance.randint(0, 3) * DAY_MS,
                    chance.randint(0, 50) * DAY_MS,
                ]
            )
        self.newest_ms = max(self.newest_ms, start_ms)
        close = round(self.price * chance.choice([1, 1.001, 0.999, 1.2]), 3)
        opened, self.price = self.price, close
        written_ms = BASE + 900 * DAY_MS + number
        if is_quoted:
            at_ms = start_ms + chance.randint(0, MINUTE - 1)
            quote = {"sym": "BTC/USD", "asset": "crypto", "at": str(at_ms), "source": "one"}
            return encode(RecordKind.QUOTES, written_ms, quote | {"price": str(close)})
        frame = "1d" if chance.random() < 0.1 else "1m"
        bar = Bar("BTC/USD", frame, start_ms, opened, max(opened, close), min(opened, close), close, 1)
        fields = fields_of(bar, seen_ms=written_ms)
        if (
            frame == "1d"
        ):  # a bar that is not released is compared with what is final, which follows the clock
            fields |= {"start": str(start_ms - start_ms % DAY_MS), "released": "1"}
        return encode(RecordKind.BARS, written_ms, fields)


def cut_by_chance(entries: list[Arrival], chance: random.Random) -> list[list[Arrival]]:
    """Cut entries into batches at random places."""
    places = sorted(chance.sample(range(len(entries)), chance.randint(0, len(entries) - 1)))
    return [entries[first:end] for first, end in pairwise([0, *places, len(entries)])]


@settings(max_examples=examples(60))
@example(350)  # a day on which the market was closed, and that was released, after its month was built
@given(st.integers(0, 2**32))
def test_what_is_taken_and_refused_depends_neither_on_batches_nor_on_restarts(seed):
    chance = random.Random(seed)
    session = get_session(chance.choice(["24x7", "24x5", "XNYS"]))
    is_quoted = chance.random() < 0.2
    journey = Journey(chance)
    entries = [journey.make(number, is_quoted=is_quoted) for number in range(chance.randint(2, 120))]
    scenes = []
    for batches in ([entries], [[each] for each in entries], cut_by_chance(entries, chance)):
        may_restart = chance.random() < 0.7
        scene = SymbolScene(session, quotes=is_quoted, options={"revise_days": 1}, indicators=())
        for batch_of_entries in batches:
            scene.play(batch_of_entries)
            if may_restart and chance.random() < 0.3:
                scene.restart()
        scenes.append(scene)
    first, *others = scenes
    for other in others:
        assert list_refused(other) == list_refused(first)
        assert list_published(other) == list_published(first)


def list_refused(scene: SymbolScene) -> list[tuple[str, str]]:
    """The entries in quarantine, each with the check that it failed."""
    return [(each["entry"], each["check"]) for each in scene.quarantine]


def list_published(scene: SymbolScene) -> list[dict[str, str]]:
    """The last entry of each bar, without its epoch, which counts how often the state was read.

    And without the revision of a day, a week or a month: minutes that come after a given day change it, but
    publish nothing. Since when a correction is known is said of what was published before, and that is a
    matter of batches.
    """
    always = {"epoch", "known_at"}
    dropped = {frame: {*always, "rev"} for frame in ("1d", *PERIODS)}
    return [
        {name: value for name, value in entry.items() if name not in dropped.get(frame, always)}
        for (frame, _), entry in sorted(scene.bars.items())
    ]
