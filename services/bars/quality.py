"""Check each record by named checks. Pure.

A check is a function that returns in words why a bar fails, or None. The first check that fails is the reason
for which the bar is rejected; it goes to the quarantine under the name of that check. What is found about a
bar that is taken, a gap before it or its age, is counted.

`seen_ms`, the time by which a bar is evaluated, is when its source was asked; of a replay it is the
recording's own clock. A record that an operator released skips all checks but those of `NEVER_SKIPPED`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from typing import Final

from services.bars.settings import CheckSettings
from services.market.intervals import Interval
from services.market.records import MINUTE_MS, Adjustment, Bar, Provenance, VolumeKind

ATR_BARS: Final = 14
"""The bars of the average true range that a jump is held against."""
WAYS_OF_MASSIVE: Final = frozenset({"ws", "rest"})
"""The two ways of massive's stream, which are one source: by REST it corrects what it streamed."""
VWAP_SHARE: Final = 0.05
"""How far a vwap may be outside of low to high, as a share of the price.

Sources round it, and some count trades in it that they leave out of the range.
"""


class Check(StrEnum):
    """Name the checks, as quarantine, log and metrics spell them."""

    SCHEMA = "schema"
    POSITIVE = "positive"
    PRICE_ORDER = "price_order"
    WRONG_SESSION = "wrong_session"
    FUTURE = "future"
    TOO_LATE = "too_late"
    MONOTONE_TIME = "monotone_time"
    DUPLICATE = "duplicate"
    SOURCE_DISAGREEMENT = "source_disagreement"
    JUMP = "jump"


class Finding(StrEnum):
    """Name what is found about bars that are taken, as the metric spells it."""

    GAP = "gap"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class HeldBar:
    """Hold a bar that was taken, and what is needed to evaluate the next version of it.

    Attributes:
        changes: how often it was written, 1 for a bar that was never changed. Of a bar that was built of
            others it is the sum of theirs.
        source: the source of the bar; of a built bar the source of its last change.
        seen_ms: when that source was asked, in epoch milliseconds; of a built bar the newest of its parts'.
        is_complete: whether the source was asked after the end of the interval; of a built bar, whether it
            was seen from its open, and of a built day also, whether nearly all of its minutes were.
        is_replay: whether the bar was played from a recording; of a built bar, whether one of its parts was.
        rank: the place of the source in its cascade, 0 for the first one.
        is_other_hours: whether it is a day of other hours than the session's, which are those of UTC; of a
            week or month, whether its last day is. It is known since the end of that day of UTC.
        minutes: of how many minutes the bar was built; 0 if it was not, or if that is unknown.
        adjustment: for which actions the source had adjusted it when it was asked.
        volume_kind: whose trades its volume counts; None if that is unknown.
    """

    bar: Bar
    changes: int
    source: str
    seen_ms: int
    is_complete: bool
    is_replay: bool = False
    rank: int = 0
    is_other_hours: bool = False
    minutes: int = 0
    adjustment: Adjustment = Adjustment.RAW
    volume_kind: VolumeKind | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Hold a bar that is to be checked.

    `interval` is the interval that it fills, None if there is none; `seen_ms` is when its source was asked;
    `rank` is the place of the source in its cascade; `is_other_hours` and `adjustment` as of a `HeldBar`;
    `may_be_negative` says whether its prices may be 0 or less, as those of commodities.
    """

    bar: Bar
    source: str
    seen_ms: int
    interval: Interval | None
    rank: int = 0
    is_other_hours: bool = False
    may_be_negative: bool = False
    adjustment: Adjustment = Adjustment.RAW


@dataclass(frozen=True, slots=True)
class SuspectBar:
    """Hold the bar of a timeframe that was rejected last for its jump.

    The next bar near it, or the same one of another source, confirms it. `seen_ms` is when its source
    was asked.
    """

    bar: Bar
    seen_ms: int
    provenance: Provenance

    def describe(self) -> str:
        bar = self.bar
        return f"{bar.symbol}:{bar.timeframe} at {bar.close:g} by {self.provenance.source}"


@dataclass(frozen=True, slots=True)
class Known:
    """Hold what is known of a symbol when a bar of it comes.

    Attributes:
        oldest_ms: bars that begin earlier can't be taken any more.
        newest_ms: the start of its newest minute, None if there is none.
        built: for a bar of a whole interval the final bar that we built of its minutes, if there is one, and
            it has enough of them.
        before: its last bars of the candidate's timeframe before that, oldest first.
        is_after_break: whether the market was closed between those and the candidate.
        missing: minutes without a bar between those and the candidate, within one day.
        suspect: the bar of its timeframe that was rejected last for its jump; None once a later one passed.
    """

    oldest_ms: int
    newest_ms: int | None = None
    held: HeldBar | None = None
    is_held_final: bool = False
    built: HeldBar | None = None
    before: Sequence[Bar] = ()
    is_after_break: bool = False
    missing: int = 0
    suspect: SuspectBar | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Say which check a record failed, and why in words."""

    check: Check
    why: str


CheckFunction = Callable[[Candidate, Known, CheckSettings], str | None]


