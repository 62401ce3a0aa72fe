"""Expect the way back: a close far above its mean says down."""

from itertools import pairwise
from typing import Final

from services.signals.view import BarWindow
from services.signals.voters.votes import NoVote, Vote, find_deviation, find_mean, list_last, make_vote

BARS: Final = 20
QUIET: Final = 1.0
"""Up to so many deviations from the mean there is nothing to come back from."""
FULL: Final = 3.0
"""At so many deviations the vote is of full strength."""


def vote(window: BarWindow, expires_ms: int) -> Vote | NoVote:
    """Vote against the distance from the mean; the less sure, the straighter the closes went one way."""
    closes = list_last(window, "close", BARS)
    if isinstance(closes, NoVote):
        return closes
    deviation = find_deviation(closes)
    distance = (closes[-1] - find_mean(closes)) / deviation if deviation else 0.0
    way = sum(abs(after - before) for before, after in pairwise(closes))
    straight = abs(closes[-1] - closes[0]) / way if way else 0.0
    beyond = max(0.0, abs(distance) - QUIET) / (FULL - QUIET)
    side = "above" if distance > 0 else "below"
    why = f"the close is {abs(distance):.2f} deviations {side} its mean of {BARS}"
    return make_vote(-beyond if distance > 0 else beyond, 1.0 - straight, expires_ms, why)
