"""Play a case from its first instant to its last, and sum up what came of it. Pure."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final, TypeVar

from services.signals.cases import BacktestCase, format_time
from services.signals.engine.engine import (
    ActionsTaken,
    EngineEvent,
    EngineState,
    OrdersDecided,
    SessionsEnd,
    list_instants,
    open_account,
    play,
)
from services.signals.engine.fills import FillModel
from services.signals.engine.orders import Fill, OrderRefusal, PriceBar
from services.signals.engine.units import MONEY_DIGITS, PRICE_DIGITS, QUANTITY_DIGITS, format_units

LEAST_RETURNS: Final = 2
"""How many returns a Sharpe ratio needs."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """Hold what an account was worth once the bars that close at `at_ms` were played, as money.

    `positions` is their value at market, `gross` the sum of their values without signs.
    """

    at_ms: int
    cash: int
    positions: int
    gross: int

    @property
    def equity(self) -> int:
        return self.cash + self.positions


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Hold what came of a case: its last state, fills, refusals, and its account at each close."""

    state: EngineState
    fills: Sequence[Fill]
    refusals: Sequence[OrderRefusal]
    equity: Sequence[EquityPoint]


def play_case(case: BacktestCase, fill: FillModel | None = None) -> CaseResult:
    """Play a case; `fill` replaces the engine's own model of fills.

    Raises LedgerError or FillModelError, which are defects of the engine or of `fill`.
    """
    named = {order.parent for order in case.orders if order.parent is not None}
    state = open_account(case.account.make_rules(), case.instruments, fill, named)
    ledger = state.ledger
    fills: list[Fill] = []
    refusals: list[OrderRefusal] = []
    equity: list[EquityPoint] = []
    events = list_events(case)

    def decide(at_ms: int, closing: Sequence[PriceBar]) -> Sequence[EngineEvent]:
        if closing:
            equity.append(EquityPoint(at_ms, ledger.cash, ledger.value, ledger.gross))
        return events.get(at_ms, ())

    play(state, list_instants(case.bars, events), decide, fills, refusals)
    ledger.check_totals()
    return CaseResult(state, fills, refusals, equity)


def list_events(case: BacktestCase) -> dict[int, list[EngineEvent]]:
    """Return what happens in a case besides its bars, by instant, in the order in which it is played."""
    found: dict[int, list[EngineEvent]] = defaultdict(list)
    for at_ms in {order.expires_ms for order in case.orders}:
        if at_ms is not None:
            found[at_ms].append(SessionsEnd(at_ms))
    for at_ms, orders in _group(case.orders, [order.decided_ms for order in case.orders]).items():
        found[at_ms].append(OrdersDecided(at_ms, orders))
    for at_ms, actions in _group(case.actions, [action.at_ms for action in case.actions]).items():
        found[at_ms].append(ActionsTaken(at_ms, actions))
    return found


def _group(values: Sequence[T], times: Sequence[int]) -> dict[int, list[T]]:
    found: dict[int, list[T]] = defaultdict(list)
    for value, at_ms in zip(values, times, strict=True):
        found[at_ms].append(value)
    return found


def describe_result(result: CaseResult, periods_per_year: float | None) -> dict[str, Any]:
    """Return the answer of a case as JSON has it: money, prices and quantities are decimals as text."""
    return {
        "fills": [
            {
                "order": each.order,
                "symbol": each.symbol,
                "at": format_time(each.at_ms),
                "side": str(each.side),
                "qty": format_units(each.quantity, QUANTITY_DIGITS),
                "price": format_units(each.price, PRICE_DIGITS),
                "fee": _format_money(each.fee),
            }
            for each in result.fills
        ],
        "refused": [
            {"order": each.order, "at": format_time(each.at_ms), "reason": str(each.reason)}
            for each in result.refusals
        ],
        "equity": [
            {
                "at": format_time(each.at_ms),
                "cash": _format_money(each.cash),
                "positions": _format_money(each.positions),
                "equity": _format_money(each.equity),
            }
            for each in result.equity
        ],
        "totals": sum_up(result, periods_per_year),
    }


def sum_up(result: CaseResult, periods_per_year: float | None) -> dict[str, Any]:
    """Return the totals of a case: money as text, ratios as numbers.

    `realised` is before fees. `max_drawdown` is the greatest loss since the highest close before, as a share
    of that; `time_in_market` the share of closes with a position; `gross_exposure` the mean of the
    positions' worth, without signs, over the equity; `sharpe` that of the returns from close to close,
    without a risk-free rate, None where it has no value.
    """
    ledger, points = result.state.ledger, result.equity
    money = {
        "fees": ledger.fees,
        "borrow": ledger.borrow,
        "dividends": ledger.dividends,
        "realised": ledger.realised,
        "unrealised": ledger.unrealised,
        "final_equity": ledger.equity,
    }
    held = sum(1 for each in points if each.gross)
    exposures = [float(Fraction(each.gross, each.equity)) for each in points if each.equity > 0]
    return {
        **{name: _format_money(amount) for name, amount in money.items()},
        "max_drawdown": find_max_drawdown([each.equity for each in points]),
        "time_in_market": held / len(points) if points else 0.0,
        "gross_exposure": math.fsum(exposures) / len(exposures) if exposures else 0.0,
        "sharpe": find_sharpe([each.equity for each in points], periods_per_year),
    }


def find_max_drawdown(equity: Sequence[int]) -> float:
    """Return the greatest loss since the highest value before, as a share of that value."""
    highest, worst = 0, Fraction(0)
    for value in equity:
        highest = max(highest, value)
        if highest > 0:
            worst = max(worst, Fraction(highest - value, highest))
    return float(worst)


def find_sharpe(equity: Sequence[int], periods_per_year: float | None) -> float | None:
    """Return the mean of the returns over their deviation (n - 1), times the root of the periods of a year.

    None without `periods_per_year`, with fewer than two returns, with equal ones, or once all was lost.
    """
    if periods_per_year is None or len(equity) <= LEAST_RETURNS or min(equity) <= 0:
        return None
    returns = [float(Fraction(after, before)) - 1 for before, after in pairwise(equity)]
    mean = math.fsum(returns) / len(returns)
    variance = math.fsum((each - mean) ** 2 for each in returns) / (len(returns) - 1)
    return mean / math.sqrt(variance) * math.sqrt(periods_per_year) if variance > 0 else None


def _format_money(units: int) -> str:
    return format_units(units, MONEY_DIGITS, 2)
