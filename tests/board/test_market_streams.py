"""Many symbols in one answer, on a real board and a real PostgreSQL: by pages, as a stream, by the client."""

import asyncio
import contextlib
import re
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import polars as pl
import pytest

from marketswarm.client import MarketClient, TryLaterError, UnknownSymbolError
from services.board.market.archive_reader import BOARD_NAME
from services.board.market.arrow_batches import END, STREAM_TYPE
from services.board.market.arrow_response import PER_ADDRESS
from services.market.computed import FEATURE_NAMES
from support.market_board import FEATURE_COLUMNS, NOW, SYMBOLS, open_market, run_apart, walk
from support.pages import blocks
from support.postgres import query
from support.waiting import until

ROOT = Path(__file__).parents[2]
SPY = next(one for one in SYMBOLS if one.name == "SPY")
QQQ = next(one for one in SYMBOLS if one.name == "QQQ")
MANY = 300_000
"""The bars of one symbol, which no answer with pages has at once."""
MANY_SYMBOL = "MANY"
_FILL = f"""
insert into bars
  (symbol, timeframe, start, open, high, low, close, volume, final, rev, source, digest, replay)
select '{MANY_SYMBOL}', '1m', to_timestamp({NOW // 1000}) - n * interval '1 minute',
  100, 110, 99, 100 + n % 7, n, true, 0, 'kraken', repeat('ab', 32), false
from generate_series(1, {MANY}) as n
"""  # noqa: S608 - our own names
_SYMBOL = f"insert into symbols values ('{MANY_SYMBOL}', 'crypto', now() - interval '1 year', now(), false)"  # noqa: S608 - our own names
_RUNNING = f"""
from pg_stat_activity where application_name = '{BOARD_NAME}' and query like 'COPY%' and state = 'active'
"""


async def fill(url):
    """Write the many bars, and features with the names that bars gives them."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_FILL)
        await connection.execute(_SYMBOL)
        await connection.execute("delete from features")
        rows = [
            (
                one.name,
                datetime.fromtimestamp(bar.start_ms / 1000, UTC),
                0,
                f'{{"ret_20": {bar.close}, "own": 1}}',
            )
            for one in (SPY, QQQ)
            for bar in walk(one, "1d", NOW, 300)
        ]
        await connection.copy_records_to_table("features", records=rows, columns=FEATURE_COLUMNS)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def archive(postgres):
    return run_apart(postgres.new_archive)


@pytest.fixture(scope="module")
def market(archive, tmp_path_factory):
    with open_market(tmp_path_factory.mktemp("streams"), archive) as market:
        run_apart(asyncio.run, fill(archive))
        yield market


@pytest.fixture
def client(market):
    with MarketClient(market.url) as client:
        yield client


def count_statements(archive):
    """How many statements of the board's streams run in the database."""
    return query(archive, f"select count(*) {_RUNNING}")[0][0]


@contextlib.contextmanager
def open_stream(market, path):
    """A client that reads the head of an answer, which this yields, and leaves the rest unread."""
    with socket.create_connection(("127.0.0.1", market.port), 10) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        connection.settimeout(20)
        yield connection.recv(2000)


def test_the_rows_of_many_symbols_are_one_frame_in_their_order_with_their_types(market, client):
    wanted = [(one.name, bar.start_ms, bar.close) for one in (SPY, QQQ) for bar in walk(one, "5m", NOW, 600)]
    bars = client.bars(["SPY", "QQQ"], "5m")
    starts = bars["start"].dt.epoch("ms").to_list()
    assert list(zip(bars["symbol"], starts, bars["close"], strict=True)) == wanted
    assert bars.schema["start"] == pl.Datetime("ms", "UTC")
    assert bars.schema["trades"] == pl.Int64()
    assert bars.schema["final"] == pl.Boolean()
    assert bars["digest"].unique().to_list() == ["cd" * 32]
    assert bars["day"].null_count() == bars.height
    begin = datetime.fromtimestamp(wanted[100][1] / 1000, UTC)
    part = client.bars(["SPY"], "5m", begin, begin + timedelta(minutes=25))
    assert part["start"].dt.epoch("ms").to_list() == [start for _, start, _ in wanted[100:105]]
    every = client.bars(None, "1d", asset="forex")
    assert every["symbol"].unique(maintain_order=True).to_list() == ["EUR/USD", "GBP/USD", "USD/JPY"]


