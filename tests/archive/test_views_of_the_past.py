"""What the API answers of many symbols, and as of an instant, from a real database."""

import io
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import httpx
import polars as pl
import pytest
from fastapi import FastAPI

from services.archive.correlations import Compared, compute_correlations
from services.archive.universes import UniverseName, write_universe
from services.archive.writer import TypedEntry, Writer
from services.board.app import add_errors
from services.board.market import many_adjusted
from services.board.market import market as market_module
from services.board.market.api import make_market_api
from services.board.market.market import Market
from services.board.market.measure_api import make_measure_api
from services.board.templates import TEMPLATES
from services.market.sessions import get_session
from services.tables.rows import BarRow
from services.tables.tables import BAR_TABLE
from support.waiting import auntil

NYSE = get_session("XNYS")
SPLIT_DAY = date(2024, 6, 10)
DAYS = [date(2024, 6, day) for day in (5, 6, 7, 10, 11, 12)]
NAMES = ("AAA", "BBB", "CCC")
CORRECTED = datetime(2024, 6, 20, tzinfo=UTC)
"""When the close of BBB on the second day was corrected."""


def make_close(symbol, number):
    """A close as it was traded: AAA and BBB were split 10 for 1 on SPLIT_DAY, CCC never."""
    split = 10 if symbol != "CCC" and DAYS[number] < SPLIT_DAY else 1
    return round((100 + NAMES.index(symbol) + number) * split, 6)


def make_row(symbol, number):
    """A raw bar; those of BBB are given as a source gives them that adjusted for splits by 1 July."""
    day = DAYS[number]
    found = NYSE.find_date(day)
    close, basis = make_close(symbol, number), {}
    if symbol == "BBB":
        close = close / 10 if day < SPLIT_DAY else close
        basis = {"adjustment": "splits", "adjusted_to": "2024-07-01"}
    is_corrected = (symbol, number) == ("BBB", 1)
    known = round(1000 * CORRECTED.timestamp()) if is_corrected else found.close_ms
    numbers, made = (
        (close, close, close, close, 1000.0, None, 7),
        (True, 0, 1, "x", found.open_ms, None, False),
    )
    return BarRow(symbol, "1d", found.open_ms, *numbers, *made, day=day.isoformat(), known_at=known, **basis)


@pytest.fixture
async def filled(database, connection):
    rows = [make_row(symbol, number) for symbol in NAMES for number in range(len(DAYS))]
    assert (
        await Writer(database).write([TypedEntry("bars:bars", b"1-0", BAR_TABLE, row) for row in rows]) == []
    )
    await connection.execute(
        "INSERT INTO actions (symbol, ex_day, kind, ratio, withdrawn, source, replay) VALUES"
        " ('AAA', '2024-06-10', 'split', 10, false, 'x', false),"
        " ('BBB', '2024-06-10', 'split', 10, false, 'x', false)"
    )
    begin = datetime(2024, 6, 5, 13, 30, tzinfo=UTC)
    for symbol in NAMES:
        await connection.execute(
            "INSERT INTO symbols VALUES ($1, 'stocks', $2, $3, false)",
            symbol,
            begin,
            begin + timedelta(days=7),
        )
    return connection


@pytest.fixture
async def client(filled, archive_url):
    """A client of the API of a board that has this database, and no bus."""
    url = SimpleNamespace(get_secret_value=lambda: archive_url)
    me = SimpleNamespace(
        name="board",
        settings=SimpleNamespace(database_url=url, database_slow_ms=None),
        boot="b",
        truth=SimpleNamespace(services={}),
    )
    view = SimpleNamespace(requests_per_min=0, max_followers=5, max_followers_per_address=5)
    market, app = Market(me, lambda: view), FastAPI()
    app.include_router(make_measure_api(market))
    app.include_router(make_market_api(market))
    add_errors(app, TEMPLATES)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client
    await market.archive.close()


