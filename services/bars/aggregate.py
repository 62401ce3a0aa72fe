"""Merge bars into one longer bar. Pure."""

from collections.abc import Sequence

from services.market.fields import MAX_NUMBER
from services.market.records import Bar


def merge_bars(parts: Sequence[Bar], timeframe: str, start_ms: int) -> Bar:
    """Return the bar of an interval made of the bars in it, which are in order of time.

    The volume, the trades and the vwap are None unless every part has them; a part in which nothing was
    traded needs no vwap. A sum beyond MAX_NUMBER, which no entry can hold, is None, too. Raise IndexError if
    there are no parts.
    """
    first, last = parts[0], parts[-1]
    volume: float | None = 0.0
    turnover: float | None = 0.0
    trades: int | None = 0
    high, low = first.high, first.low
    for part in parts:
        high = max(high, part.high)
        low = min(low, part.low)
        if part.volume is None:
            volume = turnover = None
        elif volume is not None:
            volume += part.volume
            if part.vwap is None:
                turnover = turnover if part.volume == 0 else None
            elif turnover is not None:
                turnover += part.vwap * part.volume
        trades = None if trades is None or part.trades is None else trades + part.trades
    if volume is not None and volume > MAX_NUMBER:
        volume = turnover = None
    if trades is not None and trades > MAX_NUMBER:
        trades = None
    vwap = turnover / volume if turnover is not None and volume else None
    if vwap is not None:
        vwap = min(max(vwap, low), high)  # the sums are rounded, and an average lies within
    return Bar(first.symbol, timeframe, start_ms, first.open, high, low, last.close, volume, vwap, trades)