def test_pages_have_the_same_rows_as_the_stream(market, client):
    rows, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        params = {"symbols": "SPY,EUR/USD", "timeframe": "1h", "limit": 170, "cursor": cursor}
        page = market.get("/api/v1/bars", params={name: each for name, each in params.items() if each}).json()
        rows, cursor, pages = [*rows, *page["bars"]], page["cursor"], pages + 1
    assert pages == 4
    bars = client.bars(["SPY", "EUR/USD"], "1h")
    assert [(one["symbol"], one["start"], one["open"]) for one in rows] == list(
        zip(bars["symbol"], bars["start"].dt.epoch("ms"), bars["open"], strict=True)
    )
    text = market.get("/api/v1/features?symbols=SPY&limit=1&format=csv").text
    assert text.splitlines()[0].split(",")[:3] == ["symbol", "start", "rev"]
    assert market.get("/api/v1/bars?format=arrow&limit=5").status_code == 422


def test_computed_values_have_a_column_each_and_unknown_ones_are_kept(client):
    features = client.features("SPY")
    assert features["ret_20"].to_list() == [bar.close for bar in walk(SPY, "1d", NOW, 300)]
    assert features.columns[-1] == "other_values"
    assert set(FEATURE_NAMES) <= set(features.columns)
    assert features["other_values"].unique().to_list() == ['{"own": 1}']
    indicators = client.indicators(["EUR/USD"], "1h")
    assert indicators["sma_20"].null_count() == 19
    assert indicators["other_values"].null_count() == indicators.height


def test_series_come_together_and_symbols_page_by_page(client, monkeypatch):
    found = client.observations(["UNRATE", "DGS10"])
    assert found.group_by("symbol", maintain_order=True).len().rows() == [("UNRATE", 40), ("DGS10", 40)]
    assert client.observations()["symbol"].n_unique() == 3
    monkeypatch.setattr("marketswarm.client.PAGE_ROWS", 7)
    symbols = client.symbols()
    assert sorted(symbols["symbol"]) == sorted([MANY_SYMBOL, *(one.name for one in SYMBOLS)])
    assert symbols.schema["first_seen"] == pl.Datetime("ms", "UTC")
    assert set(client.symbols("forex")["symbol"]) == {"EUR/USD", "GBP/USD", "USD/JPY"}


def test_a_symbol_that_the_archive_does_not_have_is_named_with_the_nearest(market, client):
    with pytest.raises(UnknownSymbolError, match=r"no symbol EUR/USB; did you mean EUR/USD\?"):
        client.bars(["SPY", "EUR/USB"])
    answer = market.get("/api/v1/observations?series=UNRATES", headers={"Accept": STREAM_TYPE})
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "there is no series UNRATES; did you mean UNRATE?",
    )


