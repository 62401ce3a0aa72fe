"""Answer programs about the market, under `/api/v1`. Everything here only reads Redis and PostgreSQL.

Many users look at few charts. Where the answer for one is kept, to find and to check a route costs ten times
as much as to find the answer, so requests for its newest bars are then answered without the routes.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from marketswarm.web.limits import find_quota_headers
from marketswarm.web.responses import NO_HEADERS, answer_body
from marketswarm.web.tokens import find_address, find_spender, find_token
from services.board.market.archive_reader import MAX_ASSETS, DatabaseAwayError
from services.board.market.arrow_batches import STREAM_TYPE
from services.board.market.arrow_response import ArrowResponse, TakeRows
from services.board.market.bar_table import find_cursor
from services.board.market.charts import ChartRequest, EncodedAnswer, make_answer, make_tag
from services.board.market.conversation import serve_client
from services.board.market.limits import AccountView
from services.board.market.many_adjusted import ManyAdjuster
from services.board.market.many_rows import find_many_cursor, list_stream_columns
from services.board.market.market import Market
from services.board.market.overview import TileView, make_group_tiles, require_group
from services.board.market.past import AsOf, UniverseOf, refuse_past
from services.board.market.query import (
    MAX_CURSOR,
    MAX_ROWS,
    ROWS,
    QueryError,
    TableFormat,
    TableQuery,
    parse_as_of,
    parse_pair_cursor,
    parse_query,
    require_symbol,
    require_timeframe,
)
from services.board.market.states import StoredSeries, StoredSource
from services.board.market.tables import CSV_TYPE, JSON_TYPE, AnswerTable
from services.board.market.tables import FORMATS as _FORMATS
from services.market.actions import find_day_ms
from services.market.computed import FEATURE_NAMES, INDICATOR_NAMES
from services.market.records import PERIODS, TIMEFRAMES, AssetClass
from services.tables.adjusted_bars import Adjust
from services.tables.rows import ACTION_CELLS, QUOTE_CELLS, Cells, ColumnType, QuoteRow
from services.tables.tables import (
    ACTION_TABLE,
    BAR_TABLE,
    FEATURE_TABLE,
    INDICATOR_TABLE,
    OBSERVATION_TABLE,
    QUOTE_TABLE,
    SYMBOL_TABLE,
    VALUE_NAMES,
    TableSchema,
)

DEFAULT_TIMEFRAME: Final = "1m"
DAILY: Final = ("1d", *PERIODS)
"""The timeframes in which a date of a request is that of a trading day."""
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
    "known_at": ColumnType.TIME,
}
_STREAMS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            CSV_TYPE.partition(";")[0]: {"schema": {"type": "string"}},
            STREAM_TYPE: {"schema": {"type": "string", "format": "binary"}},
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
    as_of: Annotated[
        str | None, Query(max_length=40, description="Only what was known by then; a date is its end.")
    ] = None,
    form: Annotated[TableFormat, Query(alias="format")] = TableFormat.JSON,
) -> TableQuery:
    """Return what a request for a table wants. Raises QueryError.

    It is a coroutine function although it waits for nothing: FastAPI runs others in a thread.
    """
    now_ms = round(1000 * time.time())
    is_daily = request.query_params.get("timeframe") in DAILY or "/features/" in request.url.path
    return parse_query(
        start=start,
        end=end,
        limit=limit,
        cursor=cursor,
        form=form,
        now_ms=now_ms,
        is_daily=is_daily,
        as_of=as_of,
    )


async def parse_many_params(
    request: Request,
    start: Annotated[str | None, Query(alias="from", max_length=40, description="As of one symbol.")] = None,
    end: Annotated[str | None, Query(alias="to", max_length=40, description="As of one symbol.")] = None,
    limit: Annotated[int | None, Query(ge=1, le=MAX_ROWS, description="Not of Arrow.")] = None,
    cursor: Annotated[str | None, Query(max_length=MAX_CURSOR, description="Not of Arrow.")] = None,
    *,
    as_of: Annotated[str | None, Query(max_length=40, description="As of one symbol.")] = None,
    form: Annotated[TableFormat | None, Query(alias="format", description="Else by `Accept`.")] = None,
) -> TableQuery:
    """Return what a request for many symbols wants; Arrow is one stream of all rows. Raises QueryError."""
    if form is None:
        wants_stream = STREAM_TYPE in request.headers.get("accept", "")
        form = TableFormat.ARROW if wants_stream else TableFormat.JSON
    if form is TableFormat.ARROW and (limit is not None or cursor is not None):
        raise QueryError("limit, cursor: an Arrow stream has all rows, and no pages")
    is_daily = request.query_params.get("timeframe") in DAILY or request.url.path.endswith("/features")
    now_ms = round(1000 * time.time())
    return parse_query(
        start=start,
        end=end,
        limit=limit or ROWS,
        cursor=cursor,
        form=form,
        now_ms=now_ms,
        is_daily=is_daily,
        as_of=as_of,
    )


Params = Annotated[TableQuery, Depends(parse_params)]
ManyParams = Annotated[TableQuery, Depends(parse_many_params)]
Symbols = Annotated[str, Query(max_length=1500, description="Symbols, separated by commas; else all.")]
GroupName = Annotated[str, Path(max_length=60, description="The `group` of a series, or its asset class.")]
Timeframe = Annotated[str, Query(max_length=4, description=f"One of {', '.join(TIMEFRAMES)}.")]


def make_limit(market: Market) -> Callable[[Request], Awaitable[None]]:
    async def limit_requests(request: Request) -> None:
        """Spend one request of the client's token, or of its address; refuse with 429 if it has none left."""
        quota = market.limiter.take(find_spender(request), time.monotonic())
        if quota is None:
            return
        request.state.quota_headers = quota.headers
        if quota.wait_sec:
            headers = quota.headers | {"Retry-After": str(ceil(quota.wait_sec))}
            who = "an address" if find_token(request) is None else "a token"
            detail = f"{who} has {quota.limit} requests a minute"
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, headers)

    return limit_requests


