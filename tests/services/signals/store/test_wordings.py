"""A wording is stored once, beside a signal that is committed, and changes nothing of the log."""

import pytest

from marketswarm.postgres.errors import RefusedRowsError
from services.signals.store.wordings import WordingTable
from services.signals.store.writer import SignalWriter
from services.tables.signal_wordings import SELECT_WORDING, WordedSignal, Wording
from support.signal_log import SYMBOLS, TickMaker, check_log, make_signal

AT_MS = 1_790_000_000_123


def worded(text="the means rise", tick=1, symbol="S01"):
    return WordedSignal("a" * 64, tick, symbol, "long", Wording(text, "grok-4", AT_MS))


async def test_a_signal_is_worded_once_and_its_log_is_as_before(database, owner):
    writer = SignalWriter(database)
    await writer.begin_epoch("one")
    maker = TickMaker(await writer.read_state())
    await writer.write_tick(maker.make(0, {symbol: make_signal(1, symbol) for symbol in SYMBOLS}))
    log = await owner.fetch("SELECT * FROM signal_log"), await owner.fetch("SELECT * FROM signals")
    table = WordingTable(database)
    assert await table.write_wording(worded())
    assert not await table.write_wording(worded("another one"))
    (row,) = await owner.fetch(SELECT_WORDING, 1, "S01")
    assert Wording(*row) == worded().wording
    assert await owner.fetch(SELECT_WORDING, 1, "S02") == []
    assert (await owner.fetch("SELECT * FROM signal_log"), await owner.fetch("SELECT * FROM signals")) == log
    assert await check_log(database) == [1]


@pytest.mark.parametrize("one", [worded(tick=2), worded(symbol="S99"), worded(""), worded("x" * 201)])
async def test_what_is_no_committed_signal_or_no_short_text_is_refused(database, owner, one):
    writer = SignalWriter(database)
    await writer.begin_epoch("one")
    maker = TickMaker(await writer.read_state())
    await writer.write_tick(maker.make(0, {symbol: make_signal(1, symbol) for symbol in SYMBOLS}))
    with pytest.raises(RefusedRowsError):
        await WordingTable(database).write_wording(one)
    assert await owner.fetchval("SELECT count(*) FROM signal_wordings") == 0
