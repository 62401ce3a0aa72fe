"""Play instants of a market against an account: orders become fills or refusals. Pure.

At one instant five things may happen, in this order: bars close (what was filled within them is known then,
stops before limits), sessions end, orders are decided, corporate actions take place, bars open. An order
fills in the first bar of its own symbol that opens at its decision or later. Within each of these things
orders go by submission, whatever the names of their symbols: so do cash and a bar's volume.

A bracket lives from the fill of its parent. Of a parent that filled at the open, stop and target live in that
bar; of one that filled within it, the stop alone, as if the bar had opened at the parent's price: the bar
does not say whether its best price came before the entry.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from heapq import heapify, heappop, heappush

from services.signals.engine.fills import FILL_MODELS, FillModel
from services.signals.engine.ledger import Ledger
from services.signals.engine.orders import (
    AccountAction,
    AccountRules,
    Fill,
    Instrument,
    Order,
    OrderRefusal,
    OrderType,
    PriceBar,
    RefusalReason,
    ShareSplit,
    Side,
    TimeInForce,
)
from services.signals.engine.units import CENT, floor_to_lot, round_down, round_half_up, round_up


class FillModelError(ValueError):
    """A fill model named a price that its bar does not have."""


@dataclass(frozen=True, slots=True)
class BarsClose:
    """Bars that close at `at_ms`."""

    at_ms: int
    bars: Sequence[PriceBar]


@dataclass(frozen=True, slots=True)
class SessionsEnd:
    """The end of sessions at `at_ms`, for the DAY orders that expire then."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class OrdersDecided:
    """Orders that were decided at `at_ms`, in the order of their submission."""

    at_ms: int
    orders: Sequence[Order]


@dataclass(frozen=True, slots=True)
class ActionsTaken:
    """Corporate actions at `at_ms`, before the bars that open then."""

    at_ms: int
    actions: Sequence[AccountAction]


@dataclass(frozen=True, slots=True)
class BarsOpen:
    """Bars that open at `at_ms`."""

    at_ms: int
    bars: Sequence[PriceBar]


EngineEvent = BarsClose | SessionsEnd | OrdersDecided | ActionsTaken | BarsOpen


@dataclass(slots=True)
class WorkingOrder:
    """Hold an order that may still fill.

    Attributes:
        number: its place in the order of submission.
        live_ms: bars that open then or later may fill it; None while it waits for its parent.
        charged: the fee of its fills so far, as money; `fees` is what it would be without a least one.
    """

    order: Order
    number: int
    remaining: int
    live_ms: int | None
    filled: int = 0
    charged: int = 0
    fees: int = 0


@dataclass(slots=True)
class EngineState:
    """Hold an account and the orders that may still fill; `step` changes it.

    Attributes:
        working: the live orders of each symbol, and those that wait for their parent, by id.
        waiting: the orders that wait for the first fill of their parent, by its id.
        parents: all orders, by id: an exit is never larger than what its entry has.
        groups: the orders of each group of which one fill ends the others.
        capacity: how much of each open bar's volume may still be ours; None: any.
        decided: how many orders were decided.
    """

    rules: AccountRules
    instruments: Mapping[str, Instrument]
    fill: FillModel
    ledger: Ledger
    working: dict[str, dict[str, WorkingOrder]] = field(default_factory=dict)
    waiting: dict[str, list[WorkingOrder]] = field(default_factory=dict)
    parents: dict[str, WorkingOrder] = field(default_factory=dict)
    groups: dict[str, list[WorkingOrder]] = field(default_factory=dict)
    capacity: dict[str, int | None] = field(default_factory=dict)
    decided: int = 0


Outcome = tuple[EngineState, list[Fill], list[OrderRefusal]]


def open_account(
    rules: AccountRules, instruments: Mapping[str, Instrument], fill: FillModel | None = None
) -> EngineState:
    """Return the state of a new account; `fill` replaces the engine's own model of fills."""
    model = fill or FILL_MODELS[rules.limit_fill]
    return EngineState(rules, instruments, model, Ledger(rules.cash, rules.cash))