async def ask(client, path):
    answer = await client.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def read_stream(client, path):
    answer = await client.get(f"/api/v1/{path}&format=arrow")
    assert answer.status_code == 200, answer.text
    return pl.read_ipc_stream(io.BytesIO(answer.content))


def list_closes(answer):
    return [(bar["symbol"], bar["day"], bar["close"]) for bar in answer["bars"]]


def make_wanted(divide, upto=6, without=()):
    return [
        (symbol, DAYS[number].isoformat(), make_close(symbol, number) / divide(symbol, DAYS[number]))
        for symbol in NAMES
        for number in range(upto)
        if (symbol, number) not in without
    ]


def is_before_split(symbol, day):
    return 10 if symbol != "CCC" and day < SPLIT_DAY else 1


MANY = "bars?symbols=AAA,BBB,CCC&timeframe=1d"


@pytest.mark.parametrize(("adjust", "divide"), [("splits", is_before_split), ("none", lambda *_: 1)])
async def test_many_symbols_have_one_basis_by_pages_and_as_a_stream(client, monkeypatch, adjust, divide):
    monkeypatch.setattr(many_adjusted, "AT_ONCE", 2)
    monkeypatch.setattr(many_adjusted, "_ROWS", 4)
    found = await ask(client, f"{MANY}&adjust={adjust}")
    wanted = make_wanted(divide)
    assert list_closes(found) == wanted
    assert (found["adjust"], found["left_out"]) == (adjust, {})
    assert {bar["adjustment"] for bar in found["bars"]} == {"raw" if adjust == "none" else "splits"}
    frame = await read_stream(client, f"{MANY}&adjust={adjust}")
    days = frame["day"].cast(pl.String)
    assert list(zip(frame["symbol"], days, frame["close"], strict=True)) == wanted
    assert frame.schema["adjusted_to"] == pl.Date()
    for symbol in NAMES:  # as one symbol at a time
        alone = await ask(client, f"bars/{symbol}?timeframe=1d&adjust={adjust}")
        assert [bar["close"] for bar in alone["bars"]] == frame.filter(symbol=symbol)["close"].to_list()
        assert [bar["volume"] for bar in alone["bars"]] == frame.filter(symbol=symbol)["volume"].to_list()


async def test_as_of_a_day_many_symbols_have_what_was_known_on_the_basis_of_that_day(client):
    before = make_wanted(lambda *_: 1, 3, without={("BBB", 1)})  # before the split, and the correction
    for adjust in ("splits", "none", "all"):
        path = f"{MANY}&as_of=2024-06-07&adjust={adjust}"
        assert list_closes(await ask(client, path)) == before
        frame = await read_stream(client, path)
        assert frame["close"].to_list() == [close for *_, close in before]
        upto = None if adjust == "none" else date(2024, 6, 7)
        assert frame["adjusted_to"].unique().to_list() == [upto]
        alone = await ask(client, f"bars/AAA?timeframe=1d&as_of=2024-06-07&adjust={adjust}")
        assert [bar["close"] for bar in alone["bars"]] == [
            close for name, _, close in before if name == "AAA"
        ]
    after = await ask(client, f"{MANY}&as_of=2024-06-20&adjust=splits")
    assert list_closes(after) == make_wanted(is_before_split)
    in_between = datetime(2024, 6, 7, 19, 59, tzinfo=UTC)  # a minute before the close
    early = await ask(client, f"{MANY}&as_of={round(1000 * in_between.timestamp())}")
    assert {bar["day"] for bar in early["bars"]} == {"2024-06-05", "2024-06-06"}


