"""Parse what a request wants to see of a table of the market: range, page, timeframe and format. Pure.

A page is the newest rows of a range; its cursor leads to the rows before them. So a reader that only wants
the latest rows asks once, and a chart that is scrolled back asks on. A cursor is the key of the oldest row of
a page, and it stays right while new rows come: its whole key, where several rows may have one time.
"""

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from services.market.fields import MAX_MS, MIN_MS, SYMBOL
from services.market.records import DAY_MS, TIMEFRAMES

MAX_ROWS: Final = 5000
ROWS: Final = 500  # the rows of a page unless the request asks for another number
_NUMBER: Final = re.compile(r"-?\d{1,14}")
MIN_EPOCH_DIGITS: Final = 9  # of epoch milliseconds: a shorter number, except 0, is more likely a year
_DATE: Final = re.compile(r"\d{4}-?\d{2}-?\d{2}")
DAY_BEGINS_MS: Final = 3 * 3_600_000  # at most so long before midnight UTC of its date a trading day begins
_PERIOD: Final = re.compile(r"(\d{1,5})(m|h|d|w|y)")
_PERIOD_SEC: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_557_600}
MAX_CURSOR: Final = 150


class QueryError(ValueError):
    """A parameter is wrong; the message names it and says what it may be."""


class TableFormat(StrEnum):
    """Name the formats of an answer."""

    JSON = "json"
    CSV = "csv"
    ARROW = "arrow"


@dataclass(frozen=True, slots=True)
class TableQuery:
    """Hold what a request wants: rows in `[from_ms, to_ms)` that come before `cursor`, at most `limit`.

    A time that is None sets no bound. `cursor` is None for the newest page. With `as_of_ms`, the rows are
    wanted as they were known then.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    limit: int = ROWS
    cursor: str | None = None
    format: TableFormat = TableFormat.JSON
    as_of_ms: int | None = None

    @property
    def is_latest(self) -> bool:
        has_bound = self.from_ms is not None or self.to_ms is not None or self.cursor is not None
        return not has_bound and self.as_of_ms is None

    @property
    def before_ms(self) -> int | None:
        """The end of the range, or a cursor that is a time if that is earlier. Raises QueryError."""
        bounds = [each for each in (self.to_ms, parse_time_cursor(self.cursor)) if each is not None]
        return min(bounds, default=None)


def parse_query(
    *,
    start: str | None,
    end: str | None,
    limit: int,
    cursor: str | None,
    form: str,
    now_ms: int,
    is_daily: bool = False,
    as_of: str | None = None,
) -> TableQuery:
    """Return the query of a request. Raise QueryError if a value is wrong.

    `start` (the first time) and `end` (the time after the last one) are as `parse_time` takes them; `now_ms`
    is the time of the request. In a daily table a date is that of a trading day, which may begin before it.
    `as_of` is such a time, too: a date is the end of that day.
    """
    from_ms, to_ms = parse_time("from", start, now_ms), parse_time("to", end, now_ms)
    if is_daily:
        from_ms, to_ms = _begin_day(start, from_ms), _begin_day(end, to_ms)
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise QueryError("from: is not before `to`")
    if cursor is not None and (not cursor.isascii() or not 0 < len(cursor) <= MAX_CURSOR):
        raise QueryError("cursor: is not one that a page gave")
    return TableQuery(from_ms, to_ms, limit, cursor, TableFormat(form), parse_as_of(as_of, now_ms))


def parse_as_of(text: str | None, now_ms: int) -> int | None:
    """Return the instant of a request in epoch milliseconds, None for now; a date is its end.

    Raises QueryError.
    """
    as_of_ms = parse_time("as_of", text, now_ms)
    return as_of_ms + DAY_MS if as_of_ms is not None and _is_date(text) else as_of_ms


def parse_time(name: str, text: str | None, now_ms: int) -> int | None:
    """Return a time of a request in epoch milliseconds, or None. Raises QueryError.

    A time is epoch milliseconds, a date or a time by ISO 8601 (UTC unless it says otherwise), or a period
    before now: `90m`, `12h`, `30d`, `8w`, `2y`. A number of eight digits is a date: `20260131`.
    """
    if text is None:
        return None
    if _NUMBER.fullmatch(text):
        found = _parse_whole_number(name, text)
    elif period := _PERIOD.fullmatch(text):
        found = now_ms - 1000 * int(period[1]) * _PERIOD_SEC[period[2]]
    else:
        found = _parse_iso(name, text)
    if not MIN_MS <= found <= MAX_MS:
        raise QueryError(f"{name}: is not between the years 1800 and 2100")
    return found


def _parse_whole_number(name: str, text: str) -> int:
    """Return the milliseconds that a text of digits is, or the midnight of `20260131`. Raises QueryError."""
    if text == "0" or len(text.removeprefix("-")) >= MIN_EPOCH_DIGITS:
        return int(text)
    if len(text) == len("20260131") and text.isdigit():
        with contextlib.suppress(ValueError):
            return round(1000 * datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    raise QueryError(
        f"{name}: a number is epoch milliseconds, of at least {MIN_EPOCH_DIGITS} digits; a day is 2026-01-31"
    )


def _begin_day(text: str | None, at_ms: int | None) -> int | None:
    """Return a time of a request; if its text is a date, one before which no trading day of it begins."""
    return at_ms - DAY_BEGINS_MS if at_ms is not None and _is_date(text) else at_ms


def _is_date(text: str | None) -> bool:
    return text is not None and _DATE.fullmatch(text) is not None


def _parse_iso(name: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # `+` of a zone that was not escaped
    except (ValueError, OverflowError):
        raise QueryError(
            f"{name}: is not a time: epoch milliseconds, 2026-01-31, 2026-01-31T14:30:00Z or 30d"
        ) from None
    zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    try:
        return round(zoned.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise QueryError(f"{name}: is not between the years 1800 and 2100") from None


def parse_time_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not _NUMBER.fullmatch(cursor) or not MIN_MS <= int(cursor) <= MAX_MS:
        raise QueryError("cursor: is not one that a page gave")
    return int(cursor)


def parse_quote_cursor(cursor: str | None) -> tuple[int | None, str | None]:
    if cursor is None:
        return None, None
    time, _, source = cursor.partition(":")
    if not source or not source.isprintable():
        raise QueryError("cursor: is not one that a page gave")
    return parse_time_cursor(time), source


def parse_pair_cursor(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return "", ""
    one, _, other = cursor.partition(",")
    if SYMBOL.fullmatch(one) is None or SYMBOL.fullmatch(other) is None:
        raise QueryError("cursor: is not one that a page gave")
    return one, other


def require_symbol(text: str) -> str:
    if SYMBOL.fullmatch(text) is None:
        raise QueryError("symbol: is not a symbol")
    return text


def require_timeframe(text: str) -> str:
    if text not in TIMEFRAMES:
        raise QueryError(f"timeframe: is not one of {', '.join(TIMEFRAMES)}")
    return text
