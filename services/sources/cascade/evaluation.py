"""Evaluate an answer of a source: which of its records count, and whether they are right and fresh. Pure."""

from dataclasses import dataclass, replace
from typing import Final

from marketswarm.bus.circuit_breaker import BREAKER_OPEN, PAUSED
from services.market.sessions import Session
from services.sources.cascade.series import (
    AT_CLOSE,
    WRONG_SHARE,
    Series,
    find_day_end,
    find_fault,
    fresh_until,
    keep_finished,
    place_bars,
    time_of,
)
from services.sources.cascade.state import SourceFinding, SourceVerdict
from services.sources.catalog.answer import NO_KEY, NOT_SERVED, AnswerStatus, SourceAnswer

_PASSED_ON: Final = frozenset({AnswerStatus.LIMITED, AnswerStatus.REFUSED})
_NOT_ASKED: Final = frozenset({BREAKER_OPEN, PAUSED, NO_KEY, NOT_SERVED})
"""These answers, and these reasons of a failed one, have verdicts of the same names."""


@dataclass(frozen=True, slots=True)
class RecordClock:
    """Hold what time it is for the records of a source, and how fast that time passes.

    Both are epoch seconds; `now` is that of the records, `wall` ours.
    """

    wall: float
    now: float
    speed: float = 1.0

    @property
    def now_ms(self) -> int:
        return round(1000 * self.now)

    def to_wall(self, at_ms: int) -> float:
        """Return when the records' clock shows `at_ms`, in epoch seconds of ours."""
        return self.wall + (at_ms / 1000 - self.now) / self.speed


def evaluate_answer(
    series: Series, session: Session, answer: SourceAnswer, clock: RecordClock
) -> SourceFinding:
    """Return whether the records of the answer are right, and fresh."""
    day_end = find_day_end(series, delay_sec=answer.delay_sec, is_utc=answer.is_utc_days)
    finding = SourceFinding(
        answer.source,
        SourceVerdict.EMPTY,
        answer.reason,
        asked_at=clock.wall,
        digest=answer.digest,
        wait_sec=answer.wait_sec,
        is_replay=answer.is_replay,
        played_at=answer.played_at,
        min_interval_sec=answer.min_interval_sec,
        history_ms=answer.since_ms,
        parts_left=answer.parts_left,
        day_end=AT_CLOSE if answer.is_replay else day_end,
    )
    if answer.outcome in _PASSED_ON:
        return replace(finding, verdict=SourceVerdict(answer.outcome))
    if answer.outcome is AnswerStatus.FAILED:
        is_known = answer.reason in _NOT_ASKED
        return replace(finding, verdict=SourceVerdict(answer.reason) if is_known else SourceVerdict.FAILED)
    if answer.outcome is not AnswerStatus.OK:
        return finding
    fault, misfits = find_fault(series.asset, answer.records, clock.now_ms), answer.misfits
    rows = len(misfits) + len(answer.records)
    if fault is None and len(misfits) > WRONG_SHARE * rows:
        fault = f"{len(misfits)} of {rows} rows do not fit: {misfits[0].field}: {misfits[0].why}"
    if fault is not None:
        return replace(finding, verdict=SourceVerdict.WRONG, reason=fault)
    return _evaluate_records(series, session, answer, clock, finding)


def _evaluate_records(
    series: Series, session: Session, answer: SourceAnswer, clock: RecordClock, finding: SourceFinding
) -> SourceFinding:
    finished = keep_finished(series, session, answer.records, clock.now_ms, finding.day_end)
    placed, off_grid = place_bars(series, session, finished)
    records, count = tuple(placed), len(placed) + off_grid
    if off_grid > WRONG_SHARE * count:
        reason = f"{off_grid} of {count}: a time between two bars"
        return replace(finding, verdict=SourceVerdict.WRONG, reason=reason)
    if not records:
        reason = "nothing while the market is open" if finished else "nothing that is over"
        return replace(finding, reason=reason)
    newest_ms = max(map(time_of, records))
    until_ms = fresh_until(series, session, newest_ms, clock.now_ms, finding.day_end)
    is_fresh = clock.now_ms <= until_ms
    return replace(
        finding,
        verdict=SourceVerdict.FRESH if is_fresh else SourceVerdict.LATE,
        reason="" if is_fresh else "its newest record is old",
        records=records,
        newest_ms=newest_ms,
        fresh_until=clock.to_wall(until_ms),
        asked_at=answer.asked_at or clock.wall,
    )
