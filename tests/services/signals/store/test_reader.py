"""What provers read of the log: many places, checkpoints and cosignatures, spans of time."""

import pytest

from marketswarm.postgres.errors import RefusedRowsError
from services.signals.log.entries import PlaceOutcome, make_place
from services.signals.log.merkle import hash_entry, hash_tree
from services.signals.store.checkpoints import CheckpointTables
from services.signals.store.reader import AuditReader, MissingRowError
from services.signals.store.writer import SignalWriter
from support.signal_log import START_MS, SYMBOLS, TickMaker, make_signal

NIGHTLY = pytest.mark.nightly("5,000 places in every run")


@pytest.mark.parametrize("many", [5_000, pytest.param(100_000, marks=NIGHTLY)])
async def test_many_places_are_written_and_read_again_stored_or_not(database, many):
    symbols = tuple(f"S{number:06}" for number in range(many))
    writer = SignalWriter(database)
    await writer.begin_epoch("one")
    maker = TickMaker(await writer.read_state())
    first = maker.make(0, {symbol: make_signal(1, symbol) for symbol in symbols}, symbols)
    await writer.write_tick(first)
    second = maker.make(1, {symbols[7]: make_signal(2, symbols[7], "flat")}, symbols)
    await writer.write_tick(second)
    reader = AuditReader(database)
    for tick in (first, second):
        places = await reader.read_places(tick.tick)
        assert len(places.texts) == many
        assert f'"root":"{hash_tree(places.hashes).hex()}"'.encode() in tick.entry
    state = await SignalWriter(database).read_state()
    assert len(state.last) == len(state.decided) == many
    assert state.last[symbols[7]].tick == 2
    rows = [row async for row in reader.read_rows(1, 3)]
    assert rows == [*first.rows, *second.rows]


async def test_checkpoints_and_cosignatures_are_stored_once_and_the_largest_is_read(database):
    tables = CheckpointTables(database)
    assert await tables.read_checkpoint() is None
    assert await tables.read_cosigned_checkpoint() is None
    assert await tables.read_cosignature("one") is None
    for size in (1, 5, 9):
        await tables.write_checkpoint(size, 1e9 + size + 0.5, f"note {size}\n".encode())
    await tables.write_checkpoint(5, 2e9, b"another\n")
    assert await tables.read_checkpoint() == b"note 9\n"
    for size, witness, at_sec in ((1, "one", 11), (5, "one", 12), (5, "other", 13), (1, "third", 14)):
        await tables.write_cosignature(size, witness, at_sec, f"{witness} {size}\n")
    await tables.write_cosignature(5, "one", 99, "again\n")
    assert await tables.read_cosignature("one") == (5, 12, "one 5\n")
    assert await tables.read_cosigned_checkpoint() == b"note 5\none 5\nother 5\n"
    assert await tables.read_cosigned_checkpoint("third") == b"note 1\none 1\nthird 1\n"
    with pytest.raises(RefusedRowsError):
        await tables.write_cosignature(7, "one", 15, "of no checkpoint\n")


async def test_a_log_is_known_by_the_hash_of_its_first_entry(database):
    writer, reader = SignalWriter(database), AuditReader(database)
    with pytest.raises(MissingRowError, match="no first entry"):
        await reader.read_first_hash()
    await writer.begin_epoch("one")
    maker = TickMaker(await writer.read_state())
    first = maker.make(0, {symbol: make_signal(1, symbol) for symbol in SYMBOLS})
    for tick in (first, maker.make(1, {})):
        await writer.write_tick(tick)
        assert await reader.read_first_hash() == hash_entry(first.entry)


async def test_entries_are_found_by_their_time_and_a_missing_one_is_named(database):
    writer = SignalWriter(database)
    await writer.begin_epoch("one")
    maker = TickMaker(await writer.read_state())
    for _ in range(4):
        changed = {} if maker.tick else {symbol: make_signal(1, symbol) for symbol in SYMBOLS}
        await writer.write_tick(maker.make(writer.size, changed))
    reader = AuditReader(database)
    assert await reader.find_entries(START_MS + 10_000, START_MS + 20_000) == range(1, 3)
    assert await reader.find_entries(0, 2 * START_MS) == range(4)
    assert len(await reader.find_entries(0, START_MS)) == 0
    found = await reader.read_tick(3)
    assert (found.tick, found.n, found.at) == (3, 2, START_MS + 15_000)
    assert [found.entry.encode()] == await reader.read_entries(2, 3)
    assert await reader.read_tick(5) is None
    with pytest.raises(MissingRowError, match="2 entries from 2 up to 9"):
        await reader.read_entries(2, 9)


async def test_the_newest_places_for_which_votes_were_weighed_are_read_the_newest_first(database):
    writer, reader = SignalWriter(database), AuditReader(database)
    assert await reader.read_decided(10) == []
    await writer.begin_epoch("one")
    maker = TickMaker(await writer.read_state())
    made = []
    for tick in range(1, 6):
        contents = {symbol: make_signal(tick, symbol) for symbol in SYMBOLS}
        contents[SYMBOLS[0]] = make_place(
            SYMBOLS[0], PlaceOutcome.ABSTAINED, tick=tick, votes={}, why="quorum"
        )
        contents[SYMBOLS[1]] = make_place(SYMBOLS[1], PlaceOutcome.CLOSED, since=tick)
        contents[SYMBOLS[2]] = make_place(SYMBOLS[2], PlaceOutcome.FAILED, tick=tick, why="ValueError")
        await writer.write_tick(maker.make(writer.size, contents))
        made += [contents[symbol].decode() for symbol in SYMBOLS if symbol not in SYMBOLS[1:3]]
    assert await reader.read_decided(1000) == made[::-1]
    assert await reader.read_decided(40) == made[:-41:-1]
    assert await reader.read_decided(1) == made[:-2:-1]


async def test_how_many_places_are_looked_at_is_bounded(database):
    writer, reader = SignalWriter(database), AuditReader(database)
    await writer.begin_epoch("one")
    maker = TickMaker(await writer.read_state())
    await writer.write_tick(maker.make(0, {symbol: make_signal(1, symbol) for symbol in SYMBOLS}))
    closed = {symbol: make_place(symbol, PlaceOutcome.CLOSED, since=2) for symbol in SYMBOLS}
    await writer.write_tick(maker.make(1, closed))
    assert await reader.read_decided(1) == [], "all of the newest twenty are closed"
    assert len(await reader.read_decided(2)) == 2
