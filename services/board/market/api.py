"""Answer programs about the market, under `/api/v1`. Everything here only reads Redis and PostgreSQL.

Many users look at few charts. Where the answer for one is kept, to find and to check a route costs ten times
as much as to find the answer, so requests for its newest bars are then answered without the routes.
"""

import re
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

from marketswarm.web.limits import find_quota_headers
from marketswarm.web.responses import answer_body
from marketswarm.web.tokens import find_address
from services.board.market.archive_reader import DatabaseAwayError
from services.board.market.bar_table import find_cursor
from services.board.market.charts import EncodedAnswer, make_answer, make_tag
from services.board.market.conversation import serve_client
from services.board.market.limits import AccountView
from services.board.market.market import Market
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
from services.board.market.tables import ARROW_TYPE, CSV_TYPE, JSON_TYPE, AnswerTable
from services.market.actions import find_day_ms
from services.market.computed import FEATURE_NAMES, INDICATOR_NAMES
from services.market.records import TIMEFRAMES, AssetClass
from services.tables.adjusted_bars import Adjust
from services.tables.rows import ACTION_CELLS, QUOTE_CELLS, Cells, ColumnType, QuoteRow
from services.tables.tables import (
    ACTION_TABLE,
    FEATURE_TABLE,
    INDICATOR_TABLE,
    OBSERVATION_TABLE,
    QUOTE_TABLE,
    SYMBOL_TABLE,
    TableSchema,
)

DEFAULT_TIMEFRAME: Final = "1m"
PREFIX: Final = "/api/v1/bars/"
_QUERY: Final = re.compile(
    rb"(?:timeframe=([0-9a-z]{1,4}))?(?:&?limit=([1-9][0-9]{0,3}))?(?:&?adjust=(none|splits|all))?"
)

Symbol = Annotated[str, Path(max_length=40, description="A symbol, such as SPY or EUR/USD.")]
QUOTE_COLUMNS: Final = {name: QUOTE_TABLE.types[name] for name in QUOTE_CELLS}
ACTION_COLUMNS: Final = {name: ACTION_TABLE.types[name] for name in ACTION_CELLS}
CORRELATIONS: Final = {
    "day": ColumnType.DATE,
    "a": ColumnType.TEXT,
    "b": ColumnType.TEXT,
    "value": ColumnType.NUMBER,
    "n": ColumnType.COUNT,
    "replay": ColumnType.FLAG,
}
_FORMATS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            CSV_TYPE.partition(";")[0]: {"schema": {"type": "string"}},
            ARROW_TYPE: {"schema": {"type": "string", "format": "binary"}},
        }
    }
}


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
    """Return what a request for a table wants. Raises QueryError.

    It is a coroutine function although it waits for nothing: FastAPI runs others in a thread.
    """
    now_ms = round(1000 * time.time())
    is_daily = request.query_params.get("timeframe") == "1d" or "/features/" in request.url.path
    return parse_query(
        start=start, end=end, limit=limit, cursor=cursor, form=form, now_ms=now_ms, is_daily=is_daily
    )


Params = Annotated[TableQuery, Depends(parse_params)]
GroupName = Annotated[str, Path(max_length=60, description="The `group` of a series, or its asset class.")]
Timeframe = Annotated[str, Query(max_length=4, description=f"One of {', '.join(TIMEFRAMES)}.")]


def make_limit(market: Market) -> Callable[[Request], Awaitable[None]]:
    async def limit_requests(request: Request) -> None:
        """Spend one request of the client's address; refuse with 429 if it has none left in this minute."""
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
    api = APIRouter(prefix="/api/v1", dependencies=[Depends(make_limit(market))])
    _add_charts(api, market)
    _add_quotes(api, market)
    _add_symbols(api, market)
    _add_overviews(api, market)
    whole = APIRouter()
    whole.include_router(api)

    @whole.websocket("/ws")
    async def follow(socket: WebSocket) -> None:
        await serve_client(socket, market)

    return whole


