"""What the board reads of PostgreSQL, on a real server: and what it does while that does not answer."""

import asyncio
import contextlib
import time
from datetime import UTC, date, datetime, timedelta

import asyncpg
import orjson
import pytest

from marketswarm.agent.requests import RequestOutcome
from marketswarm.operator.service_reports import RequestReport, ServiceRequest
from marketswarm.tasks import end_tasks
from services.board.market import archive_reader
from services.board.market.api import find_quote_cursor
from services.board.market.archive_reader import ArchiveReader, DatabaseAwayError
from services.board.market.live import REPLAY, is_bar
from services.board.market.query import TableQuery
from services.tables.tables import BAR_TABLE, FEATURE_TABLE, INDICATOR_TABLE, OBSERVATION_TABLE
from support.market_board import run_apart
from support.postgres import Postgres, archive_url
from support.rig import Fleet, free_port
from support.waiting import auntil, until

__all__ = ["archive_url"]
AT_ONCE = 12
"""More than the board has connections."""


@contextlib.asynccontextmanager
async def read_archive(url):
    """A reader that looks whether its database is there, as the board runs it."""
    reader = ArchiveReader(url)
    watching = asyncio.create_task(reader.watch())
    try:
        yield reader
    finally:
        await end_tasks(watching)
        await reader.close()


async def ask(reader):
    """Ask for symbols; return why there was no answer."""
    try:
        await reader.read_symbols(None, None, 5)
    except DatabaseAwayError as error:
        return str(error)
    return None


def ask_at_once(reader):
    """Ask for symbols, and return why there was no answer; this waits for nothing."""
    asking = ask(reader)
    try:
        asking.send(None)
    except StopIteration as end:
        return end.value
    asking.close()
    return "a wait"


@pytest.fixture
def short_waits(monkeypatch):
    """Wait for a database a third as long as usual: what is judged are ratios."""
    for name in ("CONNECT_SEC", "STATEMENT_SEC", "FETCH_SEC", "ANSWER_SEC"):
        monkeypatch.setattr(archive_reader, name, getattr(archive_reader, name) / 3)


@pytest.fixture(scope="module")
def breakable():
    """A server that tests freeze, and the URL of an archive on it."""
    with Postgres() as server:
        yield server, run_apart(server.new_archive)


async def test_a_frozen_database_costs_one_wait_and_then_nobody_waits_until_it_answers(
    breakable, short_waits
):
    server, url = breakable
    async with read_archive(url) as reader:
        await asyncio.gather(*(ask(reader) for _ in range(AT_ONCE)))
        server.freeze()
        try:
            found = await asyncio.gather(*(ask(reader) for _ in range(AT_ONCE)))
            assert set(found) == {archive_reader.NO_ANSWER}
            assert reader.problem == archive_reader.NO_ANSWER
            assert [ask_at_once(reader) for _ in range(AT_ONCE)] == [archive_reader.NO_ANSWER] * AT_ONCE
        finally:
            server.thaw()
        await auntil(lambda: reader.problem is None, what="the database to be read again")
        assert await ask(reader) is None


async def test_a_host_that_accepts_and_never_answers_is_away_and_is_asked_by_one_at_a_time(short_waits):
    callers, most = set(), []

    async def hold(_reader, writer):
        callers.add(writer)
        most.append(len(callers))
        with contextlib.suppress(ConnectionError):
            while await _reader.read(1000):
                pass
        callers.discard(writer)
        writer.close()

    silent = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent, read_archive(f"postgresql://kim:secret@127.0.0.1:{port}/market") as reader:
        found = await asyncio.gather(*(ask(reader) for _ in range(AT_ONCE)))
        assert set(found) == {archive_reader.NO_ANSWER}
        await auntil(lambda: not callers, what="the last of them to give up")
        most.clear()
        await auntil(lambda: len(most) > 1, what="two looks at it")
        assert max(most) == 1, "only one looks whether it is there again"
        assert ask_at_once(reader) == archive_reader.NO_ANSWER, "and nobody waits for that"


