"""Run a strategy over the past: at each close it sees what was known then, and its orders go to the engine.

The same request over the same history gives the same report, byte for byte.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from services.market.sessions import OutsideCalendarError, get_session
from services.signals.cases import BacktestCase, InstrumentModel, format_time
from services.signals.engine.engine import (
    ActionsTaken,
    EngineEvent,
    EngineState,
    Instant,
    OrdersCancelled,
    OrdersDecided,
    SessionsEnd,
    list_instants,
    open_account,
    play,
)
from services.signals.engine.orders import (
    AccountRules,
    Instrument,
    Order,
    OrderType,
    PriceBar,
    ShareSplit,
    Side,
    TimeInForce,
)
from services.signals.engine.units import PRICE, QUANTITY, floor_to_lot
from services.signals.history import BacktestHistory, HistoryError, SymbolHistory
from services.signals.report import BacktestReport, BacktestRequest
from services.signals.strategy import (
    OrderRequest,
    PositionTarget,
    Strategy,
    StrategyError,
    load_installed,
    read_number,
)
from services.signals.summary import Played, make_report
from services.signals.view import MarketPast, StrategyView

MAX_ORDERS_AT_ONCE: Final = 1000
"""The most orders and targets that a strategy may decide at one instant."""
MAX_NAME: Final = 200
_PROGRESS_STEPS: Final = 200
_BENCHMARK_LEVERAGE: Final = Fraction(2)
"""What lets buy and hold pay its fees where all of its cash is in shares."""
_PERIODS: Final = {"1d": 252, "1w": 52, "1mo": 12}
"""How many bars a year has, for the Sharpe ratio."""
_ROUND_THE_CLOCK_DAYS: Final = 365
OnProgress = Callable[[int, int], object]
"""Called with how many closes were played, and how many there are."""


def run_backtest(
    request: BacktestRequest,
    history: BacktestHistory,
    *,
    strategy: Strategy | None = None,
    on_progress: OnProgress | None = None,
) -> BacktestReport:
    """Play a strategy over a history, and report what came of it.

    Args:
        strategy: the user's own, of the name that the request has; without it, an installed one.
        on_progress: called about 200 times.

    Raises:
        StrategyError: the strategy can't be run, or decides what can't be done.
        HistoryError: the history lacks a symbol, or has no bar of the days that are asked for.
    """
    strategy = strategy or load_installed(request.strategy)
    request = complete_request(request, strategy, history)
    market, instruments = _prepare(request, history)
    rules = request.account.make_rules()
    decider = _Decider(request, strategy, market, open_account(rules, instruments), on_progress)
    played = decider.play()
    held = _hold(market, rules, instruments)
    return make_report(request, strategy, history, played=played, held=held, bars=market.bars)


def make_case(request: BacktestRequest, history: BacktestHistory, strategy: Strategy) -> BacktestCase:
    """Play a strategy, and return its orders with the bars that they met: what an audit changes.

    The case has no slippage, and no cancelled order ends before it fills or expires. Raises what
    `run_backtest` raises.
    """
    request = complete_request(request, strategy, history)
    market, instruments = _prepare(request, history)
    state = open_account(request.account.make_rules(), instruments)
    played = _Decider(request, strategy, market, state, None).play()
    account = request.account.model_copy(update={"slippage": Decimal(0), "slippage_ticks": 0})
    actions = [action for at_ms in sorted(market.actions) for action in market.actions[at_ms]]
    return BacktestCase(account, instruments, list(market.bars), list(played.decided.values()), actions)


def _prepare(
    request: BacktestRequest, history: BacktestHistory
) -> tuple["_Market", Mapping[str, Instrument]]:
    """Return what happens on the days of a request, and its instruments with their fees."""
    histories = [_find_history(history, symbol) for symbol in request.symbols]
    fee = InstrumentModel(tick=Decimal(1), lot=Decimal(1), fee=request.fee).make_instrument().fee
    instruments = {each.symbol: replace(each.instrument, fee=fee) for each in histories}
    return _Market.make(request, histories), instruments


def complete_request(
    request: BacktestRequest, strategy: Strategy, history: BacktestHistory
) -> BacktestRequest:
    """Return a request with the defaults of its strategy, and the bars of a year if its timeframe says them.

    Its digest is then that of the report. Raises StrategyError as `run_backtest` does.
    """
    account, periods = request.account, _PERIODS.get(request.timeframe)
    if account.periods_per_year is None and periods is not None:
        if request.timeframe == "1d" and any(each.has_weekends for each in history.symbols.values()):
            periods = _ROUND_THE_CLOCK_DAYS
        account = account.model_copy(update={"periods_per_year": Decimal(periods)})
    parameters = strategy.complete(request.parameters)
    return request.model_copy(update={"parameters": parameters, "account": account})


def _find_history(history: BacktestHistory, symbol: str) -> SymbolHistory:
    found = history.symbols.get(symbol)
    if found is None:
        raise HistoryError(f"the history has no symbol {symbol}")
    return found


@dataclass(frozen=True, slots=True)
class _Market:
    """Hold what happens on the days that are played: bars, the instants of their closes, and actions."""

    histories: Sequence[SymbolHistory]
    bars: Sequence[PriceBar]
    closes: Sequence[int]
    actions: Mapping[int, Sequence[Any]]

    @classmethod
    def make(cls, request: BacktestRequest, histories: Sequence[SymbolHistory]) -> "_Market":
        first, last = request.first_day.toordinal(), request.last_day.toordinal()
        bars: list[PriceBar] = []
        actions: dict[int, list[Any]] = {}
        for each in histories:
            own = [bar for bar, day in zip(each.bars, each.days, strict=True) if first <= day <= last]
            if not own:
                raise HistoryError(
                    f"no bar of {each.symbol} in {request.timeframe} "
                    f"from {request.first_day} to {request.last_day}"
                )
            bars += own
            for action in each.actions:
                if own[0].start_ms < action.account.at_ms <= own[-1].end_ms:
                    actions.setdefault(action.account.at_ms, []).append(action.account)
        return cls(histories, bars, sorted({bar.end_ms for bar in bars}), actions)

    def list_instants(self) -> Iterable[Instant]:
        return list_instants(self.bars, self.actions)


class _Decider:
    """Ask a strategy at each close, turn what it decides into orders, and keep what came of it."""

    def __init__(
        self,
        request: BacktestRequest,
        strategy: Strategy,
        market: _Market,
        state: EngineState,
        on_progress: OnProgress | None,
    ) -> None:
        self._request, self._strategy, self._market, self._state = request, strategy, market, state
        self._past = MarketPast(market.histories, request.adjust, market.closes)
        self._on_progress = on_progress
        self._place = 0
        self._numbers = itertools.count(1)
        self._names: dict[str, str] = {}
        self._targets: dict[str, str] = {}
        self._expiries: list[int] = []
        self._played = Played(state)

    def play(self) -> Played:
        played = self._played
        play(self._state, self._iter_instants(), self._decide, played.fills, played.refusals)
        played.count_fills()
        self._state.ledger.check_totals()
        return played

    def _iter_instants(self) -> Iterator[Instant]:
        """Yield the instants of the market, and the ends of sessions between them at which orders expire."""
        for instant in self._market.list_instants():
            while self._expiries and (due_ms := min(self._expiries)) < instant[0]:
                yield due_ms, (), ()
            yield instant

    def _decide(self, at_ms: int, closing: Sequence[PriceBar]) -> Iterator[EngineEvent]:
        self._played.count_fills()
        if self._expiries and min(self._expiries) <= at_ms:
            self._expiries = [each for each in self._expiries if each > at_ms]
            yield SessionsEnd(at_ms)
        if closing:
            self._played.note_equity(at_ms)
            yield from self._ask(at_ms, {bar.symbol for bar in closing})
        for action in self._market.actions.get(at_ms, ()):
            before = self._state.ledger.cash
            yield ActionsTaken(at_ms, [action])
            self._played.count_action(action.symbol, self._state.ledger.cash - before)

    def _ask(self, at_ms: int, closing: set[str]) -> Iterator[EngineEvent]:
        place, self._place = self._place, self._place + 1
        total = len(self._market.closes)
        if self._on_progress is not None and place % max(1, total // _PROGRESS_STEPS) == 0:
            self._on_progress(place, total)
        closed = tuple(symbol for symbol in self._request.symbols if symbol in closing)
        view = StrategyView(
            self._past, self._state, self._request.parameters, place=place, at_ms=at_ms, closed=closed
        )
        orders, cancelled = self._make_orders(self._call(view), at_ms)
        if cancelled:
            yield OrdersCancelled(at_ms, cancelled)
        if orders:
            yield OrdersDecided(at_ms, orders)

    def _call(self, view: StrategyView) -> list[PositionTarget | OrderRequest]:
        try:
            found = self._strategy.decide(view)
            if found is None:
                return []
            if isinstance(found, Mapping):
                return [PositionTarget(symbol, percent) for symbol, percent in found.items()]
            if isinstance(found, PositionTarget | OrderRequest):
                return [found]
            if isinstance(found, Iterable) and not isinstance(found, str | bytes):
                return list(itertools.islice(found, MAX_ORDERS_AT_ONCE + 1))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it may raise anything; Ctrl-C ends the command
            at = format_time(view.at_ms)
            raise StrategyError(f"{self._strategy.explain(error)} (at the close of {at})") from None
        raise self._error(f"returned {type(found).__name__}: must be targets by symbol, orders, or None")

    def _make_orders(
        self, decided: Sequence[PositionTarget | OrderRequest], at_ms: int
    ) -> tuple[list[Order], list[str]]:
        """Return the orders of what was decided, and the ids of those that they replace."""
        if len(decided) > MAX_ORDERS_AT_ONCE:
            raise self._error(f"returned more than {MAX_ORDERS_AT_ONCE:,} orders at once")
        orders: list[Order] = []
        cancelled: list[str] = []
        seen: set[str] = set()
        for each in decided:
            if not isinstance(each, PositionTarget | OrderRequest):
                raise self._error(f"returned a {type(each).__name__} among its orders")
            symbol = each.symbol
            if not isinstance(symbol, str) or symbol not in self._state.instruments:
                raise self._error(f"names the symbol {str(symbol)[:40]!r}, which the request does not have")
            if isinstance(each, OrderRequest):
                orders.append(self._make_order(each, at_ms, orders))
                continue
            if symbol in seen:
                raise self._error(f"has two targets for {symbol}")
            seen.add(symbol)
            waiting = self._targets.pop(symbol, None)
            if waiting is not None and waiting in self._state.book.working.get(symbol, ()):
                cancelled.append(waiting)
            if (order := self._make_target(each, at_ms)) is not None:
                self._targets[symbol] = order.id
                orders.append(order)
        for order in orders:
            self._played.decided[order.id] = order
        return orders, cancelled

    def _make_target(self, target: PositionTarget, at_ms: int) -> Order | None:
        """Return the order of a target; None if the position is there already, to less than a lot."""
        percent = read_number(target.percent)
        if percent is None:
            raise self._error(f"has the target {str(target.percent)[:40]} for {target.symbol}: no number")
        share = Fraction(percent) / 100
        ledger, lot = self._state.ledger, self._state.instruments[target.symbol].lot
        held = ledger.holding_of(target.symbol)
        if not share and not held.quantity:
            return None
        if (mark := held.mark or 0) > 0 and ledger.equity > 0:
            wanted = floor_to_lot(share * ledger.equity / mark, lot)
            if wanted == held.quantity:
                return None
        ident = str(next(self._numbers))
        return Order(ident, target.symbol, at_ms, None, OrderType.MARKET, target=share)

    def _make_order(self, asked: OrderRequest, at_ms: int, before: Sequence[Order]) -> Order:
        side, kind = self._read_word(asked, "side", Side), self._read_word(asked, "type", OrderType)
        tif = self._read_word(asked, "tif", TimeInForce)
        quantity = self._read_units(asked, "quantity", QUANTITY)
        if quantity <= 0:
            raise self._error(f"has an order for {asked.symbol} whose quantity is not above 0")
        if (asked.price is None) != (kind is OrderType.MARKET):
            lacks = "without" if asked.price is None else "with"
            raise self._error(f"has a {kind} order for {asked.symbol} {lacks} a price")
        for text in (asked.name, asked.parent, asked.oco):
            if text is not None and not (isinstance(text, str) and 0 < len(text) <= MAX_NAME):
                raise self._error(f"has a name, parent or oco that is no text of 1 to {MAX_NAME} characters")
        expires_ms = self._find_expiry(asked.symbol, at_ms) if tif is TimeInForce.DAY else None
        if expires_ms is not None:
            self._expiries.append(expires_ms)
        ident = str(next(self._numbers))
        parent = None if asked.parent is None else self._find_parent(asked.parent, before)
        if asked.name is not None:
            self._names[asked.name] = ident
        price = None if asked.price is None else self._read_units(asked, "price", PRICE)
        return Order(
            ident,
            asked.symbol,
            at_ms,
            side,
            kind,
            quantity=quantity,
            price=price,
            tif=tif,
            expires_ms=expires_ms,
            parent=parent,
            oco=asked.oco,
        )

    def _find_parent(self, name: str, before: Sequence[Order]) -> str:
        ident = self._names.get(name)
        is_new = any(each.id == ident for each in before)
        if ident is None or not (is_new or ident in self._state.book.parents):
            raise self._error(
                f"has an order with the parent {name[:40]!r}, which no order is or has children of"
            )
        return ident

    def _find_expiry(self, symbol: str, at_ms: int) -> int:
        code = next(each.session for each in self._market.histories if each.symbol == symbol)
        session = get_session(code)
        try:
            return (session.find_day(at_ms) or session.next_day(at_ms)).close_ms
        except OutsideCalendarError as error:
            raise HistoryError(f"{symbol}: {error}") from None

    def _read_word(self, asked: OrderRequest, name: str, words: Any) -> Any:
        try:
            return words(getattr(asked, name))
        except ValueError:
            given = str(getattr(asked, name))[:40]
            raise self._error(
                f"has an order whose {name} is {given!r}, not one of {', '.join(words)}"
            ) from None

    def _read_units(self, asked: OrderRequest, name: str, unit: int) -> int:
        number = read_number(getattr(asked, name))
        if number is None:
            given = str(getattr(asked, name))[:40]
            raise self._error(f"has an order for {asked.symbol} whose {name} is {given}: no number")
        return round(number * unit)

    def _error(self, what: str) -> StrategyError:
        code = getattr(self._strategy.decide, "__code__", None)
        line = f"line {code.co_firstlineno}: " if code is not None else ""
        return StrategyError(f"{self._strategy.file}: {line}decide {what}")


def _hold(market: _Market, rules: AccountRules, instruments: Mapping[str, Instrument]) -> Played:
    """Play buy and hold: equal parts of the cash, bought at the open after each symbol's first close."""
    rules = replace(rules, leverage=_BENCHMARK_LEVERAGE, volume_share=None)
    state = open_account(rules, instruments)
    played = Played(state)
    entries: dict[str, PriceBar] = {}
    firsts: dict[str, int] = {}
    for bar in market.bars:
        first_ms = firsts.setdefault(bar.symbol, bar.end_ms)
        if bar.start_ms >= first_ms and bar.volume != 0:
            entries.setdefault(bar.symbol, bar)

    def decide(at_ms: int, closing: Sequence[PriceBar]) -> Iterator[EngineEvent]:
        if closing:
            played.note_equity(at_ms)
        for bar in closing:
            entry = entries.get(bar.symbol)
            if firsts[bar.symbol] == at_ms and entry is not None and entry.open > 0:
                lot = instruments[bar.symbol].lot
                price = entry.open * _find_split_ratio(market, bar.symbol, at_ms, entry.start_ms)
                quantity = floor_to_lot(rules.cash / (len(instruments) * price), lot)
                order = Order(bar.symbol, bar.symbol, at_ms, Side.BUY, OrderType.MARKET, quantity=quantity)
                yield OrdersDecided(at_ms, [order])
        for action in market.actions.get(at_ms, ()):
            yield ActionsTaken(at_ms, [action])

    play(state, market.list_instants(), decide, played.fills, played.refusals)
    return played


def _find_split_ratio(market: _Market, symbol: str, from_ms: int, to_ms: int) -> Fraction:
    """Return by how much the splits between two instants, and at them, multiply an order that waits."""
    ratio = Fraction(1)
    for at_ms, actions in market.actions.items():
        if from_ms <= at_ms <= to_ms:
            for each in actions:
                if isinstance(each, ShareSplit) and each.symbol == symbol:
                    ratio *= each.ratio
    return ratio