@pytest.mark.parametrize(
    ("asset", "as_of", "has_split"),
    [
        ("stocks", "2024-06-09", False),
        ("stocks", "2024-06-10", True),
        ("stocks", "2024-06-10T03:59:00Z", False),  # in New York it is the evening before
        ("stocks", "2024-06-10T04:00:00Z", True),
        ("crypto", "2024-06-09", False),
        ("crypto", "2024-06-09T23:59:00Z", False),
        ("crypto", "2024-06-10T00:00:01Z", True),
    ],
)
async def test_a_split_counts_from_its_day_on_where_the_market_is_and_not_at_the_end_of_the_day_before(
    client, filled, asset, as_of, has_split
):
    await filled.execute("UPDATE symbols SET asset = $1 WHERE symbol = 'AAA'", asset)
    actions = (await ask(client, f"actions/AAA?as_of={as_of}"))["actions"]
    assert [each["ex_day"] for each in actions] == ["2024-06-10"] * has_split
    for path in ("bars/AAA?timeframe=1d", "bars?symbols=AAA&timeframe=1d"):
        bars = (await ask(client, f"{path}&as_of={as_of}&adjust=splits"))["bars"]
        assert {each["adjusted_to"] for each in bars} == {"2024-06-10" if has_split else "2024-06-09"}
        closes = [make_close("AAA", number) for number in range(3)]
        assert [each["close"] for each in bars[:3]] == [
            close / 10 if has_split else close for close in closes
        ]


async def test_tiles_and_returns_of_the_past_go_by_the_date_where_the_market_is(client, monkeypatch):
    monkeypatch.setattr(market_module, "CALENDARS_SEC", 60.0)
    prices = {}
    for at in ("03:59", "04:00"):  # midnight in New York
        found = await ask(client, f"market/stocks?as_of=2024-06-10T{at}:00Z")
        prices[at] = [tile["price"] for tile in found["symbols"]]
        ranked = (await ask(client, f"market/rotation?group=stocks&as_of=2024-06-10T{at}:00Z"))["rotation"]
        assert {one["symbol"]: one["close"] for one in ranked} == dict(zip(NAMES, prices[at], strict=True))
    closes = [make_close(symbol, 2) for symbol in NAMES]
    assert prices["03:59"] == closes
    assert prices["04:00"] == [closes[0] / 10, closes[1] / 10, closes[2]]


@pytest.fixture
def long_memory(monkeypatch):
    """What is made stays in memory for as long as a test lasts, and no calendar is waited for."""
    monkeypatch.setattr(market_module, "PAST_SEC", 3600.0)
    monkeypatch.setattr(market_module, "CLOSES_SEC", 3600.0)
    monkeypatch.setattr(market_module, "CALENDARS_SEC", 0.0)


async def test_what_was_made_without_a_calendar_is_made_anew_once_it_is_there(long_memory, client):
    at, closes = "as_of=2024-06-10T03:59:00Z", {symbol: make_close(symbol, 2) for symbol in NAMES}

    async def list_prices():
        tiles = (await ask(client, f"market/stocks?{at}"))["symbols"]
        ranked = (await ask(client, f"market/rotation?group=stocks&{at}"))["rotation"]
        return [
            {one["symbol"]: one["price"] for one in tiles},
            {one["symbol"]: one["close"] for one in ranked},
        ]

    assert await list_prices() != [closes, closes], "by the date in UTC"

    async def are_right():
        return await list_prices() == [closes, closes]

    await auntil(are_right, 60, "the prices by the date in New York")


async def test_many_series_as_of_an_instant_have_the_values_of_then(client, filled):
    first, revised = datetime(2023, 10, 1, tzinfo=UTC), datetime(2023, 11, 3, tzinfo=UTC)
    august = datetime(2023, 8, 1, tzinfo=UTC)
    for name in ("GDP", "UNRATE"):
        await filled.execute("INSERT INTO symbols VALUES ($1, 'economic', $2, $2, false)", name, august)
        for known, value in ((first, 3.8), (revised, 3.7)):
            await filled.execute(
                "INSERT INTO observation_vintages (symbol, start, known_at, value, source, replay)"
                " VALUES ($1, $2, $3, $4, 'fred', false)", name, august, known, value,
            )  # fmt: skip
        await filled.execute(
            "INSERT INTO observations (symbol, start, known_at, value, source, replay)"
            " VALUES ($1, $2, $3, 3.7, 'fred', false)", name, august, revised,
        )  # fmt: skip

    async def list_values(as_of):
        path = f"observations?series=UNRATE,GDP{as_of}"
        frame = await read_stream(client, path)
        page = [(one["symbol"], one["value"]) for one in (await ask(client, path))["observations"]]
        assert list(zip(frame["symbol"], frame["value"], strict=True)) == page
        return page

    assert await list_values("") == [("UNRATE", 3.7), ("GDP", 3.7)]
    assert await list_values("&as_of=2023-10-31") == [("UNRATE", 3.8), ("GDP", 3.8)]
    assert await list_values("&as_of=2023-09-30T23:59:00Z") == []
    assert await list_values("&from=2023-08-02&as_of=2023-10-31") == []


