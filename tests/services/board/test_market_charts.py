"""Charts from a database and a Redis that the test holds."""

import contextlib
import time

import orjson
import pytest

from marketswarm.keys import chart_key
from marketswarm.market.records import Bar, Provenance
from marketswarm.testing import MemoryBus
from services.board.market.archive_reader import NOT_SET, ArchiveReader, DatabaseAwayError
from services.board.market.charts import (
    CHART_SEC,
    AnswerCache,
    ChartStore,
    encode_base,
    make_answer,
    parse_base,
)
from services.board.market.live import LiveBar, LiveMarket
from services.board.market.query import TableFormat
from services.board.market.tables import AnswerTable, Column


def make_bar(start, close=1.0, rev=0):
    bar = Bar("SPY", "1m", 60_000 * start, close, close, close, close)
    return LiveBar(bar, Provenance("yahoo"), True, rev)


class Archive:
    """A database that counts its questions."""

    def __init__(self, *bars):
        self.rows, self.asked = [one.make_row() for one in bars], 0

    async def read_bars(self, _symbol, _timeframe, query):
        self.asked += 1
        return self.rows[-query.limit :]

    async def find_asset(self, _symbol):
        return "stocks"

    @contextlib.asynccontextmanager
    async def limit_answer(self):
        yield


@pytest.fixture
def live():
    live = LiveMarket()
    live.began_at = 0.0
    return live


def closes(rows):
    return [row[4] for row in rows]


async def test_a_chart_is_asked_of_the_database_once_and_then_of_redis(live):
    archive, bus = Archive(make_bar(1), make_bar(2, 2.0)), MemoryBus("market-redis")
    first = ChartStore(archive, live, lambda: bus)
    assert closes((await first.find_rows("SPY", "1m", 500))[0]) == [1.0, 2.0]
    assert (await first.find_rows("SPY", "1m", 1))[1] == "stocks"
    second = ChartStore(archive, live, lambda: bus)
    assert closes((await second.find_rows("SPY", "1m", 500))[0]) == [1.0, 2.0]
    assert archive.asked == 1
    assert (first.counts.memory, first.counts.archive, second.counts.redis) == (1, 1, 1)
    assert 0 < await bus.client.ttl(chart_key("SPY", "1m")) <= CHART_SEC


async def test_what_the_stream_has_is_shown_at_once_though_the_database_is_behind(live):
    archive = Archive(make_bar(1), make_bar(2, 2.0))
    store = ChartStore(archive, live, lambda: None)
    await store.find_rows("SPY", "1m", 500)
    live.take_bar(make_bar(2, 2.5, rev=1), time.time())
    live.take_bar(make_bar(3, 3.0), time.time())
    assert closes((await store.find_rows("SPY", "1m", 500))[0]) == [1.0, 2.5, 3.0]
    assert archive.asked == 1


async def test_the_database_is_asked_anew_once_the_stream_has_dropped_bars_since(live):
    archive = Archive(make_bar(1))
    store = ChartStore(archive, live, lambda: None)
    await store.find_rows("SPY", "1m", 500)
    for number in range(30):
        live.take_bar(make_bar(10 + number), time.time() + 1)
    archive.rows = [make_bar(1 + number).make_row() for number in range(39)]
    assert len((await store.find_rows("SPY", "1m", 500))[0]) == 39
    assert archive.asked == 2


async def test_without_redis_the_database_answers_and_without_a_database_the_reason(live):
    bus = MemoryBus("market-redis")
    bus.connected = False
    archive = Archive(make_bar(1))
    assert closes((await ChartStore(archive, live, lambda: bus).find_rows("SPY", "1m", 5))[0]) == [1.0]
    with pytest.raises(DatabaseAwayError, match="DATABASE_URL is not set"):
        await ChartStore(ArchiveReader(None), live, lambda: None).find_rows("SPY", "1m", 5)
    assert "DATABASE_URL" in NOT_SET


def test_what_redis_has_is_read_only_if_it_is_whole():
    row = list(make_bar(1).make_row())
    good = orjson.dumps({"made_at": 5.0, "asset": "stocks", "rows": [row]})
    base = parse_base(good)
    assert encode_base(base) == good
    for wrong in (
        b"",
        b"[]",
        b"{}",
        good[:-2],
        orjson.dumps({"made_at": 5, "asset": "", "rows": [row[:-1]]}),
    ):
        assert parse_base(wrong) is None


def test_an_answer_is_kept_while_its_version_is_the_present_one():
    cache, answer = AnswerCache(), make_answer(AnswerTable("x", (Column("a"),), [(1,)]), TableFormat.JSON)
    cache.keep("key", 1, 100.0, answer)
    assert cache.find("key", 1, 99.0) is answer
    assert cache.find("key", 2, 99.0) is None
    assert cache.find("key", 1, 100.0) is None
    assert (cache.hits, cache.misses) == (1, 2)
    other = make_answer(AnswerTable("x", (Column("a"),), [(2,)]), TableFormat.JSON)
    assert answer.etag != other.etag