SLOW_SYMBOLS = "select pg_sleep(1.2), $1::text, $2::text, $3::bigint, $4::bigint"


async def test_a_statement_that_takes_too_long_is_no_outage(archive_url, monkeypatch):
    monkeypatch.setattr(archive_reader, "STATEMENT_SEC", 0.3)
    monkeypatch.setattr(archive_reader, "_SYMBOLS", SLOW_SYMBOLS.replace("1.2", "60"))
    async with read_archive(archive_url) as reader:
        assert await ask(reader) == archive_reader.TOO_BUSY
        assert reader.problem is None


@pytest.mark.parametrize(("answer_sec", "reason"), [(30.0, None), (2.0, archive_reader.TOO_BUSY)])
async def test_a_connection_and_a_statement_that_are_slow_within_their_limits_are_no_outage(
    breakable, monkeypatch, answer_sec, reason
):
    """Together they take longer than either may; an answer that has no more time than that fails alone."""
    limits = {"CONNECT_SEC": 6.0, "STATEMENT_SEC": 2.4, "FETCH_SEC": 2.5, "ANSWER_SEC": answer_sec}
    for name, sec in limits.items():
        monkeypatch.setattr(archive_reader, name, sec)
    monkeypatch.setattr(archive_reader, "_SYMBOLS", SLOW_SYMBOLS)
    server, url = breakable
    reader = ArchiveReader(url)
    server.freeze()
    asking = asyncio.create_task(ask(reader))
    try:
        await asyncio.wait([asking], timeout=1.5)  # a part of what a connection may take
    finally:
        server.thaw()
    assert await asking == reason
    assert reader.problem is None
    await reader.close()


MONDAY = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
QUOTE_COLUMNS = ("symbol", "at", "price", "source", "replay")
PAIR_COLUMNS = ("day", "a", "b", "value", "n")


async def fill_table(url, table, columns, records):
    connection = await asyncpg.connect(url)
    try:
        await connection.copy_records_to_table(table, records=records, columns=columns)
    finally:
        await connection.close()


async def read_pages(read, cursor_of):
    """All rows over the pages, in the order in which the pages came."""
    rows, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = await read(cursor)
        rows, cursor, pages = [*rows, *page], cursor_of(page, cursor), pages + 1
    return rows, pages


async def test_the_pages_of_quotes_have_each_one_once_though_sources_agree_in_their_times(archive_url):
    sources = ("finnhub", "twelve:data", "yahoo")
    minutes = [MONDAY + timedelta(minutes=number) for number in range(4)]
    quotes = [("SPY", at, 100.0 + number, source, False)
              for number, at in enumerate(minutes) for source in sources]  # fmt: skip
    await fill_table(archive_url, "quotes", QUOTE_COLUMNS, quotes)
    begin_ms = round(1000 * minutes[1].timestamp())
    wanted = sorted(((at, source) for _, at, _, source, _ in quotes if at >= minutes[1]), reverse=True)
    async with read_archive(archive_url) as reader:
        query = None

        async def read(cursor):
            nonlocal query
            query = TableQuery(from_ms=begin_ms, limit=limit, cursor=cursor)
            return (await reader.read_quotes("SPY", query))[::-1]

        for limit in (1, 2, 3, 7):
            rows, pages = await read_pages(read, lambda page, _: find_quote_cursor(page[::-1], query))
            assert [(row[1], row[8]) for row in rows] == [
                (round(1000 * at.timestamp()), source) for at, source in wanted
            ]
            assert pages == len(wanted) // limit + 1