def check_positive(candidate: Candidate, _known: Known, _limits: CheckSettings) -> str | None:
    """Reject a price that is not positive, except of commodities, and a negative volume or count."""
    bar = candidate.bar
    if not candidate.may_be_negative and min(bar.low, bar.open, bar.close, bar.high) <= 0:
        return "a price is not positive"
    if (bar.volume or 0) < 0 or (bar.trades or 0) < 0:
        return "the volume or the trades are negative"
    if not candidate.may_be_negative and bar.vwap is not None and bar.vwap <= 0:
        return "the vwap is not positive"
    return None


def check_price_order(candidate: Candidate, _known: Known, _limits: CheckSettings) -> str | None:
    """Reject a bar whose open or close lies outside of low to high, or its vwap by more than VWAP_SHARE."""
    bar = candidate.bar
    if not bar.low <= bar.open <= bar.high:
        return f"the open {bar.open:g} is outside of {bar.low:g} to {bar.high:g}"
    if not bar.low <= bar.close <= bar.high:
        return f"the close {bar.close:g} is outside of {bar.low:g} to {bar.high:g}"
    low, high = bar.low - VWAP_SHARE * abs(bar.low), bar.high + VWAP_SHARE * abs(bar.high)
    if bar.vwap is not None and not low <= bar.vwap <= high:
        return f"the vwap {bar.vwap:g} is outside of {bar.low:g} to {bar.high:g}"
    return None


def check_session(candidate: Candidate, _known: Known, _limits: CheckSettings) -> str | None:
    """Reject a bar for which the trading days of its symbol have no interval."""
    interval, bar = candidate.interval, candidate.bar
    if interval is None:
        return f"no interval of {bar.timeframe} begins then while the market is open"
    return None


def check_future(candidate: Candidate, _known: Known, limits: CheckSettings) -> str | None:
    """Reject a bar that begins after it was seen."""
    ahead_ms = candidate.bar.start_ms - candidate.seen_ms
    if ahead_ms > 1000 * limits.ahead_sec:
        return f"it begins {ahead_ms / 1000:.0f} s after it was seen"
    return None


def check_lateness(candidate: Candidate, known: Known, _limits: CheckSettings) -> str | None:
    """Reject a bar whose interval can't be built again, since the minutes around it are forgotten."""
    late_ms = known.oldest_ms - candidate.bar.start_ms
    if late_ms > 0:
        return f"it is {late_ms / 60_000:.0f} min older than what can be revised"
    return None


def check_monotone_time(candidate: Candidate, known: Known, _limits: CheckSettings) -> str | None:
    """Reject an answer that is older than the one we hold.

    That of another source may be older, but not from within the interval if the one we hold is from after it.
    """
    held = known.held
    if held is None or candidate.seen_ms >= held.seen_ms:
        return None
    older_sec = (held.seen_ms - candidate.seen_ms) / 1000
    if held.source == candidate.source:
        return f"its source was asked {older_sec:.1f} s before it gave the bar that we hold"
    if held.is_complete and not _is_complete(candidate):
        return f"its source was asked before the end of the interval, {held.source} {older_sec:.1f} s later"
    return None


def check_duplicate(candidate: Candidate, known: Known, _limits: CheckSettings) -> str | None:
    """Reject a bar that says nothing new: no other values, no end of its day, no other hours."""
    held = known.held
    if held is None or held.bar != candidate.bar:
        return None
    # that a day is over is news, though no number changed; of a minute the clock says so
    is_news = _is_complete(candidate) and not held.is_complete and candidate.bar.timeframe != "1m"
    # so are the hours of a day, by which it is known since another time
    has_other_hours = candidate.is_other_hours != held.is_other_hours
    return None if is_news or has_other_hours else "we hold the same values"


def check_agreement(candidate: Candidate, known: Known, limits: CheckSettings) -> str | None:
    """Reject a bar that differs too much from the final one of another source, or of our minutes.

    A source before the other one in the cascade is right.
    """
    held, built = known.held, known.built
    if held is not None and not is_before(candidate, held):
        why = find_difference(candidate, known, limits)
        if why is not None:
            return why
    if built is not None and _is_complete(candidate):
        share = _find_share_outside(candidate.bar.close, built.bar)
        if share > limits.disagree_share:
            return f"its close is {share:.1%} outside of the prices of its minutes"
    return None


def _find_share_outside(price: float, bar: Bar) -> float:
    """Return how far a price is outside of low to high, as a share of the nearer one; 0 within.

    The price of a closing auction may be far from the last trade before it, but hardly from all of a day.
    """
    nearest = min(max(price, bar.low), bar.high)
    return _find_share(price - nearest, nearest)


def find_difference(candidate: Candidate, known: Known, limits: CheckSettings) -> str | None:
    """Return how much a bar differs from the final one of another source, if that is too much."""
    held = known.held
    if held is None or not known.is_held_final:
        return None
    if held.source == candidate.source or {held.source, candidate.source} == WAYS_OF_MASSIVE:
        return None
    share = _find_share(candidate.bar.close - held.bar.close, held.bar.close)
    if share <= limits.disagree_share:
        return None
    return f"its close differs by {share:.1%} from that of {held.source}"


