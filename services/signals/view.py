"""Show a strategy the market and its account as they were at an instant, and nothing later.

What a view returns are copies of the last values that were known, so a strategy can neither look ahead nor
change the past. Prices are adjusted for the actions up to the instant, as the request asks, not later ones.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from services.market.adjust import AS_TRADED, Adjuster
from services.market.as_of import Numbers, Times, find_last_known
from services.signals.engine.engine import EngineState
from services.signals.engine.units import MONEY, PRICE, QUANTITY
from services.signals.history import SymbolHistory
from services.signals.report import ParameterValue
from services.tables.adjusted_bars import Adjust

MAX_WINDOW: Final = 100_000
"""The most bars that a view returns at once."""
_PRICES: Final = ("open", "high", "low", "close")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ViewError(ValueError):
    """A strategy asked its view for what it doesn't have."""


class BarWindow(NamedTuple):
    """Hold the last bars of a symbol in columns, the oldest first; `start_ms` are epoch milliseconds.

    A volume that is unknown is NaN.
    """

    start_ms: Times
    open: Numbers
    high: Numbers
    low: Numbers
    close: Numbers
    volume: Numbers


class SymbolPast:
    """Hold the bars of one symbol in columns, of which `show` returns those that were known.

    Args:
        instants: the times at which something may be asked, ascending, in epoch milliseconds.
    """

    __slots__ = (
        "_action_ms",
        "_adjust",
        "_closed",
        "_closes",
        "_columns",
        "_days",
        "_known",
        "_late",
        "_raw",
        "_records",
        "_taken",
    )

    def __init__(self, history: SymbolHistory, adjust: Adjust, instants: Times) -> None:
        bars = history.bars
        self._raw: dict[str, Numbers] = {
            name: np.array([getattr(bar, name) / PRICE for bar in bars], dtype=np.float64) for name in _PRICES
        }
        volumes = (np.nan if bar.volume is None else bar.volume / QUANTITY for bar in bars)
        self._raw["volume"] = np.fromiter(volumes, np.float64, len(bars))
        self._raw["start_ms"] = np.array([bar.start_ms for bar in bars], dtype=np.int64)
        self._columns = dict(self._raw)
        ends: Times = np.array([bar.end_ms for bar in bars], dtype=np.int64)
        self._closed: list[int] = (find_last_known(ends, instants) + 1).tolist()
        self._known: Times = np.array(history.known_ms, dtype=np.int64)
        self._late = int(np.count_nonzero(self._known > ends))
        self._days: Times = np.array(history.list_basis_days(), dtype=np.int64)
        actions = () if adjust is Adjust.NONE else history.actions
        self._action_ms = [each.account.at_ms for each in actions]
        self._records = [each.record for each in actions]
        self._closes = history.list_given_closes()
        self._adjust, self._taken = adjust, 0

    def show(self, name: str, count: int, place: int, at_ms: int) -> Numbers:
        """Return a copy of the last `count` values of a column that were known at the instant at `place`."""
        taken = bisect_right(self._action_ms, at_ms)
        if taken != self._taken:
            self._rebase(taken)
        closed = self._closed[place]
        column = self._columns[name]
        if not self._late:
            return column[max(0, closed - count) : closed].copy()
        first = max(0, closed - count - self._late)
        is_known = self._known[first:closed] <= at_ms
        found: Numbers = column[first:closed][is_known]
        return found[max(0, len(found) - count) :]

    def _rebase(self, taken: int) -> None:
        """Put the columns on the basis of the day of the last action, by those that took place.

        They are not always in the order of their days: a split is before the whole week or month of its day.
        """
        self._taken = taken
        self._columns = dict(self._raw)
        records = self._records[:taken]
        adjuster = Adjuster(records, self._closes)
        if adjuster.is_empty:
            return
        wanted = self._adjust.make_basis(max(each.ex_day for each in records))
        ordinals = sorted({each.ex_day.toordinal() for each in records})
        borders = [0, *np.searchsorted(self._days, ordinals).tolist()]
        changed = {name: self._raw[name].copy() for name in (*_PRICES, "volume")}
        for first, end in pairwise(borders):
            if first == end:
                continue
            day = wanted.day.fromordinal(int(self._days[first]))
            factors = adjuster.find_factors(day, AS_TRADED, wanted)
            for name in _PRICES:
                changed[name][first:end] *= factors.multiplier / factors.divisor * factors.kept
            changed["volume"][first:end] *= factors.divisor / factors.multiplier
        self._columns |= changed


