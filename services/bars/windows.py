"""Cut rolling windows out of columns, and reduce each row by itself. Pure.

Each window is a row of its own memory, so that a sum runs over it in the same order however long the column
is: the same window gives the same bits. NaN in a window makes its value NaN.
"""

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Positions = np.ndarray[Any, np.dtype[np.int64]]


def shift(values: Array, count: int) -> Array:
    """Return each value's predecessor so many places before; NaN where there is none."""
    shifted = np.full(len(values), math.nan)
    if count < len(values):
        shifted[count:] = values[: len(values) - count]
    return shifted


def cut_windows(values: Array, positions: Positions, length: int) -> Array:
    """Return a row of the `length` values up to each position; NaN where there are fewer."""
    rows = np.full((len(positions), length), math.nan)
    full = positions >= length - 1
    if full.any():
        views = np.lib.stride_tricks.sliding_window_view(values, length)
        rows[full] = views[positions[full] - (length - 1)]
    return rows


def average(rows: Array) -> Array:
    mean: Array = rows.mean(axis=1)
    return mean


def center(rows: Array) -> Array:
    """Return each row less its mean; exactly 0 where all are the same, whatever their mean rounds to."""
    constant = rows.max(axis=1, keepdims=True) == rows.min(axis=1, keepdims=True)
    return np.where(constant, 0.0, rows - rows.mean(axis=1, keepdims=True))


def deviate(rows: Array) -> Array:
    """Return each row's standard deviation, as of a sample."""
    count = rows.shape[1]
    deviation: Array = np.sqrt(average(np.square(center(rows))) * (count / (count - 1)))
    return deviation


def correlate(left: Array, right: Array) -> Array:
    """Return one correlation a row, of two tables of one shape; NaN if one of the rows does not vary."""
    left, right = center(left), center(right)
    scale = np.sqrt(average(np.square(left)) * average(np.square(right)))
    return np.clip(average(left * right) / scale, -1.0, 1.0)


def find_slope(left: Array, right: Array) -> Array:
    """Return the slope of each row over the other, by least squares; NaN if the other does not vary."""
    right = center(right)
    return average(left * right) / average(np.square(right))


def find_skew(rows: Array) -> Array:
    """Return each row's skewness, by its moments; NaN if it does not vary."""
    centred = center(rows)
    skew: Array = average(centred**3) / average(np.square(centred)) ** 1.5
    return skew


def find_kurtosis(rows: Array) -> Array:
    """Return each row's kurtosis less 3, that of the normal distribution; NaN if it does not vary."""
    squares = np.square(center(rows))
    return average(np.square(squares)) / np.square(average(squares)) - 3
