"""Bars of a share with a split and dividends, as the archive has them and as its readers see them."""

import csv
import io
from dataclasses import replace
from datetime import UTC, date, datetime, time
from itertools import pairwise
from math import log
from types import SimpleNamespace

import asyncpg
import httpx
import polars as pl
import pytest
from fastapi import FastAPI

from services.archive.correlations import Compared, compute_correlations, list_changed_days
from services.archive.database import Database
from services.archive.export import export_table, read_adjuster
from services.archive.writer import TypedEntry, Writer
from services.board.app import add_errors
from services.board.market.api import make_market_api
from services.board.market.archive_reader import ArchiveReader
from services.board.market.market import Market
from services.board.market.overview import KnownPrice, SymbolMarket, make_series_past, make_tile
from services.board.market.price_cells import make_cells
from services.board.market.states import StoredSeries
from services.board.templates import TEMPLATES
from services.market.sessions import get_session
from services.tables.adjusted_bars import SHARE_SQL, Adjust, make_adjusters
from services.tables.rows import BarRow
from services.tables.tables import BAR_TABLE
from support.fixtures import closed

NYSE = get_session("XNYS")
SPLIT_DAY, LATER = date(2024, 6, 10), date(2024, 7, 1)
# closes of NVIDIA as they were traded
CLOSES = {
    date(2024, 5, 31): 1096.33, date(2024, 6, 3): 1150.00, date(2024, 6, 4): 1164.37,
    date(2024, 6, 5): 1224.40, date(2024, 6, 6): 1209.98, date(2024, 6, 7): 1208.88,
    date(2024, 6, 10): 121.79, date(2024, 6, 11): 120.91, date(2024, 6, 12): 125.20,
    date(2024, 6, 13): 129.61, date(2024, 6, 14): 131.88, date(2024, 6, 17): 130.98,
}  # fmt: skip
REAL = [round(close / (10 if day < SPLIT_DAY else 1), 6) for day, close in CLOSES.items()]
ACTIONS = """
INSERT INTO actions (symbol, ex_day, kind, ratio, amount, withdrawn, source, replay) VALUES
    ('NVDA', '2024-06-10', 'split', 10, NULL, false, 'massive', false),
    ('NVDA', '2024-06-11', 'dividend', NULL, 0.01, false, 'massive', false),
    ('NVDA', '2024-06-05', 'split', NULL, NULL, true, 'massive', false),
    ('NVDA', '2024-05-31', 'dividend', NULL, 5, false, 'massive', false),
    ('NVDA', '2099-01-05', 'split', 4, NULL, false, 'massive', false),
    ('YNVDA', '2024-06-10', 'split', 10, NULL, false, 'massive', false),
    ('MIXED', '2024-06-10', 'split', 10, NULL, false, 'massive', false)
"""


def read_ms(day, at):
    return round(1000 * datetime.combine(day, at, UTC).timestamp())


def bar_row(symbol, day, *, adjusted):
    """The day of a source with raw prices, or of one that has adjusted them by LATER."""
    share = 10 if adjusted and day < SPLIT_DAY else 1
    close, volume = round(CLOSES[day] / share, 6), 1000.0 * share
    start = NYSE.find_date(day).open_ms
    numbers = close, close * 1.01, close * 0.99, close, volume, close, 7
    basis = ("splits", LATER.isoformat()) if adjusted else ("raw", None)
    made = True, 0, 1, "yahoo" if adjusted else "massive", start, None, False
    adjustment, adjusted_to = basis
    return BarRow(
        symbol,
        "1d",
        start,
        *numbers,
        *made,
        day=day.isoformat(),
        adjustment=adjustment,
        adjusted_to=adjusted_to,
    )


database = closed(lambda archive_url: Database(archive_url))


@pytest.fixture
async def nvidia(database, connection):
    """NVDA of a raw source, YNVDA the same of an adjusting one, MIXED of both by turns, and their actions."""
    rows = [
        bar_row(symbol, day, adjusted=adjusted)
        for number, day in enumerate(CLOSES)
        for symbol, adjusted in (("NVDA", False), ("YNVDA", True), ("MIXED", number % 2 == 0))
    ]
    entries = [TypedEntry("bars:bars", b"1-0", BAR_TABLE, row) for row in rows]
    assert await Writer(database).write(entries) == []
    await connection.execute(ACTIONS)
    return connection


