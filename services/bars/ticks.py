"""Make minutes of ticks: each quote is a trade price at a time. Pure.

A tick says a price and no volume, so the volume, the vwap and the trades of such a minute are unknown. Ticks
of a minute may come in any order, as long as the minute is among the newest few.
"""

from dataclasses import replace
from typing import Final

from services.bars.state import TickTimes
from services.market.records import MINUTE_MS, Bar, Quote

KEPT_MINUTES: Final = 5
"""Ticks that are older than this many of the newest minutes are too late."""


def merge_tick(quote: Quote, held: Bar | None, tick: TickTimes | None) -> tuple[Bar, TickTimes]:
    """Return the minute of a tick with the tick in it, and when its first and last ticks were.

    `held` and `tick` are the minute so far, None if this is its first tick.
    """
    price, at_ms = quote.price, quote.at_ms
    if held is None or tick is None:
        start_ms = at_ms - at_ms % MINUTE_MS
        return Bar(quote.symbol, "1m", start_ms, price, price, price, price), TickTimes(at_ms, at_ms)
    merged = replace(
        held,
        open=price if at_ms < tick.first_ms else held.open,
        high=max(held.high, price),
        low=min(held.low, price),
        # of two ticks of one moment the later one to come is the close
        close=price if at_ms >= tick.last_ms else held.close,
    )
    return merged, TickTimes(min(tick.first_ms, at_ms), max(tick.last_ms, at_ms))


def forget_old_ticks(ticks: dict[int, TickTimes]) -> None:
    """Forget all but the newest KEPT_MINUTES minutes."""
    for start_ms in sorted(ticks)[:-KEPT_MINUTES]:
        del ticks[start_ms]
