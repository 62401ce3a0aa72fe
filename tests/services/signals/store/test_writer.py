"""Ticks, gaps and changes of the key on a real PostgreSQL: each once, as a whole, by the newest leader."""

import asyncio
from random import Random

import orjson
import pytest

from marketswarm.postgres.errors import PostgresAwayError, RefusedRowsError
from services.signals.log.entries import PlaceOutcome, make_place
from services.signals.log.merkle import hash_entry
from services.signals.store.database import LogMovedError, SignalDatabase, StaleEpochError
from services.signals.store.reader import AuditReader, MissingRowError
from services.signals.store.writer import SignalWriter, StoredState
from support.signal_log import START_MS, SYMBOLS, TickMaker, check_log, make_signal
from support.waiting import auntil


async def begin(database, instance="one"):
    writer = SignalWriter(database)
    await writer.begin_epoch(instance)
    return writer, TickMaker(await writer.read_state())


def all_symbols(tick):
    return {symbol: make_signal(tick, symbol) for symbol in SYMBOLS}


async def test_a_new_log_is_empty_and_its_first_tick_is_entry_0(database):
    writer = SignalWriter(database)
    assert await writer.begin_epoch("one") == 1
    state = await writer.read_state()
    assert (state.size, state.last_tick, state.last, state.decided) == (0, 0, {}, {})
    await writer.write_tick(TickMaker(state).make(0, all_symbols(1)))
    assert writer.size == 1
    assert await check_log(database) == [1]


async def test_what_is_read_back_is_what_was_written(database):
    writer, maker = await begin(database)
    first = maker.make(0, all_symbols(1))
    await writer.write_tick(first)
    closed = make_place("S03", PlaceOutcome.CLOSED, since=2)
    short = make_signal(2, "S04", "short", "-0.350000000000")
    second = maker.make(1, {"S03": closed, "S04": short})
    await writer.write_tick(second)
    await writer.write_gap(3, 9, START_MS + 50_000, "the database was away")
    await writer.write_key_change(START_MS + 51_000, "old", "new", ["one", "two"])
    state = await SignalWriter(database).read_state()
    assert (state.size, state.last_tick, state.last_at_ms) == (4, 9, START_MS + 50_000)
    assert state.newest_at_ms == START_MS + 51_000
    assert dict(state.last) == {row.symbol: row for row in [*first.rows, *second.rows]}
    assert state.decided["S03"] == first.rows[3]
    assert state.decided["S04"] == second.rows[1]
    reader = AuditReader(database)
    assert await reader.read_entries(0, 2) == [first.entry, second.entry]
    assert [row async for row in reader.read_rows(1, 3)] == [*first.rows, *second.rows]
    assert await reader.read_newest_key() == "new"
    assert await check_log(database) == list(range(1, 10))


async def test_only_the_newest_leader_writes_and_an_older_one_is_told_so(database):
    older, maker = await begin(database)
    await older.write_tick(maker.make(0, all_symbols(1)))
    newer, further = await begin(database, "two")
    assert newer.epoch == older.epoch + 1
    with pytest.raises(StaleEpochError):
        await older.write_tick(maker.make(1, {}))
    with pytest.raises(StaleEpochError):
        await older.write_gap(2, 3, START_MS, "none of its own")
    await newer.write_tick(further.make(1, {}))
    assert await check_log(database) == [1, 2]


async def test_a_leader_that_begins_waits_for_the_transaction_of_the_one_before(
    database, owner, connect, signals_url
):
    await begin(database)
    held = await connect(signals_url)
    await held.execute("BEGIN")
    await held.execute(
        "INSERT INTO signal_log (n, kind, epoch, at, entry) VALUES (0, 'gap', 1, now(), $1)",
        '{"kind":"gap","last":7,"n":0}',
    )
    beginning = asyncio.create_task(begin(database, "two"))
    waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
    await auntil(lambda: owner.fetchval(waits))
    assert not beginning.done()
    await held.execute(
        "INSERT INTO signal_nodes VALUES (0, 0, $1)", hash_entry(b'{"kind":"gap","last":7,"n":0}')
    )
    await held.execute("COMMIT")
    writer, maker = await beginning
    assert (writer.epoch, writer.size, maker.tick) == (2, 1, 7)


async def test_two_leaders_that_write_at_once_write_no_tick_twice(signals_url):
    databases = [SignalDatabase(signals_url) for _ in range(2)]
    written: list[int] = []

    async def lead(number):
        random = Random(number)
        while len(written) < 60:
            try:
                writer, maker = await begin(databases[number], f"instance {number}")
                for _ in range(random.randint(1, 8)):
                    tick = maker.make_random(writer.size, random)
                    await writer.write_tick(tick)
                    written.append(tick.tick)
            except (StaleEpochError, LogMovedError):
                continue

    try:
        await asyncio.gather(lead(0), lead(1))
        assert len(written) == len(set(written))
        assert await check_log(databases[0]) == sorted(written)
        epochs = await SignalWriter(databases[0]).join_epoch()
        assert epochs > 4, "they took the lead from each other"
    finally:
        for each in databases:
            await each.aclose()