@pytest.fixture
async def client(nvidia, archive_url):
    """A client of the API of a board that has this database, and no bus."""
    url = SimpleNamespace(get_secret_value=lambda: archive_url)
    me = SimpleNamespace(
        name="board",
        settings=SimpleNamespace(database_url=url, database_slow_ms=None),
        boot="b",
        truth=SimpleNamespace(services={}),
    )
    view = SimpleNamespace(requests_per_min=1000, max_followers=5, max_followers_per_address=5)
    market, app = Market(me, lambda: view), FastAPI()
    app.include_router(make_market_api(market))
    add_errors(app, TEMPLATES)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client
    await market.archive.close()


async def ask(client, symbol, more=""):
    answer = await client.get(f"/api/v1/bars/{symbol}?timeframe=1d{more}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def closes_of(answer):
    return [bar["close"] for bar in answer["bars"]]


async def test_without_a_basis_each_bar_is_as_its_source_gave_it_and_says_how(client):
    raw, adjusted = await ask(client, "NVDA"), await ask(client, "YNVDA")
    assert closes_of(raw) == list(CLOSES.values())
    assert {(bar["adjustment"], bar["adjusted_to"]) for bar in raw["bars"]} == {("raw", None)}
    assert closes_of(adjusted) == REAL
    assert {(bar["adjustment"], bar["adjusted_to"]) for bar in adjusted["bars"]} == {("splits", "2024-07-01")}
    assert "adjust" not in raw


@pytest.mark.parametrize("symbol", ["NVDA", "YNVDA", "MIXED"])
async def test_a_basis_is_the_same_whoever_gave_the_bars(client, symbol):
    splits = await ask(client, symbol, "&adjust=splits")
    assert closes_of(splits) == REAL
    assert [bar["volume"] for bar in splits["bars"]] == [
        1000.0 * (10 if day < SPLIT_DAY else 1) for day in CLOSES
    ]
    assert {bar["trades"] for bar in splits["bars"]} == {7}
    assert {bar["adjustment"] for bar in splits["bars"]} == {"splits"}
    none = await ask(client, symbol, "&adjust=none")
    assert closes_of(none) == list(CLOSES.values())
    assert {bar["adjusted_to"] for bar in none["bars"]} == {None}
    page = await ask(client, symbol, "&adjust=splits&from=2024-06-05&to=2024-06-11&limit=2")
    assert closes_of(page) == [120.888, 121.79]


async def test_dividends_lower_what_was_before_them_and_what_cant_be_applied_is_named(client):
    found = await ask(client, "NVDA", "&adjust=all")
    kept = 1 - 0.01 / 121.79
    wanted = [
        close * kept if day < date(2024, 6, 11) else close for day, close in zip(CLOSES, REAL, strict=True)
    ]
    assert closes_of(found) == pytest.approx(wanted, rel=1e-10)
    # nothing was stored before the first dividend, so it would lower no bar
    assert (found["adjust"], found["left_out"]) == ("all", [])


async def test_a_table_in_other_forms_has_the_same_basis_and_a_wrong_one_is_refused(client):
    answer = await client.get("/api/v1/bars/NVDA?timeframe=1d&adjust=splits&format=csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [float(row["close"]) for row in rows] == REAL
    assert (await client.get("/api/v1/bars/NVDA?adjust=raw")).status_code == 422


async def test_correlations_see_no_fall_in_a_split(nvidia):
    day = list(CLOSES)[-1]
    await compute_correlations(nvidia, day, Compared(60, 10), "x")
    found = await nvidia.fetch("SELECT a, b, value, n FROM correlations ORDER BY a, b")
    assert [(row["a"], row["b"], row["n"]) for row in found] == [
        ("MIXED", "NVDA", len(CLOSES) - 1),
        ("MIXED", "YNVDA", len(CLOSES) - 1),
        ("NVDA", "YNVDA", len(CLOSES) - 1),
    ]
    assert [row["value"] for row in found] == pytest.approx([1.0] * 3, abs=1e-12)


async def test_correlations_are_computed_again_when_a_split_of_their_days_is_known(nvidia):
    day = list(CLOSES)[-1]
    await nvidia.execute("DELETE FROM actions WHERE symbol = 'NVDA' AND ex_day = '2024-06-10'")
    made_of = (await list_changed_days(nvidia, Compared(60, 10)))[day]
    await compute_correlations(nvidia, day, Compared(60, 10), made_of)
    assert day not in await list_changed_days(nvidia, Compared(60, 10))
    await nvidia.execute(
        "INSERT INTO actions (symbol, ex_day, kind, ratio, withdrawn, source, replay)"
        " VALUES ('NVDA', '2024-06-10', 'split', 10, false, 'massive', false)"
    )
    assert day in await list_changed_days(nvidia, Compared(60, 10))


@pytest.mark.parametrize(("adjust", "wanted"), [(Adjust.SPLITS, REAL), (Adjust.NONE, list(CLOSES.values()))])
async def test_an_export_has_the_basis_that_is_asked_for(nvidia, tmp_path, adjust, wanted):
    span = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 8, 1, tzinfo=UTC)
    adjusted = await read_adjuster(nvidia, adjust, read_ms(LATER, time(12)))
    files = [each async for each in export_table(nvidia, "bars", tmp_path, span, adjusted=adjusted)]
    frame = pl.concat([pl.read_parquet(each.path) for each in files]).sort("symbol", "start")
    for symbol in ("NVDA", "YNVDA", "MIXED"):
        assert frame.filter(pl.col("symbol") == symbol)["close"].to_list() == wanted
    assert frame["adjusted_to"].unique().to_list() == [None if adjust is Adjust.NONE else LATER]


@pytest.mark.parametrize(
    ("asset", "at", "is_divided"),
    [("stocks", time(3, 59), False), ("stocks", time(4), True), ("crypto", time(0, 1), True)],
)
async def test_an_export_is_adjusted_up_to_the_date_where_the_market_is(
    nvidia, tmp_path, asset, at, is_divided
):
    await nvidia.execute("INSERT INTO symbols VALUES ('NVDA', $1, now(), now(), false)", asset)
    span = datetime(2024, 6, 7, tzinfo=UTC), datetime(2024, 6, 8, tzinfo=UTC)
    adjusted = await read_adjuster(nvidia, Adjust.SPLITS, read_ms(SPLIT_DAY, at))
    exported = export_table(nvidia, "bars", tmp_path, span, ["NVDA", "MIXED"], adjusted=adjusted)
    (frame,) = [pl.read_parquet(each.path) async for each in exported]
    whole, divided = CLOSES[date(2024, 6, 7)], REAL[5]
    closes = dict(zip(frame["symbol"], frame["close"], strict=True))
    # of MIXED the archive knows no class, so its date is that of UTC
    assert closes == {"NVDA": divided if is_divided else whole, "MIXED": divided}


@pytest.mark.parametrize(("day", "known"), [(9, ["2024-05-31"]), (10, ["2024-05-31", "2024-06-10"])])
async def test_an_export_as_of_the_end_of_a_day_has_no_action_of_the_next_one(nvidia, tmp_path, day, known):
    span = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 8, 1, tzinfo=UTC)
    as_of = datetime(2024, 6, day + 1, tzinfo=UTC)
    await nvidia.execute("SET TIME ZONE 'Asia/Tokyo'")
    await nvidia.execute("DELETE FROM actions WHERE withdrawn")
    exported = export_table(nvidia, "actions", tmp_path, span, ["NVDA"], as_of=as_of)
    frame = pl.concat([pl.read_parquet(each.path) async for each in exported])
    assert [str(day) for day in frame.sort("ex_day")["ex_day"]] == known


