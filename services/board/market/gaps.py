"""Find the bars that a chart should have and has not, so that a gap is seen as a gap. Pure.

No calendar is asked: the board only draws what there is. A slot without a bar is a gap where the market must
have been open: crypto at any time, forex at any time but from Friday evening to Sunday evening (UTC), and
everything else between two bars of the same UTC day. A break of more than four days is a gap whatever trades:
no weekend with a holiday is that long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from marketswarm.market.records import DAY_MS, TIMEFRAME_SEC, AssetClass

MAX_GAPS: Final = 1000
_LONGEST_BREAK_MS: Final = 4 * DAY_MS
_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday; Monday is 0
_FRIDAY, _SUNDAY = 4, 6
_CLOSE_MS: Final = 21 * 3_600_000
_OPEN_MS: Final = 22 * 3_600_000


@dataclass(frozen=True, slots=True)
class Gap:
    """Hold the interval `[from_ms, to_ms)` in which `missing` bars are missing."""

    from_ms: int
    to_ms: int
    missing: int


def find_gaps(starts: Sequence[int], timeframe: str, asset: str) -> list[Gap]:
    """Return the gaps between bars that begin at `starts` (ascending epoch milliseconds)."""
    if timeframe not in TIMEFRAME_SEC or timeframe in ("1w", "1mo"):
        return []
    step = 1000 * TIMEFRAME_SEC[timeframe]
    found = []
    for before, after in pairwise(starts):
        if after - before > step and _is_gap(before, after, step, asset):
            found.append(Gap(before + step, after, max(1, round((after - before) / step) - 1)))
            if len(found) == MAX_GAPS:
                break
    return found


def _is_gap(before: int, after: int, step: int, asset: str) -> bool:
    """Return True if the market was open between two bars that are more than a step apart."""
    if asset == AssetClass.CRYPTO or after - before > _LONGEST_BREAK_MS + step:
        return True
    if step >= DAY_MS:
        return False
    if asset == AssetClass.FOREX:
        return not _is_weekend(before + step, after)
    return before // DAY_MS == after // DAY_MS


def _is_weekend(start: int, end: int) -> bool:
    """Return True if forex rests during the whole of `[start, end)`, but for two hours at each end."""
    friday = start // DAY_MS * DAY_MS
    while (friday // DAY_MS + _EPOCH_WEEKDAY) % 7 != _FRIDAY:
        friday -= DAY_MS
    closes, opens = friday + _CLOSE_MS, friday + (_SUNDAY - _FRIDAY) * DAY_MS + _OPEN_MS
    slack = 2 * 3_600_000  # the hour moves with daylight saving time, and the first minutes are thin
    return closes - slack <= start and end <= opens + slack
