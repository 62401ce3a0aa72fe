"""Sum up what a strategy's run came to: its report, with what it assumes and what speaks against it. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from fractions import Fraction
from typing import Any, Final

from services.market.actions import find_day
from services.market.fields import PAIR
from services.market.intervals import name_period
from services.market.records import DAY_MS, PERIODS, Timeframe
from services.signals.backtest import CaseResult, EquityPoint, find_sharpe, sum_up
from services.signals.cases import FeeModel, format_time
from services.signals.engine.engine import EngineState
from services.signals.engine.orders import Fill, LimitFill, Order, OrderRefusal, PriceBar, RefusalReason, Side
from services.signals.engine.units import (
    MONEY_DIGITS,
    PRICE,
    PRICE_DIGITS,
    QUANTITY_DIGITS,
    format_units,
)
from services.signals.history import BacktestHistory, SymbolHistory
from services.signals.report import (
    FEW_TRADES,
    MAX_POINTS,
    MAX_ROWS,
    BacktestAccount,
    BacktestReport,
    BacktestRequest,
    ReportCounts,
    ReportFill,
    ReportPoint,
    ReportPrices,
    ReportRefusal,
    ReportTotals,
    format_decimal,
)
from services.signals.strategy import Strategy
from services.tables.adjusted_bars import Adjust

_ADJUSTED: Final = {
    Adjust.NONE: "The strategy saw prices as traded: a split looks like a jump.",
    Adjust.SPLITS: "The strategy saw prices adjusted for the splits up to each instant, and no later one.",
    Adjust.ALL: "The strategy saw prices adjusted for splits and dividends up to each instant, no later one.",
}
_DAYS_WITHOUT: Final = timedelta(days=10)
"""How long a market may be closed at the beginning or end of what is asked for."""
_TOLD_ACTIONS: Final = 10
"""How many actions of a symbol that are not played are named, the first ones."""
STALE_MS: Final = 7 * DAY_MS
"""A position is stale once its last close is so much older than the newest: no holidays last so long."""
_TOLD_REFUSALS: Final = frozenset(RefusalReason) - {RefusalReason.EXPIRED, RefusalReason.CANCELLED}


class Played:
    """Keep what comes of a run while it is played: the account at each close, fills, refusals and trades."""

    def __init__(self, state: EngineState) -> None:
        self.state = state
        self.fills: list[Fill] = []
        self.refusals: list[OrderRefusal] = []
        self.equity: list[EquityPoint] = []
        self.decided: dict[str, Order] = {}
        self.trades = self.winners = 0
        self._counted = 0
        self._flows: dict[str, int] = {}
        self._held: dict[str, int] = {}

    def note_equity(self, at_ms: int) -> None:
        """Keep what the account is worth at a close."""
        ledger = self.state.ledger
        self.equity.append(EquityPoint(at_ms, ledger.cash, ledger.value, ledger.gross))

    def count_fills(self) -> None:
        """Count the trades that the fills since the last call ended."""
        for fill in self.fills[self._counted :]:
            signed = fill.quantity if fill.side is Side.BUY else -fill.quantity
            held = self._held.get(fill.symbol, 0)
            flow = self._flows.get(fill.symbol, 0)
            after = held + signed
            if held and (not after or (held > 0) != (after > 0)):
                closing = Fraction(abs(held), fill.quantity)  # a part of it may turn the position around
                own = flow + held * fill.price - round(fill.fee * closing)
                self._end_trade(own)
                flow = -after * fill.price - round(fill.fee * (1 - closing)) if after else 0
            else:
                flow -= signed * fill.price + fill.fee
            self._held[fill.symbol], self._flows[fill.symbol] = after, flow
        self._counted = len(self.fills)

    def count_action(self, symbol: str, paid: int) -> None:
        """Count what a split or a dividend paid, and the shares that there are after it."""
        held, after = self._held.get(symbol, 0), self.state.ledger.holding_of(symbol).quantity
        flow = self._flows.get(symbol, 0) + paid
        if held and not after:
            self._end_trade(flow)
            flow = 0
        self._held[symbol], self._flows[symbol] = after, flow

    def _end_trade(self, earned: int) -> None:
        self.trades += 1
        self.winners += earned > 0


def make_report(
    request: BacktestRequest,
    strategy: Strategy,
    history: BacktestHistory,
    *,
    played: Played,
    held: Played,
    bars: Sequence[PriceBar],
) -> BacktestReport:
    """Return the report of a run; `held` is buy and hold over the same bars."""
    histories = [history.symbols[symbol] for symbol in request.symbols]
    counts = ReportCounts(
        bars=len(bars),
        decisions=len(played.equity),
        orders=len(played.decided),
        fills=len(played.fills),
        refused=len(played.refusals),
        trades=played.trades,
        winners=played.winners,
    )
    return BacktestReport(
        digest=request.digest(history.digest, strategy.code),
        request=request,
        data=history.digest,
        code=strategy.code,
        title=strategy.title,
        source=history.source,
        totals=_make_totals(request, played, bars),
        buy_and_hold=_make_totals(request, held, bars),
        counts=counts,
        points=_make_points(played.equity, held.equity),
        fills=tuple(_make_fill(each, played) for each in played.fills[:MAX_ROWS]),
        refused=tuple(_make_refusal(each, played) for each in played.refusals[:MAX_ROWS]),
        prices=tuple(_make_prices(each.symbol, bars) for each in histories),
        assumptions=tuple(_list_assumptions(request, history, histories)),
        warnings=tuple(_list_warnings(request, histories, played, counts, bars)),
    )


def _make_totals(request: BacktestRequest, played: Played, bars: Sequence[PriceBar]) -> ReportTotals:
    sums = sum_up(CaseResult(played.state, played.fills, played.refusals, played.equity), None)
    sums["sharpe"] = None
    periods = request.account.periods_per_year
    if periods is not None and _has_common_closes(request, played, bars):
        points = _pick_period_ends(played.equity, request.timeframe)
        sums["sharpe"] = find_sharpe([each.equity for each in points], float(periods))
    start = played.state.ledger.start
    names = ReportTotals.__dataclass_fields__
    known = {name: value for name, value in sums.items() if name in names}
    return ReportTotals(**known, total_return=float(Fraction(played.state.ledger.equity, start) - 1))


def _pick_period_ends(points: Sequence[EquityPoint], timeframe: Timeframe) -> Sequence[EquityPoint]:
    """Return the last point of each date in UTC, of each week or of each month; of shorter bars all points.

    Symbols of one day close at several times of it, and a return is over the whole day.
    """
    if timeframe != "1d" and timeframe not in PERIODS:
        return points
    last: dict[date, EquityPoint] = {}
    for each in points:
        day = find_day(each.at_ms - 1)  # what trades at all hours closes at midnight
        last[name_period(day, timeframe) if timeframe in PERIODS else day] = each
    return list(last.values())


def _has_common_closes(request: BacktestRequest, played: Played, bars: Sequence[PriceBar]) -> bool:
    """Return whether the closes of a year are the bars of a year, as the Sharpe ratio counts them.

    They are by days, weeks and months, and if one symbol closes whenever any does. A hundredth more closes
    are bars that it lacks.
    """
    if request.timeframe == "1d" or request.timeframe in PERIODS:
        return True
    most = max(Counter(bar.symbol for bar in bars).values())
    return 100 * len(played.equity) <= 101 * most


def _make_points(equity: Sequence[EquityPoint], held: Sequence[EquityPoint]) -> tuple[ReportPoint, ...]:
    losses, held_losses = _list_drawdowns(equity), _list_drawdowns(held)
    return tuple(
        ReportPoint(
            at=format_time(each.at_ms),
            equity=_format_money(each.equity),
            cash=_format_money(each.cash),
            positions=_format_money(each.positions),
            exposure=float(Fraction(each.gross, each.equity)) if each.equity > 0 else 0.0,
            drawdown=losses[place],
            buy_and_hold=_format_money(held[place].equity),
            buy_and_hold_drawdown=held_losses[place],
        )
        for place in _list_spaced(len(equity))
        for each in (equity[place],)
    )


def _list_drawdowns(equity: Sequence[EquityPoint]) -> list[float]:
    found: list[float] = []
    highest = 0
    for each in equity:
        highest = max(highest, each.equity)
        found.append(float(Fraction(highest - each.equity, highest)) if highest > 0 else 0.0)
    return found


def _list_spaced(count: int) -> list[int]:
    """Return evenly spaced places of a series, at most MAX_POINTS, the last one among them."""
    step = max(1, -(-count // MAX_POINTS))
    return list(range(count - 1, -1, -step))[::-1]


def _make_fill(fill: Fill, played: Played) -> ReportFill:
    return ReportFill(
        order=fill.order,
        symbol=fill.symbol,
        decided_at=format_time(played.decided[fill.order].decided_ms),
        at=format_time(fill.at_ms),
        side="buy" if fill.side is Side.BUY else "sell",
        qty=format_units(fill.quantity, QUANTITY_DIGITS),
        price=format_units(fill.price, PRICE_DIGITS, 2),
        fee=_format_money(fill.fee),
    )


def _make_refusal(refusal: OrderRefusal, played: Played) -> ReportRefusal:
    symbol = played.decided[refusal.order].symbol
    return ReportRefusal(refusal.order, symbol, format_time(refusal.at_ms), str(refusal.reason))


def _make_prices(symbol: str, bars: Sequence[PriceBar]) -> ReportPrices:
    own = [bar for bar in bars if bar.symbol == symbol]
    places = _list_spaced(len(own))
    return ReportPrices(
        symbol,
        tuple(format_time(own[place].end_ms) for place in places),
        tuple(own[place].close / PRICE for place in places),
    )


# -- in words


def _list_assumptions(
    request: BacktestRequest, history: BacktestHistory, histories: Sequence[SymbolHistory]
) -> list[str]:
    account = request.account
    beyond = "through it" if account.limit_fill is LimitFill.THROUGH else "to it"
    volume = "any quantity fills in a bar"
    if account.volume_share is not None:
        volume = f"fill up to {_percent(account.volume_share)} of a bar's volume"
    sizes = (
        f"{each.symbol} {format_units(each.instrument.tick, PRICE_DIGITS)} and "
        f"{format_units(each.instrument.lot, QUANTITY_DIGITS)}"
        for each in histories
    )
    played = "both before the open of their day"
    if any(each.timeframe in PERIODS for each in histories):
        played = "splits before the bar of their day opens, dividends before the open of their day"
    found = [
        f"Bars are those of {request.timeframe} from {history.source}; the strategy decides at each close.",
        "An order fills in the first bar of its symbol that opens at its decision or later, within that bar.",
        "A market order fills at the open, a stop at its price or at a worse open.",
        f"A limit fills only where the price went {beyond}. Of stop and target in one bar the stop fills.",
        "Orders fill at prices as traded.",
        f"Splits change positions and waiting orders, dividends are paid: {played}.",
        _ADJUSTED[request.adjust],
        *_describe_account(account),
        _describe_fee(request.fee),
        _describe_slippage(account),
        f"Orders move no price, and {volume}.",
        f"Tick and lot: {', '.join(sizes)}.",
        "There are no taxes, and no interest on cash.",
        "Buy and hold buys equal parts of the cash in each symbol, at the open after its first close.",
        "The symbols were chosen today: those that did badly, or went, may be missing (survivorship).",
    ]
    if not any(each.actions for each in histories):
        found.append("No split or dividend is known of these symbols in this time.")
    return found


def _describe_slippage(account: BacktestAccount) -> str:
    parts = [
        f"{_percent(account.slippage)} of the price" if account.slippage else "",
        f"{account.slippage_ticks} tick{'s' * (account.slippage_ticks > 1)}"
        if account.slippage_ticks
        else "",
    ]
    told = " and ".join(each for each in parts if each)
    worse = f"Market and stop orders fill worse by {told}."
    return worse if told else "No slippage: market and stop orders fill at the price that the bar has."


def _describe_account(account: BacktestAccount) -> list[str]:
    money = f"{format_decimal(account.cash)} {account.currency}"
    if account.type == "cash":
        return [f"A cash account of {money}: it neither borrows nor is short."]
    return [
        f"A margin account of {money}, without margin calls.",
        f"Positions are worth up to {format_decimal(account.leverage)} times its equity.",
        f"Short positions cost {_percent(account.borrow_rate)} a year; shares to borrow are always there.",
    ]


def _describe_fee(fee: FeeModel) -> str:
    parts = [
        f"{format_decimal(fee.per_share)} a share" if fee.per_share else "",
        f"{format_decimal(fee.percent)} % of what is traded" if fee.percent else "",
        f"at least {format_decimal(fee.min_per_order)} an order" if fee.min_per_order else "",
    ]
    told = ", ".join(each for each in parts if each)
    return f"Fees: {told}." if told else "Fees: none, which is better than any broker."


def _percent(share: Any) -> str:
    return f"{format_decimal(100 * share)} %"


def _list_warnings(
    request: BacktestRequest,
    histories: Sequence[SymbolHistory],
    played: Played,
    counts: ReportCounts,
    bars: Sequence[PriceBar],
) -> Iterator[str]:
    if not counts.fills:
        yield "Nothing was traded."
    if played.state.ledger.equity <= 0:
        yield "The account was lost."
    if counts.trades < FEW_TRADES:
        yield f"Only {counts.trades} closed trades, fewer than {FEW_TRADES}: this may be chance."
    for reason, count in sorted(Counter(each.reason for each in played.refusals).items()):
        if reason in _TOLD_REFUSALS:
            yield f"{count} order{'s' * (count > 1)} refused: {reason}."
    yield from _warn_of_currencies(request)
    yield from _warn_of_history(request, histories, played)
    for name, total in (("fills", counts.fills), ("refusals", counts.refused)):
        if total > MAX_ROWS:
            yield f"Of {total:,} {name} the first {MAX_ROWS:,} are listed."
    if request.account.periods_per_year is not None and not _has_common_closes(request, played, bars):
        yield "No Sharpe ratio: the bars of these symbols close at different times."
    if len(played.equity) > MAX_POINTS:
        yield f"Of {len(played.equity):,} closes evenly spaced ones are shown, at most {MAX_POINTS:,}."


def _warn_of_currencies(request: BacktestRequest) -> Iterator[str]:
    """Yield a warning for each currency, other than the account's, in which pairs have their prices."""
    own = request.account.currency
    found: dict[str, list[str]] = {}
    for symbol in request.symbols:
        if (pair := PAIR.fullmatch(symbol)) is not None and pair[2] != own:
            found.setdefault(pair[2], []).append(symbol)
    for currency, symbols in sorted(found.items()):
        names = ", ".join(symbols)
        yield f"Prices of {names} are in {currency} and count as {own}, one for one: no rate converts them."


