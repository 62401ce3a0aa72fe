"""Charts from a database and a Redis that the test holds."""

import asyncio
import contextlib
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.keys import chart_key
from marketswarm.testing import MemoryBus
from services.board.market.archive_reader import NOT_SET, ArchiveReader, DatabaseAwayError
from services.board.market.bar_table import find_cursor, make_bars
from services.board.market.charts import (
    CHART_SEC,
    RENEW_SEC,
    ChartBase,
    ChartFinder,
    parse_base,
)
from services.board.market.live import NEVER, LiveMarket
from services.board.market.query import TableQuery
from services.market.fields import MAX_MS
from services.market.sessions import get_session
from services.tables.rows import BarRow
from support.waiting import auntil

NEWEST = TableQuery()


def make_bar(start, close=1.0, rev=0):
    origin = True, rev, 0, "yahoo", None, None, False
    return BarRow("SPY", "1m", 60_000 * start, close, close, close, close, None, None, None, *origin)


class Archive:
    """A database that counts its questions."""

    def __init__(self, *bars):
        self.rows, self.asked = [one.cells for one in bars], 0

    async def read_range(self, _table, _key, query):
        self.asked += 1
        end = MAX_MS if query.before_ms is None else query.before_ms
        return [row for row in self.rows if (query.from_ms or 0) <= row[0] < end][-query.limit :]

    async def find_asset(self, _symbol):
        return "crypto"

    @contextlib.asynccontextmanager
    async def limit_answer(self):
        yield


@pytest.fixture
def live():
    live = LiveMarket()
    live.began_at = NEVER
    return live


def closes(rows):
    return [row[4] for row in rows]


async def find(store, limit=500):
    return await store.find_newest("SPY", "1m", limit)


async def count_missing(store, query=NEWEST):
    """How many bars a page of a chart says are missing."""
    found = await (find(store) if query.is_latest else store.find_range("SPY", "1m", query))
    gaps = make_bars(("SPY", "1m"), found, query, get_session("24x7")).about["gaps"]
    return sum(one["missing"] for one in gaps)


async def test_a_chart_is_asked_of_the_database_once_and_then_of_redis(live):
    archive, bus = Archive(make_bar(1), make_bar(2, 2.0)), MemoryBus("market-redis")
    first = ChartFinder(archive, live, lambda: bus)
    assert closes((await find(first)).rows) == [1.0, 2.0]
    assert (await find(first, 1)).asset == "crypto"
    second = ChartFinder(archive, live, lambda: bus)
    assert closes((await find(second)).rows) == [1.0, 2.0]
    assert archive.asked == 1
    assert (first.bases.counts.memory, first.bases.counts.source, second.bases.counts.redis) == (1, 1, 1)
    assert 0 < await bus.client.ttl(chart_key("SPY", "1m")) <= CHART_SEC


async def test_what_the_stream_has_is_shown_at_once_though_the_database_is_behind(live):
    archive = Archive(make_bar(1), make_bar(2, 2.0))
    store = ChartFinder(archive, live, lambda: None)
    await find(store)
    live.take_bar(make_bar(2, 2.5, rev=1), time.time())
    live.take_bar(make_bar(3, 3.0), time.time())
    assert closes((await find(store)).rows) == [1.0, 2.5, 3.0]
    assert archive.asked == 1


@pytest.mark.parametrize("query", [TableQuery(from_ms=120_000), TableQuery(limit=700)])
async def test_a_page_of_a_range_is_as_new_as_the_stream(live, query):
    store = ChartFinder(Archive(make_bar(1), make_bar(2, 2.0)), live, lambda: None)
    for bar in (make_bar(0, 7.0), make_bar(2, 2.5, rev=1), make_bar(3, 3.0)):
        live.take_bar(bar, time.time())
    found = await store.find_range("SPY", "1m", query)
    assert closes(found.rows)[-2:] == [2.5, 3.0]
    assert all(row[0] >= (query.from_ms or 0) for row in found.rows)


@given(
    archived=st.sets(st.integers(0, 40)),
    streamed=st.sets(st.integers(0, 40)),
    limit=st.integers(1, 9),
    first=st.integers(0, 20),
)
def test_the_pages_of_a_range_have_each_bar_of_both_once(archived, streamed, limit, first):
    async def read_all():
        live = LiveMarket()
        live.began_at = NEVER
        for start in sorted(streamed):
            live.take_bar(make_bar(start), 1.0)
        store = ChartFinder(Archive(*map(make_bar, sorted(archived))), live, lambda: None)
        starts, cursor = [], None
        while True:
            query = TableQuery(from_ms=60_000 * first, limit=limit, cursor=cursor)
            page = [row[0] for row in (await store.find_range("SPY", "1m", query)).rows]
            starts, cursor = page + starts, find_cursor(page, query)
            if cursor is None:
                return starts

    wanted = sorted(start for start in archived | streamed if start >= first)
    assert asyncio.run(read_all()) == [60_000 * start for start in wanted]