async def test_an_export_without_a_basis_has_the_bars_as_they_were_given(nvidia, tmp_path):
    span = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 8, 1, tzinfo=UTC)
    files = [each async for each in export_table(nvidia, "bars", tmp_path, span, ["NVDA", "YNVDA"])]
    frame = pl.concat([pl.read_parquet(each.path) for each in files])
    assert set(frame["adjustment"]) == {"raw", "splits"}
    jumps = [abs(log(after / before)) for before, after in pairwise(frame.filter(symbol="NVDA")["close"])]
    assert max(jumps) > 2


async def test_the_change_of_a_tile_is_no_split_and_its_total_has_the_dividend(nvidia, archive_url):
    reader = ArchiveReader(archive_url)
    for symbol in ("NVDA", "YNVDA", "MIXED"):
        rows = await reader.read_newest([symbol], "1d", 7, {symbol: LATER})
        assert [row[2] for row in rows] == REAL[:-8:-1]
    rows = await reader.read_newest(["NVDA"], "1d", 7, {"NVDA": date(2024, 6, 9)})
    assert [row[2] for row in rows][-1] == CLOSES[date(2024, 6, 7)], "the split is of the next day"
    rows = await reader.read_newest(["NVDA"], "1d", 7, {"NVDA": LATER})
    kept = 1 - 0.01 / 121.79
    assert [row[5] for row in rows[4:]] == pytest.approx([120.91, 121.79 * kept, 120.888 * kept], rel=1e-10)
    await reader.close()
    days = rows[-3:-1]  # the day of the dividend, and the one before
    past = make_series_past([], [], days, None, SymbolMarket(NYSE))
    series = StoredSeries(id="NVDA:bars:1d", symbol="NVDA", kind="bars", timeframe="1d")
    tile = make_tile(series, past, SimpleNamespace(quotes={}, find_chart=lambda *_: None))
    assert tile.price is None
    past = replace(past, newest=KnownPrice(days[0][1], 120.91, "x"))
    tile = make_tile(series, past, SimpleNamespace(quotes={}, find_chart=lambda *_: None))
    assert tile.change_percent == pytest.approx(100 * (120.91 / 121.79 - 1), abs=5e-5)
    assert tile.total_percent == round(100 * (120.91 / (121.79 - 0.01) - 1), 4)
    assert (
        make_cells(tile, 0.0)["change"].text
        == "\N{MINUS SIGN}0.88 (\N{MINUS SIGN}0.72 %, with dividend \N{MINUS SIGN}0.71 %)"
    )


