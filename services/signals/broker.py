"""Define what a broker is to whatever sends orders, and the engine as one.

One protocol of three calls serves paper trading, which fills by the engine, and later a real broker. It is
asynchronous, since a real one is asked over a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.signals.engine.engine import (
    EngineEvent,
    EngineState,
    OrdersCancelled,
    OrdersDecided,
    Outcome,
    step,
)
from services.signals.engine.orders import Order, OrderRefusal


@dataclass(frozen=True, slots=True)
class BrokerPosition:
    """Hold a position: a quantity, below 0 for a short one, and its cost without fees, as money."""

    symbol: str
    quantity: int
    cost: int


@dataclass(frozen=True, slots=True)
class BrokerState:
    """Hold what a broker has of an account: cash as money, positions that are not nothing, and open orders.

    Orders are in the order of their submission, with what remains of them as their quantity.
    """

    cash: int
    positions: Sequence[BrokerPosition]
    orders: Sequence[Order]


class Broker(Protocol):
    """Take orders for one account."""

    async def submit(self, orders: Sequence[Order]) -> Sequence[OrderRefusal]:
        """Submit orders of one instant; return what is refused at once.

        An order whose id was submitted before is refused as a duplicate and changes nothing, so that a
        program that was restarted may submit again what it is not sure of.
        """
        ...

    async def cancel(self, ids: Sequence[str], at_ms: int) -> Sequence[OrderRefusal]:
        """Cancel orders; return a record of each: cancelled, or not working any more."""
        ...

    async def state(self) -> BrokerState:
        """Return the account as the broker has it."""
        ...


class UnknownParentError(ValueError):
    """An order names a parent that is neither working nor submitted with it: it would wait for ever."""


class SimulatedBroker:
    """Fill orders by the engine: a broker for paper trading. `play` shows it what happens in the market."""

    def __init__(self, account: EngineState) -> None:
        self.account = account

    def play(self, event: EngineEvent) -> Outcome:
        """Play what happens in the market: see `step`, which this is on the broker's account."""
        return step(self.account, event)

    async def submit(self, orders: Sequence[Order]) -> Sequence[OrderRefusal]:
        """Submit orders; see `Broker.submit`. Raises UnknownParentError, and then submits none of them."""
        parents = {None, *self.account.book.parents, *(order.id for order in orders)}
        for order in orders:
            if order.parent not in parents and not self.account.is_known(order.id):
                raise UnknownParentError(f"{order.id}: its parent {order.parent} is not working")
        refusals: list[OrderRefusal] = []
        for at_ms in sorted({order.decided_ms for order in orders}):
            event = OrdersDecided(at_ms, [order for order in orders if order.decided_ms == at_ms])
            refusals += step(self.account, event)[2]
        return refusals

    async def cancel(self, ids: Sequence[str], at_ms: int) -> Sequence[OrderRefusal]:
        """Cancel orders; see `Broker.cancel`."""
        return step(self.account, OrdersCancelled(at_ms, ids))[2]

    async def state(self) -> BrokerState:
        """Return the account as the engine has it."""
        ledger, book = self.account.ledger, self.account.book
        positions = [
            BrokerPosition(symbol, held.quantity, held.cost)
            for symbol, held in sorted(ledger.holdings.items())
            if held.quantity
        ]
        return BrokerState(ledger.cash, positions, [each.describe() for each in book.list_working()])
