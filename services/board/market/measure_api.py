"""Answer programs about the market as a whole: rotation, breadth, rates, sentiment; and search for names."""

import time
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from services.board.market.api import TableAnswer, make_limit, send_table
from services.board.market.charts import make_answer
from services.board.market.market import Market
from services.board.market.measures import (
    ALL,
    SECTORS,
    MeasuredRates,
    list_minute_symbols,
    list_priced,
    read_breadth,
    read_closes,
    read_credit,
    read_quality,
    read_sentiment,
    read_yield_curve,
)
from services.board.market.news import cut_news, select_news
from services.board.market.overview import require_group
from services.board.market.past import AsOf, PastMarket, refuse_past
from services.board.market.quality import DAYS, MAX_DAYS, MAX_JUDGED
from services.board.market.query import TableFormat, parse_as_of, require_symbol
from services.board.market.rates import Measure
from services.board.market.rotation import PERIODS, RankedSymbol, rank_returns
from services.board.market.tables import FORMATS, AnswerTable
from services.tables.rows import Cells, ColumnType

MAX_FOUND: Final = 100  # the most names that a search finds
FOUND: Final = 10
MAX_QUERY: Final = 100
NAMES: Final = {
    "symbol": ColumnType.TEXT,
    "kind": ColumnType.TEXT,
    "asset": ColumnType.TEXT,
    "group": ColumnType.TEXT,
    "names": ColumnType.TEXT,
    "first_seen": ColumnType.TIME,
    "last_seen": ColumnType.TIME,
}
ROTATION: Final = {
    "symbol": ColumnType.TEXT,
    "day": ColumnType.DATE,
    "close": ColumnType.NUMBER,
    **{f"percent_{period}": ColumnType.NUMBER for period in PERIODS},
    **{f"rank_{period}": ColumnType.COUNT for period in PERIODS},
    **{f"since_{period}": ColumnType.DATE for period in PERIODS},
    "replay": ColumnType.FLAG,
}
BREADTH: Final = {
    "group": ColumnType.TEXT,
    "day": ColumnType.DATE,
    "symbols": ColumnType.COUNT,
    "advancers": ColumnType.COUNT,
    "decliners": ColumnType.COUNT,
    "unchanged": ColumnType.COUNT,
    "new_highs": ColumnType.COUNT,
    "new_lows": ColumnType.COUNT,
    "measured": ColumnType.COUNT,
    "behind": ColumnType.COUNT,
    "highs": ColumnType.TEXT,
    "lows": ColumnType.TEXT,
    "replay": ColumnType.FLAG,
}
MEASURES: Final = {
    "label": ColumnType.TEXT,
    "series": ColumnType.TEXT,
    "day": ColumnType.DATE,
    "value": ColumnType.NUMBER,
    "month_ago": ColumnType.NUMBER,
    "year_ago": ColumnType.NUMBER,
    "low": ColumnType.NUMBER,
    "high": ColumnType.NUMBER,
    "source": ColumnType.TEXT,
    "replay": ColumnType.FLAG,
    "years": ColumnType.NUMBER,
}


QUALITY: Final = {
    "symbol": ColumnType.TEXT,
    "day": ColumnType.DATE,
    "expected": ColumnType.COUNT,
    "minutes": ColumnType.COUNT,
    "missing": ColumnType.COUNT,
    "corrected": ColumnType.COUNT,
    "disagreements": ColumnType.COUNT,
    "rejected": ColumnType.COUNT,
    "sources": ColumnType.TEXT,
    "replay": ColumnType.FLAG,
}
NEWS: Final = {
    "id": ColumnType.TEXT,
    "at": ColumnType.TIME,
    "title": ColumnType.TEXT,
    "link": ColumnType.TEXT,
    "feed": ColumnType.TEXT,
    "sentiment": ColumnType.NUMBER,
    "tickers": ColumnType.TEXT,
    "topics": ColumnType.TEXT,
}
NO_PAST_QUALITY: Final = (
    "of a minute that was corrected only the newest version is kept: it is not known which lacked then"
)
NO_PAST_SEARCH: Final = "a search is of the names that there are now; /api/v1/symbols has those of then"
MAX_NEWS: Final = 200
NEWS_ROWS: Final = 50
_GROUP: Final = Query(max_length=60, description="The `group` of a series in the truth, or its asset class.")


class Period(StrEnum):
    """Name the periods of returns."""

    WEEK = "1w"
    MONTH = "1m"
    QUARTER = "3m"
    YEAR = "12m"