async def test_a_week_with_a_split_in_it_is_not_divided_by_it_again_and_says_its_day_and_kind(
    client, nvidia, database
):
    await nvidia.execute(
        "INSERT INTO actions (symbol, ex_day, kind, ratio, withdrawn, source, replay) VALUES "
        "('NVDA', '2024-06-05', 'split', 10, false, 'massive', false) "
        "ON CONFLICT (symbol, ex_day, kind) DO UPDATE SET ratio = 10, withdrawn = false"
    )
    days = [NYSE.find_date(day) for day in (date(2024, 5, 28), date(2024, 6, 3), date(2024, 6, 10))]
    named = [("2024-05-27", "venue"), (None, "consolidated"), ("2024-06-10", None)]
    rows = [
        bar_row("NVDA", date(2024, 6, 10), adjusted=False)._replace(
            timeframe="1w", start=day.open_ms, day=name, volume_kind=kind
        )
        for day, (name, kind) in zip(days, named, strict=True)
    ]
    entries = [TypedEntry("bars:bars", b"1-0", BAR_TABLE, row) for row in rows]
    assert await Writer(database).write(entries) == []
    answer = await client.get("/api/v1/bars/NVDA?timeframe=1w&adjust=splits")
    bars = answer.json()["bars"]
    # both splits are after the first week; one is in the second, and the other one in the third
    assert [bar["close"] for bar in bars] == pytest.approx([1.2179, 12.179, 121.79])
    assert [(bar["day"], bar["volume_kind"]) for bar in bars] == named
    answer = await client.get("/api/v1/bars/NVDA?timeframe=1w&format=csv")
    cells = [(row["day"], row["volume_kind"]) for row in csv.DictReader(io.StringIO(answer.text))]
    assert cells == [(day or "", kind or "") for day, kind in named]


@pytest.mark.parametrize(
    ("kind", "values", "is_taken"),
    [
        ("spin_off", (1.0, None, "X"), True),
        ("spin_off", (None, None, None), False),
        ("spin_off", (1.0, 2.0, "X"), False),
        ("merger", (0.5, 2.0, "X"), True),
        ("merger", (None, 2.0, None), True),
        ("merger", (0.5, None, None), False),
        ("rights", (None, None, "X"), True),
        ("rights", (2e6, None, "X"), False),
        ("rename", (1.0, None, "X"), False),
        ("split", (1.0, None, None), False),
        ("redemption", (None, 2.0, None), False),
    ],
)
async def test_a_kind_of_action_has_its_values_and_no_price_is_adjusted_for_what_has_no_worth(
    nvidia, kind, values, is_taken
):
    day = list(CLOSES)[-1]
    insert = nvidia.execute(
        "INSERT INTO actions (symbol, ex_day, kind, ratio, amount, new_symbol, withdrawn, source, replay)"
        " VALUES ('NVDA', $1, $2, $3, $4, $5, false, 'alpaca', false)",
        *(day, kind, *values),
    )
    if not is_taken:
        with pytest.raises(asyncpg.CheckViolationError):
            await insert
        return
    await insert
    (found,) = make_adjusters(await nvidia.fetch(SHARE_SQL, ["NVDA"], day, None)).values()
    assert [(each.kind, each.ex_day) for each in found.left_out] == [(kind, day)]