LISTED = datetime(2024, 6, 6, 12, tzinfo=UTC)
"""Since when the universes are kept: BBB was gone by the 8th, and CCC came on the 10th."""


@pytest.fixture
async def universes(filled):
    await write_universe(filled, [named("AAA"), named("BBB"), named("GONE")], LISTED.timestamp())
    await write_universe(filled, [named("AAA")], datetime(2024, 6, 8, 12, tzinfo=UTC).timestamp())
    await write_universe(
        filled, [named("AAA"), named("CCC")], datetime(2024, 6, 10, 12, tzinfo=UTC).timestamp()
    )
    return filled


def named(symbol):
    return UniverseName(symbol, "stocks", "pair" if symbol in {"AAA", "BBB"} else "stocks", is_series=False)


SINCE_MS = round(1000 * LISTED.timestamp())
OF_TRUTH = {"of": "truth", "known_since": SINCE_MS}
OF_RECORDS = {"of": "records", "known_since": SINCE_MS}


@pytest.mark.parametrize(
    ("as_of", "names", "universe"),
    [
        ("2024-06-07", ["AAA", "BBB", "GONE"], OF_TRUTH),
        ("2024-06-08", ["AAA"], OF_TRUTH),
        ("2024-06-11", ["AAA", "CCC"], OF_TRUTH),
        ("2024-06-05", ["AAA", "BBB", "CCC"], OF_RECORDS),  # of that day nothing is kept
        ("2024-06-04", [], OF_RECORDS),
    ],
)
async def test_the_symbols_of_a_day_are_those_of_the_truth_then_or_the_answer_says_that_they_are_not(
    client, universes, as_of, names, universe
):
    found = await ask(client, f"symbols?as_of={as_of}")
    assert ([one["symbol"] for one in found["symbols"]], found["universe"]) == (names, universe)
    pages, cursor = [], ""
    while cursor is not None:
        page = await ask(client, f"symbols?as_of={as_of}&limit=1{cursor and f'&cursor={cursor}'}")
        pages, cursor = [*pages, *page["symbols"]], page["cursor"]
    assert pages == found["symbols"]
    bars = await ask(client, f"bars?timeframe=1d&as_of={as_of}")
    assert bars["universe"] == universe
    assert {bar["symbol"] for bar in bars["bars"]} == set(names) - {"GONE"}, "one has no bars"
    answer = await client.get(f"/api/v1/bars?timeframe=1d&as_of={as_of}&format=arrow")
    frame = pl.read_ipc_stream(io.BytesIO(answer.content))
    assert set(frame["symbol"]) == set(names) - {"GONE"}
    since = "known since 2024-06-06T12:00:00Z"
    assert answer.headers["x-universe"] == f"{universe['of']}; {since}"
    csv = await client.get(f"/api/v1/symbols?as_of={as_of}&format=csv")
    assert csv.headers["x-universe"] == f"{universe['of']}; {since}"


async def test_a_board_whose_archive_has_no_universes_says_so(client):
    found = await ask(client, "symbols?as_of=2024-06-07")
    assert found["universe"] == {"of": "records", "known_since": None}
    assert [one["symbol"] for one in found["symbols"]] == list(NAMES)
    assert "universe" not in await ask(client, "symbols")


