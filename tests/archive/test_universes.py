"""The universes of past days: what the truth had, and when archive saw it."""

from datetime import UTC, datetime

import orjson
import pytest

from marketswarm.truth import parse_truth
from services.archive.universes import UniverseName, list_universe, write_universe

FIRST, SECOND, THIRD = (datetime(2026, 3, day, 12, tzinfo=UTC) for day in (1, 2, 3))
SPANS = "SELECT symbol, known_at, gone_at, asset, label FROM universes ORDER BY symbol, known_at"


def stock(symbol, label="stocks"):
    return UniverseName(symbol, "stocks", label, is_series=False)


def universe_of(spans, at):
    return [symbol for symbol, known, gone, *_ in spans if known <= at and (gone is None or gone > at)]


@pytest.fixture
async def schema(database, connection):
    async with database.connect():  # it makes the tables
        pass
    return connection


async def test_each_day_has_the_symbols_that_the_truth_had(schema):
    histories = [
        (FIRST, [stock("SPY", "indices"), stock("GE")]),
        (SECOND, [stock("GE"), stock("NVDA")]),
        (THIRD, [stock("GE"), stock("NVDA", "chips"), stock("SPY", "indices")]),
    ]
    for at, names in histories:
        await write_universe(schema, names, at.timestamp())
        assert await write_universe(schema, names, at.timestamp() + 60) == 0, "the same again changes nothing"
    spans = [tuple(row) for row in await schema.fetch(SPANS)]
    for at, names in histories:
        assert universe_of(spans, at) == sorted(each.symbol for each in names)
    assert spans == [
        ("GE", FIRST, None, "stocks", "stocks"),
        ("NVDA", SECOND, THIRD, "stocks", "stocks"),
        ("NVDA", THIRD, None, "stocks", "chips"),
        ("SPY", FIRST, SECOND, "stocks", "indices"),
        ("SPY", THIRD, None, "stocks", "indices"),
    ]


async def test_a_clock_that_went_back_makes_no_span_that_ends_before_it_began(schema):
    await write_universe(schema, [stock("SPY")], SECOND.timestamp())
    await write_universe(schema, [], FIRST.timestamp())
    await write_universe(schema, [stock("SPY")], FIRST.timestamp())
    spans = [tuple(row) for row in await schema.fetch(SPANS)]
    assert len(spans) == 2
    assert spans[0][1] < spans[0][2] <= spans[1][1]
    assert spans[1][2] is None


def test_a_universe_is_what_the_services_load():
    point = {"publish_to": [{"bus": "market-redis", "key": "market:series"}]}
    beats = {"interval_sec": 1, "timeout_sec": 5}
    entries = [
        {"symbols": ["SPY", "QQQ"], "group": "indices"},
        {"symbol": "UNRATE", "kind": "observations", "asset": "economic"},
        {"symbol": "<script>"},
    ]
    section = {"heartbeat": beats, "access_points": point, "endpoints": entries}
    section["settings"] = {"disabled": ["QQQ"]}
    truth = parse_truth(orjson.dumps({"fleet": "t", "services": {"sources": section}})).truth
    assert list_universe(truth) == [
        UniverseName("SPY", "stocks", "indices", is_series=False),
        UniverseName("UNRATE", "economic", "economic", is_series=True),
    ]
