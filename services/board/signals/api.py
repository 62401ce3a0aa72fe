"""Answer programs about signals, under `/api/v1/signals`. Everything here only reads PostgreSQL."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from services.board.market.api import make_limit, send_table
from services.board.market.charts import EncodedAnswer, make_answer, make_tag
from services.board.market.query import QueryError, TableFormat, require_symbol
from services.board.market.tables import CSV_TYPE, JSON_TYPE, AnswerTable
from services.board.signals.query import SignalParams, parse_signal_params
from services.board.signals.signals import SignalBoard, find_cursor
from services.board.signals.views import LISTED_COLUMNS, PAPER, SignalView, describe_signal, list_cells
from services.tables.signals import SignalQuery, parse_signal_id

_CSV: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {CSV_TYPE.partition(";")[0]: {"schema": {"type": "string"}}}}
}
_NOT_FOUND: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "There is no such signal"}}
Params = Annotated[SignalParams, Depends(parse_signal_params)]
Name = Annotated[
    str, Path(max_length=64, description="A symbol, such as SPY or EUR/USD; or the id of a signal.")
]


@dataclass(frozen=True, slots=True)
class SignalsAnswer:
    """A page of signals, the oldest first. `cursor` leads to those before, `paper` says what they are not."""

    paper: str
    cursor: str | None
    signals: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class NamedAnswer:
    """Of a symbol its page of signals, with all of the `newest`; of an id all of that `signal`."""

    paper: str
    symbol: str
    cursor: str | None = None
    signals: tuple[dict[str, Any], ...] | None = None
    newest: dict[str, Any] | None = None
    signal: dict[str, Any] | None = None


def make_signal_api(board: SignalBoard) -> APIRouter:
    api = APIRouter(prefix="/api/v1", dependencies=[Depends(make_limit(board.market))])

    @api.get("/signals", response_model=SignalsAnswer, responses=_CSV)
    async def read_signals(
        request: Request,
        params: Params,
        symbol: Annotated[str | None, Query(max_length=40, description="Only those of this symbol.")] = None,
    ) -> Response:
        """Return the newest signals, the oldest first; `cursor` leads to the ones before. Paper, no advice.

        A symbol has a signal at each tick at which something changed. Numbers are decimal texts, as they were
        hashed. `witness` is `proven` if a witness cosigned a checkpoint that has it, at `witnessed_at`;
        otherwise it is `not yet witnessed`. `changed` means that its content does not hash to its id.
        """
        query = params.query if symbol is None else replace(params.query, symbol=require_symbol(symbol))
        views = await board.find_page(query, params.as_of_ms)
        return send_table(request, _answer_page(params, views, query, {}))

    @api.get("/signals/{name:path}", response_model=NamedAnswer, responses={**_CSV, **_NOT_FOUND})
    async def read_named(name: Name, request: Request, params: Params) -> Response:
        """Return the signals of a symbol, and all of its newest one; or all of the signal with an id.

        All of a signal are its votes, each with its reasons and what it added to the score, the bars that
        they were made of, and its entry of the log (`n`). `sentence` is the reason by rule, `wording` that of
        a model, if one was asked: it is beside the log, and in no hash. With its `content`, the id is the
        SHA-256 of a zero byte and that text. `age_sec` counts from the cosignature, or from the signal if it
        has none, to this answer. An id takes no parameters.
        """
        if (ident := parse_signal_id(name)) is not None:
            if request.query_params:
                raise QueryError(f"{min(request.query_params)}: the signal with an id takes no parameters")
            return send_table(request, await _answer_signal(board, ident))
        query = replace(params.query, symbol=require_symbol(name))
        async with board.market.archive.limit_answer():
            views = await board.find_page(query, params.as_of_ms)
            newest = await board.find_newest(name, params.as_of_ms)
        about: dict[str, Any] = {"symbol": name, "newest": newest and await _describe(board, newest.found.id)}
        return send_table(request, _answer_page(params, views, query, about))

    return api


async def _answer_signal(board: SignalBoard, ident: str) -> EncodedAnswer:
    """Return the answer about one signal. Its age is left out of the tag: it is another one each time."""
    signal = await _describe(board, ident)
    body = {"paper": PAPER, "symbol": signal["symbol"], "signal": signal}
    still = {**body, "signal": {**signal, "age_sec": None}}
    return EncodedAnswer((orjson.dumps(body),), JSON_TYPE, make_tag(orjson.dumps(still)))


async def _describe(board: SignalBoard, ident: str) -> dict[str, Any]:
    whole = await board.find_signal(ident)
    return describe_signal(whole, board.weigh(whole), round(1000 * time.time()))


def _answer_page(
    params: SignalParams, views: Sequence[SignalView], query: SignalQuery, about: dict[str, Any]
) -> EncodedAnswer:
    """Return the answer with a page; the age of the newest signal is left out of its tag, as above."""
    more = {"paper": PAPER, **about, "cursor": find_cursor(views, query)}
    table = AnswerTable("signals", LISTED_COLUMNS, [list_cells(one) for one in views], more)
    answer = make_answer(table, params.format)
    if more.get("newest") is None or params.format is not TableFormat.JSON:
        return answer
    still = replace(table, about={**more, "newest": {**more["newest"], "age_sec": None}})
    return replace(answer, etag=make_answer(still, params.format).etag)