def make_market_api(market: Market) -> APIRouter:
    api = APIRouter(prefix="/api/v1", dependencies=[Depends(make_limit(market))])
    _add_charts(api, market)
    _add_many(api, market)
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
        bars are missing, of weeks and months null; no bar is made up for them. With `fill` each missing bar
        has a row that is `filled`: the close before it as its prices, and no volume.

        `volume_kind` says whose trades the volume counts: `venue` those of one exchange, `consolidated` those
        of all or many, `none` no trades, but changes of a quote; null if that is unknown.

        Without `adjust` each bar is as its source gave it: `adjustment` says whether raw, or adjusted for
        the splits (and dividends) up to `adjusted_to`. `adjust=none` gives all as traded, `splits` adjusts
        all for the splits up to today, `all` for dividends, too. `left_out` are the days of dividends that
        are left out, because the close before them is not known.
        """
        name, frame = require_symbol(symbol), require_timeframe(timeframe)
        asked = ChartRequest((name, frame), params, fill, adjust)
        return send_table(request, await market.answer_chart(asked))

    @api.get("/indicators/{symbol:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_indicators(
        symbol: Symbol, request: Request, params: Params, timeframe: Timeframe = DEFAULT_TIMEFRAME
    ) -> Response:
        """Return the indicators of bars; a value is null until its indicator is warm."""
        name, frame = require_symbol(symbol), require_timeframe(timeframe)
        rows = await market.archive.read_range(INDICATOR_TABLE, (name, frame), params)
        await market.names.require_symbols(() if rows else (name,))
        about = {"symbol": name, "timeframe": frame}
        return send_table(request, _make_computed(INDICATOR_TABLE, INDICATOR_NAMES, rows, about, params))

    @api.get("/features/{symbol:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_features(symbol: Symbol, request: Request, params: Params) -> Response:
        """Return the features of days, for models; none of them looks ahead."""
        name = require_symbol(symbol)
        rows = await market.archive.read_range(FEATURE_TABLE, (name,), params)
        await market.names.require_symbols(() if rows else (name,))
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
    return _encode_values(AnswerTable(table.name, table.answered, rows, about, usual), query.format)


def _encode_values(table: AnswerTable, form: TableFormat) -> EncodedAnswer:
    """Return a table encoded whose last cell is a JSON text; it may have more values than the table says."""
    if form is TableFormat.JSON:
        return make_answer(
            replace(table, rows=[(*row[:-1], orjson.Fragment(row[-1])) for row in table.rows]), form
        )
    parsed = [(*row[:-1], orjson.loads(row[-1])) for row in table.rows]
    names = tuple(dict.fromkeys([*table.values, *(key for row in parsed for key in row[-1])]))
    return make_answer(replace(table, rows=parsed, values=names), form)


def _add_many(api: APIRouter, market: Market) -> None:
    """Add the tables of many symbols, as the archive has them: by pages, or as one Arrow stream."""

    @api.get("/bars", response_model=TableAnswer, responses=_STREAMS)
    async def read_many_bars(
        request: Request,
        params: ManyParams,
        symbols: Symbols = "",
        asset: AssetClass | None = None,
        timeframe: Timeframe = DEFAULT_TIMEFRAME,
        *,
        adjust: Annotated[Adjust | None, Query(description="As of one symbol.")] = None,
    ) -> Response:
        """Return the archive's bars of some symbols, or of all, by symbol and then by time, the oldest first.

        `cursor` leads to the rows after. As an Arrow stream all rows come at once. With `adjust`, `left_out`
        has by symbol the days of dividends that are left out; a stream has no place for it.
        """
        frame = require_timeframe(timeframe)
        wanted = symbols, asset
        return await _answer_many(request, market, BAR_TABLE, params, wanted, timeframe=frame, adjust=adjust)

    @api.get("/indicators", response_model=TableAnswer, responses=_STREAMS)
    async def read_many_indicators(
        request: Request,
        params: ManyParams,
        symbols: Symbols = "",
        asset: AssetClass | None = None,
        timeframe: Timeframe = DEFAULT_TIMEFRAME,
    ) -> Response:
        """Return the archive's indicators of some symbols, or of all, as `/bars` does the bars."""
        frame = require_timeframe(timeframe)
        return await _answer_many(request, market, INDICATOR_TABLE, params, (symbols, asset), timeframe=frame)

    @api.get("/features", response_model=TableAnswer, responses=_STREAMS)
    async def read_many_features(
        request: Request, params: ManyParams, symbols: Symbols = "", asset: AssetClass | None = None
    ) -> Response:
        """Return the archive's features of some symbols, or of all, as `/bars` does the bars."""
        return await _answer_many(request, market, FEATURE_TABLE, params, (symbols, asset))

    @api.get("/observations", response_model=TableAnswer, responses=_STREAMS)
    async def read_many_observations(
        request: Request,
        params: ManyParams,
        series: Annotated[str, Query(max_length=1500, description="Series, separated by commas.")] = "",
    ) -> Response:
        """Return the values of some economic series, or of all, by series and then by time, oldest first."""
        return await _answer_many(request, market, OBSERVATION_TABLE, params, (series, None))


