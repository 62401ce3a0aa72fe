"""Keep an account's books: cash, positions at cost and at market, and what was earned and paid. Pure.

After each entry the books are balanced: cash and positions at market are what was there at the start, plus
realised and unrealised gains and dividends, less fees and borrowing. A ledger that is out of balance raises
LedgerError, in production too: nothing may be decided on it.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

from services.signals.engine.units import CENT, floor_to_lot, round_half_up


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
    """

    quantity: int = 0
    cost: int = 0
    mark: int | None = None
    marked_ms: int | None = None

    @property
    def value(self) -> int:
        return self.quantity * self.mark if self.mark is not None else 0


@dataclass(slots=True)
class Ledger:
    """Hold the books. `value` and `gross` are those of all positions at market, `cost` their cost."""

    start: int
    cash: int
    holdings: dict[str, Holding] = field(default_factory=dict)
    value: int = 0
    gross: int = 0
    cost: int = 0
    realised: int = 0
    fees: int = 0
    borrow: int = 0
    dividends: int = 0

    @property
    def equity(self) -> int:
        return self.cash + self.value

    @property
    def unrealised(self) -> int:
        return self.value - self.cost

    def holding_of(self, symbol: str) -> Holding:
        """Return the position in a symbol, which is entered with nothing if it is new."""
        return self.holdings.setdefault(symbol, Holding())

    def book_fill(self, symbol: str, quantity: int, price: int, fee: int) -> None:
        """Book a purchase of `quantity`, or a sale if it is below 0, and its fee."""
        held = self.holding_of(symbol)
        before = _balance(held)
        traded = quantity * price
        self.cash -= traded + fee
        self.fees += fee
        if held.mark is None:
            held.mark = price
        closed = 0
        if held.quantity * quantity < 0:
            closed = min(abs(quantity), abs(held.quantity)) * (1 if quantity > 0 else -1)
            removed = _share_of(held.cost, -closed, held.quantity)
            self.realised -= closed * price + removed
            held.cost -= removed
        held.cost += (quantity - closed) * price
        held.quantity += quantity
        self._settle(held, before)

    def book_close(self, symbol: str, price: int, at_ms: int, borrow_rate: Fraction) -> None:
        """Book what a short position costs since the close before, and value the position at this close."""
        held = self.holding_of(symbol)
        before = _balance(held)
        if held.quantity < 0 and held.mark is not None and held.marked_ms is not None:
            days = _count_days(held.marked_ms, at_ms)
            due = round_half_up(Fraction(-held.quantity * held.mark * days, 365) * borrow_rate, CENT)
            self.cash -= due
            self.borrow += due
        held.mark, held.marked_ms = price, at_ms
        self._settle(held, before)

    def book_split(self, symbol: str, ratio: Fraction, lot: int) -> None:
        """Book a split: whole lots stay, and the part below a lot is paid at the last mark, by the ratio."""
        held = self.holding_of(symbol)
        before = _balance(held)
        if held.mark is not None:
            exact_mark, exact = held.mark / ratio, held.quantity * ratio
            kept = floor_to_lot(exact, lot)
            if exact != kept:
                paid = round_half_up((exact - kept) * exact_mark, CENT)
                removed = held.cost - round(held.cost * Fraction(kept) / exact)
                self.cash += paid
                self.realised += paid - removed
                held.cost -= removed
            held.quantity, held.mark = kept, round(exact_mark)
        self._settle(held, before)

    def book_dividend(self, symbol: str, per_share: int) -> None:
        """Book a dividend, which a short position pays."""
        held = self.holding_of(symbol)
        paid = held.quantity * per_share
        self.cash += paid
        self.dividends += paid
        self._settle(held, _balance(held))

    def _settle(self, held: Holding, before: tuple[int, int]) -> None:
        """Carry a changed position over to the totals, and check that the books are balanced."""
        value, cost = _balance(held)
        self.value += value - before[0]
        self.gross += abs(value) - abs(before[0])
        self.cost += cost - before[1]
        earned = self.realised + self.unrealised + self.dividends - self.fees - self.borrow
        if self.equity != self.start + earned or (not held.quantity and held.cost):
            raise LedgerError(f"out of balance by {self.equity - self.start - earned} units")

    def check_totals(self) -> None:
        """Raise LedgerError if the totals are not those of the single positions."""
        held = self.holdings.values()
        totals = (sum(each.value for each in held), sum(abs(each.value) for each in held))
        if (self.value, self.gross) != totals or self.cost != sum(each.cost for each in held):
            raise LedgerError("the totals are not those of the positions")


def _balance(held: Holding) -> tuple[int, int]:
    return held.value, held.cost


def _share_of(amount: int, part: int, whole: int) -> int:
    """Return the share of an amount, rounded to a unit of money; all of it for the whole."""
    return amount if part == whole else round(Fraction(amount * part, whole))


def _count_days(since_ms: int, until_ms: int) -> int:
    """Return the days between the dates, in UTC, of two times."""
    since, until = (datetime.fromtimestamp(ms / 1000, UTC).date() for ms in (since_ms, until_ms))
    return (until - since).days