OneSymbol = Annotated[str | None, Query(max_length=40, description="One symbol; all without it.")]
Form = Annotated[TableFormat, Query(alias="format")]
Group = Annotated[str, _GROUP]


def make_measure_api(market: Market) -> APIRouter:
    """Return routes that must come before `/api/v1/market/{group}`, which would take them for groups."""
    api = APIRouter(prefix="/api/v1", dependencies=[Depends(make_limit(market))])
    _add_search(api, market)
    _add_groups(api, market)
    _add_rates(api, market)
    _add_quality(api, market)
    return api


def _add_search(api: APIRouter, market: Market) -> None:
    search = refuse_past(NO_PAST_SEARCH)

    @api.get("/db/search", response_model=TableAnswer, responses=FORMATS, dependencies=[search])
    async def search_names(
        request: Request,
        query: Annotated[str, Query(min_length=1, max_length=MAX_QUERY)],
        limit: Annotated[int, Query(ge=1, le=MAX_FOUND)] = FOUND,
        form: Form = TableFormat.JSON,
    ) -> Response:
        """Return the symbols and series that a text may mean, the best first: by symbol, or by another name.

        `away` says why those that only the archive has may lack.
        """
        found, away = await market.names.search(query, limit)
        rows = [
            (
                *(one.symbol, "series" if one.is_series else "symbol", one.asset, one.group),
                *(", ".join(one.names) or None, one.first_seen, one.last_seen),
            )
            for one in found
        ]
        return _send(request, AnswerTable("results", NAMES, rows, {"query": query, "away": away}), form)


def _add_groups(api: APIRouter, market: Market) -> None:
    @api.get("/market/rotation", response_model=TableAnswer, responses=FORMATS)
    async def read_rotation(
        request: Request,
        group: Group = SECTORS,
        by: Period = Period.MONTH,
        as_of: AsOf = None,
        form: Form = TableFormat.JSON,
    ) -> Response:
        """Return the symbols of a group, ranked by their return over a period of trading days.

        1w is 5 trading days, 1m 21, 3m 63 and 12m 252; `since` is the day of the close that a return is
        counted from. With `as_of` these are the symbols of then (`universe`), by what was known.
        """
        past = await find_past(market, as_of)
        states, at_ms = (market.states, None) if past is None else (past.states, past.at_ms)
        symbols = list_priced(states, require_group(states, group))
        ranked = rank_returns(await read_closes(market, symbols, at_ms), by)
        about = {"group": group, "by": by, "trading_days": PERIODS}
        table = AnswerTable("rotation", ROTATION, list(map(_make_ranked, ranked)), about)
        return _send(request, table, form, past)

    @api.get("/market/breadth", response_model=TableAnswer, responses=FORMATS)
    async def read_group_breadth(
        request: Request,
        group: Annotated[str | None, _GROUP] = None,
        as_of: AsOf = None,
        form: Form = TableFormat.JSON,
    ) -> Response:
        """Return how many symbols rose and fell on the newest day, and how many are at the high of a year.

        A row for each group, `all` first; `behind` counts symbols without a close of that day, `measured`
        those whose closes reach back a year.
        """
        past = await find_past(market, as_of)
        if group is not None and group != ALL:
            require_group(market.states if past is None else past.states, group)
        found = await read_breadth(market, group, past)
        rows = [
            (
                *(name, one.day, count, one.advancers, one.decliners, one.unchanged, len(one.highs)),
                *(len(one.lows), one.measured, len(one.behind), " ".join(one.highs), " ".join(one.lows)),
                one.replay,
            )
            for name, count, one in found
        ]
        return _send(request, AnswerTable("breadth", BREADTH, rows), form, past)


def _add_rates(api: APIRouter, market: Market) -> None:
    @api.get("/market/yield-curve", response_model=TableAnswer, responses=FORMATS)
    async def read_curve(request: Request, as_of: AsOf = None, form: Form = TableFormat.JSON) -> Response:
        """Return the yields of US Treasuries by maturity, now, a month and a year ago.

        `slopes` are those of the curve, in percentage points; `missing` names the series that are not there.
        """
        curve = await read_yield_curve(market, parse_as_of(as_of, _now_ms()))
        about = {"slopes": curve.slopes, "missing": curve.missing}
        rows = list(map(_make_measure, curve.yields))
        return _send(request, AnswerTable("yields", MEASURES, rows, about), form)

    @api.get("/market/credit", response_model=TableAnswer, responses=FORMATS)
    async def read_spreads(request: Request, as_of: AsOf = None, form: Form = TableFormat.JSON) -> Response:
        """Return the spreads of corporate bonds over Treasuries, in percentage points."""
        found = await read_credit(market, parse_as_of(as_of, _now_ms()))
        return _send_measures(request, "spreads", found, form)

    @api.get("/market/sentiment", response_model=TableAnswer, responses=FORMATS)
    async def read_moods(request: Request, as_of: AsOf = None, form: Form = TableFormat.JSON) -> Response:
        """Return what surveys, volatility and the positions of speculators say."""
        found = await read_sentiment(market, await find_past(market, as_of))
        return _send_measures(request, "sentiment", found, form)


