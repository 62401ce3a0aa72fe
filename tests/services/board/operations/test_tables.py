"""What the board says of the database, from its tables and from archive's own reports."""

from types import SimpleNamespace

from marketswarm.bus import BusError
from marketswarm.operator.service_reports import BackupReport, BackupState, DatabaseReport
from services.board.operations.tables import TableBoard


def make_board(read_reports):
    async def fetch(sql, *_values):
        return [(7,)] if "pg_database_size" in sql else []

    return TableBoard(SimpleNamespace(fetch=fetch), SimpleNamespace(read_reports=read_reports))


async def test_the_last_backup_and_the_last_verified_restore_are_those_of_archives_report():
    async def read_reports():
        backup = BackupReport(state=BackupState.IDLE, ts=9.0, made_at=5.0, verified_at=4.0)
        return backup, DatabaseReport(ts=9.0, connections=3, lag_sec=0.5)

    found = await make_board(read_reports).read()
    assert (found.last_backup_at, found.last_verified_restore_at, found.away) == (5.0, 4.0, None)
    assert (found.size_bytes, found.connections, found.lag_sec) == (7, 3, 0.5)


async def test_a_bus_that_is_away_leaves_both_unknown_and_is_named():
    async def read_reports():
        raise BusError("system-redis", "timeout")

    found = await make_board(read_reports).read()
    assert (found.last_backup_at, found.last_verified_restore_at) == (None, None)
    assert found.away == "bus system-redis does not answer: timeout"
