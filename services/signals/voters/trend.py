"""Follow the trend: a short mean of closes above a long one says up."""

from typing import Final

from services.signals.view import BarWindow
from services.signals.voters.votes import NoVote, Vote, find_deviation, find_mean, list_last, make_vote

SHORT: Final = 10
LONG: Final = 30
FULL: Final = 2.0
"""The means are this many deviations of the closes apart where the vote is of full strength."""


def vote(window: BarWindow, expires_ms: int) -> Vote | NoVote:
    """Vote by the distance of the means; sure by the share of SHORT closes on their side of the long one."""
    closes = list_last(window, "close", LONG)
    if isinstance(closes, NoVote):
        return closes
    short, long, deviation = find_mean(closes[-SHORT:]), find_mean(closes), find_deviation(closes)
    if not deviation:
        return make_vote(0.0, 1.0, expires_ms, f"the close did not move in {LONG} bars")
    lean = (short - long) / deviation / FULL
    agree = sum((close - long) * lean > 0 for close in closes[-SHORT:]) / SHORT
    side = "above" if lean > 0 else "below" if lean < 0 else "at"
    why = f"the mean of {SHORT} closes is {side} that of {LONG}, by {abs(lean) * FULL:.2f} deviations"
    return make_vote(lean, agree, expires_ms, why)
