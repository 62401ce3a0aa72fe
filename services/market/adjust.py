"""Adjust prices and volumes for splits and dividends, or take an adjustment back. Pure.

A source gives each bar on some basis: as it was traded, or as if the splits (and dividends) up to the day of
its answer had happened before. A bar of day D that was given on day A for splits contains those whose ex-day
is in `(D, A]`; one that was given raw contains none. So any bar can be put on any other basis, and bars of
several sources, or of one source before and after a split, become one series.

- A split of `ratio` new shares for one divides the prices before its ex-day, and multiplies the volumes.
- A dividend of `amount` multiplies the prices before its ex-day by `1 - amount / close`, in which `close` is
  the raw close of the day before. Volumes stay. The dividends of one ex-day are added first.

Where the basis of a bar is the wanted one, its numbers stay the same to the last bit. Others are rounded to
DIGITS digits, which prices don't have: a tenth of 1197.70 is 119.77, and ten times that is 1197.70 again.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import accumulate
from math import ceil, isfinite, log10
from operator import mul
from typing import Final, NamedTuple

from services.market.records import ActionKind, Adjustment, Bar, CorporateAction

DIGITS: Final = 12
CLOSE_DAYS: Final = 14
"""How many calendar days before an ex-day the last close before it may be: markets close for up to ten."""
_SPLITS: Final = frozenset({Adjustment.SPLITS, Adjustment.ALL})
_DIVIDENDS: Final = frozenset({Adjustment.ALL})


class PriceBasis(NamedTuple):
    """Say which actions are in a price: those after the day of its bar, up to `day`, by `adjustment`."""

    adjustment: Adjustment = Adjustment.RAW
    day: date = date.min


AS_TRADED: Final = PriceBasis()
"""The basis of raw prices, whenever they were given."""


class GivenClose(NamedTuple):
    """Hold the close of a trading day, and its basis."""

    day: date
    close: float
    basis: PriceBasis = AS_TRADED


@dataclass(frozen=True, slots=True)
class Factors:
    """Hold what puts a bar on another basis.

    Attributes:
        multiplier: the shares that one new share stands for, at least 1.
        divisor: the new shares that one share stands for, at least 1; one of the two is 1.
        kept: the share of the price that dividends leave; above 1 where they are taken back.
    """

    multiplier: float = 1.0
    divisor: float = 1.0
    kept: float = 1.0

    def adjust_price(self, price: float) -> float:
        return _round_changed(price, price * self.multiplier / self.divisor * self.kept)

    def adjust_volume(self, volume: float) -> float:
        return _round_changed(volume, volume * self.divisor / self.multiplier)


class _Steps:
    """Hold the product of the factors of one kind of action over time."""

    def __init__(self, factors: Mapping[date, float]) -> None:
        days = sorted(factors)
        self._days = [day.toordinal() for day in days]
        self._products = list(accumulate((factors[day] for day in days), mul, initial=1.0))

    @property
    def is_empty(self) -> bool:
        return not len(self._days)

    def find_product(self, day: date) -> float:
        """Return the product of the factors whose ex-day is this day or earlier."""
        return self._products[bisect_right(self._days, day.toordinal())]


class Adjuster:
    """Put bars of one symbol on another basis, by the actions that are known of it.

    Actions that can't be are left out: a ratio or an amount that is not positive, a dividend that is not
    below the close. So is a dividend without a close within the CLOSE_DAYS before its ex-day: nothing says by
    how much it changed the price. And so are all spin-offs, mergers and rights: no source says what was given
    was worth, so the price falls by it, and no return says otherwise. `left_out` has these.

    Args:
        actions: in any order; the same one twice counts once.
        closes: of the trading days before ex-days, in any order, to which dividends are compared.
    """

    def __init__(self, actions: Iterable[CorporateAction], closes: Iterable[GivenClose] = ()) -> None:
        ratios: dict[date, float] = {}
        amounts: dict[date, float] = {}
        left_out: list[CorporateAction] = []
        known = sorted(set(actions), key=_order)
        for action in known:
            if action.kind is ActionKind.SPLIT and (ratio := _read_positive(action.ratio)):
                ratios[action.ex_day] = ratios.get(action.ex_day, 1.0) * ratio
            elif action.kind is ActionKind.DIVIDEND and (amount := _read_positive(action.amount)):
                amounts[action.ex_day] = amounts.get(action.ex_day, 0.0) + amount
            elif action.kind is not ActionKind.RENAME:
                left_out.append(action)
        self._splits = _Steps({day: ratio for day, ratio in ratios.items() if ratio != 1.0})
        kept = _find_kept(amounts, self._splits, sorted(closes))
        self._dividends = _Steps(kept)
        lacking = amounts.keys() - kept.keys()
        left_out += [each for each in known if each.kind is ActionKind.DIVIDEND and each.ex_day in lacking]
        self.left_out: Sequence[CorporateAction] = tuple(sorted(set(left_out), key=_order))

    @property
    def is_empty(self) -> bool:
        """True if there is no action that changes a price."""
        return self._splits.is_empty and self._dividends.is_empty

    def find_factors(self, day: date, given: PriceBasis, wanted: PriceBasis) -> Factors:
        """Return what puts a bar of a trading day, given on one basis, on the `wanted` basis."""
        before, after = (
            self._splits.find_product(_find_upto(day, each, _SPLITS)) for each in (given, wanted)
        )
        kept_before, kept_after = (
            self._dividends.find_product(_find_upto(day, each, _DIVIDENDS)) for each in (given, wanted)
        )
        return Factors(max(before / after, 1.0), max(after / before, 1.0), kept_after / kept_before)

    def adjust_bars(
        self, bars: Sequence[Bar], days: Sequence[date], given: Sequence[PriceBasis], wanted: PriceBasis
    ) -> list[Bar]:
        """Return bars on the `wanted` basis: prices, vwap and volume; the number of trades stays."""
        if self.is_empty:
            return list(bars)
        return [
            _adjust_bar(bar, self.find_factors(day, basis, wanted))
            for bar, day, basis in zip(bars, days, given, strict=True)
        ]


def _adjust_bar(bar: Bar, factors: Factors) -> Bar:
    price = factors.adjust_price
    return replace(
        bar,
        open=price(bar.open),
        high=price(bar.high),
        low=price(bar.low),
        close=price(bar.close),
        vwap=None if bar.vwap is None else price(bar.vwap),
        volume=None if bar.volume is None else factors.adjust_volume(bar.volume),
    )


def _find_upto(day: date, basis: PriceBasis, counted: frozenset[Adjustment]) -> date:
    """Return up to which day the actions of one kind are in a bar of this basis."""
    return max(day, basis.day) if basis.adjustment in counted else day


def _find_kept(
    amounts: Mapping[date, float], splits: _Steps, closes: Sequence[GivenClose]
) -> dict[date, float]:
    """Return which share of the price the dividends of each ex-day leave; those without a close are absent.

    From the newest to the oldest: a close that is adjusted for later dividends is made raw by their shares.
    """
    days = [close.day for close in closes]
    kept: dict[date, float] = {}
    for ex_day in sorted(amounts, reverse=True):
        place = bisect_left(days, ex_day) - 1
        if place < 0 or (ex_day - days[place]).days > CLOSE_DAYS:
            continue
        amount, (day, close, basis) = amounts[ex_day], closes[place]
        contained = basis.day if basis.adjustment is Adjustment.ALL else date.min
        if basis.adjustment is not Adjustment.RAW:
            first, last = splits.find_product(day), splits.find_product(max(day, basis.day))
            close = close * last / first
        for later, share in kept.items():
            if later <= contained:
                close /= share
        if ex_day <= contained:  # the close was lowered by this dividend itself
            close += amount
        if isfinite(close) and amount < close:
            kept[ex_day] = 1.0 - amount / close
    return kept


def _order(action: CorporateAction) -> tuple[date, str, float, float]:
    return action.ex_day, action.kind.value, action.ratio or 0.0, action.amount or 0.0


def _read_positive(number: float | None) -> float | None:
    return number if number is not None and isfinite(number) and number > 0 else None


def _round_changed(before: float, after: float) -> float:
    """Return `after`, rounded to DIGITS digits unless it is `before`."""
    if after == before or not after or not isfinite(after):
        return after
    return round(after, DIGITS - ceil(log10(abs(after))))