def _add_quality(api: APIRouter, market: Market) -> None:
    quality = refuse_past(NO_PAST_QUALITY)

    @api.get("/market/quality", response_model=TableAnswer, responses=FORMATS, dependencies=[quality])
    async def read_day_quality(
        request: Request,
        symbol: OneSymbol = None,
        days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = DAYS,
        form: Form = TableFormat.JSON,
    ) -> Response:
        """Return how good the minutes of each symbol are on its last trading days.

        Missing and corrected minutes, records that were rejected, those since sources disagree, and how many
        minutes each source served. `has_more` says whether there are symbols beyond the first 200 by name,
        `waiting` which of them are left out while their calendars are computed.
        """
        if symbol is not None:
            await market.names.require_symbols([require_symbol(symbol)])
        symbols = list_minute_symbols(market) if symbol is None else [symbol]
        found = await read_quality(market, symbols[:MAX_JUDGED], days)
        rows = [
            (
                *(one.symbol, one.day, one.expected, one.minutes, one.missing, one.corrected),
                *(one.disagreements, one.rejected),
                *(", ".join(f"{name} {count}" for name, count in one.sources), one.replay),
            )
            for one in found.days
        ]
        about = {"has_more": len(symbols) > MAX_JUDGED, "away": found.away, "waiting": found.waiting}
        return _send(request, AnswerTable("quality", QUALITY, rows, about), form)

    @api.get("/news", response_model=TableAnswer, responses=FORMATS)
    async def read_news(
        request: Request,
        symbol: OneSymbol = None,
        limit: Annotated[int, Query(ge=1, le=MAX_NEWS)] = NEWS_ROWS,
        as_of: AsOf = None,
        form: Form = TableFormat.JSON,
    ) -> Response:
        """Return the newest items of feeds about a symbol, or all; `away` says why they may lack.

        With `as_of` these are the items that were there by then, of the newest 2,000.
        """
        items, away = cut_news(*await market.find_news(), parse_as_of(as_of, _now_ms()))
        found = select_news(items, None if symbol is None else require_symbol(symbol), limit)
        if symbol is not None and not found:
            await market.names.require_symbols([symbol])
        rows = [
            (
                *(one.id, round(1000 * one.at), one.title, one.link, one.feed, one.sentiment),
                *(", ".join(one.tickers), ", ".join(one.topics)),
            )
            for one in found
        ]
        return _send(request, AnswerTable("news", NEWS, rows, {"symbol": symbol, "away": away}), form)


def _make_ranked(one: RankedSymbol) -> Cells:
    found = [one.returns.get(period) for period in PERIODS]
    return (
        *(one.symbol, one.last.day, one.last.close),
        *(None if each is None else each.percent for each in found),
        *(None if each is None else each.rank for each in found),
        *(None if each is None else each.since for each in found),
        one.last.replay,
    )


def _make_measure(one: Measure) -> Cells:
    cells = asdict(one)
    return tuple(cells[name] for name in MEASURES)


def _send_measures(request: Request, name: str, found: MeasuredRates, form: TableFormat) -> Response:
    rows = list(map(_make_measure, found.measures))
    return _send(request, AnswerTable(name, MEASURES, rows, {"missing": found.missing}), form)


def _send(
    request: Request, table: AnswerTable, form: TableFormat, past: PastMarket | None = None
) -> Response:
    if past is None:
        return send_table(request, make_answer(table, form))
    whole = replace(table, about={**table.about, "universe": past.describe()})
    response = send_table(request, make_answer(whole, form))
    response.headers.update(past.headers)
    return response


async def find_past(market: Market, as_of: str | None) -> PastMarket | None:
    """Return the market of the instant of a request, None for now. Raises DatabaseAwayError, QueryError."""
    at_ms = parse_as_of(as_of, _now_ms())
    return None if at_ms is None else await market.find_past(at_ms)


def _now_ms() -> int:
    return round(1000 * time.time())