async def test_the_symbols_that_have_quotes_are_found_whatever_table_part_they_are_in(archive_url):
    names = ["SPY", "EUR/USD", "QQQ", "^VIX", "abc"]
    quotes = [(name, MONDAY + timedelta(days=10 * number), 1.0, source, False)
              for name in names for number in range(4) for source in ("yahoo", "finnhub")]  # fmt: skip
    async with read_archive(archive_url) as reader:
        assert await reader.read_quoted_symbols(10) == []
        await fill_table(archive_url, "quotes", QUOTE_COLUMNS, quotes)
        assert sorted(await reader.read_quoted_symbols(10)) == sorted(names)
        assert len(await reader.read_quoted_symbols(3)) == 3


@pytest.mark.parametrize(("kept_sec", "found"), [(60.0, "stocks"), (0.0, "commodities")])
async def test_the_class_of_a_symbol_is_kept_for_a_while(archive_url, monkeypatch, kept_sec, found):
    monkeypatch.setattr(archive_reader, "ASSET_SEC", kept_sec)
    columns = ("symbol", "asset", "first_seen", "last_seen", "replay")
    await fill_table(archive_url, "symbols", columns, [("GLD", "stocks", MONDAY, MONDAY, False)])
    async with read_archive(archive_url) as reader:
        assert await reader.find_asset("GLD") == "stocks"
        connection = await asyncpg.connect(archive_url)
        await connection.execute("UPDATE symbols SET asset = 'commodities'")
        await connection.close()
        assert await reader.find_asset("GLD") == found


def make_pairs(day, names):
    """Pairs of names in the order of the table, each with a value that tells its day."""
    return [(day, one, other, day.day / 100, 60) for one in names for other in names if one < other]


async def test_correlations_come_page_by_page_each_pair_with_its_newest_day(archive_url):
    days = [date(2026, 1, 5) - timedelta(days=number) for number in range(12)]
    stocks, crypto = ["AAA", "BBB", "CCC"], ["ADA/USD", "BTC/USD"]
    pairs = [*make_pairs(days[0], crypto), *make_pairs(days[2], [*stocks, *crypto]),
             *make_pairs(days[3], [*stocks, "OLD"]), *make_pairs(days[11], ["GONE", "ZZZ"])]  # fmt: skip
    newest = {}
    for day, one, other, value, _ in pairs:
        if day in sorted({pair[0] for pair in pairs}, reverse=True)[:10]:
            newest.setdefault((one, other), (str(day), value))
    await fill_table(archive_url, "correlations", PAIR_COLUMNS, pairs)
    async with read_archive(archive_url) as reader:
        for limit in (1, 2, 4, 100):
            rows, _ = await read_pages(
                lambda after, limit=limit: reader.read_correlations(None, None, limit, after or ("", "")),
                lambda page, _, limit=limit: page[-1][1:3] if len(page) == limit else None,
            )
            assert {(one, other): (day, value) for day, one, other, value, *_ in rows} == newest
            assert [row[1:3] for row in rows] == sorted(newest)
        rows = await reader.read_correlations(days[2], ["AAA", "BTC/USD"], 10)
        assert [row[:3] for row in rows] == [(str(days[2]), "AAA", "BTC/USD")]
        names = sorted({name for pair in newest for name in pair})
        for count in range(1, len(names) + 2):
            assert await reader.read_correlated_symbols(count) == names[:count]


