"""Write the numbers and times of signals for their pages. Pure."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from services.board.fleet.words import NONE
from services.board.market.tables import format_time


def format_percent_of(share: str | None) -> str:
    """Return a share in whole percent, from its decimal text: `45 %`; a dash for None."""
    return NONE if share is None else f"{round(100 * Decimal(share))} %"


def trim_number(number: str | None) -> str:
    """Return a decimal text without zeros at its end: `0.9`; a dash for None."""
    if number is None:
        return NONE
    return number.rstrip("0").rstrip(".") if "." in number else number


def name_file(symbol: str) -> str:
    """Return a symbol as a part of a file's name: `EUR-USD`."""
    return re.sub(r"[^A-Za-z0-9.]", "-", symbol)


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "iso_time": format_time,
    "file_name": name_file,
    "percent_of": format_percent_of,
    "trimmed": trim_number,
}
