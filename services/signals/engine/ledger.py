"""Keep an account's books: cash, positions at cost and at market, and what was earned and paid. Pure.

After each entry the books are balanced: cash and positions at market are what was there at the start, plus
realised and unrealised gains and dividends, less fees and borrowing. Both sides are carried forward on their
own (the value by quantity and price, the unrealised gain by how far the price went), so the check costs the same
with one position as with thousands. A ledger that is out of balance raises LedgerError, in production too:
nothing may be decided on it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from services.signals.engine.orders import PriceBar
from services.signals.engine.units import CENT, floor_to_lot, round_half_up

DAY_MS = 86_400_000


class LedgerError(AssertionError):
    """The books are out of balance: a defect of the engine."""


@dataclass(slots=True)
class Holding:
    """Hold the position in one symbol; a short one has a quantity and a cost below 0.

    Attributes:
        cost: the money that was paid for it, without fees.
        mark: the price at which it is valued: the last close, or what was paid before the first one. None
            before either.
        marked_ms: when that close was.
        value: the quantity at the mark, as money.
    """

    quantity: int = 0
    cost: int = 0
    mark: int | None = None
    marked_ms: int | None = None
    value: int = 0


@dataclass(slots=True)
class Ledger:
    """Hold the books.

    `value` and `gross` are those of all positions at market, `cost` their cost, and `settled` is what the
    cash would be if they had been bought for nothing: start, realised gains and dividends, less fees and
    borrowing.
    """

    start: int
    cash: int
    holdings: dict[str, Holding] = field(default_factory=dict)
    value: int = 0
    gross: int = 0
    cost: int = 0
    realised: int = 0
    unrealised: int = 0
    fees: int = 0
    borrow: int = 0
    dividends: int = 0
    settled: int = field(init=False)

    def __post_init__(self) -> None:
        self.settled = self.start

    @property
    def equity(self) -> int:
        return self.cash + self.value

    def holding_of(self, symbol: str) -> Holding:
        """Return the position in a symbol, which is entered with nothing if it is new."""
        held = self.holdings.get(symbol)
        if held is None:
            held = self.holdings[symbol] = Holding()
        return held

    def book_fill(self, symbol: str, quantity: int, price: int, fee: int) -> None:
        """Book a purchase of `quantity`, or a sale if it is below 0, and its fee."""
        held = self.holding_of(symbol)
        self.cash -= quantity * price + fee
        self.fees += fee
        if held.mark is None:
            held.mark = price
        closed = 0
        cost = held.cost
        if held.quantity * quantity < 0:
            closed = min(abs(quantity), abs(held.quantity)) * (1 if quantity > 0 else -1)
            removed = _share_of(cost, -closed, held.quantity)
            self.realised -= closed * price + removed
            self.unrealised += closed * held.mark + removed
            cost -= removed
        opened = quantity - closed
        self.unrealised += opened * (held.mark - price)
        self._carry(held, held.quantity + quantity, cost + opened * price)
        self._settle()

    def book_closes(self, bars: Iterable[PriceBar], at_ms: int, borrow_rate: Fraction) -> None:
        """Value the positions at the close of these bars; short ones pay for the days since the one before."""
        holdings = self.holdings
        for bar in bars:
            held = holdings.get(bar.symbol)
            if held is None:
                held = holdings[bar.symbol] = Holding()
            price = bar.close
            quantity = held.quantity
            if quantity:
                mark = held.mark
                if quantity < 0 and borrow_rate:
                    self._book_borrow(held, at_ms, borrow_rate)
                value = quantity * price
                self.value += value - held.value
                self.gross += abs(value) - abs(held.value)
                self.unrealised += quantity * (price - mark)  # type: ignore[operator]  # what is held has a mark
                held.value = value
            held.mark = price
            held.marked_ms = at_ms
        if self.cash + self.value != self.settled + self.unrealised:
            self._raise()

    def _book_borrow(self, held: Holding, at_ms: int, rate: Fraction) -> None:
        if held.mark is None or held.marked_ms is None:
            return
        days = at_ms // DAY_MS - held.marked_ms // DAY_MS  # of dates in UTC
        due = round_half_up(Fraction(-held.quantity * held.mark * days, 365) * rate, CENT)
        self.cash -= due
        self.borrow += due
        self._settle()

    def book_split(self, symbol: str, ratio: Fraction, lot: int) -> None:
        """Book a split: whole lots stay, and the part below a lot is paid at the last mark, by the ratio."""
        held = self.holding_of(symbol)
        if held.mark is not None:
            exact_mark, exact = held.mark / ratio, held.quantity * ratio
            kept, cost, gain = floor_to_lot(exact, lot), held.cost, held.value - held.cost
            if exact != kept:
                paid = round_half_up((exact - kept) * exact_mark, CENT)
                cost = round(cost * Fraction(kept) / exact)
                self.cash += paid
                self.realised += paid - (held.cost - cost)
            held.mark = round(exact_mark)
            self._carry(held, kept, cost)
            self.unrealised += held.value - held.cost - gain
        self._settle()

    def book_dividend(self, symbol: str, per_share: int) -> None:
        """Book a dividend, which a short position pays."""
        paid = self.holding_of(symbol).quantity * per_share
        self.cash += paid
        self.dividends += paid
        self._settle()

    def _carry(self, held: Holding, quantity: int, cost: int) -> None:
        """Change a position, and carry it over to the totals."""
        value = quantity * held.mark if held.mark is not None else 0
        self.value += value - held.value
        self.gross += abs(value) - abs(held.value)
        self.cost += cost - held.cost
        held.quantity, held.cost, held.value = quantity, cost, value
        if not quantity and cost:
            raise LedgerError(f"a position of nothing cost {cost} units")

    def _settle(self) -> None:
        """Check that the books are balanced after an entry other than a close."""
        self.settled = self.start + self.realised + self.dividends - self.fees - self.borrow
        if self.cash + self.value != self.settled + self.unrealised:
            self._raise()

    def _raise(self) -> None:
        raise LedgerError(f"out of balance by {self.equity - self.settled - self.unrealised} units of money")

    def check_totals(self) -> None:
        """Raise LedgerError if the totals are not those of the single positions."""
        held = self.holdings.values()
        values = [each.quantity * each.mark if each.mark is not None else 0 for each in held]
        totals = (sum(values), sum(map(abs, values)), sum(each.cost for each in held))
        if (self.value, self.gross, self.cost) != totals or self.unrealised != totals[0] - totals[2]:
            raise LedgerError("the totals are not those of the positions")


def _share_of(amount: int, part: int, whole: int) -> int:
    """Return the share of an amount, rounded to a unit of money; all of it for the whole."""
    return amount if part == whole else round(Fraction(amount * part, whole))
