"""What archive says of its database, as far as it can be believed."""

import time

import orjson
import pytest

from marketswarm.bus.stored_values import count_unusable
from marketswarm.keys import ARCHIVE_DATABASE
from marketswarm.operator.service_reports import (
    MAX_SKEW_SEC,
    MAX_TABLES,
    DatabaseReport,
    DatedTable,
    list_ruled_tables,
    read_database_report,
)
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth

NOW = 1_793_000_000.0
WHOLE = {
    "ts": NOW, "lag_sec": 0.5, "connections": 9, "connection_limit": 97, "idle_transactions": 0,
    "size_bytes": 7_000_000, "memory_percent": 0.5, "replicas": 1, "replica_lag_sec": 0.0,
    "table_ages": {"bars": 61.5},
}  # fmt: skip


@pytest.fixture
def bus():
    return MemoryBus()


async def test_a_report_comes_back_as_it_was_written(bus):
    assert await read_database_report(bus, NOW) is None
    report = DatabaseReport(**WHOLE)
    await bus.client.set(ARCHIVE_DATABASE, report.encode())
    assert await read_database_report(bus, NOW) == report
    assert report.find_connection_percent() == pytest.approx(100 * 9 / 97)
    assert DatabaseReport(ts=NOW, connections=9).find_connection_percent() is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"ts": "now"},
        {"ts": None},
        {"lag_sec": -1},
        {"lag_sec": "3"},
        {"lag_sec": 1e10},
        {"connections": True},
        {"connections": 1.5},
        {"connections": 10**12},
        {"connection_limit": 0},
        {"size_bytes": -1},
        {"memory_percent": -0.1},
        {"replica_lag_sec": []},
        {"table_ages": {"bars": None}},
        {"table_ages": {"bars": -1}},
        {"table_ages": {"Bars; DROP": 1}},
        {"table_ages": {f"t{'x' * number}": 1 for number in range(MAX_TABLES + 1)}},
        {"table_ages": [["bars", 1]]},
    ],
)
async def test_a_report_with_a_value_that_can_not_be_is_not_believed_in_any_part(bus, wrong):
    before = count_unusable()
    await bus.client.set(ARCHIVE_DATABASE, orjson.dumps({**WHOLE, **wrong}))
    assert await read_database_report(bus, NOW) is None
    assert count_unusable() == before + 1


@pytest.mark.parametrize("raw", [b"junk", b"[]", b"{}", b"\xff", b"[" * 5000, b'{"ts":1e999}'])
async def test_what_is_not_a_report_is_not_known(bus, raw):
    await bus.client.set(ARCHIVE_DATABASE, raw)
    assert await read_database_report(bus, NOW) is None


@pytest.mark.parametrize("off_sec", [-MAX_SKEW_SEC - 1, MAX_SKEW_SEC + 1])
async def test_an_old_report_that_does_not_expire_is_not_known_nor_is_one_of_the_future(bus, off_sec):
    await bus.client.set(ARCHIVE_DATABASE, DatabaseReport(**{**WHOLE, "ts": NOW + off_sec}).encode())
    assert await read_database_report(bus, NOW) is None


async def test_a_report_of_a_later_release_is_read_as_far_as_it_is_known(bus):
    later = {**WHOLE, "ts": time.time(), "checkpoints": [1], "table_ages": {"ledger": 5, "bars": 1}}
    await bus.client.set(ARCHIVE_DATABASE, orjson.dumps(later))
    report = await read_database_report(bus, time.time())
    assert report.table_ages == {"ledger": 5, "bars": 1}


def test_the_tables_of_rules_are_read_from_any_truth():
    def tables(medic):
        return list_ruled_tables(parse_truth(orjson.dumps({"services": {"medic": medic}})).truth)

    rules = {
        "a": {"table": "quotes"},
        "b": {"table": "bars"},
        "c": {"table": "quotes"},
        "d": {"table": ["bars"]},
    }
    assert tables(
        {"settings": {"rules": {**rules, "e": {"table": "pg_shadow"}, "f": None, "g": "bars"}}}
    ) == [*(DatedTable.BARS, DatedTable.QUOTES)]
    for settings in ({}, {"rules": None}, {"rules": []}, {"rules": {"a": {}}}):
        assert tables({"settings": settings}) == []
    assert list_ruled_tables(parse_truth(b'{"services": {}}').truth) == []