def _find_share(difference: float, price: float) -> float:
    """Return a difference of prices as a share of one of them; infinite if that is 0 and they differ."""
    if price == 0:
        return inf if difference else 0.0
    return abs(difference / price)


def is_before(candidate: Candidate, held: HeldBar) -> bool:
    """Return True if the source of a bar stands before the source of the held bar in the cascade."""
    return candidate.source != held.source and candidate.rank < held.rank


def is_outranked(candidate: Candidate, held: HeldBar | None) -> bool:
    """Return True if a source that stands earlier in the cascade gave the whole bar already."""
    if held is None or candidate.source == held.source:
        return False
    return held.is_complete and held.rank < candidate.rank


def check_jump(candidate: Candidate, known: Known, limits: CheckSettings) -> str | None:
    """Reject a bar whose prices are too far from the close before, unless it confirms a jump.

    Of a bar that is longer than a minute only the close counts: flash crashes are real. Where we built the
    same bar of minutes, it was held against that.
    """
    if len(known.before) < ATR_BARS or known.built is not None:
        return None
    last = known.before[-1].close
    share = limits.open_share if known.is_after_break else limits.jump_share
    limit = max(limits.jump_atr * average_true_range(known.before), share * abs(last))
    bar = candidate.bar
    prices = (bar.high, bar.low) if bar.timeframe == "1m" else (bar.close,)
    change = max(abs(price - last) for price in prices)
    if change <= limit or _is_like_suspect(candidate, known.suspect, limit):
        return None
    return f"it moves by {_find_share(change, last):.1%}, more than {_find_share(limit, last):.1%}"


def is_confirmation(candidate: Candidate, known: Known, limits: CheckSettings) -> bool:
    """Return True if a bar that passed confirms an earlier one that was rejected for its jump."""
    suspect = known.suspect
    if suspect is None or suspect.bar.start_ms >= candidate.bar.start_ms or len(known.before) < ATR_BARS:
        return False
    return check_jump(candidate, replace(known, suspect=None), limits) is not None


def _is_like_suspect(candidate: Candidate, suspect: SuspectBar | None, limit: float) -> bool:
    """Return True if a bar is near the suspect, and is a later one, or the same of another source."""
    bar = candidate.bar
    if suspect is None or bar.start_ms < suspect.bar.start_ms:
        return False
    is_itself = bar.start_ms == suspect.bar.start_ms and candidate.source == suspect.provenance.source
    return not is_itself and abs(bar.close - suspect.bar.close) <= limit


CHECKS: Final[Mapping[Check, CheckFunction]] = {
    Check.POSITIVE: check_positive,
    Check.PRICE_ORDER: check_price_order,
    Check.WRONG_SESSION: check_session,
    Check.FUTURE: check_future,
    Check.TOO_LATE: check_lateness,
    Check.MONOTONE_TIME: check_monotone_time,
    Check.DUPLICATE: check_duplicate,
    Check.SOURCE_DISAGREEMENT: check_agreement,
    Check.JUMP: check_jump,
}
"""The checks that reject, in their order. The schema is checked where an entry is parsed."""
NEVER_SKIPPED: Final = frozenset(
    {Check.SCHEMA, Check.POSITIVE, Check.PRICE_ORDER, Check.FUTURE, Check.TOO_LATE}
)
"""The checks that a released record must pass, too.

What fails them can't be kept, or would make all bars of today too late.
"""


def find_rejection(
    candidate: Candidate, known: Known, limits: CheckSettings, *, is_released: bool = False
) -> Rejection | None:
    """Return the first check that a bar fails, or None if it passes all."""
    for check, function in CHECKS.items():
        if is_released and check not in NEVER_SKIPPED:
            continue
        why = function(candidate, known, limits)
        if why is not None:
            return Rejection(check, why)
    return None


def list_findings(candidate: Candidate, known: Known, limits: CheckSettings) -> list[Finding]:
    """Return what is to be counted about a minute that is taken; nothing unless it is the newest one.

    It is a GAP if minutes without a bar are before it, and STALE if it was old already when it was seen.
    """
    bar, newest_ms = candidate.bar, known.newest_ms
    if newest_ms is not None and bar.start_ms <= newest_ms:
        return []
    is_stale = (candidate.seen_ms - bar.start_ms - MINUTE_MS) / 1000 > limits.stale_sec
    found = [Finding.GAP] if newest_ms is not None and known.missing else []
    return [*found, Finding.STALE] if is_stale else found


def average_true_range(bars: Sequence[Bar]) -> float:
    """Return the average true range of the last ATR_BARS bars, in the unit of their prices.

    The true range of the first is taken from its open, in place of the close before it.
    """
    total, last = 0.0, bars[-ATR_BARS].open
    for bar in bars[-ATR_BARS:]:
        total += max(bar.high, last) - min(bar.low, last)
        last = bar.close
    return total / ATR_BARS


def _is_complete(candidate: Candidate) -> bool:
    return candidate.interval is not None and candidate.seen_ms >= candidate.interval.close_ms
