"""Follow the volume: more of it on bars that rise says up."""

from itertools import pairwise
from typing import Final

from services.signals.view import BarWindow
from services.signals.voters.votes import NoVote, Vote, list_last, make_vote

BARS: Final = 20


def vote(window: BarWindow, expires_ms: int) -> Vote | NoVote:
    """Vote by the volume of bars that rose less that of bars that fell, of all volume.

    Sure by the share of bars that had a volume. Abstains where a volume is unknown: an index has none.
    """
    closes, volumes = list_last(window, "close", BARS + 1), list_last(window, "volume", BARS)
    if isinstance(closes, NoVote):
        return closes
    if isinstance(volumes, NoVote):
        return volumes
    total = sum(volumes)
    if total <= 0:
        return NoVote.NO_VOLUME
    moves = [after - before for before, after in pairwise(closes)]
    up = sum(volume for volume, move in zip(volumes, moves, strict=True) if move > 0)
    down = sum(volume for volume, move in zip(volumes, moves, strict=True) if move < 0)
    traded = sum(volume > 0 for volume in volumes) / BARS
    shares = f"{up / total:.0%} of the volume of {BARS} bars was on rising ones"
    why = f"{shares}, {down / total:.0%} on falling ones"
    return make_vote((up - down) / total, traded, expires_ms, why)