def _warn_of_history(
    request: BacktestRequest, histories: Sequence[SymbolHistory], played: Played
) -> Iterator[str]:
    for each in histories:
        first, last = each.find_days(request.first_day, request.last_day)
        if first - request.first_day > _DAYS_WITHOUT or request.last_day - last > _DAYS_WITHOUT:
            yield f"Bars of {each.symbol} are from {first} to {last} only."
    for each in histories:
        if told := _name_unplayed(each, request):
            yield (
                f"Not played for {each.symbol}: {told}. Positions stayed as they were, and what the price "
                "did then counts as gain or loss."
            )
    stale = ", ".join(each.symbol for each in histories if _is_stale(each, played))
    if stale:
        yield f"Positions in {stale} are valued at an old close: there is no newer bar."
    for each in histories:
        if count := _count_late(each):
            yield (
                f"{count} bar{'s' * (count > 1)} of {each.symbol} became known after the close, the strategy "
                "saw them then; fills and values have the corrected numbers."
            )
    replayed = ", ".join(each.symbol for each in histories if each.is_replay)
    if replayed:
        yield f"Bars of {replayed} were played from a recording."


def _name_unplayed(history: SymbolHistory, request: BacktestRequest) -> str:
    """Return the kind and ex-day of each action of these days that changes no account, as a list in words."""
    found = [each for each in history.unplayed if request.first_day <= each.ex_day <= request.last_day]
    named = [f"{each.kind} {each.ex_day}" for each in found[:_TOLD_ACTIONS]]
    rest = len(found) - len(named)
    return ", ".join([*named, f"{rest} more"] if rest else named)


def _is_stale(history: SymbolHistory, played: Played) -> bool:
    held = played.state.ledger.holdings.get(history.symbol)
    if held is None or not held.quantity or held.marked_ms is None:
        return False
    return held.marked_ms < played.equity[-1].at_ms - STALE_MS


def _count_late(history: SymbolHistory) -> int:
    pairs = zip(history.bars, history.known_ms, strict=True)
    return sum(1 for bar, known_ms in pairs if known_ms > bar.end_ms)


def _format_money(units: int) -> str:
    return format_units(units, MONEY_DIGITS, 2)