async def test_rows_have_their_day_and_say_whether_they_are_of_a_replay(archive_url):
    connection = await asyncpg.connect(archive_url)
    for table in ("bars", "features"):
        await connection.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS day date")
    for table in ("indicators", "features", "correlations"):
        added = "replay boolean NOT NULL DEFAULT false"
        await connection.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {added}")
    start, day = datetime(2026, 1, 4, 22, tzinfo=UTC), date(2026, 1, 5)
    await connection.execute(
        """INSERT INTO bars
        (symbol, timeframe, start, open, high, low, close, final, rev, source, replay, day)
        VALUES ('EUR/USD', '1d', $1, 1, 1, 1, 1, true, 0, 'yahoo', true, $2)""", start, day
    )  # fmt: skip
    await connection.execute(
        """INSERT INTO indicators (symbol, timeframe, start, rev, final, "values", replay)
        VALUES ('EUR/USD', '1d', $1, 0, true, '{"sma_20": 1.5}', true)""", start
    )  # fmt: skip
    await connection.execute(
        """INSERT INTO features (symbol, start, rev, "values", replay, day)
        VALUES ('EUR/USD', $1, 0, '{"return_1d": 0.5}', true, $2)""", start, day
    )  # fmt: skip
    await connection.execute("INSERT INTO correlations VALUES ($1, 'A', 'B', 0.5, 60, true)", day)
    await connection.close()
    async with read_archive(archive_url) as reader:
        query, chart = TableQuery(), ("EUR/USD", "1d")
        (bar,) = await reader.read_range(BAR_TABLE, chart, query)
        (values,) = await reader.read_range(INDICATOR_TABLE, chart, query)
        (features,) = await reader.read_range(FEATURE_TABLE, ("EUR/USD",), query)
        (pair,) = await reader.read_correlations(None, None, 5)
    assert bar[REPLAY : REPLAY + 2] == (True, "2026-01-05")
    assert is_bar(bar)
    assert values[4:] == (True, None, '{"sma_20": 1.5}')
    assert features[3:6] == (True, "2026-01-05", None)
    assert pair[5] is True


