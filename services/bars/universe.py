"""Compare the symbols of a universe: shares, spread and ranks. Pure.

`groups` says of each value to which group it belongs: that of all bars of one day. Sums run in the order of
the values.
"""

import math
from typing import Any

import numpy as np

from services.bars.windows import Array, Positions


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
