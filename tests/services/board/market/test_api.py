"""The API of the market without a bus and a database."""

import re
from functools import partial
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from services.board.app import add_errors, answer_head, answer_kept
from services.board.market.api import find_kept_chart, make_market_api
from services.board.market.archive_reader import ArchiveReader
from services.board.market.feed import MarketStates
from services.board.market.live import NEVER
from services.board.market.market import Market
from services.board.market.states import StoredSeries
from services.board.templates import TEMPLATES
from services.market.computed import FEATURE_NAMES, INDICATOR_NAMES
from services.tables.rows import BarRow, QuoteRow
from support.current import Current


@pytest.fixture
def view():
    """What the truth says of the market."""
    return SimpleNamespace(requests_per_min=100, max_followers=5, max_followers_per_address=5)


@pytest.fixture
def market(view):
    """A market of an agent whose truth has no services, and that has no database."""
    truth = SimpleNamespace(services={})
    me = SimpleNamespace(name="board", settings=SimpleNamespace(database_url=None), boot="b", truth=truth)
    return Market(me, lambda: view)


@pytest.fixture(scope="module")
def routes():
    app, current = FastAPI(), Current()
    app.include_router(make_market_api(current))
    add_errors(app, TEMPLATES)
    return current, answer_head(app)


@pytest.fixture
async def client(market, routes):
    current, app = routes
    current.value = market
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def take_quotes(market, *symbols):
    for symbol in symbols:
        market.live.take_quote(QuoteRow(symbol, 5, 1.5, *(None,) * 5, "yahoo", None, None, False), 1.0)


WRONG = (
    "bars/SPY?from=soon", "bars/SPY?limit=0", "bars/SPY?timeframe=2m", "bars/SPY?cursor=x",
    "bars/SPY?format=xml",
    "bars/SPY?from=900000000&to=100000000", "bars/SPY?from=2026", "bars/SPY?from=99999999999999",
    "bars/%3Cscript%3E", "market/nothing", "correlations?day=x", "correlations?day=2026-13-01",
    "correlations?cursor=SPY", "observations/" + "x" * 50, "symbols?asset=%00", "symbols?cursor=%00",
    "quotes?cursor=%00", "quotes?symbols=%00", "quotes?symbols=A,B&from=1d",
)  # fmt: skip


async def test_a_request_that_is_counted_says_what_is_wrong_and_what_is_left(client):
    for number, path in enumerate(("observations/X", *WRONG)):
        answer = await client.get(f"/api/v1/{path}")
        assert answer.status_code == (422 if number else 503), path
        assert answer.json()["detail"], path
        assert int(answer.headers["ratelimit-remaining"]) < 100, path


async def test_each_route_about_one_name_refuses_a_name_that_nothing_has(client, monkeypatch):
    async def fetch_nothing(*_sql):
        return []

    monkeypatch.setattr(ArchiveReader, "fetch", fetch_nothing)
    paths = (await client.get("/openapi.json")).json()["paths"]
    named = [re.sub(r"\{\w+\}", "NOPE", path) for path in paths if re.search(r"\{(symbol|series)\}", path)]
    assert len(named) == 5
    for path in named:
        answer = await client.get(path)
        assert answer.status_code == 404, path
        assert re.match(r"there is no (symbol|series) NOPE; ", answer.json()["detail"]), path


async def test_beyond_the_requests_of_a_minute_an_address_is_told_when_to_come_back(client, view):
    view.requests_per_min = 3
    found = [await client.get("/api/v1/quotes") for _ in range(4)]
    assert [each.headers["ratelimit-remaining"] for each in found] == ["2", "1", "0", "0"]
    assert [each.status_code for each in found] == [200, 200, 200, 429]
    assert 1 <= int(found[-1].headers["retry-after"]) <= 20
    assert found[-1].headers["ratelimit-limit"] == "3"


async def test_a_class_of_symbols_is_one_of_ours(client):
    assert (await client.get("/api/v1/symbols?asset=stocks")).status_code == 503, "there is no database"
    assert (await client.get("/api/v1/symbols?asset=nothing")).status_code == 422


@pytest.mark.parametrize("path", ["sources", "quotes", "market/indices"])
async def test_head_is_answered_as_get_is(client, path):
    found, asked = [await client.request(method, f"/api/v1/{path}") for method in ("GET", "HEAD")]
    assert asked.status_code == 200
    assert {name: asked.headers[name] for name in ("etag", "content-type", "content-length")} == {
        name: found.headers[name] for name in ("etag", "content-type", "content-length")
    }
    assert (await client.head("/api/v1/stream")).status_code == 404, "it is not of the market"