async def test_many_bars_at_once_are_no_gap_though_the_database_has_none_of_them(live):
    archive = Archive(*(make_bar(number) for number in range(100)))
    store = ChartFinder(archive, live, lambda: None)
    now = time.time()
    live.archived_at = now - 5
    for number in range(60):
        live.take_bar(make_bar(100 + number), now)
    assert await count_missing(store) == 0
    assert len((await find(store)).rows) == 160


async def test_an_archive_that_is_an_hour_behind_makes_no_gap(live):
    archive = Archive(*(make_bar(number) for number in range(100)))
    store = ChartFinder(archive, live, lambda: None)
    now = time.time()
    live.archived_at = now - 3600
    for number in range(60):
        live.take_bar(make_bar(100 + number), now - 60 * (59 - number))
    for query in (TableQuery(), TableQuery(from_ms=0), TableQuery(limit=20, cursor=str(60_000 * 150))):
        assert await count_missing(store, query) == 0
    archive.rows = [make_bar(number).cells for number in range(160)]
    live.archived_at = now
    assert len((await find(store)).rows) == 160


async def test_what_the_stream_does_not_reach_back_to_is_not_said_to_be_missing_and_not_kept(live):
    archive = Archive(*(make_bar(number) for number in range(100) if number not in (50, 51)))
    store = ChartFinder(archive, live, lambda: None)
    now = time.time()
    live.began_at = live.archived_at = now - 60  # older entries were trimmed off the stream
    live.take_bar(make_bar(140), now)
    for query in (TableQuery(), TableQuery(from_ms=0)):
        assert await count_missing(store, query) == 2, "only those that the database itself lacks"
    assert await count_missing(store, TableQuery(limit=1, cursor=str(60_000 * 140))) == 0
    archive.rows = [make_bar(number).cells for number in range(141)]
    assert len((await find(store)).rows) == 141
    live.archived_at = now - 30
    archive.rows.pop(120)
    assert await count_missing(store) == 1, "what neither has is a gap"


async def test_a_chart_is_kept_until_what_the_database_had_is_due_and_no_longer_than_that(live):
    store = ChartFinder(Archive(make_bar(1)), live, lambda: None)
    begun = time.time()
    first = await find(store)
    assert begun + RENEW_SEC <= first.keep_until <= time.time() + RENEW_SEC
    keep_base(store, "OLD", begun - RENEW_SEC)
    assert store.find_kept("OLD", "1m", 500).keep_until == begun - RENEW_SEC + CHART_SEC
    assert (await find(store)).keep_until == first.keep_until
    live.began_at = live.archived_at = time.time()
    assert (await find(store)).keep_until == 0


def keep_base(store, symbol, made_at):
    """Have a chart in memory as the database had it then: with one bar."""
    store.bases.keep((symbol, "1m"), ChartBase(made_at, made_at, "crypto", [make_bar(1).cells]))


class SlowArchive(Archive):
    """A database whose answers wait for the test; notes how many it was asked for at once, and for whom."""

    def __init__(self, *bars):
        super().__init__(*bars)
        self.symbols, self.at_once, self.most, self.go = [], 0, 0, asyncio.Event()

    async def read_range(self, table, key, query):
        self.symbols.append(key[0])
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.go.wait()
            return await super().read_range(table, key, query)
        finally:
            self.at_once -= 1


