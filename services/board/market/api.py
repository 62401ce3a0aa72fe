"""Answer programs about the market, under `/api/v1`. Everything here only reads, and asks nobody outside."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from services.board.access.limits import find_quota_headers
from services.board.access.tokens import find_address
from services.board.market.archive_reader import DatabaseAwayError
from services.board.market.bar_table import find_cursor
from services.board.market.charts import EncodedAnswer, make_answer, make_tag
from services.board.market.conversation import serve_client
from services.board.market.limits import AccountView
from services.board.market.market import FoundSymbols, Market
from services.board.market.overview import GROUPS, TileView, make_group_tiles
from services.board.market.query import (
    MAX_CURSOR,
    MAX_ROWS,
    ROWS,
    QueryError,
    TableFormat,
    TableQuery,
    parse_pair_cursor,
    parse_query,
    require_symbol,
    require_timeframe,
)
from services.board.market.states import StoredSeries, StoredSource, list_group
from services.board.market.tables import (
    ARROW_TYPE,
    CSV_TYPE,
    JSON_TYPE,
    AnswerTable,
    Column,
    make_columns,
)
from services.market.computed import FEATURE_NAMES, INDICATOR_NAMES
from services.market.records import TIMEFRAMES, AssetClass
from services.market.rows import (
    FEATURE_CELLS,
    INDICATOR_CELLS,
    OBSERVATION_CELLS,
    QUOTE_CELLS,
    Cells,
    ColumnType,
    QuoteRow,
)
from services.market.tables import (
    FEATURE_TABLE,
    INDICATOR_TABLE,
    OBSERVATION_TABLE,
    QUOTE_TABLE,
    SYMBOL_TABLE,
)

DEFAULT_TIMEFRAME: Final = "1m"
RETRY_SEC: Final = "5"
Symbol = Annotated[str, Path(max_length=40, description="A symbol, such as SPY or EUR/USD.")]
QUOTE_COLUMNS: Final = make_columns(QUOTE_TABLE, QUOTE_CELLS)
OBSERVATION_COLUMNS: Final = make_columns(OBSERVATION_TABLE, OBSERVATION_CELLS)
INDICATOR_COLUMNS: Final = make_columns(INDICATOR_TABLE, INDICATOR_CELLS)
FEATURE_COLUMNS: Final = make_columns(FEATURE_TABLE, FEATURE_CELLS)
SYMBOL_COLUMNS: Final = make_columns(SYMBOL_TABLE, SYMBOL_TABLE.columns)
CORRELATIONS: Final = (
    Column("day", ColumnType.DATE),
    *(Column(name, ColumnType.TEXT) for name in ("a", "b")),
    Column("value"),
    Column("n", ColumnType.COUNT),
    Column("replay", ColumnType.FLAG),
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
    request: Request,
    start: Annotated[
        str | None,
        Query(alias="from", max_length=40, description="First time: ISO 8601, epoch ms, or 30d ago."),
    ] = None,
    end: Annotated[
        str | None, Query(alias="to", max_length=40, description="The time after the last one.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = ROWS,
    cursor: Annotated[str | None, Query(max_length=MAX_CURSOR)] = None,
    *,
    form: Annotated[TableFormat, Query(alias="format")] = TableFormat.JSON,
) -> TableQuery:
    """Return what a request for a table wants. Raises HTTPException.

    It is a coroutine function although it waits for nothing: FastAPI runs others in a thread.
    """
    now_ms = round(1000 * time.time())
    is_daily = request.query_params.get("timeframe") == "1d" or "/features/" in request.url.path
    try:
        return parse_query(
            start=start, end=end, limit=limit, cursor=cursor, form=form, now_ms=now_ms, is_daily=is_daily
        )
    except QueryError as error:
        raise _wrong(error, request) from None


Params = Annotated[TableQuery, Depends(parse_params)]
GroupName = Annotated[str, Path(max_length=60, description="The `group` of a series, or its asset class.")]
Timeframe = Annotated[str, Query(max_length=4, description=f"One of {', '.join(TIMEFRAMES)}.")]
_FORMATS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            CSV_TYPE.partition(";")[0]: {"schema": {"type": "string"}},
            ARROW_TYPE: {"schema": {"type": "string", "format": "binary"}},
        }
    }
}


def make_limit(market: Market) -> Callable[[Request], Awaitable[None]]:
    """Return what counts a request for its address before it is answered."""

    async def limit_requests(request: Request) -> None:
        """Count the request; note what is left for its headers. Raises HTTPException if nothing is."""
        quota = market.limiter.take(find_address(request), time.monotonic())
        if quota is None:
            return
        request.state.quota_headers = quota.headers
        if quota.wait_sec:
            headers = quota.headers | {"Retry-After": str(ceil(quota.wait_sec))}
            detail = f"an address has {quota.limit} requests a minute"
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, headers)

    return limit_requests


def make_market_api(market: Market) -> APIRouter:
    """Return the routes of the market under `/api/v1`, and `/ws`."""
    api = APIRouter(prefix="/api/v1", dependencies=[Depends(make_limit(market))])
    _add_charts(api, market)
    _add_computed(api, market)
    _add_quotes(api, market)
    _add_observations(api, market)
    _add_correlations(api, market)
    _add_symbols(api, market)
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
        symbol: Symbol,
        request: Request,
        params: Params,
        timeframe: Timeframe = DEFAULT_TIMEFRAME,
        *,
        fill: Annotated[bool, Query(description="1: a marked row for each missing bar.")] = False,
    ) -> Response:
        """Return the newest bars of a range, the oldest first; `cursor` leads to the ones before.

        Without a range the newest bar may still change: `final` says so. `gaps` are intervals in which
        bars are missing; no bar is made up for them. With `fill` each missing bar has a row that is `filled`:
        the close before it as its prices, and no volume.
        """

        async def make() -> EncodedAnswer:
            """Make the answer."""
            name, frame = require_symbol(symbol), require_timeframe(timeframe)
            return await market.answer_chart(name, frame, params, fill=fill)

        return await _answer(request, make)


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
            return _make_computed("indicators", (INDICATOR_COLUMNS, INDICATOR_NAMES), rows, about, params)

        return await _answer(request, make)

    @api.get("/features/{symbol:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_features(symbol: Symbol, request: Request, params: Params) -> Response:
        """Return the features of days, for models; none of them looks ahead."""

        async def make() -> EncodedAnswer:
            """Make the answer."""
            name = require_symbol(symbol)
            rows = await market.archive.read_features(name, params)
            about = {"symbol": name}
            return _make_computed("features", (FEATURE_COLUMNS, FEATURE_NAMES), rows, about, params)

        return await _answer(request, make)


def _make_computed(
    name: str,
    known: tuple[tuple[Column, ...], tuple[str, ...]],
    rows: list[Any],
    about: dict[str, Any],
    query: TableQuery,
) -> EncodedAnswer:
    """Return rows whose last cell is a JSON text with values by name.

    `known` are the other columns, and the names of values: each page has all of these as columns, in this
    order, and after them what its rows have besides.
    """
    columns, usual = known
    about |= {"cursor": find_cursor([row[0] for row in rows], query)}
    if query.format is TableFormat.JSON:
        whole = [(*row[:-1], orjson.Fragment(row[-1])) for row in rows]
        return make_answer(AnswerTable(name, columns, whole, about), query.format)
    parsed = [(*row[:-1], orjson.loads(row[-1])) for row in rows]
    names = tuple(dict.fromkeys([*usual, *(key for row in parsed for key in row[-1])]))
    return make_answer(AnswerTable(name, columns, parsed, about, names), query.format)


def _add_quotes(api: APIRouter, market: Market) -> None:
    """Add the route of quotes."""

    @api.get("/quotes", response_model=TableAnswer, responses=_FORMATS)
    async def read_quotes(
        request: Request,
        params: Params,
        symbols: Annotated[str, Query(max_length=1500, description="Symbols, separated by commas.")] = "",
    ) -> Response:
        """Return the latest quote of each symbol; for one symbol and a range, its quotes in that.

        Without symbols, those of all symbols that have one, by name; `cursor` leads to the ones after.
        """

        async def make() -> EncodedAnswer:
            """Make the answer."""
            names = parse_symbols(symbols)
            if params.from_ms is None and params.to_ms is None and (len(names) != 1 or not params.cursor):
                return await _make_latest_quotes(market, names, params)
            if len(names) != 1:
                raise QueryError("symbols: a range is of one symbol")
            rows = await market.archive.read_quotes(names[0], params)
            about = {"cursor": find_quote_cursor(rows, params), "away": None}
            return make_answer(AnswerTable("quotes", QUOTE_COLUMNS, rows, about), params.format)

        return await _answer(request, make)


async def _make_latest_quotes(market: Market, names: Sequence[str], query: TableQuery) -> EncodedAnswer:
    """Return the latest quotes of symbols, or of all, encoded. Raises QueryError, DatabaseAwayError."""
    after = "" if query.cursor is None else require_symbol(query.cursor)
    known = FoundSymbols(sorted(names)) if names else await market.find_quoted()
    wanted = [name for name in known.names if name > after]
    page = wanted[: query.limit]
    found = await market.find_quotes(page)
    if names and page and not found.rows and found.away is not None:
        raise DatabaseAwayError(found.away)
    about = {"cursor": page[-1] if len(wanted) > len(page) else None, "away": found.away or known.away}
    return make_answer(AnswerTable("quotes", QUOTE_COLUMNS, found.rows, about), query.format)


def find_quote_cursor(rows: Sequence[Cells], query: TableQuery) -> str | None:
    """Return the cursor to the quotes before a page, by its oldest row; None if the page is not full."""
    if not rows or len(rows) != query.limit:
        return None
    oldest = QuoteRow(*rows[0])
    return f"{oldest.at}:{oldest.source}"


def _add_observations(api: APIRouter, market: Market) -> None:
    """Add the route of observations."""

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
            return make_answer(AnswerTable("observations", OBSERVATION_COLUMNS, rows, about), params.format)

        return await _answer(request, make)


def _add_correlations(api: APIRouter, market: Market) -> None:
    """Add the route of correlations."""

    @api.get("/correlations", response_model=TableAnswer, responses=_FORMATS)
    async def read_correlations(
        request: Request,
        day: Annotated[date | None, Query(description="The newest one of each pair unless given.")] = None,
        symbols: Annotated[str, Query(max_length=1500)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = ROWS,
        cursor: Annotated[str | None, Query(max_length=MAX_CURSOR)] = None,
        *,
        form: Annotated[TableFormat, Query(alias="format")] = TableFormat.JSON,
    ) -> Response:
        """Return the correlation of daily returns of each pair of symbols over 60 days, by their names.

        `cursor` leads to the pairs after.
        """

        async def make() -> EncodedAnswer:
            """Make the answer."""
            names = parse_symbols(symbols) or None
            rows = await market.archive.read_correlations(day, names, limit, parse_pair_cursor(cursor))
            following = f"{rows[-1][1]},{rows[-1][2]}" if len(rows) == limit else None
            about = {"day": max((str(row[0]) for row in rows), default=None), "cursor": following}
            return make_answer(AnswerTable("correlations", CORRELATIONS, rows, about), form)

        return await _answer(request, make)


def _add_symbols(api: APIRouter, market: Market) -> None:
    """Add the route of symbols."""

    @api.get("/symbols", response_model=TableAnswer, responses=_FORMATS)
    async def read_symbols(request: Request, params: Params, asset: AssetClass | None = None) -> Response:
        """Return the symbols of the archive by name; `cursor` leads to the ones after."""

        async def make() -> EncodedAnswer:
            """Make the answer."""
            after = None if params.cursor is None else require_symbol(params.cursor)
            rows = await market.archive.read_symbols(after, asset, params.limit)
            about = {"cursor": rows[-1][0] if len(rows) == params.limit else None}
            return make_answer(AnswerTable("symbols", SYMBOL_COLUMNS, rows, about), params.format)

        return await _answer(request, make)


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
        body: dict[str, Any] = {"sources": sources, "series": series, "gate": gate, "limits": limits}
        body["problem"] = market.feed.problem
        # when the states were read is left out of the tag: it changes at each look
        tag = make_tag(orjson.dumps(body))
        whole = orjson.dumps({**body, "read_at": states.read_at})
        return _send(request, EncodedAnswer(whole, JSON_TYPE, tag))

    @api.get("/market/{group}", response_model=GroupAnswer)
    async def read_group(group: GroupName, request: Request) -> Response:
        """Return the symbols of a group, each with its last price, its change and a sparkline."""
        if group not in GROUPS and not list_group(market.states.series, group):
            raise _wrong(QueryError("group: no series of the truth has it"), request)
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
        headers = {"Retry-After": RETRY_SEC, **find_quota_headers(request)}
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers) from None


def _wrong(error: QueryError, request: Request) -> HTTPException:
    """Return the answer to a request with a wrong value."""
    return HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), find_quota_headers(request))


def _send(request: Request, answer: EncodedAnswer) -> Response:
    """Return an encoded answer, or 304 if the client has it already by its `ETag`."""
    headers = {"ETag": answer.etag, "Cache-Control": "no-cache", **find_quota_headers(request)}
    if answer.cursor is not None:
        headers["X-Cursor"] = answer.cursor
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if known & {"*", answer.etag.removeprefix("W/")}:  # RFC 9110 compares them weakly
        return Response(status_code=304, headers=headers)
    if answer.packed is None or "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(answer.body, headers=headers, media_type=answer.media_type)
    headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(answer.packed, headers=headers, media_type=answer.media_type)