async def _answer_many(
    request: Request,
    market: Market,
    table: TableSchema,
    query: TableQuery,
    chosen: tuple[str, AssetClass | None],
    *,
    timeframe: str | None = None,
    adjust: Adjust | None = None,
) -> Response:
    """Answer with the rows of the symbols that are named, or of all that are of the class, if one is given.

    `adjust` is the basis of bars, as of now or of the instant of the query.
    Raises DatabaseAwayError, QueryError, UnknownNameError.
    """
    named, asset = chosen
    symbols = parse_symbols(named)
    is_series = table is OBSERVATION_TABLE
    await (market.names.require_series if is_series else market.names.require_symbols)(symbols)
    past = None
    if not symbols and query.as_of_ms is not None:
        past = await market.find_past(query.as_of_ms)
        symbols = past.list_symbols(asset, is_series=is_series)
    elif not symbols:
        symbols = [row[0] for row in await market.archive.read_symbols(None, asset, MAX_ASSETS)]
    adjuster = None
    if adjust is not None and timeframe is not None:
        is_past = query.as_of_ms is not None
        at_ms = round(1000 * time.time()) if query.as_of_ms is None else query.as_of_ms
        adjuster = ManyAdjuster(market, adjust, timeframe, at_ms, is_past=is_past)
    if query.format is TableFormat.ARROW:

        async def copy_rows(take_rows: TakeRows) -> None:
            await market.archive.copy_many(table, symbols, query, timeframe, take_rows)

        place = market.streams.take(find_address(request))
        headers = find_quota_headers(request) | ({} if past is None else past.headers)
        return ArrowResponse(copy_rows, list_stream_columns(table), place, headers, adjuster)
    rows = await market.archive.read_many(table, symbols, query, timeframe)
    about: dict[str, Any] = {"cursor": find_many_cursor(rows, query)}
    about |= {"timeframe": timeframe} if timeframe else {}
    if adjuster is not None:
        rows, left_out = await adjuster.adjust_page(rows)
        about |= {"adjust": adjust, "left_out": left_out}
    if past is not None:
        about["universe"] = past.describe()
    columns = {"symbol": ColumnType.TEXT, **table.answered}
    answer = AnswerTable(table.name, columns, rows, about, VALUE_NAMES.get(table.name, ()))
    encode = _encode_values if table.name in VALUE_NAMES else make_answer
    return send_table(request, encode(answer, query.format))


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
        await market.names.require_symbols(() if rows else names)
        about = {"cursor": find_quote_cursor(rows, params), "away": None}
        table = AnswerTable("quotes", QUOTE_COLUMNS, rows, about)
        return send_table(request, make_answer(table, params.format))