class MarketPast:
    """Hold the past of some symbols, for the views of one run."""

    def __init__(self, histories: Iterable[SymbolHistory], adjust: Adjust, instants: Iterable[int]) -> None:
        times: Times = np.array(list(instants), dtype=np.int64)
        self.symbols = {each.symbol: SymbolPast(each, adjust, times) for each in histories}


class StrategyView:
    """Show the past of the market, the account and the strategy's parameters at `at_ms`, a close.

    `view["days"]` is the value of a parameter.

    Attributes:
        symbols: what may be traded, as the request names it.
        closed: those of which a bar closes at this very instant, in the same order.
    """

    __slots__ = ("_book", "_ledger", "_market", "_parameters", "_place", "at_ms", "closed", "symbols")

    def __init__(
        self,
        market: MarketPast,
        state: EngineState,
        parameters: Mapping[str, ParameterValue],
        *,
        place: int,
        at_ms: int,
        closed: tuple[str, ...],
    ) -> None:
        self._market, self._parameters, self._place = market, parameters, place
        self._ledger, self._book = state.ledger, state.book
        self.at_ms, self.closed = at_ms, closed
        self.symbols = tuple(market.symbols)

    def __getitem__(self, name: str) -> Any:
        """Return the value of a parameter in the type of its default."""
        if name not in self._parameters:
            raise ViewError(f"no parameter {name!r}; PARAMETERS has: {', '.join(self._parameters) or 'none'}")
        value = self._parameters[name]
        return float(value) if isinstance(value, Decimal) else value

    @property
    def at(self) -> datetime:
        """The instant, in UTC."""
        return _EPOCH + timedelta(milliseconds=self.at_ms)

    def closes(self, symbol: str, count: int) -> Numbers:
        """Return the last closes of a symbol, the newest one last; fewer than `count` if fewer are known."""
        return self._find(symbol).show("close", _check(count), self._place, self.at_ms)

    def bars(self, symbol: str, count: int) -> BarWindow:
        """Return the last bars of a symbol, the newest one last; fewer than `count` if fewer are known."""
        past, most = self._find(symbol), _check(count)
        return BarWindow(
            *(past.show(name, most, self._place, self.at_ms) for name in BarWindow._fields)  # type: ignore[arg-type]  # the first column has whole numbers
        )

    @property
    def cash(self) -> Decimal:
        return Decimal(self._ledger.cash) / MONEY

    @property
    def equity(self) -> Decimal:
        """Cash and positions, at the last closes."""
        return Decimal(self._ledger.equity) / MONEY

    def position(self, symbol: str) -> Decimal:
        """Return how many shares the account has; below 0 if it is short."""
        self._find(symbol)
        held = self._ledger.holdings.get(symbol)
        return Decimal(0) if held is None else Decimal(held.quantity) / QUANTITY

    def percent(self, symbol: str) -> float:
        """Return what the position is worth, in percent of the equity; 0 without any equity."""
        self._find(symbol)
        held, equity = self._ledger.holdings.get(symbol), self._ledger.equity
        return 0.0 if held is None or equity <= 0 else 100 * held.value / equity

    def count_orders(self, symbol: str) -> int:
        """Return how many orders of a symbol wait for their fill, exits of what is not bought yet, too."""
        self._find(symbol)
        return len(self._book.working.get(symbol, ()))

    def _find(self, symbol: str) -> SymbolPast:
        found = self._market.symbols.get(symbol)
        if found is None:
            raise ViewError(f"no symbol {symbol!r:.60}; the request has: {', '.join(self.symbols)}")
        return found


def _check(count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= MAX_WINDOW:
        raise ViewError(f"count must be a whole number from 1 to {MAX_WINDOW:,}")
    return count