def _add_charts(api: APIRouter, market: Market) -> None:
    @api.get("/bars/{symbol:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_bars(
        symbol: Symbol,
        request: Request,
        params: Params,
        timeframe: Timeframe = DEFAULT_TIMEFRAME,
        *,
        fill: Annotated[bool, Query(description="1: a marked row for each missing bar.")] = False,
        adjust: Annotated[
            Adjust | None, Query(description="Prices as traded, or adjusted up to today; see below.")
        ] = None,
    ) -> Response:
        """Return the newest bars of a range, the oldest first; `cursor` leads to the ones before.

        Without a range the newest bar may still change: `final` says so. `gaps` are intervals in which
        bars are missing; no bar is made up for them. With `fill` each missing bar has a row that is `filled`:
        the close before it as its prices, and no volume.

        Without `adjust` each bar is as its source gave it: `adjustment` says whether raw, or adjusted for
        the splits (and dividends) up to `adjusted_to`. `adjust=none` gives all as traded, `splits` adjusts
        all for the splits up to today, `all` for dividends, too. `left_out` are the days of dividends that
        are left out, because the close before them is not known.
        """
        name, frame = require_symbol(symbol), require_timeframe(timeframe)
        answer = await market.answer_chart(name, frame, params, fill=fill, adjust=adjust)
        return send_table(request, answer)

    @api.get("/indicators/{symbol:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_indicators(
        symbol: Symbol, request: Request, params: Params, timeframe: Timeframe = DEFAULT_TIMEFRAME
    ) -> Response:
        """Return the indicators of bars; a value is null until its indicator is warm."""
        name, frame = require_symbol(symbol), require_timeframe(timeframe)
        rows = await market.archive.read_range(INDICATOR_TABLE, (name, frame), params)
        about = {"symbol": name, "timeframe": frame}
        return send_table(request, _make_computed(INDICATOR_TABLE, INDICATOR_NAMES, rows, about, params))

    @api.get("/features/{symbol:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_features(symbol: Symbol, request: Request, params: Params) -> Response:
        """Return the features of days, for models; none of them looks ahead."""
        name = require_symbol(symbol)
        rows = await market.archive.read_range(FEATURE_TABLE, (name,), params)
        answer = _make_computed(FEATURE_TABLE, FEATURE_NAMES, rows, {"symbol": name}, params)
        return send_table(request, answer)


def _make_computed(
    table: TableSchema, usual: Sequence[str], rows: list[Any], about: dict[str, Any], query: TableQuery
) -> EncodedAnswer:
    """Return rows whose last cell is a JSON text with values by name.

    Each page has the `usual` names of values as columns, in this order, and after them what its rows have
    besides.
    """
    about |= {"cursor": find_cursor([row[0] for row in rows], query)}
    if query.format is TableFormat.JSON:
        whole = [(*row[:-1], orjson.Fragment(row[-1])) for row in rows]
        return make_answer(AnswerTable(table.name, table.answered, whole, about), query.format)
    parsed = [(*row[:-1], orjson.loads(row[-1])) for row in rows]
    names = tuple(dict.fromkeys([*usual, *(key for row in parsed for key in row[-1])]))
    return make_answer(AnswerTable(table.name, table.answered, parsed, about, names), query.format)


def _add_quotes(api: APIRouter, market: Market) -> None:
    @api.get("/quotes", response_model=TableAnswer, responses=_FORMATS)
    async def read_quotes(
        request: Request,
        params: Params,
        symbols: Annotated[str, Query(max_length=1500, description="Symbols, separated by commas.")] = "",
    ) -> Response:
        """Return the latest quote of each symbol; for one symbol and a range, its quotes in that.

        Without symbols, those of all symbols that have one, by name; `cursor` leads to the ones after.
        """
        names = parse_symbols(symbols)
        if params.from_ms is None and params.to_ms is None and (len(names) != 1 or not params.cursor):
            return send_table(request, await _make_latest_quotes(market, names, params))
        if len(names) != 1:
            raise QueryError("symbols: a range is of one symbol")
        rows = await market.archive.read_quotes(names[0], params)
        about = {"cursor": find_quote_cursor(rows, params), "away": None}
        table = AnswerTable("quotes", QUOTE_COLUMNS, rows, about)
        return send_table(request, make_answer(table, params.format))


async def _make_latest_quotes(market: Market, names: Sequence[str], query: TableQuery) -> EncodedAnswer:
    after = "" if query.cursor is None else require_symbol(query.cursor)
    known, away = (sorted(names), None) if names else await market.find_quoted()
    wanted = [name for name in known if name > after]
    page = wanted[: query.limit]
    rows, lacking = await market.find_quotes(page)
    if names and page and not rows and lacking is not None:
        raise DatabaseAwayError(lacking)
    about = {"cursor": page[-1] if len(wanted) > len(page) else None, "away": lacking or away}
    return make_answer(AnswerTable("quotes", QUOTE_COLUMNS, rows, about), query.format)


def find_quote_cursor(rows: Sequence[Cells], query: TableQuery) -> str | None:
    if not rows or len(rows) != query.limit:
        return None
    oldest = QuoteRow(*rows[0])
    return f"{oldest.at}:{oldest.source}"


def find_action_cursor(rows: Sequence[Cells], query: TableQuery) -> str | None:
    """Return the cursor to the actions of the days before; None if the page is not full."""
    return str(find_day_ms(date.fromisoformat(rows[0][0]))) if len(rows) >= query.limit else None


def _add_symbols(api: APIRouter, market: Market) -> None:
    @api.get("/observations/{series:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_observations(
        series: Annotated[str, Path(max_length=40)], request: Request, params: Params
    ) -> Response:
        """Return the values of an economic series, each at the begin of its period."""
        name = require_symbol(series)
        rows = await market.archive.read_range(OBSERVATION_TABLE, (name,), params)
        about = {"series": name, "cursor": find_cursor([row[0] for row in rows], params)}
        table = AnswerTable("observations", OBSERVATION_TABLE.answered, rows, about)
        return send_table(request, make_answer(table, params.format))

    @api.get("/actions/{symbol:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_actions(symbol: Symbol, request: Request, params: Params) -> Response:
        """Return the splits, dividends and renames of a stock by the day from which on they count.

        An `amount` is what was paid for a share as it was on the day before, not adjusted for later splits.
        """
        name = require_symbol(symbol)
        rows = await market.archive.read_actions(name, params)
        about = {"symbol": name, "cursor": find_action_cursor(rows, params)}
        table = AnswerTable("actions", ACTION_COLUMNS, rows, about)
        return send_table(request, make_answer(table, params.format))

    @api.get("/symbols", response_model=TableAnswer, responses=_FORMATS)
    async def read_symbols(request: Request, params: Params, asset: AssetClass | None = None) -> Response:
        """Return the symbols of the archive by name; `cursor` leads to the ones after."""
        after = None if params.cursor is None else require_symbol(params.cursor)
        rows = await market.archive.read_symbols(after, asset, params.limit)
        about = {"cursor": rows[-1][0] if len(rows) == params.limit else None}
        return send_table(
            request, make_answer(AnswerTable("symbols", SYMBOL_TABLE.types, rows, about), params.format)
        )

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
        names = parse_symbols(symbols) or None
        rows = await market.archive.read_correlations(day, names, limit, parse_pair_cursor(cursor))
        following = f"{rows[-1][1]},{rows[-1][2]}" if len(rows) == limit else None
        about = {"day": max((str(row[0]) for row in rows), default=None), "cursor": following}
        return send_table(request, make_answer(AnswerTable("correlations", CORRELATIONS, rows, about), form))


def _add_overviews(api: APIRouter, market: Market) -> None:
    @api.get("/sources", response_model=SourcesAnswer)
    async def read_sources(request: Request) -> Response:
        """Return the state of each source, of each series with the source that serves it, and of the gate.

        `limits` says how many requests each source takes, and how many of them are left.
        """
        states = market.feed.states
        gate = None if states.gate is None else states.gate.as_json()
        sources = [one.as_json() for one in states.sources]
        series = [one.as_json() for one in states.series]
        accounts, away = await market.find_limits()
        limits = accounts if away is None else None
        body: dict[str, Any] = {"sources": sources, "series": series, "gate": gate, "limits": limits}
        body["problem"] = market.feed.problem
        # when the states were read is left out of the tag: it changes at each look
        tag = make_tag(orjson.dumps(body))
        whole = orjson.dumps({**body, "read_at": states.read_at})
        return send_table(request, EncodedAnswer(whole, JSON_TYPE, tag))

    @api.get("/market/{group}", response_model=GroupAnswer)
    async def read_group(group: GroupName, request: Request) -> Response:
        """Return the symbols of a group, each with its last price, its change and a sparkline."""
        if group not in GROUPS and not list_group(market.states.series, group):
            raise QueryError("group: no series of the truth has it")
        tiles, away = await make_group_tiles(market, group)
        body = orjson.dumps({"group": group, "symbols": tiles, "away": away})
        return send_table(request, EncodedAnswer(body, JSON_TYPE, make_tag(body)))


def parse_symbols(text: str) -> list[str]:
    return list(dict.fromkeys(require_symbol(word.strip()) for word in text.split(",") if word.strip()))


def send_table(request: Request, answer: EncodedAnswer) -> Response:
    """Return the response with an answer: packed if it is and the client takes that, 304 if it is known."""
    packed = answer.packed if "gzip" in request.headers.get("accept-encoding", "") else None
    found = answer_body(request, packed or answer.body, answer.etag, answer.media_type)
    found.headers.update(find_quota_headers(request))
    if answer.cursor is not None:
        found.headers["X-Cursor"] = answer.cursor
    if packed is not None and found.body:
        found.headers.update({"Content-Encoding": "gzip", "Vary": "Accept-Encoding"})
    return found


def find_kept_chart(market: Market, request: Request) -> Response | None:
    """Return the answer to a request for a chart of a client that takes gzip, if it is kept.

    Spends one of the requests of the client's address.
    """
    if not request.scope["path"].startswith(PREFIX):
        return None
    query = _QUERY.fullmatch(request.scope["query_string"])
    if query is None or "gzip" not in request.headers.get("accept-encoding", ""):
        return None
    frame, limit, adjust = query.groups()
    answer = market.find_kept_chart(
        request.scope["path"].removeprefix(PREFIX),
        DEFAULT_TIMEFRAME if frame is None else frame.decode(),
        TableQuery(limit=ROWS if limit is None else int(limit)),
        adjust=None if adjust is None else Adjust(adjust.decode()),
    )
    if answer is None:
        return None
    quota = market.limiter.take(find_address(request), time.monotonic())
    if quota is not None:
        if quota.wait_sec:
            return None  # nothing was taken: the route refuses it
        request.state.quota_headers = quota.headers
    return send_table(request, answer)
