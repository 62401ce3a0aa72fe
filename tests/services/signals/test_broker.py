"""The engine is a broker: orders are submitted and cancelled, and never doubled by a restart."""

from dataclasses import replace

import pytest

from services.signals.broker import Broker, BrokerPosition, BrokerState, SimulatedBroker, UnknownParentError
from services.signals.engine.engine import BarsClose, BarsOpen
from services.signals.engine.orders import PriceBar, RefusalReason
from services.signals.engine.units import QUANTITY
from support.engine_market import DAY, LIMIT, SELL, STOP, Market, money, order, price


def start() -> SimulatedBroker:
    return SimulatedBroker(Market().state)


def trade(broker, day=0, four=(100, 101, 99, 100)):
    bar = PriceBar("A", day * DAY, (day + 1) * DAY, *map(price, four))
    fills = broker.play(BarsOpen(bar.start_ms, [bar]))[1]
    return fills + broker.play(BarsClose(bar.end_ms, [bar]))[1]


async def test_what_is_submitted_fills_and_the_state_has_what_is_left():
    broker: Broker = start()
    entry, stop = order("entry", qty=30), order("stop", SELL, STOP, qty=30, at=95, parent="entry")
    assert await broker.submit([entry, stop, order("low", kind=LIMIT, at=50, qty=2)]) == []
    assert [each.order for each in trade(broker)] == ["entry"]
    held = [BrokerPosition("A", 30 * QUANTITY, money(3000))]
    left = [stop, order("low", kind=LIMIT, at=50, qty=2)]
    assert await broker.state() == BrokerState(money(97_000), held, left)
    (record,) = await broker.cancel(["low"], DAY)
    assert (record.order, record.at_ms, record.reason) == ("low", DAY, RefusalReason.CANCELLED)
    assert (await broker.state()).orders == [stop]
    assert [each.reason for each in await broker.cancel(["low", "none"], DAY)] == [
        RefusalReason.NOT_WORKING
    ] * 2


async def test_a_program_that_submits_again_after_its_restart_doubles_nothing():
    broker = start()
    orders = [order("a", qty=30), order("b", kind=LIMIT, at=95, qty=10)]
    orders.append(order("exit", SELL, LIMIT, at=100.5, qty=30, parent="a"))
    await broker.submit(orders)
    assert len(trade(broker)) == 2
    again = await broker.submit([replace(each, decided_ms=DAY) for each in orders])
    assert [each.reason for each in again] == [RefusalReason.DUPLICATE] * 3
    assert [each.quantity for each in trade(broker, 1, (100, 101, 94, 100))] == [10 * QUANTITY]


async def test_an_exit_of_an_entry_that_is_not_there_is_an_error_and_none_is_submitted():
    broker = start()
    with pytest.raises(UnknownParentError, match="its parent gone is not working"):
        await broker.submit([order("a"), order("stop", SELL, STOP, at=95, parent="gone")])
    assert (await broker.state()).orders == []
