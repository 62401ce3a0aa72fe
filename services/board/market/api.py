"""Answer programs about the market, under `/api/v1`. Everything here only reads, and asks nobody outside."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from marketswarm.market.records import TIMEFRAME_SEC
from services.board.market.archive_reader import DatabaseAwayError
from services.board.market.charts import EncodedAnswer, make_answer, make_tag
from services.board.market.conversation import serve_client
from services.board.market.limits import AccountView
from services.board.market.market import QUOTES, Market, find_cursor
from services.board.market.overview import TileView, make_group_tiles
from services.board.market.query import (
    MAX_ROWS,
    ROWS,
    QueryError,
    TableFormat,
    TableQuery,
    parse_query,
    require_symbol,
    require_timeframe,
)
from services.board.market.states import Group, StoredSeries, StoredSource
from services.board.market.tables import ARROW_TYPE, CSV_TYPE, JSON_TYPE, AnswerTable, Column, ColumnType
from services.board.session_gate import find_address

MAX_NAMED_SYMBOLS: Final = 500
DEFAULT_TIMEFRAME: Final = "1m"
RETRY_SEC: Final = "5"
Symbol = Annotated[str, Path(max_length=40, description="A symbol, such as SPY or EUR/USD.")]
_ORIGIN: Final = (
    Column("source", ColumnType.TEXT),
    Column("asked_at", ColumnType.TIME),
    Column("digest", ColumnType.TEXT),
    Column("replay", ColumnType.FLAG),
)
OBSERVATIONS: Final = (Column("start", ColumnType.TIME), Column("value"), *_ORIGIN)
INDICATORS: Final = (
    Column("start", ColumnType.TIME),
    Column("rev", ColumnType.COUNT),
    Column("epoch", ColumnType.COUNT),
    Column("final", ColumnType.FLAG),
    Column("values", ColumnType.VALUES),
)
FEATURES: Final = (*INDICATORS[:3], INDICATORS[4])
SYMBOLS: Final = (
    Column("symbol", ColumnType.TEXT),
    Column("asset", ColumnType.TEXT),
    Column("first_seen", ColumnType.TIME),
    Column("last_seen", ColumnType.TIME),
    Column("replay", ColumnType.FLAG),
)
CORRELATIONS: Final = (
    *(Column(name, ColumnType.TEXT) for name in ("day", "a", "b")),
    Column("value"),
    Column("n", ColumnType.COUNT),
)


@dataclass(frozen=True, slots=True)
class TableAnswer:
    """Describe the answers with a table: what it is about, and its rows under the name of the table."""

    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class SourcesAnswer:
    """The sources, the series and who serves each, the last run of the gate, and what is left of limits.

    `limits` has the accounts of each source, one for each key; a source without limits, or that was not asked
    lately, has none. It is null while it can't be read.
    """

    sources: tuple[StoredSource, ...]
    series: tuple[StoredSeries, ...]
    gate: dict[str, Any] | None
    limits: dict[str, tuple[AccountView, ...]] | None
    read_at: float | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class GroupAnswer:
    """The symbols of a group, each with its last price, and a sparkline."""

    group: str
    symbols: tuple[TileView, ...]
    away: str | None


async def parse_params(
    start: Annotated[
        str | None,
        Query(alias="from", max_length=40, description="First time: ISO 8601, epoch ms, or 30d ago."),
    ] = None,
    end: Annotated[
        str | None, Query(alias="to", max_length=40, description="The time after the last one.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = ROWS,
    cursor: Annotated[str | None, Query(max_length=120)] = None,
    form: Annotated[TableFormat, Query(alias="format")] = TableFormat.JSON,
) -> TableQuery:
    """Return what a request for a table wants. Raises HTTPException.

    It is a coroutine function although it waits for nothing: FastAPI runs others in a thread.
    """
    now_ms = round(1000 * time.time())
    try:
        return parse_query(start=start, end=end, limit=limit, cursor=cursor, form=form, now_ms=now_ms)
    except QueryError as error:
        raise _wrong(error) from None


Params = Annotated[TableQuery, Depends(parse_params)]
Timeframe = Annotated[str, Query(max_length=4, description=f"One of {', '.join(TIMEFRAME_SEC)}.")]
_FORMATS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            CSV_TYPE.partition(";")[0]: {"schema": {"type": "string"}},
            ARROW_TYPE: {"schema": {"type": "string", "format": "binary"}},
        }
    }
}


def make_market_api(market: Market) -> APIRouter:
    """Return the routes of the market under `/api/v1`, and `/ws`."""

    async def limit_requests(request: Request) -> None:
        """Count the request for its address; note what is left. Raises HTTPException if nothing is."""
        quota = market.limiter.take(find_address(request), time.monotonic())
        if quota is None:
            return
        request.state.market_headers = quota.headers
        if quota.wait_sec:
            headers = quota.headers | {"Retry-After": str(ceil(quota.wait_sec))}
            detail = f"an address has {quota.limit} requests a minute"
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, headers)

    api = APIRouter(prefix="/api/v1", dependencies=[Depends(limit_requests)])
    _add_charts(api, market)
    _add_computed(api, market)
    _add_values(api, market)
    _add_overviews(api, market)
    whole = APIRouter()
    whole.include_router(api)

    @whole.websocket("/ws")
    async def follow(socket: WebSocket) -> None:
        """Follow the market: a snapshot of topics, then numbered updates."""
        await serve_client(socket, market.hub, market.find_snapshot)

    return whole


def _add_charts(api: APIRouter, market: Market) -> None:
    """Add the routes of bars."""

    @api.get("/bars/{symbol:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_bars(
        symbol: Symbol, request: Request, params: Params, timeframe: Timeframe = DEFAULT_TIMEFRAME
    ) -> Response:
        """Return the newest bars of a range, the oldest first; `cursor` leads to the ones before.

        Without a range the newest bar may still change: `final` says so. `gaps` are intervals in which
        bars are missing; no bar is made up for them.
        """
        return await _answer(
            request,
            lambda: market.answer_chart(require_symbol(symbol), require_timeframe(timeframe), params),
        )


def _add_computed(api: APIRouter, market: Market) -> None:
    """Add the routes of indicators and features."""

    @api.get("/indicators/{symbol:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_indicators(
        symbol: Symbol, request: Request, params: Params, timeframe: Timeframe = DEFAULT_TIMEFRAME
    ) -> Response:
        """Return the indicators of bars; a value is null until its indicator is warm."""

        async def make() -> EncodedAnswer:
            """Make the answer."""
            name, frame = require_symbol(symbol), require_timeframe(timeframe)
            rows = await market.archive.read_indicators(name, frame, params)
            about = {"symbol": name, "timeframe": frame}
            return _make_computed("indicators", INDICATORS, rows, about, params)

        return await _answer(request, make)

    @api.get("/features/{symbol:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_features(symbol: Symbol, request: Request, params: Params) -> Response:
        """Return the features of days, for models; none of them looks ahead."""

        async def make() -> EncodedAnswer:
            """Make the answer."""
            name = require_symbol(symbol)
            rows = await market.archive.read_features(name, params)
            return _make_computed("features", FEATURES, rows, {"symbol": name}, params)

        return await _answer(request, make)


def _make_computed(
    name: str, columns: tuple[Column, ...], rows: list[Any], about: dict[str, Any], query: TableQuery
) -> EncodedAnswer:
    """Return rows whose last cell is a JSON text with values by name."""
    about |= {"cursor": find_cursor([row[0] for row in rows], query)}
    if query.format is TableFormat.JSON:
        whole = [(*row[:-1], orjson.Fragment(row[-1])) for row in rows]
        return make_answer(AnswerTable(name, columns, whole, about), query.format)
    parsed = [(*row[:-1], orjson.loads(row[-1])) for row in rows]
    names = tuple(dict.fromkeys(key for row in parsed for key in row[-1]))
    return make_answer(AnswerTable(name, columns, parsed, about, names), query.format)


def _add_values(api: APIRouter, market: Market) -> None:
    """Add the routes of quotes, observations and correlations."""

    @api.get("/quotes", response_model=TableAnswer, responses=_FORMATS)
    async def read_quotes(
        request: Request,
        params: Params,
        symbols: Annotated[str, Query(max_length=1500, description="Symbols, separated by commas.")] = "",
    ) -> Response:
        """Return the latest quote of each symbol; for one symbol and a range, its quotes in that."""
        return await _answer(request, lambda: _make_quotes(market, symbols, params))

    @api.get("/observations/{series:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_observations(
        series: Annotated[str, Path(max_length=40)], request: Request, params: Params
    ) -> Response:
        """Return the values of an economic series, each at the begin of its period."""

        async def make() -> EncodedAnswer:
            """Make the answer."""
            name = require_symbol(series)
            rows = await market.archive.read_observations(name, params)
            about = {"series": name, "cursor": find_cursor([row[0] for row in rows], params)}
            return make_answer(AnswerTable("observations", OBSERVATIONS, rows, about), params.format)

        return await _answer(request, make)

    @api.get("/correlations", response_model=TableAnswer, responses=_FORMATS)
    async def read_correlations(
        request: Request,
        day: Annotated[date | None, Query(description="The newest one of each pair unless given.")] = None,
        symbols: Annotated[str, Query(max_length=1500)] = "",
        form: Annotated[TableFormat, Query(alias="format")] = TableFormat.JSON,
    ) -> Response:
        """Return the correlation of daily returns of each pair of symbols over 60 days."""

        async def make() -> EncodedAnswer:
            """Make the answer."""
            names = parse_symbols(symbols) or None
            rows = await market.archive.read_correlations(day, names, MAX_NAMED_SYMBOLS * MAX_NAMED_SYMBOLS)
            about = {"day": max((str(row[0]) for row in rows), default=None)}
            return make_answer(AnswerTable("correlations", CORRELATIONS, rows, about), form)

        return await _answer(request, make)

    @api.get("/symbols", response_model=TableAnswer, responses=_FORMATS)
    async def read_symbols(
        request: Request, params: Params, asset: Annotated[str | None, Query(max_length=20)] = None
    ) -> Response:
        """Return the symbols of the archive by name; `cursor` leads to the ones after."""

        async def make() -> EncodedAnswer:
            """Make the answer."""
            after = None if params.cursor is None else require_symbol(params.cursor)
            rows = await market.archive.read_symbols(after, asset, params.limit)
            about = {"cursor": rows[-1][0] if len(rows) == params.limit else None}
            return make_answer(AnswerTable("symbols", SYMBOLS, rows, about), params.format)

        return await _answer(request, make)


async def _make_quotes(market: Market, symbols: str, query: TableQuery) -> EncodedAnswer:
    """Return quotes, encoded. Raises QueryError, DatabaseAwayError."""
    names = parse_symbols(symbols)
    if not query.is_latest:
        if len(names) != 1:
            raise QueryError("symbols: a range is of one symbol")
        rows = await market.archive.read_quotes(names[0], query)
        about: dict[str, Any] = {"cursor": find_cursor([row[1] for row in rows], query), "away": None}
    else:
        found = await market.find_quotes((names or list(market.live.quotes))[:MAX_NAMED_SYMBOLS])
        if names and not found.rows and found.away is not None:
            raise DatabaseAwayError(found.away)
        rows, about = list(found.rows), {"cursor": None, "away": found.away}
    return make_answer(AnswerTable("quotes", QUOTES, rows, about), query.format)


def _add_overviews(api: APIRouter, market: Market) -> None:
    """Add the routes of sources and groups."""

    @api.get("/sources", response_model=SourcesAnswer)
    async def read_sources(request: Request) -> Response:
        """Return the state of each source, of each series with the source that serves it, and of the gate.

        `limits` says how many requests each source takes, and how many of them are left.
        """
        states = market.feed.states
        gate = None if states.gate is None else states.gate.as_json()
        sources = [one.as_json() for one in states.sources]
        series = [one.as_json() for one in states.series]
        found = await market.find_limits()
        limits = None if found.away is not None else found.accounts
        body = {"sources": sources, "series": series, "gate": gate, "limits": limits}
        # when the states were read is left out of the tag: it changes at each look
        tag = make_tag(orjson.dumps(body))
        whole = orjson.dumps({**body, "read_at": states.read_at, "problem": market.feed.problem})
        return _send(request, EncodedAnswer(whole, JSON_TYPE, tag))

    @api.get("/market/{group}", response_model=GroupAnswer)
    async def read_group(group: Group, request: Request) -> Response:
        """Return the symbols of a group, each with its last price, its change and a sparkline."""
        found = await make_group_tiles(market, group)
        body = orjson.dumps({"group": group, "symbols": found.tiles, "away": found.away})
        return _send(request, EncodedAnswer(body, JSON_TYPE, make_tag(body)))


def parse_symbols(text: str) -> list[str]:
    """Return the symbols between the commas of a text, each once. Raise QueryError if one is none."""
    return list(dict.fromkeys(require_symbol(word.strip()) for word in text.split(",") if word.strip()))


async def _answer(request: Request, make: Callable[[], Awaitable[EncodedAnswer]]) -> Response:
    """Return an answer, or the reason why there is none. Raises HTTPException."""
    try:
        return _send(request, await make())
    except QueryError as error:
        raise _wrong(error, request) from None
    except DatabaseAwayError as error:
        headers = {"Retry-After": RETRY_SEC, **_find_headers(request)}
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers) from None


def _wrong(error: QueryError, request: Request | None = None) -> HTTPException:
    """Return the answer to a request with a wrong value."""
    headers = None if request is None else _find_headers(request)
    return HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), headers)


def _send(request: Request, answer: EncodedAnswer) -> Response:
    """Return an encoded answer, or 304 if the client has it already by its `ETag`."""
    headers = {"ETag": answer.etag, "Cache-Control": "no-cache", **_find_headers(request)}
    if answer.cursor is not None:
        headers["X-Cursor"] = answer.cursor
    known = request.headers.get("if-none-match", "")
    if answer.etag in (each.strip() for each in known.split(",")):
        return Response(status_code=304, headers=headers)
    if answer.packed is None or "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(answer.body, headers=headers, media_type=answer.media_type)
    headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(answer.packed, headers=headers, media_type=answer.media_type)


def _find_headers(request: Request) -> dict[str, str]:
    """Return the headers that say how many requests are left."""
    headers: dict[str, str] = getattr(request.state, "market_headers", {})
    return headers
