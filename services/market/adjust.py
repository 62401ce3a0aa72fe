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

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import accumulate
from math import isfinite
from operator import mul
from typing import Any, Final, NamedTuple

import numpy as np

from services.market.records import ActionKind, Adjustment, Bar, CorporateAction

Array = np.ndarray[Any, np.dtype[np.float64]]
Ordinals = np.ndarray[Any, np.dtype[np.int64]]

DIGITS: Final = 12
CLOSE_DAYS: Final = 14
"""How many calendar days before an ex-day the last close before it may be: markets close for up to ten."""


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
    """Hold what puts bars on another basis, a number for each of them.

    Attributes:
        multiplier: the shares that one new share stands for, at least 1.
        divisor: the new shares that one share stands for, at least 1; one of the two is 1.
        kept: the share of the price that dividends leave; above 1 where they are taken back.
    """

    multiplier: Array
    divisor: Array
    kept: Array

    def adjust_prices(self, prices: Array) -> Array:
        return _round_changed(prices, prices * self.multiplier / self.divisor * self.kept)

    def adjust_volumes(self, volumes: Array) -> Array:
        return _round_changed(volumes, volumes * self.divisor / self.multiplier)


class _Steps:
    """Hold the product of the factors of one kind of action over time."""

    def __init__(self, factors: Mapping[date, float]) -> None:
        days = sorted(factors)
        self._days: Ordinals = np.array([day.toordinal() for day in days], dtype=np.int64)
        self._products: Array = np.array(list(accumulate((factors[day] for day in days), mul, initial=1.0)))

    @property
    def is_empty(self) -> bool:
        return not len(self._days)

    def find_products(self, days: Ordinals) -> Array:
        """Return for each day the product of the factors whose ex-day is that day or earlier."""
        found: Array = self._products[np.searchsorted(self._days, days, side="right")]
        return found


class Adjuster:
    """Put bars of one symbol on another basis, by the actions that are known of it.

    Actions that can't be are left out: a ratio or an amount that is not positive, a dividend that is not
    below the close. So is a dividend without a close within the CLOSE_DAYS before its ex-day: nothing says by
    how much it changed the price. `left_out` has these.

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

    def find_factors(self, days: Sequence[date], given: Sequence[PriceBasis], wanted: PriceBasis) -> Factors:
        """Return what puts bars of trading `days`, each given on its own basis, on the `wanted` basis."""
        own: Ordinals = np.array([day.toordinal() for day in days], dtype=np.int64)
        upto: Ordinals = np.array([basis.day.toordinal() for basis in given], dtype=np.int64)
        is_split = np.array([basis.adjustment is not Adjustment.RAW for basis in given], dtype=bool)
        is_all = np.array([basis.adjustment is Adjustment.ALL for basis in given], dtype=bool)
        given_upto = np.maximum(own, upto)
        wanted_upto = np.maximum(own, wanted.day.toordinal())
        before = self._splits.find_products(np.where(is_split, given_upto, own))
        after = self._splits.find_products(own if wanted.adjustment is Adjustment.RAW else wanted_upto)
        kept_before = self._dividends.find_products(np.where(is_all, given_upto, own))
        kept_after = self._dividends.find_products(
            wanted_upto if wanted.adjustment is Adjustment.ALL else own
        )
        return Factors(
            np.maximum(before / after, 1.0), np.maximum(after / before, 1.0), kept_after / kept_before
        )

    def adjust_bars(
        self, bars: Sequence[Bar], days: Sequence[date], given: Sequence[PriceBasis], wanted: PriceBasis
    ) -> list[Bar]:
        """Return bars on the `wanted` basis: prices, vwap and volume; the number of trades stays."""
        if self.is_empty or not bars:
            return list(bars)
        factors = self.find_factors(days, given, wanted)
        prices = [[bar.open, bar.high, bar.low, bar.close, _to_nan(bar.vwap)] for bar in bars]
        columns = [factors.adjust_prices(column) for column in np.array(prices, dtype=np.float64).T]
        volumes = factors.adjust_volumes(np.array([_to_nan(bar.volume) for bar in bars]))
        rows = zip(*(column.tolist() for column in (*columns, volumes)), strict=True)
        return [
            replace(
                bar,
                open=row[0],
                high=row[1],
                low=row[2],
                close=row[3],
                vwap=None if bar.vwap is None else row[4],
                volume=None if bar.volume is None else row[5],
            )
            for bar, row in zip(bars, rows, strict=True)
        ]


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
            first, last = splits.find_products(
                np.array([day.toordinal(), max(day, basis.day).toordinal()], dtype=np.int64)
            ).tolist()
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


def _round_changed(before: Array, after: Array) -> Array:
    """Return `after`, rounded to DIGITS digits where it differs from `before`."""
    size = np.abs(after)
    digits = DIGITS - np.ceil(np.log10(np.where(size > 0, size, 1.0)))  # NaN stays NaN
    scale = 10.0 ** np.clip(digits, -DIGITS, 22)  # powers of ten that a float holds exactly
    return np.where(after == before, before, np.round(after * scale) / scale)


def _to_nan(number: float | None) -> float:
    return float("nan") if number is None else number
