"""Play instants of a market against an account: orders become fills or refusals. Pure.

At one instant these things may happen, in this order: bars close (what was filled within them is known then,
stops before limits), sessions end, orders are decided or cancelled, corporate actions take place, bars open
or quotes come. An order fills in the first bar of its own symbol that opens at its decision or later. Within
each of these things orders go by submission, whatever the names of their symbols: so do cash and volume.

A bracket lives from the fill of its parent. Of a parent that filled at the open, stop and target live in that
bar; of one that filled within it, the stop alone, as if the bar had opened at the parent's price: the bar
does not say whether its best price came before the entry.

`step` plays one event. `play` and `play_series` play all that happens, with the same functions: a bar in
which no order works costs little more than its valuation.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from heapq import heapify, heappop, heappush

from services.signals.engine.book import OrderBook, WorkingOrder
from services.signals.engine.fills import (
    FILL_MODELS,
    FillModel,
    fill_touched,
    make_quoted_bar,
    slip_price,
)
from services.signals.engine.ledger import Ledger
from services.signals.engine.orders import (
    AccountAction,
    AccountRules,
    Fill,
    FillSource,
    Instrument,
    Order,
    OrderRefusal,
    OrderType,
    PriceBar,
    PriceQuote,
    RefusalReason,
    ShareSplit,
    Side,
    TimeInForce,
)
from services.signals.engine.units import floor_to_lot, round_down, round_up

KNOWN_IDS = 10_000
"""How many of the newest ids are known at least, so that an order that is submitted again is refused."""


_BUY, _SELL = Side
_MARKET, _LIMIT, _STOP = OrderType
_IOC = TimeInForce.IOC
# a member is looked up by a call in Python 3.11, so those that each fill needs are named once


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
class OrdersCancelled:
    """The ids of orders that are to be cancelled at `at_ms`."""

    at_ms: int
    ids: Sequence[str]


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


@dataclass(frozen=True, slots=True)
class QuotesSeen:
    """Quotes that came at `at_ms`, in their order."""

    at_ms: int
    quotes: Sequence[PriceQuote]


EngineEvent = BarsClose | SessionsEnd | OrdersDecided | OrdersCancelled | ActionsTaken | BarsOpen | QuotesSeen

Instant = tuple[int, Sequence[PriceBar], Sequence[PriceBar]]
"""A time in epoch milliseconds, the bars that close then, and the bars that open then."""


@dataclass(slots=True)
class EngineState:
    """Hold an account and the orders that may still fill; `step` changes it.

    Attributes:
        capacity: how much of each open bar's volume may still be ours, where that is limited.
        ids: the newest ids that were submitted, KNOWN_IDS at the most; `older_ids` are as many before them.
    """

    rules: AccountRules
    instruments: Mapping[str, Instrument]
    fill: FillModel
    ledger: Ledger
    book: OrderBook = field(default_factory=OrderBook)
    capacity: dict[str, int] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    older_ids: set[str] = field(default_factory=set)

    def is_known(self, ident: str) -> bool:
        """Return whether an order with this id was submitted."""
        return ident in self.ids or ident in self.older_ids


Outcome = tuple[EngineState, list[Fill], list[OrderRefusal]]


def open_account(
    rules: AccountRules,
    instruments: Mapping[str, Instrument],
    fill: FillModel | None = None,
    named: Container[str] = frozenset(),
) -> EngineState:
    """Return the state of a new account; `fill` replaces the engine's own model of fills.

    `named` are the ids that orders will name as their parent though it ended long ago; without it a child
    is submitted with its parent, or while that or another child of it works.
    """
    model = fill or FILL_MODELS[rules.limit_fill]
    return EngineState(rules, instruments, model, Ledger(rules.cash, rules.cash), OrderBook(named))


def step(state: EngineState, event: EngineEvent) -> Outcome:
    """Play one event; return the state, which is the given one, changed, and the fills and refusals.

    Events come in the order of their instants, and at one instant in the order of the module's docstring.

    Raises:
        LedgerError: the books are out of balance.
        FillModelError: the fill model named a price that is not in the bar.
    """
    turn = _Turn(state, [], [])
    turn.take(event)
    return state, turn.fills, turn.refusals


def play(
    state: EngineState,
    instants: Iterable[Instant],
    decide: Callable[[int, Sequence[PriceBar]], Iterable[EngineEvent]],
    fills: list[Fill],
    refusals: list[OrderRefusal],
) -> None:
    """Play instants in their order; what follows is appended to `fills` and `refusals` and changes `state`.

    At each one bars close, then the events take place that `decide` returns for its time and these bars, then
    bars open. Raises what `step` raises.
    """
    turn = _Turn(state, fills, refusals)
    for at_ms, closing, opening in instants:
        if closing:
            turn.close_bars(closing, at_ms)
        for event in decide(at_ms, closing):
            turn.take(event)
        if opening:
            turn.open_bars(opening)


def play_series(
    state: EngineState,
    bars: Iterable[PriceBar],
    decide: Callable[[PriceBar], Sequence[EngineEvent]],
    fills: list[Fill],
    refusals: list[OrderRefusal],
) -> None:
    """Play the bars of one symbol; what follows is appended to `fills` and `refusals` and changes `state`.

    After each close the events take place that `decide` returns for that bar: all that happens until the next
    one opens. This is `play` for the usual case, and costs a third of it. Raises what `step` raises.
    """
    turn = _Turn(state, fills, refusals)
    working, has_volume = state.book.working, state.rules.volume_share is not None
    book_close, borrow_rate = state.ledger.book_close, state.rules.borrow_rate or None
    held = None
    for bar in bars:
        if working or has_volume:
            turn.open_bars((bar,))
            if working:
                turn.fill_in_bars((bar,), bar.end_ms)
        if held is None:
            held = state.ledger.holding_of(bar.symbol)
        book_close(held, bar, borrow_rate)
        if events := decide(bar):
            for event in events:
                turn.take(event)


def list_instants(bars: Iterable[PriceBar], others: Iterable[int] = ()) -> Iterator[Instant]:
    """Yield the instants at which bars close or open, and `others`, in their order.

    The bars of a symbol are in their order; one that is there twice in a row counts once.
    """
    closing: dict[int, list[PriceBar]] = {}
    opening: dict[int, list[PriceBar]] = {}
    last: dict[str, PriceBar] = {}
    for bar in bars:
        if last.get(bar.symbol) == bar:
            continue
        last[bar.symbol] = bar
        closing.setdefault(bar.end_ms, []).append(bar)
        opening.setdefault(bar.start_ms, []).append(bar)
    for at_ms in sorted({*others, *closing, *opening}):
        yield at_ms, closing.get(at_ms, ()), opening.get(at_ms, ())


class _Turn:
    """Play events on a state, and collect what follows."""

    def __init__(self, state: EngineState, fills: list[Fill], refusals: list[OrderRefusal]) -> None:
        self.fills = fills
        self.refusals = refusals
        self._state = state
        self._ledger = state.ledger
        self._book = state.book
        self._working = state.book.working
        self._has_bar_fills = state.rules.fills_by is FillSource.BARS

    def take(self, event: EngineEvent) -> None:
        match event:
            case OrdersDecided():
                self.take_orders(event.orders, event.at_ms)
            case BarsOpen():
                self.open_bars(event.bars)
            case BarsClose():
                self.close_bars(event.bars, event.at_ms)
            case OrdersCancelled():
                self.cancel_orders(event.ids, event.at_ms)
            case SessionsEnd():
                self.expire_orders(event.at_ms)
            case ActionsTaken():
                self.take_actions(event.actions)
            case QuotesSeen():
                self.take_quotes(event.quotes)

    # -- bars

    def open_bars(self, bars: Sequence[PriceBar]) -> None:
        if self._state.rules.volume_share is not None:
            self._measure_volume(bars)
        if self._working and self._has_bar_fills:
            self._fill_at_open(bars)

    def close_bars(self, bars: Sequence[PriceBar], at_ms: int) -> None:
        if self._working:
            self.fill_in_bars(bars, at_ms)
        ledger, borrow_rate = self._ledger, self._state.rules.borrow_rate or None
        for bar in bars:
            ledger.book_close(ledger.holding_of(bar.symbol), bar, borrow_rate)

    def _measure_volume(self, bars: Sequence[PriceBar]) -> None:
        share, capacity = self._state.rules.volume_share, self._state.capacity
        for bar in bars:
            if bar.volume is None or share is None:
                capacity.pop(bar.symbol, None)
            else:
                capacity[bar.symbol] = floor_to_lot(bar.volume * share, self._lot_of(bar.symbol))

    def _fill_at_open(self, bars: Sequence[PriceBar]) -> None:
        queue = [
            (each.number, each, bar)
            for bar in bars
            for each in self._working.get(bar.symbol, {}).values()
            if each.live_ms is not None and each.live_ms <= bar.start_ms
        ]
        heapify(queue)
        while queue:
            _, each, bar = heappop(queue)
            for child in self._open_order(each, bar):
                for other in bars:
                    if other.symbol == child.order.symbol:
                        heappush(queue, (child.number, child, other))

    def _open_order(self, each: WorkingOrder, bar: PriceBar) -> Sequence[WorkingOrder]:
        """Fill an order at the open of its bar; return the orders that live from that."""
        children: Sequence[WorkingOrder] = ()
        if bar.volume != 0 and not each.is_ended:
            found = self._state.fill(bar, each.order)
            if found is not None and found.is_at_open:
                children = self._execute(each, bar, found.price, bar.start_ms)
        if each.order.tif is _IOC:
            self._end_immediate(each, bar.start_ms)
        return children

    def fill_in_bars(self, bars: Sequence[PriceBar], at_ms: int) -> None:
        """Fill orders within bars that close."""
        if not self._has_bar_fills:
            return
        by_symbol = {bar.symbol: bar for bar in bars if bar.symbol in self._working and bar.volume != 0}
        entered: list[tuple[WorkingOrder, PriceBar]] = []
        for type_ in (_STOP, _LIMIT):
            for each in sorted(self._book.list_live(by_symbol), key=lambda live: live.number):
                if each.order.type is type_:
                    entered += self._fill_within(each, by_symbol[each.order.symbol], at_ms)
        while entered:
            entered.sort(key=lambda pair: pair[0].number)
            each, bar = entered.pop(0)
            entered += self._fill_within(each, bar, at_ms)

    def _fill_within(
        self, each: WorkingOrder, bar: PriceBar, at_ms: int
    ) -> Iterable[tuple[WorkingOrder, PriceBar]]:
        """Fill an order within its bar; return the stops that live in the rest of that bar, and this rest."""
        if each.is_ended:
            return []
        found = self._state.fill(bar, each.order)
        if found is None:
            return []
        children = self._execute(each, bar, found.price, at_ms)
        rest = replace(bar, open=found.price)
        stops = (
            child for child in children if child.order.symbol == bar.symbol and child.order.type is _STOP
        )
        return [(child, rest) for child in stops]

    # -- quotes

    def take_quotes(self, quotes: Sequence[PriceQuote]) -> None:
        """Fill orders at the ask or the bid, as far as the size there goes, if quotes are what fills."""
        if not self._working or self._has_bar_fills:
            return
        rest = list(quotes)
        while rest:  # of each symbol the first quote, then the second ones
            by_symbol: dict[str, PriceQuote] = {}
            later = [each for each in rest if by_symbol.setdefault(each.symbol, each) is not each]
            self._fill_by_quotes(by_symbol)
            rest = later

    def _fill_by_quotes(self, quotes: Mapping[str, PriceQuote]) -> None:
        sizes: dict[tuple[str, Side], int] = {}
        live = [
            each
            for symbol in quotes
            for each in self._book.list_working(symbol)
            if each.live_ms is not None and each.live_ms <= quotes[symbol].at_ms
        ]
        for each in sorted(live, key=lambda one: one.number):
            order = each.order
            quote = quotes[order.symbol]
            bar = make_quoted_bar(quote, order.side) if order.side is not None else None
            found = fill_touched(bar, order) if bar is not None and not each.is_ended else None
            if bar is not None and found is not None and order.side is not None:
                key = (order.symbol, order.side)
                if bar.volume is not None:
                    lot = self._lot_of(order.symbol)
                    self._state.capacity[order.symbol] = sizes.setdefault(key, round_down(bar.volume, lot))
                self._execute(each, bar, found.price, quote.at_ms)
                left = self._state.capacity.pop(order.symbol, None)
                if left is not None:
                    sizes[key] = left
            self._end_immediate(each, quote.at_ms)

    # -- fills

    def _execute(self, each: WorkingOrder, bar: PriceBar, price: int, live_ms: int) -> list[WorkingOrder]:
        """Fill an order at a price, or refuse it; return the orders that live from its first fill on."""
        if not bar.low <= price <= bar.high:
            raise FillModelError(f"{each.order.id}: the price is not in its bar")
        order = each.order
        quantity = self._find_quantity(each)
        if order.type is _STOP and quantity < each.remaining:  # it is triggered: the rest follows
            each.order = replace(order, type=_MARKET, price=None)
        if not quantity:
            return []
        rules, instrument = self._state.rules, self._state.instruments[order.symbol]
        if rules.slippage or rules.slippage_ticks:
            price = slip_price(order, price, rules.slippage, rules.slippage_ticks, instrument.tick)
        fees = each.fees + instrument.fee.find_fee(quantity, price)
        fee = max(fees, instrument.fee.min_per_order) - each.charged
        signed = quantity if order.side is _BUY else -quantity
        reason = self._find_refusal(order.symbol, signed, price, fee)
        if reason is not None:
            self._refuse(each, bar.start_ms, reason)
            return []
        self._ledger.book_fill(order.symbol, signed, price, fee)
        side = _BUY if signed > 0 else _SELL
        self.fills.append(Fill(order.id, order.symbol, bar.start_ms, side, quantity, price, fee))
        if order.oco is not None:
            self._book.end_group(each)
        children = self._book.release_children(each, live_ms)
        each.fees = fees
        each.charged += fee
        self._count_fill(each, quantity)
        return children

    def _find_quantity(self, each: WorkingOrder) -> int:
        """Return how much of an order may fill now, by its bar's volume and by what its parent has."""
        quantity = each.remaining
        capacity = self._state.capacity.get(each.order.symbol)
        if capacity is not None:
            quantity = min(quantity, capacity)
        parent = self._book.parents.get(each.order.parent) if each.order.parent is not None else None
        if parent is not None:
            quantity = min(quantity, parent.filled - each.filled)
        return max(0, round_down(quantity, self._lot_of(each.order.symbol)))

    def _count_fill(self, each: WorkingOrder, quantity: int) -> None:
        each.filled += quantity
        each.remaining -= quantity
        capacity = self._state.capacity
        if each.order.symbol in capacity:
            capacity[each.order.symbol] -= quantity
        if not each.remaining:
            self._book.end(each)
        elif each.order.parent is not None and each.order.parent in self._book.parents:
            self._book.end_exits(self._book.parents[each.order.parent])

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
        book = self._book
        for order in orders:
            if not self._note_id(order.id):
                self.refusals.append(OrderRefusal(order.id, at_ms, RefusalReason.DUPLICATE))
                continue
            number = book.decided
            book.decided += 1
            sized = self._size(order)
            lot = self._lot_of(order.symbol)
            if sized.quantity is None or sized.quantity < lot or sized.quantity % lot:
                self.refusals.append(OrderRefusal(order.id, at_ms, RefusalReason.BELOW_LOT))
                continue
            book.add(WorkingOrder(self._round_price(sized), number, sized.quantity), at_ms)

    def _note_id(self, ident: str) -> bool:
        """Return whether an id is new, and keep it."""
        state = self._state
        if state.is_known(ident):
            return False
        if len(state.ids) >= KNOWN_IDS:
            state.older_ids, state.ids = state.ids, set()
        state.ids.add(ident)
        return True

    def cancel_orders(self, ids: Sequence[str], at_ms: int) -> None:
        """End orders; each one gets a record, also the one that was not working any more."""
        for ident in ids:
            found = self._book.find_working(ident)
            if found is None:
                self.refusals.append(OrderRefusal(ident, at_ms, RefusalReason.NOT_WORKING))
            else:
                self._refuse(found, at_ms, RefusalReason.CANCELLED)

    def _size(self, order: Order) -> Order:
        """Return an order with its side and quantity; one with a target is sized on the equity of now.

        A target of 0 needs no equity and no price: what is held is closed.
        """
        if order.target is None:
            return order
        held = self._ledger.holding_of(order.symbol)
        wanted = 0
        if order.target:
            if held.mark is None or held.mark <= 0 or self._ledger.equity <= 0:
                return order
            wanted = floor_to_lot(order.target * self._ledger.equity / held.mark, self._lot_of(order.symbol))
        more = wanted - held.quantity
        return replace(order, side=_BUY if more > 0 else _SELL, quantity=abs(more))

    def _round_price(self, order: Order) -> Order:
        """Return an order whose price is on a tick: never a better one for us."""
        if order.price is None:
            return order
        tick = self._state.instruments[order.symbol].tick
        price = (round_down if _is_rounded_down(order) else round_up)(order.price, tick)
        return order if price == order.price else replace(order, price=price)

    def expire_orders(self, at_ms: int) -> None:
        for each in self._book.list_working():
            expires_ms = each.order.expires_ms
            if expires_ms is not None and expires_ms <= at_ms and not each.is_ended:
                self._refuse(each, at_ms, RefusalReason.EXPIRED)

    def _end_immediate(self, each: WorkingOrder, at_ms: int) -> None:
        if each.order.tif is _IOC and not each.is_ended:
            self._refuse(each, at_ms, RefusalReason.EXPIRED)

    def _refuse(self, each: WorkingOrder, at_ms: int, reason: RefusalReason) -> None:
        self.refusals.append(OrderRefusal(each.order.id, at_ms, reason))
        self._book.end(each)

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
        for each in self._book.list_filled(action.symbol):
            each.filled = floor_to_lot(each.filled * action.ratio, lot)
        for each in self._book.list_working(action.symbol):
            each.remaining = floor_to_lot(each.remaining * action.ratio, lot)
            if each.order.price is not None:
                price = each.order.price / action.ratio
                each.order = self._round_price(replace(each.order, price=_whole(price, each.order)))
            if not each.remaining and not each.is_ended:
                self._refuse(each, action.at_ms, RefusalReason.BELOW_LOT)


def _whole(price: Fraction, order: Order) -> int:
    """Return a price in whole units, rounded as prices of its kind are: never a better one for us."""
    if _is_rounded_down(order):
        return price.numerator // price.denominator
    return -(-price.numerator // price.denominator)


def _is_rounded_down(order: Order) -> bool:
    """Return True for limits of purchases and stops of sales; other prices are rounded up to a tick."""
    return (order.side is _BUY) == (order.type is _LIMIT)
