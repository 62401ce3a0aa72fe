"""Adjust rows of bars as they are in the database, by the corporate actions that it has. Pure.

What a statement selects is made into an Adjuster; rows of bars, or their cells in an answer, are put on a
basis by it. docs/market.md says which bases there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from services.market.adjust import AS_TRADED, Adjuster, Factors, GivenClose, PriceBasis
from services.market.intervals import end_period
from services.market.records import DAY_MS, PERIODS, ActionKind, Adjustment, CorporateAction
from services.market.sessions import Session
from services.tables.rows import Cells

# Bars that were written before bars named their day have none, nor do those that are shorter than a day. A
# day of forex begins at 21:00 or 22:00 UTC on the evening before, and that of every exchange earlier in the
# UTC day: 3 hours later both are on its date.
DAY_SQL: Final = "coalesce(day, ((start + interval '3 hours') AT TIME ZONE 'UTC')::date)"
SHARE_SQL: Final = f"""
SELECT actions.symbol, kind, ex_day, ratio, amount, bar.close_day, bar.close, bar.adjustment, bar.adjusted_to
FROM actions LEFT JOIN LATERAL (
    SELECT {DAY_SQL} AS close_day, close, adjustment, adjusted_to FROM bars
    WHERE bars.symbol = actions.symbol AND timeframe = '1d' AND final
        AND start < (ex_day + 1)::timestamp AT TIME ZONE 'UTC' AND {DAY_SQL} < ex_day
        AND ($3::timestamptz IS NULL OR ex_day > ($3 AT TIME ZONE 'UTC')::date
            OR coalesce(known_at, start + interval '1 day') <= $3)
    ORDER BY start DESC LIMIT 1
) bar ON kind = 'dividend'
WHERE ($1::text[] IS NULL OR actions.symbol = ANY($1)) AND ($2::date IS NULL OR ex_day >= $2)
    AND NOT withdrawn AND kind <> 'rename'
ORDER BY actions.symbol, ex_day, kind
"""  # noqa: S608 - our own names
"""Selects the actions but renames of symbols (NULL: of all) from a day on (NULL: ever).

Each dividend comes with the last close before it. As of an instant (NULL: now) one that has come by then has
the last close that was known; later ones only take back what a source has adjusted for them.
"""
_BEFORE_MIDNIGHT: Final = timedelta(hours=3)
_PRICES: Final = ("open", "high", "low", "close", "vwap")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Adjust(StrEnum):
    """Name the bases that a reader may ask for."""

    NONE = "none"
    SPLITS = "splits"
    ALL = "all"

    def make_basis(self, day: date) -> PriceBasis:
        """Return the basis as of a day."""
        return AS_TRADED if self is Adjust.NONE else PriceBasis(Adjustment(self.value), day)


def make_adjusters(rows: Iterable[Sequence[Any]]) -> dict[str, Adjuster]:
    """Return an adjuster for each symbol of the rows of SHARE_SQL."""
    actions: dict[str, list[CorporateAction]] = {}
    closes: dict[str, list[GivenClose]] = {}
    for symbol, kind, ex_day, ratio, amount, close_day, close, adjustment, adjusted_to in rows:
        actions.setdefault(symbol, []).append(
            CorporateAction(symbol, ActionKind(kind), ex_day, ratio=ratio, amount=amount)
        )
        if close is not None:
            basis = make_basis(adjustment, adjusted_to)
            closes.setdefault(symbol, []).append(GivenClose(close_day, close, basis))
    return {symbol: Adjuster(found, closes.get(symbol, ())) for symbol, found in actions.items()}


def make_basis(adjustment: str, adjusted_to: date | str | None) -> PriceBasis:
    """Return the basis of a row, by its two columns."""
    if adjusted_to is None:
        return AS_TRADED
    day = date.fromisoformat(adjusted_to) if isinstance(adjusted_to, str) else adjusted_to
    return PriceBasis(Adjustment(adjustment), day)


def find_row_day(start: int | datetime, day: date | str | None, timeframe: str = "1d") -> date:
    """Return the trading day of a row, whose `start` is a time or in epoch milliseconds.

    Of a week or month that is its last date: its prices are those as traded then.
    """
    if day is not None:
        named = date.fromisoformat(day) if isinstance(day, str) else day
    else:
        moment = _EPOCH + timedelta(milliseconds=start) if isinstance(start, int) else start.astimezone(UTC)
        named = (moment + _BEFORE_MIDNIGHT).date()
    return end_period(named, timeframe) if timeframe in PERIODS else named


def find_market_date(at_ms: int, session: Session | None) -> date:
    """Return the date where the market is, at a time in epoch milliseconds; in UTC without a session."""
    if session is not None:
        return session.find_local_date(at_ms)
    return (_EPOCH + timedelta(milliseconds=at_ms)).date()


def find_day_as_of(at_ms: int, session: Session | None) -> date:
    """Return the last day whose splits and dividends have come at an instant in epoch milliseconds.

    That is the date where the market is. But a midnight in UTC is the end of the day before it in every
    market: so an `as_of` arrives that is a date, and nobody who names one means the day after it in Tokyo.
    """
    if at_ms % DAY_MS == 0:
        return find_market_date(at_ms - 1, None)
    return find_market_date(at_ms, session)


def adjust_closes(closes: Sequence[GivenClose], adjuster: Adjuster | None, wanted: PriceBasis) -> list[float]:
    """Return closes of one symbol on a basis."""
    prices = [each.close for each in closes]
    if adjuster is None or adjuster.is_empty or not prices:
        return prices
    return [adjuster.find_factors(each.day, each.basis, wanted).adjust_price(each.close) for each in closes]


def adjust_rows(
    rows: Sequence[Cells],
    columns: Sequence[str],
    adjuster: Adjuster | None,
    wanted: PriceBasis,
    timeframe: str = "1d",
) -> list[Cells]:
    """Return rows of bars on a basis; `adjustment` and `adjusted_to` say so.

    `columns` are the names of their cells; `timeframe` is theirs, unless a column says it. The types of dates
    stay: texts in an answer, dates of a database.
    """
    places: Mapping[str, int] = {name: place for place, name in enumerate(columns)}
    start, day, adjustment, adjusted_to = (
        places[name] for name in ("start", "day", "adjustment", "adjusted_to")
    )
    own = places.get("timeframe")
    changed = [list(row) for row in rows]
    if adjuster is not None and not adjuster.is_empty:
        known: dict[tuple[date, PriceBasis], Factors] = {}  # the minutes of a day have one
        for row in changed:
            basis = make_basis(row[adjustment], row[adjusted_to])
            day_of = find_row_day(row[start], row[day], timeframe if own is None else row[own])
            factors = known.get((day_of, basis))
            if factors is None:
                factors = known[day_of, basis] = adjuster.find_factors(day_of, basis, wanted)
            for name in (*_PRICES, "volume"):
                if (number := row[places[name]]) is not None:
                    adjust = factors.adjust_volume if name == "volume" else factors.adjust_price
                    row[places[name]] = adjust(number)
    upto: Any = None if wanted.adjustment is Adjustment.RAW else wanted.day
    if upto is not None and changed and isinstance(changed[0][start], int):
        upto = upto.isoformat()
    for row in changed:
        row[adjustment], row[adjusted_to] = str(wanted.adjustment), upto
    return [tuple(row) for row in changed]
