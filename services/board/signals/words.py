"""Write the numbers and times of signals for their pages. Pure."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from services.board.fleet.words import NONE
from services.board.market.tables import format_time
from services.market.fields import MAX_MS


def format_percent_of(share: str | None) -> str:
    """Return a share in whole percent, from its decimal text: `45 %`; a dash for None."""
    return NONE if share is None else f"{round(100 * Decimal(share))} %"


def format_bar_time(at: int | str) -> str:
    """Return the time of a bar by ISO 8601 from epoch milliseconds; a text as it is."""
    return format_time(at) if isinstance(at, int) and at < MAX_MS else str(at)


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "bar_time": format_bar_time,
    "percent_of": format_percent_of,
}
