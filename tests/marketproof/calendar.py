"""List trading days: those of exchanges by exchange_calendars, the others by docs/services/bars.md.

Nothing of `services/` is used here.
"""

import warnings
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import exchange_calendars
import polars as pl

NEW_YORK: Final = ZoneInfo("America/New_York")
COLUMNS: Final = dict.fromkeys(("opens", "closes", "pauses", "resumes"), pl.Int64)
OWN: Final = frozenset({"24x5", "24x7", "us_futures"})
"""The sessions that are no exchange's."""


@cache
def list_days(session: str, first: date, last: date) -> pl.DataFrame:
    """Return each trading day of a session from one date to another, both included.

    The columns are the date (`day`), when it opens and closes, and when its lunch break begins and ends, in
    epoch milliseconds; a day without a break has its close for both.
    """
    edges = _list_own(session, first, last) if session in OWN else _list_exchange(session, first, last)
    return pl.DataFrame(edges, schema={"day": pl.Date, **COLUMNS}, orient="row")


def _list_exchange(code: str, first: date, last: date) -> list[tuple[date, int, int, int, int]]:
    calendar = _get_calendar(code)
    edges = zip(
        calendar.sessions.date.tolist(),
        (calendar.opens_nanos // 1_000_000).tolist(),
        (calendar.closes_nanos // 1_000_000).tolist(),
        (calendar.break_starts_nanos // 1_000_000).tolist(),
        (calendar.break_ends_nanos // 1_000_000).tolist(),
        strict=True,
    )
    return [
        (day, opens, closes, *((pauses, resumes) if opens < pauses < closes else (closes, closes)))
        for day, opens, closes, pauses, resumes in edges
        if first <= day <= last
    ]


@cache
def _get_calendar(code: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return exchange_calendars.get_calendar(code, start="2023-06-01", end="2027-06-01")


def _list_own(session: str, first: date, last: date) -> list[tuple[date, int, int, int, int]]:
    """Return the days of currencies and coins, and of futures, which rest for an hour before each."""
    found = []
    early = _find_early_closes("CMES") if session == "us_futures" else {}
    for number in range((last - first).days + 1):
        day = first + timedelta(number)
        if session == "24x7":
            opens, closes = _to_ms(day, time(), UTC), _to_ms(day + timedelta(1), time(), UTC)
        elif day.weekday() > 4 or (day.month, day.day) in ((12, 25), (1, 1)):
            continue
        else:
            begin = time(18) if session == "us_futures" else time(17)
            opens = _to_ms(day - timedelta(1), begin, NEW_YORK)
            closes = min(_to_ms(day, time(17), NEW_YORK), early.get(day, opens + 86_400_000))
        found.append((day, opens, closes, closes, closes))
    return found


def _find_early_closes(code: str) -> dict[date, int]:
    calendar = _get_calendar(code)
    return {day.date(): int(calendar.closes[day].timestamp() * 1000) for day in calendar.early_closes}


def _to_ms(day: date, at: time, zone: Any) -> int:
    return round(datetime.combine(day, at, zone).timestamp() * 1000)


def count_minutes(since: str, until: str) -> pl.Expr:
    """Return how many minutes are traded between two times of a day; see `list_days` for its columns."""
    begin, end = pl.col(since), pl.col(until)
    pause = pl.min_horizontal(pl.col("resumes"), end) - pl.max_horizontal(pl.col("pauses"), begin)
    return (end - begin - pause.clip(lower_bound=0)) // 60_000


def name_period(timeframe: str) -> pl.Expr:
    """Return the date of the Monday, or of the first of the month, of each `day`."""
    return pl.col("day").dt.truncate("1w" if timeframe == "1w" else "1mo")
