"""Rank the symbols of a group by their returns, and count which of them rise and fall. Pure.

Everything is computed from the closes of trading days as they are stored. A period is counted in trading days
of the symbol itself: what is not traded on a holiday of others has no value that day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.market.decimals import find_percent, find_precision, subtract_prices

PERIODS: Final = {"1w": 5, "1m": 21, "3m": 63, "12m": 252}
"""The periods of returns, in trading days."""
YEAR_DAYS: Final = 252
"""The trading days of a year, in which the newest close may be the highest or the lowest one."""
CLOSES: Final = YEAR_DAYS + 1


class DailyClose(NamedTuple):
    """Hold the close of a trading day, such as `2026-01-05`."""

    day: str
    close: float
    replay: bool = False


Closes = Mapping[str, Sequence[DailyClose]]
"""The closes of each symbol, the oldest first."""


class PeriodReturn(NamedTuple):
    """Hold a return in percent, since the close of a day, and its place among those of the group."""

    percent: float
    since: str
    rank: int = 0


@dataclass(frozen=True, slots=True)
class RankedSymbol:
    """Hold the last close of a symbol, and its returns by period; one whose past is too short is missing."""

    symbol: str
    last: DailyClose
    returns: Mapping[str, PeriodReturn]


@dataclass(frozen=True, slots=True)
class Breadth:
    """Count the symbols of a group on its newest day.

    Attributes:
        behind: the symbols whose newest close is of an earlier day: they are not counted.
        measured: how many have closes of a whole year, so that they may be at a high or a low.
        highs: the symbols whose close is the highest of a year; `lows` are those at the lowest.
    """

    day: str | None = None
    advancers: int = 0
    decliners: int = 0
    unchanged: int = 0
    measured: int = 0
    highs: tuple[str, ...] = ()
    lows: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    replay: bool = False


def rank_returns(closes: Closes, by: str) -> tuple[RankedSymbol, ...]:
    """Return the symbols that have a close, by their rank in the period `by`; those without one come last."""
    found = {symbol: _find_returns(some) for symbol, some in closes.items() if some}
    for period in PERIODS:
        order = sorted(
            (symbol for symbol, one in found.items() if period in one),
            key=lambda symbol: (-found[symbol][period].percent, symbol),
        )
        for rank, symbol in enumerate(order, 1):
            found[symbol][period] = found[symbol][period]._replace(rank=rank)
    ranked = [RankedSymbol(symbol, closes[symbol][-1], one) for symbol, one in found.items()]
    return tuple(
        sorted(
            ranked,
            key=lambda one: (one.returns[by].rank if by in one.returns else len(ranked) + 1, one.symbol),
        )
    )


def _find_returns(closes: Sequence[DailyClose]) -> dict[str, PeriodReturn]:
    found = {}
    last = closes[-1].close
    for period, days in PERIODS.items():
        if len(closes) > days:
            first = closes[-1 - days]
            decimals = find_precision((first.close, last))
            percent = find_percent(subtract_prices(last, first.close, decimals), first.close)
            if percent is not None:
                found[period] = PeriodReturn(percent, first.day)
    return found


def measure_breadth(closes: Closes) -> Breadth:
    known = {symbol: some for symbol, some in closes.items() if some}
    if not known:
        return Breadth()
    day = max(some[-1].day for some in known.values())
    behind = tuple(sorted(symbol for symbol, some in known.items() if some[-1].day != day))
    counted = {symbol: some for symbol, some in known.items() if some[-1].day == day}
    steps = [some[-1].close - some[-2].close for some in counted.values() if len(some) > 1]
    years = {symbol: some[-YEAR_DAYS:] for symbol, some in counted.items() if len(some) >= YEAR_DAYS}
    highs = [name for name, some in years.items() if some[-1].close >= max(one.close for one in some)]
    lows = [name for name, some in years.items() if some[-1].close <= min(one.close for one in some)]
    return Breadth(
        day,
        sum(step > 0 for step in steps),
        sum(step < 0 for step in steps),
        sum(step == 0 for step in steps),
        len(years),
        tuple(sorted(highs)),
        tuple(sorted(set(lows) - set(highs))),
        behind,
        any(some[-1].replay for some in counted.values()),
    )