@contextlib.asynccontextmanager
async def renewing(store):
    task = asyncio.create_task(store.renew_bases())
    yield task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_charts_that_become_old_are_read_again_one_at_a_time_while_the_kept_ones_answer(
    live, monkeypatch
):
    monkeypatch.setattr("services.board.market.charts.RENEW_PAUSE_SEC", 0.0)
    archive, bus = SlowArchive(make_bar(1), make_bar(2, 2.0)), MemoryBus("market-redis")
    store, now = ChartFinder(archive, live, lambda: bus), time.time()
    names = [f"S{number}" for number in range(6)]
    for name in names:
        keep_base(store, name, now - RENEW_SEC - 1)
    keep_base(store, "YOUNG", now - RENEW_SEC + 60)
    async with renewing(store):
        for name in (*names, "YOUNG", *names):
            assert closes((await store.find_newest(name, "1m", 500)).rows) == [1.0], "nobody waits"
        await auntil(lambda: archive.symbols)
        assert closes((await store.find_newest("S0", "1m", 500)).rows) == [1.0], "also while it is read"
        archive.go.set()
        await auntil(lambda: all(len(store.find_kept(name, "1m", 500).rows) == 2 for name in names))
        await auntil(lambda: not archive.at_once)
        assert sorted(archive.symbols) == names, "each once, and none that is young"
        assert archive.most == 1
    other = ChartFinder(archive, live, lambda: bus)
    assert len((await other.find_newest("S5", "1m", 500)).rows) == 2
    assert archive.symbols.count("S5") == 1, "the next board finds it in Redis"


async def test_a_chart_that_nobody_asks_for_is_not_read_again(live, monkeypatch):
    monkeypatch.setattr("services.board.market.charts.RENEW_PAUSE_SEC", 0.0)
    archive = SlowArchive(make_bar(1))
    archive.go.set()
    store = ChartFinder(archive, live, lambda: None)
    for name in ("ASKED", "QUIET"):
        keep_base(store, name, time.time() - RENEW_SEC - 1)
    async with renewing(store):
        store.find_kept("ASKED", "1m", 500)
        await auntil(lambda: store.find_kept("ASKED", "1m", 500).keep_until > time.time() + RENEW_SEC - 5)
        assert archive.symbols == ["ASKED"]


async def test_a_database_that_is_away_leaves_the_kept_chart_and_is_asked_again_later(live, monkeypatch):
    monkeypatch.setattr("services.board.market.charts.RENEW_PAUSE_SEC", 0.0)

    class Away(Archive):
        is_away = True

        async def read_range(self, *values):
            if self.is_away:
                self.asked += 1
                raise DatabaseAwayError(NOT_SET)
            return await super().read_range(*values)

    archive = Away(make_bar(1), make_bar(2, 2.0))
    store = ChartFinder(archive, live, lambda: None)
    keep_base(store, "SPY", time.time() - RENEW_SEC - 1)
    async with renewing(store) as task:
        assert closes((await find(store)).rows) == [1.0]
        await auntil(lambda: archive.asked)
        archive.is_away = False
        await auntil(lambda: len(store.find_kept("SPY", "1m", 500).rows) == 2)
        assert not task.done()


async def test_without_redis_the_database_answers_and_without_a_database_the_reason(live):
    bus = MemoryBus("market-redis")
    bus.connected = False
    archive = Archive(make_bar(1))
    assert closes((await find(ChartFinder(archive, live, lambda: bus))).rows) == [1.0]
    with pytest.raises(DatabaseAwayError, match="DATABASE_URL is not set"):
        await find(ChartFinder(ArchiveReader(None), live, lambda: None))
    assert "DATABASE_URL" in NOT_SET


@pytest.mark.parametrize("archived_at", [NEVER, 4.5])
def test_what_is_kept_of_a_chart_is_read_as_it_was(archived_at):
    base = ChartBase(5.0, archived_at, "stocks", [make_bar(1).cells])
    assert parse_base(orjson.dumps(base)) == base


WRONG_CELLS = (
    *((0, None), (1, "1"), (5, True), (8, 1), (9, None), (10, None), (10, 1.5), (11, None), (12, "x")),
    *((13, 5), (14, None)),
)


def test_what_redis_has_is_read_only_if_it_is_whole():
    row = list(make_bar(1).cells)
    good = orjson.dumps({"made_at": 5.0, "archived_at": 4.0, "asset": "stocks", "rows": [row]})
    assert parse_base(good) is not None
    rows = [row[:-1], [*row, 1], *([*row[:n], wrong, *row[n + 1 :]] for n, wrong in WRONG_CELLS)]
    wrong = [orjson.dumps({"made_at": 5, "archived_at": 4, "asset": "", "rows": [each]}) for each in rows]
    old = orjson.dumps({"made_at": 5.0, "asset": "stocks", "rows": [row]})
    twice = orjson.dumps({"made_at": 5.0, "archived_at": 4.0, "asset": "stocks", "rows": [row, row]})
    for text in (b"", b"[]", b"{}", good[:-2], old, twice, good.replace(b"[[", b"[5,["), *wrong):
        assert parse_base(text) is None, text
