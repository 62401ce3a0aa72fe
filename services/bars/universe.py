"""Compare the symbols of a universe: shares, spread, ranks and correlations. Pure.

`groups` says of each value to which group it belongs: that of all bars of one start. Sums run in the order of
the values.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from services.bars.windows import Array, Positions

MIN_COMMON_DAYS: Final = 20
"""Two symbols with fewer days in common have no correlation."""
_NO_SPREAD: Final = 1e-18
"""Returns that vary less than this are those of a price that stands still."""


class Correlation(NamedTuple):
    """Hold the correlation of two symbols' daily returns, and over how many days it was taken."""

    value: float
    days: int


def find_share(groups: Positions, values: Array, flags: np.ndarray[Any, np.dtype[np.bool_]]) -> Array:
    """Return for each value the share of flags in its group, of those that have a value; two at least."""
    known = np.isfinite(values)
    total = int(groups.max(initial=-1)) + 1
    counts = np.bincount(groups[known], minlength=total)
    raised = np.bincount(groups[known & flags], minlength=total)
    return np.where(counts > 1, raised / counts, math.nan)[groups]


def find_dispersion(groups: Positions, values: Array) -> Array:
    """Return for each value the standard deviation of its group's values; of two at least."""
    known = np.isfinite(values)
    total = int(groups.max(initial=-1)) + 1
    counts = np.bincount(groups[known], minlength=total)
    means = np.bincount(groups[known], values[known], minlength=total) / counts
    squares = np.square(values[known] - means[groups[known]])
    sums = np.bincount(groups[known], squares, minlength=total)
    return np.where(counts > 1, np.sqrt(sums / (counts - 1)), math.nan)[groups]


def find_ranks(groups: Positions, values: Array) -> Array:
    """Return for each value its rank in its group, from 0 to 1 for the greatest; equals share theirs."""
    ranks = np.full(len(values), math.nan)
    known = np.flatnonzero(np.isfinite(values))
    known = known[np.argsort(groups[known], kind="stable")]
    edges = np.flatnonzero(np.diff(groups[known])) + 1
    for members in np.split(known, edges):
        if len(members) > 1:
            own = values[members]
            ordered = np.sort(own)
            below = np.searchsorted(ordered, own, "left")
            equal = np.searchsorted(ordered, own, "right") - below
            ranks[members] = (below + (equal - 1) / 2) / (len(members) - 1)
    return ranks


def correlate_pairs(symbols: Sequence[str], returns: Array) -> dict[tuple[str, str], Correlation]:
    """Return the correlations of each two rows over the columns that both have."""
    known = np.isfinite(returns).astype(np.float64)
    # by each row's own mean first: of what is far from 0, differences of squares would keep few digits
    centre = np.where(known > 0, returns, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    values = np.where(known > 0, returns - centre[:, None], 0.0)
    squares = np.square(values)
    days = known @ known.T
    sums = values @ known.T  # of the first over the days in common; transposed, of the second
    with np.errstate(all="ignore"):
        spread = days * (squares @ known.T) - np.square(sums)
        scale = np.sqrt(spread) * np.sqrt(spread.T)
        found = np.clip((days * (values @ values.T) - sums * sums.T) / scale, -1.0, 1.0)
    usable = (days >= MIN_COMMON_DAYS) & np.isfinite(found) & (spread > _NO_SPREAD) & (spread.T > _NO_SPREAD)
    first, second = np.nonzero(np.triu(usable, 1))
    return {
        (symbols[a], symbols[b]): Correlation(float(found[a, b]), int(days[a, b]))
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
    }