def read_rss(pid):
    """The most memory that a process has had, in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text("ascii"))[1]) / 1024


@pytest.mark.parametrize("more", [{}, {"adjust": "splits", "as_of": "2099-01-01"}])
def test_a_long_answer_takes_the_memory_of_a_part_of_it(market, client, more):
    """300,000 bars are 60 MB as the database sends them, before they are parsed and encoded."""
    client.bars("SPY", "1d", **more)  # the library is imported
    board = market.fleet.agents["board"]
    before = read_rss(board.pid)
    bars = client.bars([MANY_SYMBOL, "SPY"], "1m", **more)
    assert bars.filter(symbol=MANY_SYMBOL).height == MANY
    assert bars.filter(symbol=MANY_SYMBOL)["volume"].to_list() == list(range(MANY, 0, -1))
    assert read_rss(board.pid) - before < 60


HUGE, HUGE_SYMBOL = 10_000_000, "HUGE"
_FILL_HUGE = (
    _FILL.replace(f"(1, {MANY})", "($1::int, $2::int)")
    .replace(f"'{MANY_SYMBOL}'", f"'{HUGE_SYMBOL}'")
    .replace("interval '1 minute'", "interval '1 second'")
)


async def fill_huge(url):
    connection = await asyncpg.connect(url)
    try:
        for start in range(1, HUGE, 500_000):
            await connection.execute(_FILL_HUGE, start, start + 499_999)
        await connection.execute(_SYMBOL.replace(MANY_SYMBOL, HUGE_SYMBOL))
        await connection.execute("analyze bars")
    finally:
        await connection.close()


async def copy_bare(url):
    """Read the same rows by COPY alone, and throw them away; return the seconds it took."""
    connection = await asyncpg.connect(url)

    async def discard(_data):
        return

    sql = f"select * from bars where symbol = '{HUGE_SYMBOL}' and timeframe = '1m' order by start"  # noqa: S608 - our own names
    try:
        began = time.monotonic()
        await connection.copy_from_query(sql, output=discard, format="csv")
        return time.monotonic() - began
    finally:
        await connection.close()


def read_rss_now(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text("ascii"))[1]) / 1024


@pytest.mark.nightly("a stream of 300,000 rows takes no more memory in every run")
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_ten_million_rows_take_no_more_memory_than_a_few(market, archive, client, tmp_path):
    run_apart(asyncio.run, fill_huge(archive))
    client.bars("SPY", "1d")  # the library is imported
    board, path = market.fleet.agents["board"], tmp_path / "huge.arrow"
    before, rss = read_rss(board.pid), read_rss_now(board.pid)
    copied_sec = run_apart(asyncio.run, copy_bare(archive))
    began = time.monotonic()
    url = f"{market.url}/api/v1/bars?symbols={HUGE_SYMBOL}&format=arrow"
    with httpx.stream("GET", url, timeout=60) as answer, path.open("wb") as file:
        assert answer.status_code == 200
        for chunk in answer.iter_raw():
            file.write(chunk)
    took_sec = time.monotonic() - began
    peak, after = read_rss(board.pid), read_rss_now(board.pid)
    starts = pl.read_ipc_stream(path, columns=["start"])["start"]
    figures = {"rows_per_sec": HUGE / took_sec, "copy_rows_per_sec": HUGE / copied_sec, "sec": took_sec}
    figures |= {"rss": rss, "peak_before": before, "peak": peak, "after": after}
    print({name: round(value, 1) for name, value in figures.items()}, path.stat().st_size)  # noqa: T201 - what a page says
    assert (starts.len(), starts.is_sorted()) == (HUGE, True)
    assert peak - before < 60
    assert took_sec < 20 * copied_sec


def test_a_client_that_goes_ends_its_statement_and_frees_its_place(market, archive, client):
    path = f"/api/v1/bars?symbols={MANY_SYMBOL}&format=arrow"
    for _ in range(3):
        with contextlib.ExitStack() as opened:
            for _ in range(PER_ADDRESS):
                assert b"200 OK" in opened.enter_context(open_stream(market, path))
            until(lambda: count_statements(archive) == PER_ADDRESS, what="the statements to run")
            with pytest.raises(TryLaterError, match="Arrow streams at once") as refused:
                client.bars("SPY")
            assert (refused.value.status, refused.value.retry_after_sec) == (429, 5.0)
            assert market.get("/api/v1/indicators/SPY?limit=1").status_code == 200, "others are answered"
        until(lambda: count_statements(archive) == 0, what="the statements to end")
        until(lambda: try_bars(client), what="a place to be free")


def try_bars(client):
    with contextlib.suppress(TryLaterError):
        return client.bars("SPY").height > 0
    return False


def test_a_statement_that_the_database_ends_is_never_a_whole_answer(market, archive, client):
    path = f"{market.url}/api/v1/bars?symbols={MANY_SYMBOL}&format=arrow"
    with httpx.stream("GET", path, timeout=20) as answer:
        chunks = answer.iter_raw()
        body = next(chunks)
        run_apart(query, archive, f"select pg_terminate_backend(pid) {_RUNNING}")
        with pytest.raises(httpx.RemoteProtocolError):
            body += b"".join(chunks)
    assert not body.endswith(END)
    assert body.startswith(END[:4]), "packed by itself, and not once more for a client that takes gzip"
    until(lambda: try_bars(client), what="the database to be read again")


def test_a_research_day_as_the_page_has_it(market, capsys):
    (code,) = [each for each in blocks(ROOT / "docs/services/client.md", "python") if "group_by" in each]
    assert len(code.strip().splitlines()) <= 12
    names = {}
    exec(code.replace("http://127.0.0.1:8080", market.url), names)  # noqa: S102 - our own page
    table = names["by_rank"]
    assert str(table) in capsys.readouterr().out
    assert table.height == 5
    # of each of two symbols all days but the first, before which no features are known, and the last
    assert table["days"].sum() == 2 * 298