async def test_a_question_as_of_an_instant_is_answered_with_what_was_known_then(archive_url):
    connection = await asyncpg.connect(archive_url)
    start, end = datetime(2026, 1, 5, 14, 30, tzinfo=UTC), datetime(2026, 1, 5, 21, tzinfo=UTC)
    day, later = timedelta(days=1), end + timedelta(days=3)
    for n, known_at in enumerate(
        (end, later, None)
    ):  # the second was corrected, the third is of an old release
        at = start + n * day
        await connection.execute(
            """INSERT INTO bars
            (symbol, timeframe, start, open, high, low, close, final, rev, source, replay, known_at)
            VALUES ('SPY', '1d', $1, 1, 1, 1, 1, true, 0, 'yahoo', false, $2)""", at, known_at
        )  # fmt: skip
        await connection.execute(
            """INSERT INTO features (symbol, start, rev, "values", known_at)
            VALUES ('SPY', $1, 0, '{}', $2)""", at, known_at
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO quotes (symbol, at, price, source, replay) VALUES ('SPY', $1, $2, 'x', false)",
            at, float(n),
        )  # fmt: skip
    await connection.execute("INSERT INTO symbols VALUES ('SPY', 'stocks', $1, $2, false)", start, later)
    august, printed, revised = (datetime(2023, *each, tzinfo=UTC) for each in ((8, 1), (9, 2), (10, 7)))
    for known_at, value in ((printed, 3.8), (revised, 3.7)):
        await connection.execute(
            "INSERT INTO observation_vintages VALUES ('US.UNRATE', $1, $2, $3, 'fred', NULL, NULL, false)",
            august, known_at, value,
        )  # fmt: skip
    await connection.close()

    def as_of(moment):
        return TableQuery(as_of_ms=round(1000 * moment.timestamp()))

    async with read_archive(archive_url) as reader:

        async def list_starts(moment, table=BAR_TABLE, key=("SPY", "1d")):
            rows = await reader.read_range(table, key, as_of(moment))
            return [(row[0] - round(1000 * start.timestamp())) // 86_400_000 for row in rows]

        for table, key in ((BAR_TABLE, ("SPY", "1d")), (FEATURE_TABLE, ("SPY",))):
            assert await list_starts(end - timedelta(seconds=1), table, key) == []
            assert await list_starts(end, table, key) == [0]
            assert await list_starts(start + 3 * day - timedelta(seconds=1), table, key) == [0]
            assert await list_starts(start + 3 * day, table, key) == [0, 2]
            assert await list_starts(later, table, key) == [0, 1, 2]

        async def list_values(moment):
            return [
                row[1] for row in await reader.read_range(OBSERVATION_TABLE, ("US.UNRATE",), as_of(moment))
            ]

        assert await list_values(printed - timedelta(seconds=1)) == []
        assert await list_values(datetime(2023, 10, 2, tzinfo=UTC)) == [3.8]
        assert await list_values(revised) == [3.7]
        (quote,) = await reader.read_latest_quotes(["SPY"], as_of(start + day).as_of_ms)
        assert quote[2] == 1.0
        assert [row[2] for row in await reader.read_quotes("SPY", as_of(start + day))] == [0.0, 1.0]
        assert await reader.read_symbols(None, None, 5, as_of(start - day).as_of_ms) == []
        (symbol,) = await reader.read_symbols(None, None, 5, as_of(start + day).as_of_ms)
        assert symbol[3] == as_of(start + day).as_of_ms


async def test_the_latest_quote_is_none_that_a_clock_dated_ahead_that_was_set_back_since(archive_url):
    connection = await asyncpg.connect(archive_url)
    now = datetime.now(UTC)
    for price, at in ((100.0, now), (90.0, now + timedelta(hours=1))):
        await connection.execute(
            "INSERT INTO quotes (symbol, at, price, source, replay) VALUES ('SPY', $1, $2, 'x', false)",
            at, price,
        )  # fmt: skip
    await connection.close()
    async with read_archive(archive_url) as reader:
        assert [row[2] for row in await reader.read_latest_quotes(["SPY"])] == [100.0]
        later_ms = round(1000 * (now + timedelta(hours=2)).timestamp())
        assert [row[2] for row in await reader.read_latest_quotes(["SPY"], later_ms)] == [90.0]


async def test_an_archive_with_the_tables_of_another_version_is_named_so(archive_url):
    for change in ("ALTER TABLE symbols DROP COLUMN replay CASCADE", "DROP TABLE symbols CASCADE"):
        connection = await asyncpg.connect(archive_url)
        await connection.execute(change)
        await connection.close()
        async with read_archive(archive_url) as reader:
            assert await ask(reader) == archive_reader.OLD_SCHEMA


async def test_the_board_opens_its_connections_anew_on_request_and_answers_all_the_while(archive_url):
    pid = "select pg_backend_pid()"
    async with read_archive(archive_url) as reader:
        assert await ask(reader) is None
        before = await reader.fetch(pid)  # whether it is another connection
        asking = asyncio.gather(*(ask(reader) for _ in range(AT_ONCE)))
        assert await reader.reconnect() == RequestOutcome()
        assert set(await asking) == {None}
        assert await reader.fetch(pid) != before  # the same


async def test_a_board_that_can_not_reach_its_database_says_so_instead_of_new_connections():
    assert (await ArchiveReader(None).reconnect()).why == archive_reader.NOT_SET
    nowhere = ArchiveReader("postgresql://someone:secret@127.0.0.1:1/any")
    assert (await nowhere.reconnect()).why == "the database is away (ConnectionRefusedError)"
    assert nowhere.problem is not None


def test_a_real_board_follows_a_request_and_answers_it(archive_url, tmp_path):
    document = {"services": {"board": {"heartbeat": {"interval_sec": 0.3, "timeout_sec": 5}}}}
    env = {"DATABASE_URL": archive_url, "BOARD_PORT": str(free_port())}
    with Fleet(tmp_path, document, ["board"], env, tail=False) as fleet:
        ask, board = fleet.system.cmd, fleet["board"]
        beat = orjson.loads(until(lambda: ask("GET", "beat:board"), what=board.text))
        request = ServiceRequest(id="r1", boot=beat["boot"], by="medic", ts=time.time())
        ask("SET", "board:reconnect:request", request.encode(), "EX", "60")
        (done,) = until(lambda: board.logs("remedy.followed"), what=board.text)
        assert (done["request"], done["result"]) == ("r1", "done")
        answer = RequestReport.parse(ask("GET", "board:reconnect").encode())
        assert (answer.request, answer.boot, answer.result) == (done["request"], beat["boot"], "done")