async def test_a_tick_that_is_written_again_is_there_once(database):
    writer, maker = await begin(database)
    tick = maker.make(0, all_symbols(1))
    await writer.write_tick(tick)
    again = SignalWriter(database)
    again.epoch = writer.epoch  # it does not know that it was committed
    await again.write_tick(tick)
    assert again.size == 1
    assert await check_log(database) == [1]
    other = SignalWriter(database)
    other.epoch = writer.epoch
    with pytest.raises(LogMovedError):
        await other.write_tick(
            TickMaker(StoredState()).make(0, {**all_symbols(1), "S00": make_signal(1, "S00", "flat")})
        )
    await writer.write_tick(maker.make(1, {}))
    assert await check_log(database) == [1, 2]


async def test_a_row_that_postgresql_refuses_leaves_nothing_of_its_tick(database):
    writer, maker = await begin(database)
    tick = maker.make(0, all_symbols(1))
    wrong = tick.rows[5]._replace(score="1.5")
    with pytest.raises(RefusedRowsError):
        await writer.write_tick(
            type(tick)(tick.tick, tick.at_ms, tick.entry, tick.symbols, [*tick.rows[:5], wrong])
        )
    assert writer.size == 0
    assert await AuditReader(database).read_size() == 0
    await writer.write_tick(tick)
    assert await check_log(database) == [1]


async def test_an_entry_of_another_number_is_not_written(database):
    writer, maker = await begin(database)
    with pytest.raises(ValueError, match="not entry 0"):
        await writer.write_tick(maker.make(1, all_symbols(1)))


async def test_a_key_is_changed_beside_the_leader_which_reads_the_log_again(database):
    writer, maker = await begin(database)
    await writer.write_tick(maker.make(0, all_symbols(1)))
    command = SignalWriter(database)
    assert await command.join_epoch() == writer.epoch
    await command.read_state()
    await command.write_key_change(START_MS + 5000, "old", "new", [])
    with pytest.raises(LogMovedError):
        await writer.write_tick(maker.make(1, {}))
    again = TickMaker(await writer.read_state())
    await writer.write_tick(again.make(2, {}))
    assert await check_log(database) == [1, 2]


async def test_places_of_symbols_that_come_and_go_are_those_that_were_written(database):
    writer, maker = await begin(database)
    few = SYMBOLS[:3]
    ticks = [
        maker.make(0, {symbol: make_signal(1, symbol) for symbol in few}, few),
        maker.make(1, {"S05": make_signal(2, "S05")}, (*few, "S05")),
        maker.make(2, {}, ("S00", "S05")),
        maker.make(3, {"S01": make_place("S01", PlaceOutcome.CLOSED, since=4)}, few),
        maker.make(4, {"S01": make_place("S01", PlaceOutcome.UNCHANGED, since=5)}, few),
        maker.make(5, {}, few),
    ]
    for tick in ticks:
        await writer.write_tick(tick)
    assert await check_log(database) == [1, 2, 3, 4, 5, 6]
    reader = AuditReader(database)
    assert await reader.read_symbols(ticks[2].entry) == ("S00", "S05")
    last = await reader.read_places(6)
    assert [orjson.loads(text) for text in last.texts] == [
        {"v": 1, "symbol": "S00", "outcome": "unchanged", "since": 1},
        {"v": 1, "symbol": "S01", "outcome": "unchanged", "since": 5},
        {"v": 1, "symbol": "S02", "outcome": "unchanged", "since": 1},
    ]


async def test_a_row_that_is_gone_is_named_and_not_made_up(database, owner):
    writer, maker = await begin(database)
    await writer.write_tick(maker.make(0, all_symbols(1)))
    await writer.write_tick(maker.make(1, {}))
    reader = AuditReader(database)
    with pytest.raises(MissingRowError, match="no tick 3"):
        await reader.read_places(3)
    await owner.execute("ALTER TABLE signals DISABLE TRIGGER USER; DELETE FROM signals WHERE symbol = 'S07'")
    with pytest.raises(MissingRowError, match="S07"):
        await reader.read_places(2)
    await owner.execute("ALTER TABLE signal_nodes DISABLE TRIGGER ALL; DELETE FROM signal_nodes")
    with pytest.raises(MissingRowError, match="nodes"):
        await SignalWriter(database).read_state()


async def test_without_tables_postgresql_counts_as_away(postgres):
    database = SignalDatabase(await asyncio.to_thread(postgres.new_database))
    try:
        with pytest.raises(PostgresAwayError):
            await SignalWriter(database).begin_epoch("one")
    finally:
        await database.aclose()


async def test_the_rules_of_ticks_are_stored_once_and_by_the_digest_that_their_entries_name(database, owner):
    writer, maker = await begin(database)
    one, two = b'{"weights":{"a":"1"}}', b'{"weights":{"a":"2"}}'
    for n, rules in enumerate((one, one, two, two, one)):
        await writer.write_tick(maker.make(n, all_symbols(1) if not n else {}, rules=rules))
    await writer.read_state()
    await writer.write_tick(maker.make(5, {}, rules=one))
    named = [orjson.loads(entry)["rules"] for (entry,) in await owner.fetch("SELECT entry FROM signal_log")]
    assert named == [hash_entry(each).hex() for each in (one, one, two, two, one, one)]
    stored = {digest: text.encode() for digest, text in await owner.fetch("SELECT * FROM signal_rules")}
    assert stored == {hash_entry(each): each for each in (one, two)}
    assert await check_log(database) == [1, 2, 3, 4, 5, 6]