async def test_groups_and_measures_of_a_day_have_its_symbols_and_what_was_known(client, universes):
    found = await ask(client, "market/pair?as_of=2024-06-07")
    assert found["universe"] == OF_TRUTH
    tiles = {one["symbol"]: one for one in found["symbols"]}
    assert tiles.keys() == {"AAA", "BBB"}
    assert (tiles["AAA"]["price"], tiles["AAA"]["change"]) == (1020.0, 10.0), "as traded before the split"
    assert tiles["BBB"]["compared_at"] == NYSE.find_date(DAYS[0]).open_ms, (
        "the day before was corrected later"
    )
    later = await ask(client, "market/pair?as_of=2024-06-08")
    assert [one["symbol"] for one in later["symbols"]] == ["AAA"]
    breadth = (await ask(client, "market/breadth?as_of=2024-06-07"))["breadth"]
    assert {(one["group"], one["day"], one["symbols"], one["advancers"]) for one in breadth} == {
        ("all", "2024-06-07", 3, 2), ("pair", "2024-06-07", 2, 2), ("stocks", None, 1, 0),
    }  # fmt: skip
    rotation = (await ask(client, "market/rotation?group=stocks&as_of=2024-06-12&by=1w"))["rotation"]
    assert [(one["symbol"], one["day"], one["percent_1w"]) for one in rotation] == [
        ("CCC", "2024-06-12", pytest.approx(100 * 5 / 102, abs=1e-4))
    ]
    assert (await client.get("/api/v1/market/pairs?as_of=2024-06-07")).status_code == 422


async def test_yields_of_a_day_are_those_that_were_printed_by_then(client, filled):
    moments = [datetime(2024, 6, day, tzinfo=UTC) for day in (5, 6, 20)]
    for start, known, value in (
        (moments[0], moments[1], 4.2),
        (moments[0], moments[2], 4.3),
        (moments[1], moments[2], 5),
    ):
        await filled.execute(
            "INSERT INTO observation_vintages (symbol, start, known_at, value, source, replay)"
            " VALUES ('DGS10', $1, $2, $3, 'fred', false)", start, known, value,
        )  # fmt: skip

    async def list_yields(as_of):
        found = (await ask(client, f"market/yield-curve?as_of={as_of}"))["yields"]
        return [(one["series"], one["day"], one["value"]) for one in found]

    assert await list_yields("2024-06-05T12:00:00Z") == []
    assert await list_yields("2024-06-07") == [("DGS10", "2024-06-05", 4.2)]
    assert await list_yields("2024-06-20") == [("DGS10", "2024-06-06", 5)]


async def test_correlations_are_known_since_the_last_of_their_closes_was(client, filled):
    last = DAYS[-1]
    await compute_correlations(filled, last, Compared(60, 10), "")
    found = (await ask(client, "correlations"))["correlations"]
    close_ms, corrected_ms = NYSE.find_date(last).close_ms, round(1000 * CORRECTED.timestamp())
    assert {(one["a"], one["b"]): one["known_at"] for one in found} == {
        ("AAA", "BBB"): corrected_ms, ("AAA", "CCC"): close_ms, ("BBB", "CCC"): corrected_ms,
    }  # fmt: skip

    async def list_pairs(as_of):
        rows = (await ask(client, f"correlations?as_of={as_of}"))["correlations"]
        return [one["a"] + one["b"] for one in rows]

    assert await list_pairs(close_ms - 1) == []
    assert await list_pairs(close_ms) == ["AAACCC"]
    assert await list_pairs("2024-06-20") == ["AAABBB", "AAACCC", "BBBCCC"]


@pytest.mark.parametrize("path", ["sources", "market/quality", "db/search?query=A"])
async def test_what_has_no_past_refuses_it_by_name(client, path):
    more = "&" if "?" in path else "?"
    answer = await client.get(f"/api/v1/{path}{more}as_of=2024-06-07")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("as_of: ")
