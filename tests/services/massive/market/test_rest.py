"""What is asked of the REST API, of a real server that answers as it likes."""

import gzip

import orjson
import pytest
from pydantic import SecretStr

from services.massive.market.api import MAX_BYTES, MAX_PAGES, RestClient, RestError
from services.massive.market.gaps import MissingBars
from support.rig import free_port
from support.rig.market_api import KEY, MINUTE, SmallMarket

FIRST = 29_900_000 * MINUTE


@pytest.fixture
def market():
    with SmallMarket("AAPL", "BRK.B", page=4) as market:
        for n in range(10):
            market.made["AAPL"].append(FIRST + n * MINUTE)
        yield market


@pytest.fixture
async def rest(market):
    async with RestClient(market.rest, SecretStr(KEY), 20.0) as rest:
        yield rest


def gap(first=0, last=9, sym="AAPL"):
    return MissingBars(sym, FIRST + first * MINUTE, FIRST + last * MINUTE)


def document(**said):
    return 200, {}, orjson.dumps(said)


async def test_the_bars_of_a_gap_come_page_by_page_in_order(market, rest):
    bars = await rest.fetch_bars(gap(1, 8))
    assert [bar.start_ms for bar in bars] == [FIRST + n * MINUTE for n in range(1, 9)]
    assert {bar.symbol for bar in bars} == {"AAPL"}
    path = market.requests[0][0]
    assert path == (
        f"/v2/aggs/ticker/AAPL/range/1/minute/{FIRST + MINUTE}/{FIRST + 8 * MINUTE}"
        "?adjusted=false&sort=asc&limit=5000"
    )
    assert len(market.requests) == 2
    assert {headers["Authorization"] for _, headers in market.requests} == {f"Bearer {KEY}"}


async def test_where_nothing_was_traded_there_are_no_bars(market, rest):
    assert await rest.fetch_bars(gap(sym="BRK.B")) == []
    market.answers.append(document(status="OK", resultsCount=0))  # without `results`
    assert await rest.fetch_bars(gap()) == []


async def test_the_status_of_the_market_is_an_object(rest):
    assert (await rest.fetch_market_status())["market"] == "open"


@pytest.mark.parametrize(
    "following",
    [
        "http://127.0.0.2:{port}/v2/x",
        "https://127.0.0.1:{port}/v2/x",
        "http://127.0.0.1:1/v2/x",
        "http://me@127.0.0.1:{port}/v2/x",
        "//elsewhere.example/v2/x",
    ],
)
async def test_the_next_page_is_never_at_another_place(market, rest, following):
    port = market.rest.rpartition(":")[2]
    market.answers.append(document(results=[], next_url=following.replace("{port}", port)))
    with pytest.raises(RestError, match="other_host"):
        await rest.fetch_bars(gap())
    assert len(market.requests) == 1


@pytest.mark.parametrize(
    "following", [17, ["x"], "http://[::1", "x" * 5000], ids=["number", "list", "broken", "long"]
)
async def test_a_next_page_that_is_none_is_refused(market, rest, following):
    market.answers.append(document(results=[], next_url=following))
    with pytest.raises(RestError):
        await rest.fetch_bars(gap())


async def test_pages_without_end_have_one(market, rest):
    for _ in range(MAX_PAGES + 5):
        market.answers.append(document(results=[], next_url="/v2/again"))
    with pytest.raises(RestError, match="too_many_pages"):
        await rest.fetch_bars(gap())
    assert len(market.requests) == MAX_PAGES


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ((401, {}, b"{}"), "http_401"),
        ((403, {}, b'{"message":"not entitled"}'), "http_403"),
        ((500, {}, b""), "http_500"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "http_302"),
        ((200, {}, b""), "malformed"),
        ((200, {}, b"<html>"), "malformed"),
        ((200, {}, b"[]"), "malformed"),
        ((200, {}, b"[" * 100_000), "malformed"),
        ((200, {}, b'{"results":{"a":1}}'), "malformed"),
        ((200, {}, b'{"results":"' + b"x" * MAX_BYTES + b'"}'), "too_long"),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(b"{}")), "malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_whatever_goes_wrong_is_a_word(market, rest, answer, word):
    market.answers.append(answer)
    with pytest.raises(RestError) as error:
        await rest.fetch_bars(gap())
    assert error.value.reason == word
    assert KEY not in repr(error.value)


async def test_nobody_there_is_refused():
    async with RestClient(f"http://127.0.0.1:{free_port()}", SecretStr(KEY), 5) as rest:
        with pytest.raises(RestError, match="refused"):
            await rest.fetch_market_status()


async def test_an_answer_that_stops_half_way_costs_its_time_limit(market):
    market.answers.append((200, {"Content-Length": "500"}, b"{}"))
    async with RestClient(market.rest, SecretStr(KEY), 0.5) as rest:
        with pytest.raises(RestError, match="timeout"):
            await rest.fetch_bars(gap())


@pytest.mark.parametrize(
    ("said", "sec"), [("7", 7), ("100000", 600), ("soon", None), ("-1", None), ("", None)]
)
async def test_a_pause_that_they_ask_for_is_known(market, rest, said, sec):
    market.answers.append((429, {"Retry-After": said}, b""))
    with pytest.raises(RestError) as error:
        await rest.fetch_bars(gap())
    assert (error.value.reason, error.value.retry_after_sec) == ("http_429", sec)


async def test_what_nobody_asked_for_is_left_out(market, rest):
    """Bars beside the gap, twice, or none at all."""
    good = {"o": 1, "h": 1, "l": 1, "c": 1, "v": 1, "t": FIRST}
    found = [
        good,
        {**good, "v": 2},
        {**good, "t": FIRST - MINUTE},
        {**good, "t": FIRST + 1},
        {"t": FIRST},
        5,
        None,
    ]
    market.answers.append(document(results=found))
    assert [(bar.start_ms, bar.volume) for bar in await rest.fetch_bars(gap())] == [(FIRST, 2.0)]
