"""An account in a market whose bars are days, for tests of the engine: prices and money are plain numbers."""

from fractions import Fraction

from services.signals.engine.engine import BarsClose, BarsOpen, OrdersDecided, open_account, step
from services.signals.engine.orders import (
    AccountRules,
    FeeSchedule,
    Instrument,
    Order,
    OrderType,
    PriceBar,
    Side,
)
from services.signals.engine.units import MONEY, PRICE, QUANTITY

DAY = 86_400_000
HOUR = 3_600_000
BUY, SELL = Side.BUY, Side.SELL
MARKET, LIMIT, STOP = OrderType.MARKET, OrderType.LIMIT, OrderType.STOP


def price(number):
    return round(Fraction(str(number)) * PRICE)


def money(number):
    return round(Fraction(str(number)) * MONEY)


class Market:
    """An account in a market whose bars are days; `day` plays one of them."""

    def __init__(self, cash=100_000, *, lot=1, tick="0.01", fee=None, fill=None, symbols=("A", "B"), **rules):
        instrument = Instrument(price(tick), round(Fraction(lot) * QUANTITY), fee or FeeSchedule())
        rules = AccountRules(money(cash), **rules)
        self.state = open_account(rules, dict.fromkeys(symbols, instrument), fill)
        self.now = 0
        self.fills, self.refusals = [], []

    @property
    def ledger(self):
        return self.state.ledger

    def play(self, event):
        self.state, fills, refusals = step(self.state, event)
        self.fills += fills
        self.refusals += refusals
        self.ledger.check_totals()

    def decide(self, *orders):
        self.play(OrdersDecided(self.now, orders))

    def day(self, volume=None, **bars):
        """Play the next day: of each symbol open, high, low, close."""
        start, self.now = self.now, self.now + DAY
        made = [
            PriceBar(
                symbol, start, self.now, *map(price, four), None if volume is None else volume * QUANTITY
            )
            for symbol, four in bars.items()
        ]
        self.play(BarsOpen(start, made))
        self.play(BarsClose(self.now, made))

    def told(self):
        return [(each.order, each.quantity / QUANTITY, each.price / PRICE) for each in self.fills]

    def refused(self):
        return [(each.order, each.reason) for each in self.refusals]

    def held(self, symbol="A"):
        return self.ledger.holding_of(symbol).quantity / QUANTITY


def order(ident, side=BUY, kind=MARKET, *, qty=100, at=None, symbol="A", **more):
    quantity = None if qty is None else round(qty * QUANTITY)
    named = None if at is None else price(at)
    return Order(ident, symbol, 0, side, kind, quantity=quantity, price=named, **more)


def bracket(**entry):
    return (
        order("entry", **entry),
        order("target", SELL, LIMIT, at=110, parent="entry", oco="exit"),
        order("stop", SELL, STOP, at=95, parent="entry", oco="exit"),
    )
