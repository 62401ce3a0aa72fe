"""Keep an account's books: cash, positions at cost and at market, and what was earned and paid. Pure.

After each entry the books are balanced: cash and positions at market are what was there at the start, plus
realised and unrealised gains and dividends, less fees and borrowing. Unrealised is the value of the positions
less their cost, so with the value taken from both sides it reads: cash and cost are what was there at the
start, plus realised gains and dividends, less fees and borrowing. The totals are carried forward, so the
check costs the same with one position as with thousands; `check_totals` holds them against the single
positions. A ledger that is out of balance raises LedgerError, in production too: nothing may be decided on
it.
"""

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
            before either; after a split an exact share of one, until the next close.
        marked_ms: when that close was.
    """

    quantity: int = 0
    cost: int = 0
    mark: int | Fraction | None = None
    marked_ms: int | None = None

    @property
    def value(self) -> int:
        return _value_at(self.quantity, self.mark)


@dataclass(slots=True)
class Ledger:
    """Hold the books.

    `value` is that of all positions at market, `below_zero` that of those that are worth less than nothing
    (short ones, as a rule), `cost` their cost, and `settled` is what cash and cost must be together: start,
    realised gains and dividends, less fees and borrowing.
    """

    start: int
    cash: int
    holdings: dict[str, Holding] = field(default_factory=dict)
    value: int = 0
    below_zero: int = 0
    cost: int = 0
    realised: int = 0
    fees: int = 0
    borrow: int = 0
    dividends: int = 0
    settled: int = field(init=False)

    def __post_init__(self) -> None:
        self.settled = self.start

    @property
    def equity(self) -> int:
        return self.cash + self.value

    @property
    def gross(self) -> int:
        """The values of all positions at market without their signs, as a sum."""
        return self.value - 2 * self.below_zero

    @property
    def unrealised(self) -> int:
        return self.value - self.cost

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
        closed = 0
        cost = held.cost
        if held.quantity * quantity < 0:
            closed = min(abs(quantity), abs(held.quantity)) * (1 if quantity > 0 else -1)
            removed = _share_of(cost, -closed, held.quantity)
            self.realised -= closed * price + removed
            cost -= removed
        opened = quantity - closed
        mark = price if held.mark is None else held.mark
        self._carry(held, held.quantity + quantity, cost + opened * price, mark)
        self._settle()

    def book_close(self, held: Holding, bar: PriceBar, borrow_rate: Fraction | None) -> None:
        """Value a position at the close of a bar; a short one pays for the days since the close before.

        At the close of a bar without volume nobody traded: the value stays that of the close before.
        """
        if bar.volume == 0:
            return
        price = bar.close
        if quantity := held.quantity:
            if quantity < 0 and borrow_rate is not None:
                self._book_borrow(held, bar.end_ms, borrow_rate)
            mark = held.mark
            if isinstance(mark, int):
                self.value += quantity * (price - mark)
            else:
                self.value += quantity * price - held.value
            if quantity < 0 or price < 0 or (mark or 0) < 0:
                self.below_zero += min(0, quantity * price) - min(0, held.value)
        held.mark = price
        held.marked_ms = bar.end_ms
        if self.cash + self.cost != self.settled:
            self._raise()

    def _book_borrow(self, held: Holding, at_ms: int, rate: Fraction) -> None:
        if held.mark is None or held.marked_ms is None:
            return
        days = at_ms // DAY_MS - held.marked_ms // DAY_MS  # of dates in UTC
        due = round_half_up(-held.quantity * held.mark * days * rate / 365, CENT)
        self.cash -= due
        self.borrow += due
        self._settle()

    def book_split(self, symbol: str, ratio: Fraction, lot: int) -> None:
        """Book a split: whole lots stay, and the part below a lot is paid at the last mark, by the ratio."""
        held = self.holding_of(symbol)
        if held.mark is not None:
            exact_mark, exact = Fraction(held.mark) / ratio, held.quantity * ratio
            kept, cost = floor_to_lot(exact, lot), held.cost
            if exact != kept:
                paid = round_half_up((exact - kept) * exact_mark, CENT)
                cost = round(cost * Fraction(kept) / exact)
                self.cash += paid
                self.realised += paid - (held.cost - cost)
            mark = exact_mark.numerator if exact_mark.denominator == 1 else exact_mark
            self._carry(held, kept, cost, mark)
        self._settle()

    def book_dividend(self, symbol: str, per_share: int) -> None:
        """Book a dividend, which a short position pays."""
        paid = self.holding_of(symbol).quantity * per_share
        self.cash += paid
        self.dividends += paid
        self._settle()

    def _carry(self, held: Holding, quantity: int, cost: int, mark: int | Fraction) -> None:
        """Change a position, and carry it over to the totals."""
        before, value = held.value, _value_at(quantity, mark)
        self.value += value - before
        self.below_zero += min(0, value) - min(0, before)
        self.cost += cost - held.cost
        held.quantity, held.cost, held.mark = quantity, cost, mark
        if cost and not quantity:
            raise LedgerError(f"a position of nothing cost {cost} units of money")

    def _settle(self) -> None:
        """Check that the books are balanced after an entry other than a close."""
        self.settled = self.start + self.realised + self.dividends - self.fees - self.borrow
        if self.cash + self.cost != self.settled:
            self._raise()

    def _raise(self) -> None:
        raise LedgerError(f"out of balance by {self.cash + self.cost - self.settled} units of money")

    def check_totals(self) -> None:
        """Raise LedgerError if the totals are not those of the positions, or the books are out of balance."""
        held = self.holdings.values()
        values = [each.value for each in held]
        totals = (sum(values), sum(map(abs, values)), sum(each.cost for each in held))
        if (self.value, self.gross, self.cost) != totals:
            raise LedgerError("the totals are not those of the positions")
        self._settle()


def _value_at(quantity: int, mark: int | Fraction | None) -> int:
    """Return a position's value, rounded to a unit of money where a split left a share of a price."""
    return quantity * mark if isinstance(mark, int) else round(quantity * (mark or 0))


def _share_of(amount: int, part: int, whole: int) -> int:
    """Return the share of an amount, rounded to a unit of money; all of it for the whole."""
    return amount if part == whole else round(Fraction(amount * part, whole))
