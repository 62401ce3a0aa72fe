"""A bar has four prices and no order in time: an order fills at the worst that it allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.signals.engine.fills import Execution, fill_through, fill_touched
from services.signals.engine.orders import Order, OrderType, PriceBar, Side

OPEN, HIGH, LOW, CLOSE = 100, 110, 90, 105
BAR = PriceBar("SPY", 0, 60_000, OPEN, HIGH, LOW, CLOSE, 1000)


def order(side, kind, price=None):
    return Order("a", "SPY", 0, side, kind, quantity=1, price=price)


def at_open(price):
    return Execution(price, is_at_open=True)


def within(price):
    return Execution(price, is_at_open=False)


@pytest.mark.parametrize("side", Side)
def test_a_market_order_fills_at_the_open(side):
    assert fill_through(BAR, order(side, OrderType.MARKET)) == at_open(OPEN)


@pytest.mark.parametrize(
    ("side", "stop", "expected"),
    [
        (Side.BUY, 99, at_open(OPEN)),  # the open has passed it: nobody traded at 99
        (Side.BUY, 100, at_open(OPEN)),
        (Side.BUY, 110, within(110)),
        (Side.BUY, 111, None),
        (Side.SELL, 101, at_open(OPEN)),
        (Side.SELL, 100, at_open(OPEN)),
        (Side.SELL, 90, within(90)),
        (Side.SELL, 89, None),
    ],
)
def test_a_stop_fills_at_the_open_if_that_has_passed_it_and_otherwise_at_its_price(side, stop, expected):
    assert fill_through(BAR, order(side, OrderType.STOP, stop)) == expected


@pytest.mark.parametrize(
    ("side", "limit", "through", "touched"),
    [
        (Side.BUY, 101, at_open(OPEN), at_open(OPEN)),
        (Side.BUY, 100, within(100), at_open(OPEN)),  # the low went beyond it
        (Side.BUY, 91, within(91), within(91)),
        (Side.BUY, 90, None, within(90)),
        (Side.BUY, 89, None, None),
        (Side.SELL, 99, at_open(OPEN), at_open(OPEN)),
        (Side.SELL, 100, within(100), at_open(OPEN)),
        (Side.SELL, 109, within(109), within(109)),
        (Side.SELL, 110, None, within(110)),
        (Side.SELL, 111, None, None),
    ],
)
def test_a_limit_fills_at_a_better_open_and_otherwise_once_the_price_went_through_it(
    side, limit, through, touched
):
    assert fill_through(BAR, order(side, OrderType.LIMIT, limit)) == through
    assert fill_touched(BAR, order(side, OrderType.LIMIT, limit)) == touched


prices = st.integers(1, 50)


@given(st.lists(prices, min_size=4, max_size=4), st.sampled_from(OrderType), st.sampled_from(Side), prices)
def test_every_price_is_one_that_the_bar_has_and_a_mirrored_bar_gives_the_mirrored_price(
    four, kind, side, price
):
    first, last, *_ = four
    bar = PriceBar("SPY", 0, 1, first, max(four), min(four), last)
    named = None if kind is OrderType.MARKET else price
    found = fill_through(bar, order(side, kind, named))
    mirrored_bar = PriceBar("SPY", 0, 1, -first, -min(four), -max(four), -last)
    other = Side.SELL if side is Side.BUY else Side.BUY
    mirrored = fill_through(mirrored_bar, order(other, kind, None if named is None else -named))
    if found is None:
        assert mirrored is None
        return
    assert bar.low <= found.price <= bar.high
    assert mirrored == Execution(-found.price, found.is_at_open)
    if kind is OrderType.LIMIT:
        assert found.price <= price if side is Side.BUY else found.price >= price
    if kind is OrderType.STOP:
        assert found.price >= price if side is Side.BUY else found.price <= price
