"""Ticks for tests of the log of signals, a program that writes them until it is killed, and a check of all.

    python -m support.signal_log URL INSTANCE    writes ticks without end, and says each that is committed

It ends with code 3 when another leader began.
"""

import asyncio
import sys
import time
from random import Random

import orjson

from marketswarm.postgres.errors import PostgresAwayError
from services.signals.log.entries import PlaceOutcome, join_places, make_place, make_tick
from services.signals.log.merkle import hash_entry, hash_span, hash_tree, split_span
from services.signals.store.database import LogMovedError, SignalDatabase, StaleEpochError
from services.signals.store.reader import AuditReader
from services.signals.store.writer import SignalWriter, StoredState, TickToWrite
from services.tables.signals import SignalRow

SYMBOLS = tuple(f"S{number:02}" for number in range(20))
START_MS = 1_790_000_000_000
STALE = 3


def make_signal(tick: int, symbol: str, side: str = "long", score: str = "0.450000000000") -> bytes:
    """Return the content of a place that says a side."""
    return make_place(
        *(symbol, PlaceOutcome.SIGNAL), tick=tick, side=side, before="flat", score=score, votes={}
    )


def make_row(tick: int, place: int, at_ms: int, content: bytes) -> SignalRow:
    """Return the row of a place, with the columns that its content names."""
    said = orjson.loads(content)
    score = said.get("score")
    return SignalRow(
        *(tick, said["symbol"], place, at_ms, said["outcome"], said.get("side")),
        *(score, score and score.removeprefix("-"), "0.000000000000", "1.000000000000"),
        replay=False,
        hash=hash_entry(content),
        content=content.decode(),
    )


class TickMaker:
    """Makes ticks one after the other, and knows what the places say that are not stored."""

    def __init__(self, state: StoredState) -> None:
        self.tick = state.last_tick
        self._followed = {symbol: (row.tick, row.outcome) for symbol, row in state.last.items()}

    def make(
        self,
        number: int,
        changed: dict[str, bytes],
        symbols: tuple[str, ...] = SYMBOLS,
        rules: bytes | None = None,
    ) -> TickToWrite:
        """Return the next tick, entry `number` of the log; `changed` are the places that are stored."""
        self.tick += 1
        at_ms = START_MS + 5000 * self.tick
        places: dict[str, bytes] = {}
        for symbol in symbols:
            if symbol in changed:
                places[symbol] = changed[symbol]
                self._followed[symbol] = (self.tick, orjson.loads(changed[symbol])["outcome"])
            else:
                since, outcome = self._followed[symbol]
                following = PlaceOutcome.CLOSED if outcome == "closed" else PlaceOutcome.UNCHANGED
                places[symbol] = make_place(symbol, following, since=since)
        joined = join_places(places)
        entry = make_tick(number, self.tick, at_ms, joined, code="1", truth="2", consensus="6.0", rules=rules)
        rows = [
            make_row(self.tick, place, at_ms, joined.texts[place])
            for place, symbol in enumerate(joined.symbols)
            if symbol in changed
        ]
        return TickToWrite(self.tick, at_ms, entry, joined.symbols, rows, rules)

    def make_random(self, number: int, random: Random) -> TickToWrite:
        """Return a tick in which chance changes some places, and all that nothing is known of."""
        tick = self.tick + 1
        outcomes = (PlaceOutcome.CLOSED, PlaceOutcome.UNCHANGED)
        changed = {}
        for symbol in SYMBOLS:
            if symbol not in self._followed or random.random() < 0.3:
                signal = make_signal(tick, symbol, random.choice(["long", "short", "flat"]))
                following = make_place(symbol, random.choice(outcomes), since=tick)
                changed[symbol] = random.choice([signal, signal, following])
        return self.make(number, changed)


async def check_log(database: SignalDatabase) -> list[int]:
    """Check that what is committed is whole, and return the ticks that are there or in a gap, in order.

    The entries are numbered without a hole, none says a time before that of the one before it, no tick is
    missing or there twice, the nodes are those of the entries, and the places of each tick, stored or not,
    have the root that its entry says.
    """
    reader = AuditReader(database)
    size = await reader.read_size()
    entries = await reader.read_entries(0, size)
    ticks: list[int] = []
    at = ""
    for number, entry in enumerate(entries):
        said = orjson.loads(entry)
        assert said["n"] == number
        assert said["at"] >= at, said
        at = said["at"]
        if said["kind"] == "tick":
            ticks.append(said["tick"])
            places = await reader.read_places(said["tick"])
            assert hash_tree(places.hashes).hex() == said["root"], said
        elif said["kind"] == "gap":
            ticks += range(said["first"], said["last"] + 1)
    assert ticks == list(range(1, len(ticks) + 1)), "each tick once, and none that is not accounted for"
    hashes = [hash_entry(entry) for entry in entries]
    nodes = await reader.read_nodes(split_span((0, size)))
    assert hash_span((0, size), nodes) == hash_tree(hashes)
    return ticks


async def write_ticks(url: str, instance: str) -> int:
    """Write ticks without end; return a code once another leader began."""
    database, random = SignalDatabase(url), Random(instance)
    writer = SignalWriter(database)
    try:
        await writer.begin_epoch(instance)
        maker = await _read(writer)
        while True:
            tick = maker.make_random(writer.size, random)
            try:
                await _write_until_known(writer, tick)
            except LogMovedError:
                maker = await _read(writer)
                continue
            sys.stdout.write(f"committed {tick.tick}\n")
            sys.stdout.flush()
    except StaleEpochError:
        return STALE
    finally:
        await database.aclose()


async def _read(writer: SignalWriter) -> TickMaker:
    """Read where the log ends, and add a gap as a leader does that was away."""
    state = await writer.read_state()
    maker = TickMaker(state)
    if state.last_tick:
        first, last = state.last_tick + 1, state.last_tick + 2
        await writer.write_gap(first, last, START_MS + 5000 * last, "restarted")
        maker.tick = last
    return maker


async def _write_until_known(writer: SignalWriter, tick: TickToWrite) -> None:
    """Write a tick again as long as PostgreSQL is away, which does not say whether it has committed it."""
    deadline = time.monotonic() + 60
    while True:
        try:
            await writer.write_tick(tick)
        except PostgresAwayError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    sys.exit(asyncio.run(write_ticks(*sys.argv[1:])))
