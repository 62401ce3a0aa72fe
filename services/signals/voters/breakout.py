"""Follow a break: a close above all highs before it says up."""

from typing import Final

from services.signals.view import BarWindow
from services.signals.voters.votes import NoVote, Vote, find_mean, list_last, make_vote

BARS: Final = 20
FULL: Final = 1.0
"""A close this many mean ranges outside is a break of full strength."""


def vote(window: BarWindow, expires_ms: int) -> Vote | NoVote:
    """Vote by how far the last close is outside the range of the BARS before it, in their mean ranges."""
    highs, lows = list_last(window, "high", BARS + 1), list_last(window, "low", BARS + 1)
    closes = list_last(window, "close", 1)
    if isinstance(highs, NoVote):
        return highs
    if isinstance(lows, NoVote):
        return lows
    if isinstance(closes, NoVote):
        return closes
    top, bottom, close = max(highs[:-1]), min(lows[:-1]), closes[0]
    span = find_mean([high - low for high, low in zip(highs[:-1], lows[:-1], strict=True)])
    outside = close - top if close > top else min(0.0, close - bottom)
    if not outside:
        return make_vote(0.0, 1.0, expires_ms, f"the close is within the range of {BARS} bars")
    lean = outside / span / FULL if span > 0 else float(outside > 0) - float(outside < 0)
    edge = "highest high" if outside > 0 else "lowest low"
    inside = (close - lows[-1]) / (highs[-1] - lows[-1]) if highs[-1] > lows[-1] else 0.5
    sure = inside if outside > 0 else 1.0 - inside
    return make_vote(lean, sure, expires_ms, f"the close is beyond the {edge} of {BARS} bars")
