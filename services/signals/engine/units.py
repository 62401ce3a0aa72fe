"""Count prices, quantities and money in whole numbers, so that no cent is lost or made. Pure.

A price is a whole number of 10^-12 of the currency, a quantity one of 10^-8 of a share, and money is a price
times a quantity: a whole number of 10^-20 of the currency. Python's numbers have no greatest one.
"""

import re
from fractions import Fraction
from typing import Final

PRICE_DIGITS: Final = 12
QUANTITY_DIGITS: Final = 8
MONEY_DIGITS: Final = PRICE_DIGITS + QUANTITY_DIGITS
PRICE: Final[int] = 10**PRICE_DIGITS
"""One unit of the currency, as a price."""
QUANTITY: Final[int] = 10**QUANTITY_DIGITS
"""One share."""
MONEY: Final[int] = 10**MONEY_DIGITS
"""One unit of the currency, as money."""
CENT: Final[int] = MONEY // 100
MAX_WHOLE_DIGITS: Final = 15
_DECIMAL: Final = re.compile(r"(-?)(\d{1,15})(?:\.(\d{1,20}))?", re.ASCII)


def parse_units(text: str, digits: int) -> int:
    """Return a decimal such as `-12.5` as a whole number of 10^-digits.

    Raises:
        ValueError: the text is not a plain decimal, or has more than `digits` decimals or 15 digits before
            them.
    """
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise ValueError("must be a decimal such as 12.5")
    sign, whole, decimals = found.groups(default="")
    decimals = decimals.rstrip("0")
    if len(decimals) > digits:
        raise ValueError(f"has more than {digits} decimals")
    units = int(whole + decimals.ljust(digits, "0"))
    return -units if sign else units


def format_units(units: int, digits: int, least_decimals: int = 0) -> str:
    """Return a whole number of 10^-digits as a decimal, exactly, with so many decimals at the least."""
    sign = "-" if units < 0 else ""
    whole, rest = divmod(abs(units), 10**digits)
    decimals = str(rest).rjust(digits, "0").rstrip("0").ljust(least_decimals, "0")
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def round_half_up(amount: Fraction, unit: int = 1) -> int:
    """Return the multiple of `unit` next to `amount`; of two equally near ones that away from zero."""
    return round_ratio(amount.numerator, amount.denominator, unit)


def round_ratio(amount: int, divisor: int, unit: int = 1) -> int:
    """Return what `round_half_up` returns of `amount / divisor`, whose divisor is above 0."""
    whole = divisor * unit
    steps = (2 * abs(amount) + whole) // (2 * whole)
    return -steps * unit if amount < 0 else steps * unit


def round_down(units: int, step: int) -> int:
    """Return the greatest multiple of `step` that is not above `units`."""
    return units // step * step


def round_up(units: int, step: int) -> int:
    """Return the least multiple of `step` that is not below `units`."""
    return -(-units // step) * step


def floor_to_lot(quantity: Fraction, lot: int) -> int:
    """Return a quantity in whole lots: the part below a lot is cut, of a short one, too."""
    lots = abs(quantity.numerator) // (quantity.denominator * lot)
    return -lots * lot if quantity < 0 else lots * lot