async def test_a_bus_that_goes_away_makes_another_answer_of_the_sources(client, market):
    market.feed.states, market.feed.problem = MarketStates(read_at=1.0), None
    tag = (await client.get("/api/v1/sources")).headers["etag"]
    known = {"If-None-Match": tag}
    assert (await client.get("/api/v1/sources", headers=known)).status_code == 304
    market.feed.problem = "bus market-redis does not answer: refused"
    answer = await client.get("/api/v1/sources", headers=known)
    assert (answer.status_code, answer.json()["problem"]) == (200, market.feed.problem)


@pytest.mark.parametrize("shape", ["{tag}", "{bare}", "*", '"other", {bare}'])
async def test_a_tag_is_compared_weakly(client, market, shape):
    market.feed.states, market.feed.problem = MarketStates(read_at=1.0), None
    tag = (await client.get("/api/v1/sources")).headers["etag"]
    known = {"If-None-Match": shape.format(tag=tag, bare=tag.removeprefix("W/"))}
    assert (await client.get("/api/v1/sources", headers=known)).status_code == 304
    assert (await client.get("/api/v1/sources", headers={"If-None-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize(("path", "names"), [("features", FEATURE_NAMES), ("indicators", INDICATOR_NAMES)])
@pytest.mark.parametrize("values", [[], [b"{}"], [b'{"rsi_14": 5.0, "new": 1.0}']])
async def test_each_page_of_computed_values_has_the_same_columns(client, market, path, names, values):
    async def read(*_args):
        fixed = (0, 0, 0, False, None, None) if path == "features" else (0, True, 0, 0, False, None)
        return [(*fixed, each) for each in values]

    market.archive.read_range = read
    market.feed.states = MarketStates(series=(StoredSeries(id="a", symbol="SPY"),), read_at=1.0)
    answer = await client.get(f"/api/v1/{path}/SPY?format=csv")
    header = answer.text.splitlines()[0].split(",")
    assert tuple(header[-len(names) - ("new" in header) :][: len(names)]) == names


async def test_each_group_of_the_truth_has_an_address(client, market):
    one = StoredSeries(id="a", symbol="SPY", kind="quotes", group="my own group")
    market.feed.states = MarketStates(series=(one,), read_at=1.0)
    answer = await client.get("/api/v1/market/my%20own%20group")
    assert (answer.status_code, answer.json()["group"]) == (200, "my own group")
    assert [each["symbol"] for each in answer.json()["symbols"]] == ["SPY"]
    assert (await client.get("/api/v1/market/nothing")).status_code == 422
    assert (await client.get("/api/v1/market/indices")).json()["symbols"] == []


@pytest.mark.parametrize("named", [True, False])
async def test_the_latest_quotes_come_page_by_page_and_none_is_left_out(client, market, named):
    names = [f"S{number:04}" for number in range(700 if not named else 100)]
    take_quotes(market, *reversed(names))
    found, cursor = [], None
    while not found or cursor:
        params = {"limit": 60, **({"cursor": cursor} if cursor else {})}
        params |= {"symbols": ",".join(names)} if named else {}
        page = (await client.get("/api/v1/quotes", params=params)).json()
        assert len(page["quotes"]) <= 60
        found, cursor = found + [one["symbol"] for one in page["quotes"]], page["cursor"]
    assert found == names


async def test_quotes_that_only_the_database_has_are_among_those_of_all_symbols(client, market):
    take_quotes(market, "BBB", "DDD")
    kept, asked = {"AAA": 1.0, "BBB": 2.0, "CCC": 3.0, "EEE": 4.0}, []

    async def read_quoted_symbols(_limit):
        asked.append(1)
        return sorted(kept)

    async def read_latest_quotes(symbols):
        return [(name, 1, kept[name], *(None,) * 5, "yahoo", None, None, False) for name in symbols]

    market.archive.read_quoted_symbols = read_quoted_symbols
    market.archive.read_latest_quotes = read_latest_quotes
    page = (await client.get("/api/v1/quotes?limit=3")).json()
    assert [(one["symbol"], one["price"]) for one in page["quotes"]] == [
        *(("AAA", 1.0), ("BBB", 1.5), ("CCC", 3.0)),
    ]
    page = (await client.get("/api/v1/quotes", params={"cursor": page["cursor"]})).json()
    assert [one["symbol"] for one in page["quotes"]] == ["DDD", "EEE"]
    assert (page["away"], len(asked)) == (None, 1)


async def test_without_the_database_the_quotes_of_all_symbols_say_what_may_lack(client, market):
    take_quotes(market, "BBB")
    page = (await client.get("/api/v1/quotes")).json()
    assert [one["symbol"] for one in page["quotes"]] == ["BBB"]
    assert page["away"].startswith("no archive")


def make_chart(market, *minutes, symbol="BTC/USD", timeframe="1m"):
    """Bars of the stream; the database has none before them."""
    market.live.began_at = NEVER

    async def read_range(_table, _key, _query):
        return []

    async def find_asset(_symbol):
        return "crypto"

    market.archive.read_range, market.archive.find_asset = read_range, find_asset
    for minute in minutes:
        prices, origin = (1.0 + minute,) * 4, (True, 1, 0, "yahoo", None, None, False)
        bar = BarRow(symbol, timeframe, 60_000 * minute, *prices, 5.0, None, None, *origin)
        market.live.take_bar(bar, 1.0)


async def test_a_chart_as_of_an_instant_has_no_bar_of_the_stream_that_was_known_later(client, market):
    first = 29_000_000  # a minute of 2025
    make_chart(market, first, first + 1, first + 2)
    corrected = market.live.list_bars("BTC/USD", "1m")[0]
    for minute, known in ((0, 60), (1, 1), (2, 3)):
        bar = corrected._replace(start=60_000 * (first + minute), known_at=60_000 * (first + known), rev=2)
        market.live.take_bar(bar, 2.0)

    async def list_minutes(as_of):
        answer = await client.get(f"/api/v1/bars/BTC/USD?as_of={as_of}")
        return [one["start"] // 60_000 - first for one in answer.json()["bars"]]

    assert await list_minutes(60_000 * (first + 1) - 1) == []
    assert await list_minutes(60_000 * (first + 1)) == [1]
    assert await list_minutes(60_000 * (first + 3)) == [1, 2]
    assert await list_minutes("0d") == [0, 1, 2]
    refused = await client.get("/api/v1/bars/BTC/USD?as_of=soon")
    assert (refused.status_code, "as_of" in refused.text) == (422, True)


async def test_fill_marks_a_row_for_each_missing_bar_with_the_close_before_it(client, market):
    make_chart(market, 1, 2, 5)
    plain = (await client.get("/api/v1/bars/BTC/USD")).json()
    assert [one["start"] // 60_000 for one in plain["bars"]] == [1, 2, 5]
    assert "filled" not in plain["bars"][0]
    found = (await client.get("/api/v1/bars/BTC/USD?fill=1")).json()
    assert found["gaps"] == plain["gaps"] == [{"from": 180_000, "to": 300_000, "missing": 2}]
    assert [(one["start"] // 60_000, one["filled"]) for one in found["bars"]] == [
        *((1, False), (2, False), (3, True), (4, True), (5, False)),
    ]
    filled = found["bars"][3]
    assert [filled[name] for name in ("open", "high", "low", "close")] == [3.0] * 4
    assert [filled[name] for name in ("volume", "rev", "final", "source", "digest", "minutes")] == [None] * 6
    assert found["bars"][0] == {**plain["bars"][0], "filled": False}
    assert (await client.get("/api/v1/bars/BTC/USD?fill=1&from=0")).json()["bars"] == found["bars"]
    text = (await client.get("/api/v1/bars/BTC/USD?fill=1&format=csv")).text.splitlines()
    assert text[0].endswith(",filled")
    assert text[4].endswith(",1")


async def test_fill_goes_up_to_the_newer_page_so_that_pages_have_each_bar_once(client, market):
    make_chart(market, *range(0, 40, 3))
    starts, cursor = [], None
    while not starts or cursor:
        params = {"fill": 1, "limit": 4, **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/api/v1/bars/BTC/USD", params=params)).json()
        starts, cursor = [one["start"] // 60_000 for one in page["bars"]] + starts, page["cursor"]
    assert starts == list(range(40))


async def test_a_filled_day_has_its_date(client, market):
    make_chart(market, 0, 3 * 1440, timeframe="1d")
    found = (await client.get("/api/v1/bars/BTC/USD?timeframe=1d&fill=1")).json()["bars"]
    assert [one["day"] for one in found] == [None, "1970-01-02", "1970-01-03", None]


async def test_what_can_not_be_filled_is_said(client, market):
    make_chart(market, 0, 90 * 1440)
    for path, words in (
        ("BTC/USD?fill=1", "more than 5,000 bars are missing"),
        ("BTC/USD?fill=1&timeframe=1w", "fill: not for weeks and months"),
        ("BTC/USD?fill=1&timeframe=2h", "timeframe: is not one of 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w, 1mo"),
        ("BTC/USD?limit=abc&fill=x", "wrong: query.limit: is not a whole number; query.fill: is not true"),
        ("BTC/USD?limit=0", "wrong: query.limit: is less than 1"),
    ):
        answer = await client.get(f"/api/v1/bars/{path}")
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
    make_chart(market, 1, symbol="X")

    async def find_none(_symbol):
        return None

    market.archive.find_asset = find_none
    assert "trading hours" in (await client.get("/api/v1/bars/X?fill=1")).json()["detail"]


async def test_the_snapshot_of_a_quote_is_that_of_the_api_also_if_its_stream_has_gone_on(market, monkeypatch):
    row = ("EUR/USD", 5, 1.25, *(None,) * 5, "yahoo", None, None, False)

    async def read_latest_quotes(symbols):
        return [row] if row[0] in symbols else []

    monkeypatch.setattr(market.archive, "read_latest_quotes", read_latest_quotes)
    take_quotes(market, "SPY")
    topics = ["quotes:EUR/USD", "quotes:SPY", "quotes:QQQ", "quotes", "bars:SPY:1m"]
    await market.prepare_snapshots(topics)
    found = [market.find_snapshot(topic) for topic in topics[:3]]
    assert [one and one["price"] for one in found] == [1.25, 1.5, None]


SHAPES = ("", "?timeframe=1m", "?timeframe=1m&limit=2", "?limit=2")


@pytest.fixture
async def quick(market, routes):
    """A client of the routes behind the answers that are kept; how many requests came to the routes."""
    current, app = routes
    current.value, seen = market, []

    async def routed(scope, receive, send):
        seen.append(scope["path"])
        await app(scope, receive, send)

    transport = httpx.ASGITransport(answer_kept(routed, partial(find_kept_chart, market)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client, seen


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_chart_that_is_kept_is_answered_as_the_route_answers_it(client, quick, market, shape):
    make_chart(market, 1, 2, 5)
    ours, seen = quick
    path = f"/api/v1/bars/BTC/USD{shape}"
    first, found = await ours.get(path), await ours.get(path)
    assert (first.status_code, len(seen)) == (200, 1)
    known = {"If-None-Match": found.headers["etag"]}
    unchanged = await ours.get(path, headers=known)
    assert len(seen) == 1
    for quickly, routed in (
        (found, await client.get(path)),
        (unchanged, await client.get(path, headers=known)),
    ):
        changing = ("ratelimit-remaining", "ratelimit-reset")
        said = [
            {name: one.headers[name] for name in one.headers if name not in changing}
            for one in (quickly, routed)
        ]
        assert said[0] == said[1]
        assert (quickly.status_code, quickly.content) == (routed.status_code, routed.content)
        left = [int(one.headers["ratelimit-remaining"]) for one in (quickly, routed)]
        assert max(left) < int(quickly.headers["ratelimit-limit"]), "both count; some come back meanwhile"


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_chart_that_changed_is_answered_anew_and_without_its_route(client, quick, market, shape):
    make_chart(market, 1, 2, 5)
    ours, seen = quick
    path = f"/api/v1/bars/BTC/USD{shape}"
    tags = {(await ours.get(path)).headers["etag"]}
    for start in (6, 7):
        make_chart(market, start)
        found = await ours.get(path)
        assert found.json()["bars"][-1]["start"] == 60_000 * start, "it changed"
        assert found.headers["content-encoding"] == "gzip"
        assert (await client.get(path)).content == found.content
        tags.add(found.headers["etag"])
    assert (len(seen), len(tags)) == (1, 3)


async def test_a_chart_of_which_memory_lacks_a_part_is_left_to_its_route(quick, market):
    make_chart(market, 1, 2)
    client, seen = quick
    path = "/api/v1/bars/BTC/USD"
    assert (await client.get(f"{path}?adjust=splits")).status_code == 503, "there is no database"
    assert (await client.get(path)).status_code == 200
    assert len(seen) == 1, "the bars are in memory, the splits are not"
    assert (await client.get(f"{path}?adjust=splits")).status_code == 503
    assert len(seen) == 2
    market.charts.bases.clear()
    make_chart(market, 3)
    assert (await client.get(path)).status_code == 200
    assert len(seen) == 3


async def test_what_is_not_a_kept_chart_is_left_to_the_routes(quick, market, view):
    make_chart(market, 1, 2)
    client, seen = quick
    path = "/api/v1/bars/BTC/USD"
    await client.get(path)
    plain = {"Accept-Encoding": "identity"}
    assert (await client.get(path, headers=plain)).json()["symbol"] == "BTC/USD"
    assert (await client.head(path)).status_code == 200
    for wrong in ("?timeframe=2m", "?limit=0", "?limit=9999", "?timeframe=1m&timeframe=2m", "?fill=x"):
        assert (await client.get(path + wrong)).status_code == 422, wrong
    assert len(seen) == 8
    view.requests_per_min = 1
    assert [(await client.get(path)).status_code for _ in range(3)] == [200, 429, 429]
