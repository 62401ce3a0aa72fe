"""Define what the engine takes and returns: accounts, instruments, bars, orders, fills and refusals. Pure.

Prices, quantities and money are whole numbers of the units of `units`; times are epoch milliseconds.
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from services.signals.engine.units import CENT, round_ratio


class Side(StrEnum):
    """Name the sides of an order."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """Name the types of orders."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"


class TimeInForce(StrEnum):
    """Name how long an order stays."""

    GTC = "GTC"
    """Until it is filled."""
    DAY = "DAY"
    """Until its symbol's session closes."""
    IOC = "IOC"
    """At the open of its first bar only."""


class RefusalReason(StrEnum):
    """Name why an order, or the rest of it, is not filled."""

    NO_CASH = "no_cash"
    """A purchase of a cash account costs more than its cash, with the fee."""
    NO_SHORT = "no_short"
    """A sale of a cash account is larger than what it holds."""
    NO_MARGIN = "no_margin"
    """The positions of a margin account would be worth more than `leverage` times its equity."""
    BELOW_LOT = "below_lot"
    """The quantity is not a whole number of lots, or less than one."""
    EXPIRED = "expired"
    """It was a DAY order when its session closed, or an IOC order that did not fill at once."""
    CANCELLED = "cancelled"
    """It was cancelled while it was working."""
    NOT_WORKING = "not_working"
    """It was to be cancelled, and was not working: filled, ended, or never submitted."""
    DUPLICATE = "duplicate"
    """An order with this id was submitted before; that one is as it was."""


class LimitFill(StrEnum):
    """Name when a limit order fills within a bar."""

    THROUGH = "through"
    """Once the price went beyond its limit."""
    TOUCH = "touch"
    """Once the price was at its limit: as if nobody had waited there before."""


class FillSource(StrEnum):
    """Name what fills the orders of an account: one of the two, so that nothing fills twice."""

    BARS = "bars"
    """The open of a bar, and its range."""
    QUOTES = "quotes"
    """The ask for purchases, the bid for sales; bars value the positions."""


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """Hold what an order costs.

    Attributes:
        per_share: the fee for one share, as a price.
        rate: the fee as a share of what is traded: 0.001 for 0.1 percent.
        min_per_order: the least fee of an order's fills together, as money.
    """

    per_share: int = 0
    rate: Fraction = Fraction(0)
    min_per_order: int = 0

    def find_fee(self, quantity: int, price: int) -> int:
        """Return the fee of a quantity at a price, half up to cents, without the least one of an order."""
        rate = self.rate
        amount = self.per_share * quantity
        if rate:
            divisor = rate.denominator
            return round_ratio(amount * divisor + abs(quantity * price) * rate.numerator, divisor, CENT)
        return round_ratio(amount, 1, CENT) if amount else 0


@dataclass(frozen=True, slots=True)
class Instrument:
    """Hold the rules of trading one symbol: `tick` is a price, `lot` a quantity."""

    tick: int
    lot: int
    fee: FeeSchedule = FeeSchedule()


@dataclass(frozen=True, slots=True)
class AccountRules:
    """Hold the rules of an account.

    Attributes:
        cash: the money at the start.
        leverage: how many times its equity the positions of a margin account may be worth; None: a cash
            account, which neither borrows nor is short.
        limit_fill: when limit orders fill within a bar.
        volume_share: the share of a bar's volume that may be ours at the most; None: any.
        borrow_rate: what a short position costs for a year, as a share of its value.
        slippage: what market and stop orders pay more than the price that they find, as a share of it: 0.0005
            for 5 basis points.
        slippage_ticks: the same in ticks of the instrument, added to it.
        fills_by: whether bars or quotes fill orders.
    """

    cash: int
    leverage: Fraction | None = None
    limit_fill: LimitFill = LimitFill.THROUGH
    volume_share: Fraction | None = None
    borrow_rate: Fraction = Fraction(0)
    slippage: Fraction = Fraction(0)
    slippage_ticks: int = 0
    fills_by: FillSource = FillSource.BARS


@dataclass(frozen=True, slots=True)
class PriceBar:
    """Hold a bar that trades from `start_ms` until `end_ms`, its real close.

    `volume` is a quantity: with 0 nothing fills, None is unknown and limits nothing.
    """

    symbol: str
    start_ms: int
    end_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """Hold what was bid and asked at `at_ms`: prices, None for a side that nobody offers.

    The sizes are quantities: with 0 nothing fills on that side, None is unknown and limits nothing.
    """

    symbol: str
    at_ms: int
    bid: int | None
    ask: int | None
    bid_size: int | None = None
    ask_size: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """Hold an order that was decided at `decided_ms`.

    Attributes:
        side: None for an order with a target, whose side follows from the position at its decision.
        quantity: how much to buy or sell; None for an order with a target.
        target: the share of the equity that the position is to be worth, 0.5 for half of it, below 0 for a
            short one.
        price: the limit or the stop; None for a market order.
        expires_ms: the close of the session of a DAY order; None for others.
        parent: the id of the order with whose fill this one begins to live.
        oco: the name of a group of orders of which the first fill ends the others.
    """

    id: str
    symbol: str
    decided_ms: int
    side: Side | None
    type: OrderType
    quantity: int | None = None
    target: Fraction | None = None
    price: int | None = None
    tif: TimeInForce = TimeInForce.GTC
    expires_ms: int | None = None
    parent: str | None = None
    oco: str | None = None


class Fill(NamedTuple):
    """Hold what was bought or sold within the bar that begins at `at_ms`; `fee` is money."""

    order: str
    symbol: str
    at_ms: int
    side: Side
    quantity: int
    price: int
    fee: int


@dataclass(frozen=True, slots=True)
class OrderRefusal:
    """Hold why an order, or the rest of it, was ended without a fill."""

    order: str
    at_ms: int
    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class ShareSplit:
    """Hold a split before the open at `at_ms`: `old` shares become `new` ones."""

    symbol: str
    at_ms: int
    new: int
    old: int

    @property
    def ratio(self) -> Fraction:
        return Fraction(self.new, self.old)


@dataclass(frozen=True, slots=True)
class CashDividend:
    """Hold a dividend before the open at `at_ms`: `per_share` is a price, which short positions pay."""

    symbol: str
    at_ms: int
    per_share: int


AccountAction = ShareSplit | CashDividend
