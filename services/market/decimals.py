"""Keep prices, and what is computed of them, to the decimals in which their symbol is quoted. Pure.

A price is given as a decimal and held as the nearest binary number, so the difference of two prices has
digits that no source gave: 581.2 - 581.11 is 0.09000000000000341.
"""

import struct
from collections.abc import Iterable
from decimal import Decimal
from math import floor, log10
from typing import Final

MAX_DECIMALS: Final = 9
"""A price with more decimals was computed: it doesn't say in how many its symbol is quoted."""
PERCENT_DECIMALS: Final = 4
_SINGLE: Final = struct.Struct("<f")
_SINGLE_DIGITS: Final = range(6, 10)
"""How many digits it may take to tell a number of single precision from its neighbours."""
_MANY_DIGITS: Final = 10


def settle_single(number: float) -> float:
    """Return the decimal that a source kept in single precision: 577.97 for 577.969970703125.

    Any other number is returned as it is.
    """
    if number.is_integer() or len(repr(number)) <= _MANY_DIGITS or not _is_single(number, number):
        return number
    shortest = (float(f"{number:.{digits}g}") for digits in _SINGLE_DIGITS)
    return next((each for each in shortest if _is_single(each, number)), number)


def _is_single(number: float, single: float) -> bool:
    """Return True if a number in single precision is `single`."""
    try:
        return bool(_SINGLE.unpack(_SINGLE.pack(number))[0] == single)
    except OverflowError:
        return False


def count_decimals(price: float) -> int:
    """Return the decimals of the shortest text of a price: 2 for 581.25, 0 for 581.0, 5 for 0.00001."""
    exponent = Decimal(repr(settle_single(price))).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def find_precision(prices: Iterable[float]) -> int:
    """Return in how many decimals a symbol is quoted, by some prices of it.

    If most of them were computed, that is what is usual for the last one: 2 decimals from 100 on, 4 from 1
    on, otherwise 6 digits.
    """
    known = list(prices)
    given = [count for count in map(count_decimals, known) if count <= MAX_DECIMALS]
    if 2 * len(given) >= len(known):
        return max(given, default=2)
    size = abs(known[-1])
    return 2 if size >= 100 else 4 if size >= 1 or not size else 5 - floor(log10(size))


def round_price(price: float, decimals: int) -> float:
    """Return a price with so many decimals at most."""
    return float(round(Decimal(repr(price)), decimals))


def subtract_prices(price: float, other: float, decimals: int) -> float:
    """Return the exact difference of two prices as they are written, with so many decimals at most."""
    return float(round(Decimal(repr(price)) - Decimal(repr(other)), decimals))


def find_percent(change: float, price: float) -> float | None:
    """Return a change as a percentage of the price before it; None if that is 0."""
    return round(100 * change / abs(price), PERCENT_DECIMALS) if price else None
