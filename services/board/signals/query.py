"""Parse which signals a request wants. Pure."""

import time
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

from fastapi import Query

from services.board.market.past import AsOf
from services.board.market.query import MAX_CURSOR, QueryError, TableFormat, parse_as_of, parse_time
from services.tables.signal_places import OutcomeWord, SideWord
from services.tables.signals import MAX_ROWS, SignalQuery, parse_signal_cursor

ROWS: Final = 100  # the signals of an answer unless the request asks for another number
Since = Annotated[str | None, Query(max_length=40, description="First time: ISO 8601, epoch ms, or 30d ago.")]
Until = Annotated[str | None, Query(max_length=40, description="The time after the last one.")]
Cursor = Annotated[
    str | None, Query(max_length=MAX_CURSOR, description="That of the last answer leads to those before.")
]


@dataclass(frozen=True, slots=True)
class SignalParams:
    """Hold what a request wants, in which format, and as of which instant (epoch ms; None: now)."""

    query: SignalQuery
    format: TableFormat = TableFormat.JSON
    as_of_ms: int | None = None


async def parse_signal_params(
    side: Annotated[SideWord | None, Query(description="Only signals with this side.")] = None,
    outcome: Annotated[OutcomeWord | None, Query(description="Only what ended like this.")] = None,
    since: Since = None,
    until: Until = None,
    *,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = ROWS,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
    as_of: AsOf = None,
) -> SignalParams:
    """Return what a request wants, of all symbols. Raises QueryError.

    It is a coroutine function although it waits for nothing: FastAPI runs others in a thread.
    """
    now_ms = round(1000 * time.time())
    query = SignalQuery(
        side=side,
        outcome=outcome,
        since_ms=parse_time("since", since, now_ms),
        until_ms=parse_time("until", until, now_ms),
        limit=limit,
    )
    if None not in (query.since_ms, query.until_ms) and (query.since_ms or 0) >= (query.until_ms or 0):
        raise QueryError("since: is not before `until`")
    as_of_ms = parse_as_of(as_of, now_ms)
    return SignalParams(bound_query(query, cursor, as_of_ms), TableFormat(form), as_of_ms)


def bound_query(query: SignalQuery, cursor: str | None, as_of_ms: int | None) -> SignalQuery:
    """Return a query of the signals before a cursor, and up to an instant. Raises QueryError."""
    before = None if cursor is None else parse_signal_cursor(cursor)
    if cursor is not None and before is None:
        raise QueryError("cursor: is not one that a page gave")
    ends = [each for each in (query.until_ms, None if as_of_ms is None else as_of_ms + 1) if each is not None]
    return replace(query, before=before, until_ms=min(ends, default=None))
