"""What a reader of the archive says without a database, and without a driver."""

import sys

import pytest

from marketswarm.agent.requests import RequestOutcome
from services.board.market.archive_reader import NO_DRIVER, NOT_SET, ArchiveReader, DatabaseAwayError


@pytest.mark.parametrize(
    ("url", "problem", "reason"),
    [(None, None, NOT_SET), ("postgresql://kim@127.0.0.1:1/market", NO_DRIVER, NO_DRIVER)],
)
async def test_a_board_without_a_database_or_its_driver_works_and_says_why_it_has_no_rows(
    monkeypatch, url, problem, reason
):
    monkeypatch.setitem(sys.modules, "marketswarm.postgres.pool", None)  # as without the extra
    reader = ArchiveReader(url)
    assert (reader.is_configured, reader.problem) == (url is not None, problem)
    await reader.watch()  # has nothing to look at
    with pytest.raises(DatabaseAwayError, match=reason[:30]):
        await reader.read_downloads(1)
    assert await reader.reconnect() == RequestOutcome(why=reason)
    await reader.close()
