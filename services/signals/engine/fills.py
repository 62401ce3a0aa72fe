"""Find the price at which an order fills in a bar, the worst that the bar allows. Pure.

Of a bar only four prices are known, not their order in time. So a stop that the open has passed fills at the
open, since nobody traded at the stop; a limit that the open has passed fills at the better open; and a limit
that the price only touched does not fill, unless the account says so.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from services.signals.engine.orders import LimitFill, Order, OrderType, PriceBar, Quote, Side
from services.signals.engine.units import round_down, round_up

_BUY = Side.BUY
_LIMIT, _STOP = OrderType.LIMIT, OrderType.STOP


class Execution(NamedTuple):
    """Hold the price at which an order fills in a bar, and whether that is at its open or within it."""

    price: int
    is_at_open: bool


FillModel = Callable[[PriceBar, Order], Execution | None]
"""A function that finds the price of an order in a bar; it must be one that the bar has, from low to high."""


def fill_through(bar: PriceBar, order: Order) -> Execution | None:
    """Find the price of an order in a bar, where limits fill once the price went beyond them.

    A limit at the bar's open fills at the open only if the open is better.
    """
    return _find_execution(bar, order, 1)


def fill_touched(bar: PriceBar, order: Order) -> Execution | None:
    """Find the price of an order in a bar, where limits fill once the price was at them."""
    return _find_execution(bar, order, 0)


FILL_MODELS = {LimitFill.THROUGH: fill_through, LimitFill.TOUCH: fill_touched}


def _find_execution(bar: PriceBar, order: Order, beyond: int) -> Execution | None:
    """Find the price; a limit fills where the price is better by at least `beyond` units."""
    price = order.price
    if price is None:
        return Execution(bar.open, is_at_open=True)
    # prices are compared from the side of a buyer; for a seller all is mirrored
    sign, best = (1, bar.low) if order.side is _BUY else (-1, -bar.high)
    first, worst = sign * bar.open, bar.high if sign == 1 else -bar.low
    named = sign * price
    if order.type is _STOP:
        if first >= named:
            return Execution(bar.open, is_at_open=True)
        return Execution(price, is_at_open=False) if worst >= named else None
    if first <= named - beyond:
        return Execution(bar.open, is_at_open=True)
    return Execution(price, is_at_open=False) if best <= named - beyond else None


def make_quoted_bar(quote: Quote, side: Side) -> PriceBar | None:
    """Return the bar that a quote is to an order of this side: all its prices are the ask, or the bid.

    None where nobody offers the other side, or the bid is above the ask, which is a mistake of its source.
    """
    price, size = (quote.ask, quote.ask_size) if side is _BUY else (quote.bid, quote.bid_size)
    if price is None or size == 0:
        return None
    if quote.bid is not None and quote.ask is not None and quote.bid > quote.ask:
        return None
    return PriceBar(quote.symbol, quote.at_ms, quote.at_ms, price, price, price, price, size)


def slip_price(order: Order, price: int, share: Fraction, ticks: int, tick: int) -> int:
    """Return the price with its slippage: worse for us by a share and by ticks, on a tick, and never better.

    An order with a limit pays no more, and gets no less, than its limit.
    """
    worse = -(-abs(price) * share.numerator // share.denominator) + ticks * tick
    limit = order.price if order.type is _LIMIT else None
    if order.side is _BUY:
        slipped = round_up(price + worse, tick)
        return slipped if limit is None else min(slipped, limit)
    slipped = round_down(price - worse, tick)
    return slipped if limit is None else max(slipped, limit)
