"""Keep the orders that may still fill: which live, which wait for their parent, which end each other. Pure.

An order is forgotten once nothing can come of it any more: it has ended, and no order lives from its fills or
will be submitted as its child. So a long run needs as much memory as it has open orders.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from services.signals.engine.orders import Order, PriceBar


@dataclass(slots=True, eq=False)
class WorkingOrder:
    """Hold an order that may still fill.

    Attributes:
        number: its place in the order of submission.
        live_ms: bars that open then or later may fill it; None while it waits for its parent.
        charged: the fee of its fills so far, as money; `fees` is what it would be without a least one.
        children: the orders that were submitted as its exits, and have not ended.
        is_ended: whether nothing more can fill of it.
    """

    order: Order
    number: int
    remaining: int
    live_ms: int | None = None
    filled: int = 0
    charged: int = 0
    fees: int = 0
    children: "list[WorkingOrder]" = field(default_factory=list)
    is_ended: bool = False

    def describe(self) -> Order:
        """Return the order with what remains of it as its quantity."""
        return replace(self.order, quantity=self.remaining, target=None)


@dataclass(slots=True)
class OrderBook:
    """Hold the orders of an account that may still fill.

    Attributes:
        named: the ids that orders still to come have as their parent; their orders are not forgotten.
        working: the live orders of each symbol, and those that wait for their parent, by id.
        waiting: the orders that wait for the first fill of their parent, by its id.
        parents: the orders that have children, or may get some, by id: an exit is never larger than what its
            entry has.
        groups: the orders of each group of which one fill ends the others.
        decided: how many orders were decided.
    """

    named: Container[str] = frozenset()
    working: dict[str, dict[str, WorkingOrder]] = field(default_factory=dict)
    waiting: dict[str, list[WorkingOrder]] = field(default_factory=dict)
    parents: dict[str, WorkingOrder] = field(default_factory=dict)
    groups: dict[str, list[WorkingOrder]] = field(default_factory=dict)
    decided: int = 0

    def find_working(self, ident: str) -> WorkingOrder | None:
        """Return the order with this id if it may still fill."""
        found = self.parents.get(ident)
        return found if found is not None and not found.is_ended else None

    def list_working(self, symbol: str | None = None) -> list[WorkingOrder]:
        """Return the orders of a symbol, or all of them, in the order of their submission."""
        found = (
            [each for orders in self.working.values() for each in orders.values()]
            if symbol is None
            else list(self.working.get(symbol, {}).values())
        )
        return sorted(found, key=lambda each: each.number)

    def list_live(self, bars: Mapping[str, PriceBar]) -> Iterator[WorkingOrder]:
        """Yield the orders that the bars of their symbols may fill."""
        for symbol, bar in bars.items():
            for each in self.working.get(symbol, {}).values():
                if each.live_ms is not None and each.live_ms <= bar.start_ms:
                    yield each

    def add(self, each: WorkingOrder, at_ms: int) -> None:
        """Add an order that is decided at `at_ms`; an exit whose entry ended without a fill ends at once."""
        order = each.order
        self.parents[order.id] = each
        each.children += self.waiting.get(order.id, [])
        parent = self.parents.get(order.parent) if order.parent is not None else None
        if parent is not None and parent.is_ended and not parent.filled:
            each.is_ended = True
            self._forget(each)
            return
        self.working.setdefault(order.symbol, {})[order.id] = each
        if order.oco is not None:
            self.groups.setdefault(order.oco, []).append(each)
        if parent is not None:
            parent.children.append(each)
        if order.parent is None or (parent is not None and parent.filled):
            each.live_ms = at_ms
        else:
            self.waiting.setdefault(order.parent, []).append(each)

    def end(self, each: WorkingOrder) -> None:
        """End an order, and its exits that it has nothing more for."""
        if each.is_ended:
            return
        each.is_ended = True
        order = each.order
        _take_out(self.working, order.symbol, order.id)
        if order.oco is not None:
            _drop(self.groups, order.oco, each)
        if order.parent is not None:
            _drop(self.waiting, order.parent, each)
            parent = self.parents.get(order.parent)
            if parent is not None and each in parent.children:
                parent.children.remove(each)
                self._forget(parent)
        self.end_exits(each)
        self._forget(each)

    def end_exits(self, parent: WorkingOrder) -> None:
        """End the exits of an order that has ended for which nothing is left of its fills."""
        if parent.is_ended:
            for child in list(parent.children):
                if child.filled >= parent.filled:
                    self.end(child)

    def end_group(self, each: WorkingOrder) -> None:
        """End the others of an order's group."""
        for other in list(self.groups.get(each.order.oco or "", ())):
            if other is not each:
                self.end(other)

    def release_children(self, each: WorkingOrder, live_ms: int) -> list[WorkingOrder]:
        """Let the exits live that waited for the first fill of this order, and return them."""
        children = self.waiting.pop(each.order.id, [])
        for child in children:
            child.live_ms = live_ms
        return children

    def list_filled(self, symbol: str) -> Iterable[WorkingOrder]:
        """Return the orders of a symbol whose fills may still count for an exit."""
        return [each for each in self.parents.values() if each.order.symbol == symbol]

    def _forget(self, each: WorkingOrder) -> None:
        ident = each.order.id
        if each.is_ended and not each.children and ident not in self.named:
            self.parents.pop(ident, None)


def _take_out(orders: dict[str, dict[str, WorkingOrder]], symbol: str, ident: str) -> None:
    of_symbol = orders[symbol]
    del of_symbol[ident]
    if not of_symbol:
        del orders[symbol]


def _drop(lists: dict[str, list[WorkingOrder]], name: str, each: WorkingOrder) -> None:
    found = lists.get(name)
    if found is not None and each in found:
        found.remove(each)
        if not found:
            del lists[name]
