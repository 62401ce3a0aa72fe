"""A parameter that a route does not know is refused, and the nearest one that it knows is named."""

from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import PlainTextResponse

from marketswarm.web.parameters import make_parameter_check
from marketswarm.web.validation import describe_invalid


async def read_range(start: Annotated[str, Query(alias="from")] = ""):
    return start


@pytest.fixture
async def client():
    check = make_parameter_check(("said",), {"/page": ("sort", "by")})
    app = FastAPI(dependencies=[Depends(check)])

    @app.get("/bars/{symbol:path}")
    async def read_bars(symbol: str, start: Annotated[str, Depends(read_range)], limit: int = 5):
        return [symbol, limit, start]

    @app.get("/page")
    async def show_page(request: Request):
        return dict(request.query_params)

    async def answer(_request, error):
        return PlainTextResponse(describe_invalid(error.errors()), 422)

    app.add_exception_handler(RequestValidationError, answer)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://board") as client:
        yield client


@pytest.mark.parametrize(
    "url",
    [
        "/bars/SPY",
        "/bars/EUR/USD?limit=3&from=1d",
        "/bars/SPY?said=x",
        "/page?sort=name&by=host&said=1",
        "/page?",
    ],
)
async def test_what_a_route_or_what_it_depends_on_declares_is_taken(client, url):
    assert (await client.get(url)).status_code == 200


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/bars/SPY?as_of=2013-10-01", "wrong: query.as_of: is not a known key (known: from, limit)"),
        ("/bars/SPY?limt=3", 'wrong: query.limt: is not a known key (did you mean "limit"?)'),
        ("/bars/SPY?start=1d", "wrong: query.start: is not a known key"),
        ("/bars/SPY?a=1&b=2&a=3", "wrong: query.a: is not a known key (known: from, limit); query.b: "),
        ("/page?limit=3", "wrong: query.limit: is not a known key (known: by, sort)"),
        ("/page?=3", "wrong: query["),
    ],
)
async def test_another_one_is_refused_by_name(client, url, words):
    answer = await client.get(url)
    assert (answer.status_code, answer.text[: len(words)]) == (422, words)


async def test_many_and_odd_names_are_cut(client):
    query = "&".join(f"x{number}=1" for number in range(200))
    assert len((await client.get(f"/page?{query}")).text) < 2_000
    assert "\n" not in (await client.get("/page?%0A%1b=1")).text