def step(state: EngineState, event: EngineEvent) -> Outcome:
    """Play one event; return the state, which is the given one, changed, and the fills and refusals.

    Events come in the order of their instants, and at one instant in the order of the module's docstring.

    Raises:
        LedgerError: the books are out of balance.
        FillModelError: the fill model named a price that is not in the bar.
    """
    turn = _Turn(state)
    match event:
        case BarsOpen():
            turn.open_bars(event.bars)
        case BarsClose():
            turn.close_bars(event.bars, event.at_ms)
        case OrdersDecided():
            turn.take_orders(event.orders, event.at_ms)
        case SessionsEnd():
            turn.expire_orders(event.at_ms)
        case ActionsTaken():
            turn.take_actions(event.actions)
    return state, turn.fills, turn.refusals


class _Turn:
    """Play one event on a state, and collect what follows."""

    def __init__(self, state: EngineState) -> None:
        self.fills: list[Fill] = []
        self.refusals: list[OrderRefusal] = []
        self._state = state
        self._ledger = state.ledger

    # -- bars

    def open_bars(self, bars: Sequence[PriceBar]) -> None:
        by_symbol = {bar.symbol: bar for bar in bars}
        for bar in bars:
            self._state.capacity[bar.symbol] = self._find_capacity(bar)
        queue = [(each.number, each) for each in self._list_live(by_symbol)]
        heapify(queue)
        while queue:
            _, each = heappop(queue)
            bar = by_symbol[each.order.symbol]
            if bar.volume == 0 or not self._is_working(each):
                self._end_immediate(each, bar)
                continue
            found = self._state.fill(bar, each.order)
            if found is not None and found.is_at_open:
                for child in self._execute(each, bar, found.price, bar.start_ms):
                    if child.order.symbol in by_symbol:
                        heappush(queue, (child.number, child))
            self._end_immediate(each, bar)

    def close_bars(self, bars: Sequence[PriceBar], at_ms: int) -> None:
        by_symbol = {bar.symbol: bar for bar in bars if bar.volume != 0}
        entered: list[tuple[WorkingOrder, PriceBar]] = []
        for type_ in (OrderType.STOP, OrderType.LIMIT):
            for each in sorted(self._list_live(by_symbol), key=lambda live: live.number):
                if each.order.type is type_:
                    entered += self._fill_within(each, by_symbol[each.order.symbol], at_ms)
        while entered:
            entered.sort(key=lambda pair: pair[0].number)
            each, bar = entered.pop(0)
            entered += self._fill_within(each, bar, at_ms)
        for bar in bars:
            self._state.capacity.pop(bar.symbol, None)
            self._ledger.book_close(bar.symbol, bar.close, at_ms, self._state.rules.borrow_rate)

    def _fill_within(
        self, each: WorkingOrder, bar: PriceBar, at_ms: int
    ) -> Iterable[tuple[WorkingOrder, PriceBar]]:
        """Fill an order within its bar; return the stops that live in the rest of that bar, and this rest."""
        if not self._is_working(each):
            return []
        found = self._state.fill(bar, each.order)
        if found is None:
            return []
        children = self._execute(each, bar, found.price, at_ms)
        rest = replace(bar, open=found.price)
        stops = (
            child
            for child in children
            if child.order.symbol == bar.symbol and child.order.type is OrderType.STOP
        )
        return [(child, rest) for child in stops]

    def _list_live(self, bars: Mapping[str, PriceBar]) -> Iterator[WorkingOrder]:
        for symbol, bar in bars.items():
            for each in self._state.working.get(symbol, {}).values():
                if each.live_ms is not None and each.live_ms <= bar.start_ms:
                    yield each

    def _find_capacity(self, bar: PriceBar) -> int | None:
        share = self._state.rules.volume_share
        if bar.volume is None or share is None:
            return None
        return floor_to_lot(bar.volume * share, self._lot_of(bar.symbol))

    # -- fills

    def _execute(self, each: WorkingOrder, bar: PriceBar, price: int, live_ms: int) -> list[WorkingOrder]:
        """Fill an order at a price, or refuse it; return the orders that live from its first fill on."""
        if not bar.low <= price <= bar.high:
            raise FillModelError(f"{each.order.id}: the price is not in its bar")
        order = each.order
        quantity = self._find_quantity(each)
        if order.type is OrderType.STOP and quantity < each.remaining:  # it is triggered: the rest follows
            each.order = replace(order, type=OrderType.MARKET, price=None)
        if not quantity:
            return []
        fee = self._find_fee(each, quantity, price)
        signed = quantity if order.side is Side.BUY else -quantity
        reason = self._find_refusal(order.symbol, signed, price, fee)
        if reason is not None:
            self._refuse(each, bar.start_ms, reason)
            return []
        self._ledger.book_fill(order.symbol, signed, price, fee)
        side = Side.BUY if signed > 0 else Side.SELL
        self.fills.append(Fill(order.id, order.symbol, bar.start_ms, side, quantity, price, fee))
        self._count_fill(each, quantity, price, fee)
        if each.order.oco is not None:
            for other in self._state.groups.pop(each.order.oco, []):
                if other is not each:
                    self._remove(other)
        children = self._state.waiting.pop(order.id, [])
        for child in children:
            child.live_ms = live_ms
        return children

    def _find_quantity(self, each: WorkingOrder) -> int:
        """Return how much of an order may fill now, by its bar's volume and by what its parent has."""
        quantity = each.remaining
        lot = self._lot_of(each.order.symbol)
        capacity = self._state.capacity.get(each.order.symbol)
        if capacity is not None:
            quantity = min(quantity, capacity)
        parent = self._state.parents.get(each.order.parent or "")
        if parent is not None:
            quantity = min(quantity, parent.filled - each.filled)
        return max(0, round_down(quantity, lot))

    def _count_fill(self, each: WorkingOrder, quantity: int, price: int, fee: int) -> None:
        symbol = each.order.symbol
        each.fees += self._find_own_fee(each, quantity, price)
        each.charged += fee
        each.filled += quantity
        each.remaining -= quantity
        capacity = self._state.capacity.get(symbol)
        if capacity is not None:
            self._state.capacity[symbol] = capacity - quantity
        if not each.remaining:
            self._remove(each)

    def _find_own_fee(self, each: WorkingOrder, quantity: int, price: int) -> int:
        fee = self._state.instruments[each.order.symbol].fee
        return round_half_up(fee.per_share * quantity + fee.rate * quantity * price, CENT)

    def _find_fee(self, each: WorkingOrder, quantity: int, price: int) -> int:
        """Return the fee of a fill: what brings the order's fees to their sum, or to the least one."""
        fee = self._state.instruments[each.order.symbol].fee
        in_all = each.fees + self._find_own_fee(each, quantity, price)
        return max(in_all, fee.min_per_order) - each.charged

    def _find_refusal(self, symbol: str, quantity: int, price: int, fee: int) -> RefusalReason | None:
        """Return why the account can't take a purchase, or a sale if the quantity is below 0."""
        ledger, leverage = self._ledger, self._state.rules.leverage
        held = ledger.holding_of(symbol)
        after = held.quantity + quantity
        if leverage is None:
            if quantity > 0:
                return RefusalReason.NO_CASH if quantity * price + fee > ledger.cash else None
            return RefusalReason.NO_SHORT if after < 0 else None
        if abs(after) < abs(held.quantity) and after * held.quantity >= 0:
            return None  # it only makes a position smaller
        equity = ledger.equity - held.value + held.quantity * price - fee
        gross = ledger.gross - abs(held.value) + abs(after * price)
        return RefusalReason.NO_MARGIN if gross > leverage * equity else None

    # -- orders

    def take_orders(self, orders: Sequence[Order], at_ms: int) -> None:
        for order in orders:
            number = self._state.decided
            self._state.decided += 1
            sized = self._size(order)
            lot = self._lot_of(order.symbol)
            if sized.quantity is None or sized.quantity < lot or sized.quantity % lot:
                self.refusals.append(OrderRefusal(order.id, at_ms, RefusalReason.BELOW_LOT))
                continue
            self._add(WorkingOrder(self._round_price(sized), number, sized.quantity, None), at_ms)

    def _add(self, each: WorkingOrder, at_ms: int) -> None:
        state, order = self._state, each.order
        state.parents[order.id] = each
        state.working.setdefault(order.symbol, {})[order.id] = each
        if order.oco is not None:
            state.groups.setdefault(order.oco, []).append(each)
        if order.parent is None:
            each.live_ms = at_ms
            return
        parent = state.parents.get(order.parent)
        if parent is not None and parent.filled:
            each.live_ms = at_ms
        else:
            state.waiting.setdefault(order.parent, []).append(each)

    def _size(self, order: Order) -> Order:
        """Return an order with its side and quantity; one with a target is sized on the equity of now."""
        if order.target is None:
            return order
        held = self._ledger.holding_of(order.symbol)
        if held.mark is None or held.mark <= 0 or self._ledger.equity <= 0:
            return order
        wanted = floor_to_lot(order.target * self._ledger.equity / held.mark, self._lot_of(order.symbol))
        more = wanted - held.quantity
        return replace(order, side=Side.BUY if more > 0 else Side.SELL, quantity=abs(more))

    def _round_price(self, order: Order) -> Order:
        """Return an order whose price is on a tick: never a better one for us."""
        if order.price is None:
            return order
        tick = self._state.instruments[order.symbol].tick
        return replace(order, price=(round_down if _is_rounded_down(order) else round_up)(order.price, tick))

    def expire_orders(self, at_ms: int) -> None:
        expired = [
            each
            for orders in self._state.working.values()
            for each in orders.values()
            if each.order.expires_ms is not None and each.order.expires_ms <= at_ms
        ]
        for each in sorted(expired, key=lambda live: live.number):
            self._refuse(each, at_ms, RefusalReason.EXPIRED)

    def _end_immediate(self, each: WorkingOrder, bar: PriceBar) -> None:
        if each.order.tif is TimeInForce.IOC and self._is_working(each):
            self._refuse(each, bar.start_ms, RefusalReason.EXPIRED)

    def _refuse(self, each: WorkingOrder, at_ms: int, reason: RefusalReason) -> None:
        self.refusals.append(OrderRefusal(each.order.id, at_ms, reason))
        self._remove(each)

    def _remove(self, each: WorkingOrder) -> None:
        """End an order, and the orders that wait for its fill if it has none."""
        self._state.working.get(each.order.symbol, {}).pop(each.order.id, None)
        if not each.filled:
            for child in self._state.waiting.pop(each.order.id, []):
                self._remove(child)

    def _is_working(self, each: WorkingOrder) -> bool:
        return each.order.id in self._state.working.get(each.order.symbol, {})

    def _lot_of(self, symbol: str) -> int:
        return self._state.instruments[symbol].lot

    # -- corporate actions

    def take_actions(self, actions: Sequence[AccountAction]) -> None:
        for action in actions:
            if isinstance(action, ShareSplit):
                self._ledger.book_split(action.symbol, action.ratio, self._lot_of(action.symbol))
                self._split_orders(action)
            else:
                self._ledger.book_dividend(action.symbol, action.per_share)

    def _split_orders(self, action: ShareSplit) -> None:
        """Multiply the orders of a symbol; one of which no whole lot is left is refused."""
        lot = self._lot_of(action.symbol)
        for each in self._state.parents.values():
            if each.order.symbol == action.symbol:
                each.filled = floor_to_lot(each.filled * action.ratio, lot)
        for each in list(self._state.working.get(action.symbol, {}).values()):
            each.remaining = floor_to_lot(each.remaining * action.ratio, lot)
            if each.order.price is not None:
                price = each.order.price / action.ratio
                each.order = self._round_price(replace(each.order, price=_whole(price, each.order)))
            if not each.remaining:
                self._refuse(each, action.at_ms, RefusalReason.BELOW_LOT)


def _whole(price: Fraction, order: Order) -> int:
    """Return a price in whole units, rounded as prices of its kind are: never a better one for us."""
    if _is_rounded_down(order):
        return price.numerator // price.denominator
    return -(-price.numerator // price.denominator)


def _is_rounded_down(order: Order) -> bool:
    """Return True for limits of purchases and stops of sales; other prices are rounded up to a tick."""
    return (order.side is Side.BUY) == (order.type is OrderType.LIMIT)
