"""Tell a bar that was corrected from one that was only restated, for another split or dividend. Pure.

A source that adjusts its bars divides its whole past at a split, and gives it again. That corrects nothing,
so these bars stay known since when they were. With the split known, a bar and the one before it are compared
as traded. Without it (and of dividends, which `bars` does not know) all prices of a restated bar changed by
one ratio; as traded, if it was lowered for a dividend, too. So may those of a corrected bar that has one
price only. That ratio must be proven: by the volume, which went the other way, or by another bar of the same
source that changed by it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isclose
from typing import Final

from services.bars.quality import HeldBar
from services.bars.splits import SplitView
from services.bars.state import Restated, SymbolState
from services.market.adjust import AS_TRADED
from services.market.decimals import MAX_DECIMALS, count_decimals
from services.market.records import Adjustment, Bar, Timeframe

BarKey = tuple[Timeframe, int]
"""The timeframe of a bar, and its start in epoch milliseconds."""
NEAR_SHARE: Final = 1e-6
"""How far a price that was divided may be off, as a share of it: sources compute in single precision."""
_LEAST_DECIMALS: Final = 2
"""The decimals that sources give at least: 10.0 stands for 10.00."""
_BOTH_ROUNDED: Final = 0.999
"""The share of two roundings by which numbers may differ: a whole unit of the finer one is another price."""
_MOST_BY_DIVIDENDS: Final = 2.0
"""By how much prices change at most while the volume stays. A correction of pence to pounds is by 100."""


def is_correction(before: Bar, bar: Bar) -> bool:
    """Return True if a bar has another price than one before it, or another volume, vwap or count of trades.

    That these are unknown now corrects nothing: since when the prices are known stays as it was.
    """
    if _list_prices(bar) != _list_prices(before):
        return True
    return any(
        now is not None and now != then
        for now, then in (
            (bar.volume, before.volume),
            (bar.vwap, before.vwap),
            (bar.trades, before.trades),
        )
    )


@dataclass(frozen=True, slots=True)
class _Ratio:
    """Hold between which numbers the ratio is by which all prices of a bar changed.

    `is_proven` says whether its volume changed by that ratio, too.
    """

    least: float
    most: float
    is_proven: bool


@dataclass(frozen=True, slots=True)
class _Pair:
    """Hold a bar as it was and as it is now: as given, or both as traded.

    `units` are those of the last decimals of their prices; `volume_error` is by how much their volumes as
    traded may differ and still be the same one, None if they are as given.
    """

    old: Bar
    new: Bar
    units: tuple[float, float]
    volume_error: float | None = None


class RestatementFinder:
    """Find the bars that were only restated, of those that a source gave anew."""

    def __init__(self, state: SymbolState, splits: SplitView) -> None:
        self._state, self._splits = state, splits

    def find(self, replaced: Mapping[BarKey, tuple[HeldBar, HeldBar]]) -> set[BarKey]:
        """Return which of these bars, each with the one that it replaces, correct nothing.

        `replaced` has the bars of one flush, each as before and now. The last ratio that was found is kept in
        the state: a history may be divided among flushes.
        """
        found: set[BarKey] = set()
        ratios: dict[tuple[Timeframe, str], dict[BarKey, _Ratio]] = {}
        for key, (before, held) in replaced.items():
            traded = self._pair_traded(before, held)
            if not is_correction(before.bar, held.bar) if traded is None else _is_same(traded):
                found.add(key)
            elif (ratio := _find_division(before, held, traded)) is not None:
                ratios.setdefault((key[0], held.source), {})[key] = ratio
        for (_, source), each in ratios.items():
            found |= self._find_proven(source, each)
        return found

    def _pair_traded(self, before: HeldBar, held: HeldBar) -> _Pair | None:
        """Return two bars as traded by the known splits; None if none of these lies between them."""
        if before.adjustment is held.adjustment is Adjustment.RAW:
            return None
        old, new = (self._splits.adjust([each], AS_TRADED)[0] for each in (before, held))
        factors = _find_factor(before.bar, old), _find_factor(held.bar, new)
        if isclose(*factors, rel_tol=NEAR_SHARE):
            return None
        units = (_find_unit(_list_prices(each.bar)) for each in (before, held))
        old_unit, new_unit = (unit * factor for unit, factor in zip(units, factors, strict=True))
        # as traded it is a whole number of shares
        return _Pair(old, new, (old_unit, new_unit), sum(1 / each for each in factors if each != 1) / 2)

    def _find_proven(self, source: str, ratios: Mapping[BarKey, _Ratio]) -> set[BarKey]:
        """Return the bars of one source whose ratio is that of their volumes, or of other bars."""
        known = self._state.restated
        found, highest = set[BarKey](), -inf
        ordered = sorted(ratios.items(), key=lambda item: item[1].least)
        following = [ratio.least for _, ratio in ordered[1:]] + [inf]
        for (key, ratio), next_least in zip(ordered, following, strict=True):
            is_shared = ratio.least <= highest or next_least <= ratio.most
            is_known = (
                known is not None and known.source == source and ratio.least <= known.ratio <= ratio.most
            )
            if ratio.is_proven or is_shared or is_known:
                found.add(key)
            highest = max(highest, ratio.most)
        self._note_ratio(source, (ratios[key] for key in found))
        return found

    def _note_ratio(self, source: str, ratios: Iterable[_Ratio]) -> None:
        """Keep the ratio in the state that is known best."""
        best = min(ratios, key=lambda each: (each.most - each.least) / each.most, default=None)
        if best is not None:
            self._state.restated = Restated(source, (best.least + best.most) / 2)


def _is_same(traded: _Pair) -> bool:
    """Return True if two bars are the same as traded, as far as their sources rounded them."""
    old, new, price = traded.old, traded.new, _BOTH_ROUNDED * sum(traded.units) / 2
    numbers = [*zip(_list_prices(old), _list_prices(new), strict=True)]
    return (
        all(_is_near(then, now, price) for then, now in numbers)
        and (new.vwap is None or _is_near(old.vwap, new.vwap, price))
        and (new.volume is None or _is_near(old.volume, new.volume, traded.volume_error or 0.0))
        and new.trades in (None, old.trades)
    )


def _find_division(before: HeldBar, held: HeldBar, traded: _Pair | None) -> _Ratio | None:
    """Return the ratio by which a source divided a bar since then; None if there is none.

    It may do so on any day: some hours after the ex-day began, when it was asked already, or days later.
    """
    if before.source != held.source or before.adjustment is not held.adjustment:
        return None
    if held.adjustment is Adjustment.RAW or held.seen_ms <= before.seen_ms:
        return None
    if traded is not None and (ratio := _find_ratio(traded)) is not None:
        return ratio
    units = _find_unit(_list_prices(before.bar)), _find_unit(_list_prices(held.bar))
    return _find_ratio(_Pair(before.bar, held.bar, units))


def _find_ratio(pair: _Pair) -> _Ratio | None:
    """Return the ratio by which all prices of a bar changed; None if there is none."""
    old, new = pair.old, pair.new
    pairs = [*zip(_list_prices(old), _list_prices(new), strict=True)]
    if new.vwap is not None:
        pairs.append((old.vwap or 0.0, new.vwap))
    if new.trades not in (None, old.trades) or min(map(min, pairs)) <= 0:
        return None  # of prices below 0, as commodities may have, nothing is adjusted
    least, most = 0.0, inf
    for price, after in pairs:
        lowest, highest = _find_bounds(price, pair.units[0], after, pair.units[1])
        if lowest <= 1 <= highest:  # one that stayed was not divided
            return None
        least, most = max(least, lowest), min(most, highest)
    if not 0 < least <= most < inf:  # there is none, or the prices are less than their rounding
        return None
    return _settle_by_volume(least, most, pair)


def _settle_by_volume(least: float, most: float, pair: _Pair) -> _Ratio | None:
    """Return a ratio of prices if the volume of the bar agrees with it; otherwise None."""
    before, volume, error = pair.old.volume, pair.new.volume, pair.volume_error
    is_of_dividends = least >= 1 / _MOST_BY_DIVIDENDS and most <= _MOST_BY_DIVIDENDS
    if error is not None:  # the split is taken back, so a dividend may be left
        is_unchanged = volume is None or _is_near(before, volume, error)
        return _Ratio(least, most, is_proven=False) if is_unchanged and is_of_dividends else None
    if volume is None:
        return _Ratio(least, most, is_proven=False)
    if before is None:
        return None
    rounding = 0.5 + NEAR_SHARE * volume  # to a whole number of shares
    is_divided = before / most - rounding <= volume <= before / least + rounding
    if volume == before and is_of_dividends:
        return _Ratio(least, most, is_proven=False)
    if not is_divided:
        return None
    return _Ratio(least, most, is_proven=abs(volume - before) > rounding)


def _list_prices(bar: Bar) -> tuple[float, float, float, float]:
    return bar.open, bar.high, bar.low, bar.close


def _find_factor(given: Bar, traded: Bar) -> float:
    return (traded.close / given.close if given.close else 0.0) or 1.0


def _find_unit(prices: Iterable[float]) -> float:
    """Return the unit of the last decimal that prices are given in."""
    return float(10.0 ** -min(MAX_DECIMALS, max(_LEAST_DECIMALS, *map(count_decimals, prices))))


def _find_bounds(price: float, unit: float, after: float, after_unit: float) -> tuple[float, float]:
    """Return the least and the highest ratio of a price to one before it, both rounded to their units."""
    error, after_error = (unit + NEAR_SHARE * price) / 2, (after_unit + NEAR_SHARE * after) / 2
    highest = (after + after_error) / (price - error) if price > error else inf
    return max(0.0, after - after_error) / (price + error), highest


def _is_near(then: float | None, now: float, rounding: float) -> bool:
    return then is not None and abs(now - then) <= NEAR_SHARE * max(abs(now), abs(then)) + rounding