async def _make_latest_quotes(market: Market, names: Sequence[str], query: TableQuery) -> EncodedAnswer:
    after = "" if query.cursor is None else require_symbol(query.cursor)
    known, away = (sorted(names), None) if names else await market.find_quoted()
    wanted = [name for name in known if name > after]
    page = wanted[: query.limit]
    if query.as_of_ms is None:
        rows, lacking = await market.find_quotes(page)
    else:
        found = {row[0]: row for row in await market.archive.read_latest_quotes(page, query.as_of_ms)}
        rows, lacking = [found[name] for name in page if name in found], None
    if names and page and not rows and lacking is not None:
        raise DatabaseAwayError(lacking)
    if names and lacking is None:
        await market.names.require_symbols(set(page) - {row[0] for row in rows})
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
        """Return the values of an economic series, each at the begin of its period.

        With `as_of` these are the values that were known then, before they were revised.
        """
        name = require_symbol(series)
        rows = await market.archive.read_range(OBSERVATION_TABLE, (name,), params)
        await market.names.require_series(() if rows else (name,))
        about = {"series": name, "cursor": find_cursor([row[0] for row in rows], params)}
        table = AnswerTable("observations", OBSERVATION_TABLE.answered, rows, about)
        return send_table(request, make_answer(table, params.format))

    @api.get("/actions/{symbol:path}", response_model=TableAnswer, responses=_FORMATS)
    async def read_actions(symbol: Symbol, request: Request, params: Params) -> Response:
        """Return what happened to the shares of a stock by the day from which on it counts.

        An `amount` is what was paid for a share as it was on the day before, not adjusted for later splits.
        No price is adjusted for a `spin_off`, a `merger` or `rights`.
        """
        name = require_symbol(symbol)
        as_of_ms = params.as_of_ms
        last_day = None if as_of_ms is None else await market.find_symbol_day(name, as_of_ms)
        rows = await market.archive.read_actions(name, params, last_day)
        await market.names.require_symbols(() if rows else (name,))
        about = {"symbol": name, "cursor": find_action_cursor(rows, params)}
        table = AnswerTable("actions", ACTION_COLUMNS, rows, about)
        return send_table(request, make_answer(table, params.format))

    @api.get("/symbols", response_model=TableAnswer, responses=_FORMATS)
    async def read_symbols(request: Request, params: Params, asset: AssetClass | None = None) -> Response:
        """Return the symbols of the archive by name; `cursor` leads to the ones after.

        With `as_of` these are the symbols that the truth had then, where that is known, else those that had a
        record by then: `universe` says which.
        """
        after = None if params.cursor is None else require_symbol(params.cursor)
        about: dict[str, Any] = {}
        past = None if params.as_of_ms is None else await market.find_past(params.as_of_ms)
        if past is not None and past.of is UniverseOf.TRUTH:
            named = await market.archive.read_universe(after, asset, params.limit, past.at_ms)
            rows = [(*row[:2], *row[4:]) for row in named]
        else:
            rows = await market.archive.read_symbols(after, asset, params.limit, params.as_of_ms)
        about["cursor"] = rows[-1][0] if len(rows) == params.limit else None
        if past is not None:
            about["universe"] = past.describe()
        table = AnswerTable("symbols", SYMBOL_TABLE.types, rows, about)
        response = send_table(request, make_answer(table, params.format))
        response.headers.update({} if past is None else past.headers)
        return response

    @api.get("/correlations", response_model=TableAnswer, responses=_FORMATS)
    async def read_correlations(
        request: Request,
        day: Annotated[date | None, Query(description="The newest one of each pair unless given.")] = None,
        symbols: Annotated[str, Query(max_length=1500)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = ROWS,
        cursor: Annotated[str | None, Query(max_length=MAX_CURSOR)] = None,
        *,
        as_of: AsOf = None,
        form: Annotated[TableFormat, Query(alias="format")] = TableFormat.JSON,
    ) -> Response:
        """Return the correlation of daily returns of each pair of symbols over 60 days, by their names.

        `cursor` leads to the pairs after. With `as_of` these are the pairs whose closes were known by then.
        """
        names, at_ms = parse_symbols(symbols) or None, parse_as_of(as_of, round(1000 * time.time()))
        rows = await market.archive.read_correlations(day, names, limit, parse_pair_cursor(cursor), at_ms)
        if len(rows) < limit:  # else some of the names may be in the pairs after these
            await market.names.require_symbols(set(names or ()) - {name for row in rows for name in row[1:3]})
        following = f"{rows[-1][1]},{rows[-1][2]}" if len(rows) == limit else None
        about = {"day": max((str(row[0]) for row in rows), default=None), "cursor": following}
        return send_table(request, make_answer(AnswerTable("correlations", CORRELATIONS, rows, about), form))


def _add_overviews(api: APIRouter, market: Market) -> None:
    sources = refuse_past("the states of sources are of now: those of then are not kept")

    @api.get("/sources", response_model=SourcesAnswer, dependencies=[sources])
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
        return send_table(request, EncodedAnswer((whole,), JSON_TYPE, tag))

    @api.get("/market/{group}", response_model=GroupAnswer)
    async def read_group(group: GroupName, request: Request, as_of: AsOf = None) -> Response:
        """Return the symbols of a group, each with its last price, its change and a sparkline.

        With `as_of` these are the symbols of then (`universe`), each as it was known.
        """
        at_ms = parse_as_of(as_of, round(1000 * time.time()))
        past = None if at_ms is None else await market.find_past(at_ms)
        states = market.states if past is None else past.states
        tiles, away = await make_group_tiles(market, require_group(states, group), past)
        answer = {"group": group, "symbols": tiles, "away": away}
        body = orjson.dumps(answer if past is None else {**answer, "universe": past.describe()})
        return send_table(request, EncodedAnswer((body,), JSON_TYPE, make_tag(body)))


def parse_symbols(text: str) -> list[str]:
    return list(dict.fromkeys(require_symbol(word.strip()) for word in text.split(",") if word.strip()))


def send_table(request: Request, answer: EncodedAnswer) -> Response:
    """Return the response with an answer: packed if it is and the client takes that, 304 if it is known."""
    takes_packed = "gzip" in request.headers.get("accept-encoding", "")
    return _send_answer(request, answer, find_quota_headers(request), takes_packed=takes_packed)


def _send_answer(
    request: Request, answer: EncodedAnswer, quota: Mapping[str, str], *, takes_packed: bool
) -> Response:
    packed = answer.packed if takes_packed else None
    more = quota if answer.cursor is None else {**quota, "X-Cursor": answer.cursor}
    body = answer.body if packed is None else packed
    return answer_body(request, body, answer.etag, answer.media_type, more, is_packed=packed is not None)


def find_kept_chart(market: Market, request: Request) -> Response | None:
    """Return the answer to a request for a chart of a client that takes gzip, if memory has all of it.

    Spends one of the requests of the client's token, or else of its address.
    """
    if not request.scope["path"].startswith(PREFIX):
        return None
    query = _QUERY.fullmatch(request.scope["query_string"])
    if query is None or "gzip" not in request.headers.get("accept-encoding", ""):
        return None
    frame, limit, adjust = query.groups()
    symbol = request.scope["path"].removeprefix(PREFIX)
    asked = ChartRequest(
        (symbol, DEFAULT_TIMEFRAME if frame is None else frame.decode()),
        TableQuery(limit=ROWS if limit is None else int(limit)),
        adjust=None if adjust is None else Adjust(adjust.decode()),
    )
    answer = market.find_kept_chart(asked) or market.make_kept_chart(asked)
    if answer is None:
        return None
    quota = market.limiter.take(find_spender(request), time.monotonic())
    if quota is not None and quota.wait_sec:
        return None  # nothing was taken: the route refuses it
    return _send_answer(request, answer, NO_HEADERS if quota is None else quota.headers, takes_packed=True)
