"""Writers of the log that are killed anywhere, and a server that is: each tick once, none unaccounted for."""

import os
import re
import sys
from pathlib import Path
from random import Random

import pytest

from services.signals.store.database import SignalDatabase
from services.signals.store.reader import AuditReader
from support.pages import ROOT
from support.rig.process import Process
from support.signal_log import STALE, check_log
from support.waiting import auntil, until

_COMMITTED = re.compile(r"^committed (\d+)\n", re.MULTILINE)
LEAST_NEW = 3
"""How many ticks a writer must have committed before it is killed."""
WRITING = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE datname = current_database() AND locktype = 'transactionid' AND pid <> pg_backend_pid()
)
"""
"""Whether a transaction has begun to write, and is not committed."""
NIGHTLY = pytest.mark.nightly("ten kills of a writer in every run")


class WriterProcess(Process):
    """A process that writes ticks without end; what it said stays in its file."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        super().__init__()
        self.file = folder / f"{name}.txt"
        command = [sys.executable, "-m", "support.signal_log", url, name]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        with self.file.open("wb") as output:
            self.spawn(command, env=environ, cwd=folder, stdout=output, stderr=output)

    def __str__(self) -> str:
        return self.file.read_text(encoding="utf-8")[-1000:]

    @property
    def committed(self) -> list[int]:
        """The ticks of which it was told that they are committed."""
        # the driver writes lines, too, and a line that the kill cut short has no end
        return [int(tick) for tick in _COMMITTED.findall(self.file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=NIGHTLY)])
@pytest.mark.timeout(900)
async def test_writers_that_are_killed_anywhere_leave_each_tick_once_and_none_unaccounted_for(
    signals_url, owner, tmp_path, kills
):
    random, database = Random(kills), SignalDatabase(signals_url)
    written: list[int] = []
    writers: list[WriterProcess] = []
    try:
        for number in range(kills):
            writer = WriterProcess(signals_url, f"writer-{number}", tmp_path)
            writers.append(writer)
            wanted = LEAST_NEW + random.randrange(20)
            until(lambda: len(writer.committed) >= wanted, what=lambda: f"ticks: {writer}")  # noqa: B023 - asked at once
            if random.random() < 0.5:  # the next one begins while this one still writes
                writers.append(WriterProcess(signals_url, f"beside-{number}", tmp_path))
                until(lambda: len(writers[-1].committed) >= 1, what=lambda: f"ticks: {writers[-1]}")
                assert writer.wait() == STALE, str(writer)
            if random.random() < 0.8:
                await auntil(lambda: owner.fetchval(WRITING))
            writers[-1].kill()
            ticks = await check_log(database)
            written = [tick for each in writers for tick in each.committed]
            assert len(written) == len(set(written)), "a tick twice"
            assert set(written) <= set(ticks), "a tick that was committed is gone"
    finally:
        for each in writers:
            each.close()
        await database.aclose()
    assert len(written) >= kills * LEAST_NEW


async def test_a_server_that_is_killed_in_the_middle_has_each_tick_once_when_it_is_back(
    breakable_postgres, signals_url, tmp_path
):
    database = SignalDatabase(signals_url)
    with WriterProcess(signals_url, "writer", tmp_path) as writer:
        for _ in range(3):
            count = len(writer.committed)
            until(lambda: len(writer.committed) > count + 4, what=lambda: f"ticks: {writer}")  # noqa: B023 - asked at once
            breakable_postgres.kill()
            breakable_postgres.start()
        count = len(writer.committed)
        until(lambda: len(writer.committed) > count + 4, what=lambda: f"ticks: {writer}")
        writer.kill()
        await database.aclose()
        ticks = await check_log(database)
        assert set(writer.committed) <= set(ticks)
        assert len(ticks) - len(writer.committed) <= 1, "no tick was given up"
    await database.aclose()


async def test_a_transaction_that_is_in_the_middle_when_its_server_is_killed_leaves_nothing(
    breakable_postgres, signals_url, connect
):
    held = await connect(signals_url)
    await held.execute("INSERT INTO signal_epochs VALUES (1, now(), 'one')")
    await held.execute("BEGIN")
    await held.execute(
        "INSERT INTO signal_log (n, kind, tick, epoch, at, entry) VALUES (0, 'tick', 1, 1, now(), '{}')"
    )
    breakable_postgres.kill()
    breakable_postgres.start()
    database = SignalDatabase(signals_url)
    assert await AuditReader(database).read_size() == 0
    assert await check_log(database) == []
    await database.aclose()
