"""Evaluate an answer of a source: which of its records count, and whether they are right and fresh. Pure.

An answer also says of the source itself whether it is up. `OutageAlerts` counts these outcomes, and publishes
that a source is missed. The state of a source in `market:sources` is for those who read it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from marketswarm.agent.outage_state import OutageState
from marketswarm.bus.circuit_breaker import BREAKER_OPEN, PAUSED
from services.market.records import Record, RecordKind
from services.market.sessions import Session
from services.sources.cascade.series import (
    AT_CLOSE,
    Series,
    find_day_end,
    fresh_until,
    is_wrong_as_whole,
    keep_finished,
    place_bars,
    sort_out,
    time_of,
)
from services.sources.cascade.state import ANSWERED, SourceFinding, SourceVerdict, clean_reason
from services.sources.catalog.answer import NO_KEY, NOT_SERVED, AnswerStatus, SourceAnswer
from services.sources.catalog.mapping import PLAN_STATUS

NO_VALUE: Final = "an action without its value"
_PASSED_ON: Final = frozenset({AnswerStatus.LIMITED, AnswerStatus.REFUSED})
_NOT_ASKED: Final = frozenset({BREAKER_OPEN, PAUSED, NO_KEY, NOT_SERVED})
"""These answers, and these reasons of a failed one, have verdicts of the same names."""

MOST_REFUSALS: Final = 5
"""How often in a row a source may say that it takes no more requests, though our own count has room."""
_GOOD: Final = ANSWERED | {SourceVerdict.REFUSED, SourceVerdict.LIMITED}
"""The answers of a source that is up, whatever it says of the series."""
_BAD: Final = frozenset({SourceVerdict.FAILED, SourceVerdict.WRONG})
_REJECTED: Final = frozenset({SourceVerdict.WRONG, SourceVerdict.REFUSED})
"""The answers that are of no use however often the source is asked."""
_PLAN_REASONS: Final = frozenset(map(str, PLAN_STATUS))


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
        day_end=AT_CLOSE if answer.is_replay else day_end,
        answer=answer,
    )
    if answer.outcome in _PASSED_ON:
        return replace(finding, verdict=SourceVerdict(answer.outcome))
    if answer.outcome is AnswerStatus.FAILED:
        is_known = answer.reason in _NOT_ASKED
        return replace(finding, verdict=SourceVerdict(answer.reason) if is_known else SourceVerdict.FAILED)
    is_of_actions = series.kind is RecordKind.ACTIONS
    if answer.outcome is not AnswerStatus.OK and not is_of_actions:
        return finding
    kept, faults, fault = sort_out(series.asset, answer.records, clock.now_ms)
    faults = [f"{each.field}: {each.why}" for each in answer.misfits] + faults
    rows = len(answer.misfits) + len(answer.records)
    if is_of_actions:  # a dividend without its amount is not a day without a dividend
        faults += [NO_VALUE] * answer.missing
        rows += answer.missing
    if fault is None and is_wrong_as_whole(len(faults), rows):
        fault = f"{len(faults)} of {rows} rows are wrong: {faults[0]}" if rows > 1 else faults[0]
    if fault is not None:
        return replace(finding, verdict=SourceVerdict.WRONG, reason=fault)
    finding = replace(finding, set_aside=tuple(faults))
    if (
        is_of_actions
    ):  # most shares have none for years, and an answer without any is as good as one with some
        asked_at = answer.asked_at or clock.wall
        finding = replace(finding, reason="", records=tuple(kept), asked_at=asked_at)
        return date_finding(series, session, finding, clock.now_ms, clock, late="")
    return _evaluate_records(series, session, kept, clock, finding)


def _evaluate_records(
    series: Series, session: Session, kept: Sequence[Record], clock: RecordClock, finding: SourceFinding
) -> SourceFinding:
    finished = keep_finished(series, session, kept, clock.now_ms, finding.day_end)
    placed, off_grid = place_bars(series, session, finished)
    records, count = tuple(placed), len(placed) + off_grid
    if is_wrong_as_whole(off_grid, count):
        reason = f"{off_grid} of {count}: a time between two bars"
        return replace(finding, verdict=SourceVerdict.WRONG, reason=reason)
    if not records:
        reason = "nothing while the market is open" if finished else "nothing that is over"
        return replace(finding, reason=reason)
    finding = replace(finding, records=records, asked_at=finding.answer.asked_at or clock.wall)
    newest_ms = max(map(time_of, records))
    return date_finding(series, session, finding, newest_ms, clock, late="its newest record is old")


def date_finding(
    series: Series, session: Session, finding: SourceFinding, newest_ms: int, clock: RecordClock, *, late: str
) -> SourceFinding:
    """Return a finding whose newest record is of `newest_ms` as fresh, or as late for the reason `late`."""
    until_ms = fresh_until(series, session, newest_ms, clock.now_ms, finding.day_end)
    is_fresh = clock.now_ms <= until_ms
    return replace(
        finding,
        verdict=SourceVerdict.FRESH if is_fresh else SourceVerdict.LATE,
        reason="" if is_fresh else late,
        newest_ms=newest_ms,
        fresh_until=clock.to_wall(until_ms),
    )


# -- what it says of the source


def is_well(finding: SourceFinding) -> bool | None:
    """Return whether a source is up by a finding; None if that says nothing. Only an answer and a failure do.

    What the stream of a source brings says nothing of whether the source answers requests. Neither does a
    refusal with 402 or 403: the plan of our key may lack one series, or the key may be good for nothing.
    """
    is_of_plan = finding.verdict is SourceVerdict.REFUSED and finding.reason in _PLAN_REASONS
    if not finding.is_asked or is_of_plan:
        return None
    return True if finding.verdict in _GOOD else False if finding.verdict in _BAD else None


def find_outcomes(
    findings: Iterable[SourceFinding], refusals: Iterable[int], miss_after: int
) -> dict[str, str | None]:
    """Return by source the error of each that failed, and None for each that is up.

    Args:
        refusals: how often in a row each of them took no more requests. One that refuses every request of
            ours serves nothing: the last ones of MOST_REFUSALS are failures, so that it is missed with them.
        miss_after: after how many failures in a row a source is missed.
    """
    found: dict[str, str | None] = {}
    for finding, refused in zip(findings, refusals, strict=True):
        well = is_well(finding)
        if well is not None:
            is_refusing = refused > 0 and refused > MOST_REFUSALS - miss_after
            is_up = well and not is_refusing
            found[finding.source] = None if is_up else clean_reason(finding.reason or finding.verdict)
    return found


def encode_finding(finding: SourceFinding) -> bytes:
    """Return how a finding changes the state of its source, as JSON for `source_state.lua`."""
    well, is_limited = is_well(finding), finding.verdict is SourceVerdict.LIMITED
    is_good = well or finding.verdict in ANSWERED
    reason = clean_reason(finding.reason or ("" if is_good else finding.verdict))
    # records of a stream say nothing of requests: of a source that is down, the reason stays
    when = "set" if finding.is_asked or not is_good else "first"
    change: dict[str, Any] = {
        "name": finding.source,
        when: {"outcome": finding.verdict, "reason": reason},
        "now": ["asked_at"],
        "add": {
            **dict.fromkeys(("since", "checked_at", "ok_at"), 0),  # each field is there from the beginning
            "records": len(finding.records),
            "answers": int(well is True),
            "limited": int(is_limited),
            "refusals": int(well is True and is_limited),
            "failures": int(well is False),
            "fails": int(well is False),
            "rejects": int(finding.is_asked and finding.verdict in _REJECTED),
        },
    }
    if finding.is_asked and finding.verdict in ANSWERED:
        change["set"] |= {"rejects": 0}
    if well is not None:
        change["now"] += ["checked_at", "ok_at"] if well else ["checked_at"]
    if well:
        change["set"] |= {"fails": 0} if is_limited else {"fails": 0, "refusals": 0}
    return orjson.dumps(change)


def encode_verdict(source: str, state: OutageState) -> bytes:
    """Return a source's verdict as a change of its state, as JSON for `source_state.lua`."""
    change = {"name": source, "state": state.verdict}
    is_since_known = state.verdict == "down" and state.since is not None
    return orjson.dumps(change | {"since": state.since} if is_since_known else change)
