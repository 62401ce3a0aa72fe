"""Decide which older part of a series' history is still to be asked for, and when. Pure.

A first load may end without the oldest part: the limits of a source don't allow all of it, the source asks
for a pause, or a source serves that does not go back so far. A later load asks the source that serves for
the missing part, the newest of it first, until the history begins where the series wants it, or that source
answers that it has nothing older.

What is known already heals, too: a source has bars late, or corrects them for days. So what may still change
is asked for again each hour, with the newest bars where one request has all of it, and by itself where it
has not. Of the bars that are missing then, the other sources of the cascade are asked, each once an hour. A
source that adjusts its bars gives others for its whole past after a split: then all of it is asked for anew,
also what is too old to be corrected. All times are epoch milliseconds, unless a name says otherwise.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from marketswarm.net.retry import Backoff
from services.market.intervals import Grid
from services.market.records import MINUTE_MS, SOURCE_TIMEFRAMES, Adjustment, RecordKind, Timeframe
from services.market.sessions import OutsideCalendarError, Session, TradingDay
from services.sources.cascade.series import OVERLAP_BARS, Series, time_of
from services.sources.cascade.state import (
    REVISE_EVERY_SEC,
    Attempt,
    HistoryAttempt,
    SeriesState,
    SourceFinding,
    SourceVerdict,
)

LEAST_MS: Final = 10 * MINUTE_MS
"""What is missing at least for a question: the clocks of instances differ, and a history grows old."""
LEAST_RESTATED: Final = 5
"""The fewest bars by which it shows that a source has adjusted its past anew."""
RESTATED_SHARE: Final = 0.9
"""Which share of the bars that were known has other values then: corrections touch a few, a split all."""
PAUSE_SEC: Final = 60.0
"""The pause before the next part, and after an attempt for which limits of ours allowed no request."""
REVISE_PAUSE_SEC: Final = 900.0
"""The pause before a known part is asked for again of which the limits, or the source, left some out."""
HISTORY_BACKOFF: Final = Backoff(900.0, 86_400.0)
"""The pauses after attempts that failed."""


@dataclass(frozen=True, slots=True)
class OlderPart:
    """Hold the part of a history that is missing, and the source to ask for it.

    `wanted_ms` is from when on the series wants its history; the source may have less. `is_revision` says
    that the part is known, and asked for again. If there are `holes`, only bars of the intervals that open
    then are wanted.
    """

    source: str
    start_ms: int
    end_ms: int
    wanted_ms: int
    is_revision: bool = False
    holes: frozenset[int] = frozenset()


def find_missing(
    series: Series, state: SeriesState, source: str, wanted_ms: int, now: float
) -> OlderPart | None:
    """Return the older part to ask a source for now, or None; `now` is in epoch seconds."""
    attempt = state.attempts.get(source)
    if series.kind in (RecordKind.QUOTES, RecordKind.ACTIONS) or state.history_ms is None or attempt is None:
        return None
    if state.replay or now < attempt.history.retry_at:
        return None
    begins_ms = attempt.history.begins_ms
    start_ms = wanted_ms if begins_ms is None else max(wanted_ms, begins_ms)
    is_missing = state.history_ms - start_ms > max(LEAST_MS, series.length_ms)
    return OlderPart(source, start_ms, state.history_ms, wanted_ms) if is_missing else None


def find_revision(
    series: Series, state: SeriesState, source: str, revised_ms: int, now: float
) -> OlderPart | None:
    """Return the known part to ask a source for again now, or None; `now` is in epoch seconds.

    It begins at `revised_ms`, and ends with the newest bars, which each load asks for.
    """
    attempt = state.attempts.get(source)
    if series.kind is not RecordKind.BARS or state.newest_ms is None or attempt is None or state.replay:
        return None
    start_ms = max(revised_ms, state.history_ms or revised_ms)
    end_ms = state.newest_ms - OVERLAP_BARS * series.length_ms
    if now < attempt.history.revise_at or end_ms <= start_ms:
        return None
    return OlderPart(source, start_ms, end_ms, revised_ms, is_revision=True)


def choose_filler(series: Series, state: SeriesState, serving: str, now: float) -> str | None:
    """Return the first source beside the serving one that may be asked now for what that one lacks.

    `now` is in epoch seconds. None also for what is no series of bars, or played.
    """
    if series.kind is not RecordKind.BARS or state.newest_ms is None or state.replay:
        return None
    for source in series.sources:
        attempt = state.attempts.get(source)
        if source != serving and (attempt is None or now >= attempt.history.revise_at):
            return source
    return None


def find_holes(
    series: Series, session: Session, known: Iterable[int], start_ms: int, end_ms: int
) -> list[int]:
    """Return the opens of the intervals without a bar between the first and the last bar that are known.

    `known` are the times of bars, of which those from `start_ms` to before `end_ms` count. Empty if no
    calendar knows these days.
    """
    timeframe = next((each for each in SOURCE_TIMEFRAMES if each == series.timeframe), None)
    if timeframe is None:
        return []
    grid = Grid(session)
    placed = (grid.place(at, timeframe) for at in known)
    opens = {interval.open_ms for interval in placed if interval and start_ms <= interval.open_ms < end_ms}
    if not opens:
        return []
    try:
        day = session.find_day(min(opens))
        days = chain([day] if day else [], session.iter_days(min(opens) + 1, max(opens)))
        wanted = [open_ms for day in days for open_ms in _list_opens(grid, timeframe, day)]
    except OutsideCalendarError:
        return []
    return [open_ms for open_ms in wanted if min(opens) < open_ms < max(opens) and open_ms not in opens]


def keep_holes(
    series: Series, session: Session, finding: SourceFinding, holes: Collection[int]
) -> SourceFinding:
    """Return a finding with those of its bars alone whose intervals open at one of these times."""
    grid = Grid(session)
    timeframe = next(each for each in SOURCE_TIMEFRAMES if each == series.timeframe)
    placed = [(record, grid.place(time_of(record), timeframe)) for record in finding.records]
    records = tuple(record for record, interval in placed if interval and interval.open_ms in holes)
    return replace(finding, records=records)


def _list_opens(grid: Grid, timeframe: Timeframe, day: TradingDay) -> Iterator[int]:
    """Yield the opens of a day's intervals, without those within its break."""
    at_ms = day.open_ms
    while at_ms < day.close_ms and (interval := grid.find(at_ms, timeframe)) is not None:
        is_pause = day.break_ms is not None and (
            day.break_ms[0] <= interval.open_ms and interval.close_ms <= day.break_ms[1]
        )
        if not is_pause:
            yield interval.open_ms
        at_ms = interval.close_ms


def conclude_revision(state: SeriesState, finding: SourceFinding) -> SeriesState:
    """Return the state after a source was asked for a known part again: only when that is due next."""
    answer = finding.answer
    never = Attempt(finding.verdict, finding.reason, finding.asked_at)
    attempt = state.attempts.get(finding.source, never)
    is_whole = finding.is_asked and not answer.parts_left and finding.verdict is not SourceVerdict.FAILED
    pause_sec = REVISE_EVERY_SEC if is_whole else max(REVISE_PAUSE_SEC, answer.wait_sec)
    history = replace(attempt.history, revise_at=finding.asked_at + pause_sec)
    attempts = {**state.attempts, finding.source: replace(attempt, history=history)}
    return replace(state, attempts=attempts)


def ask_again(state: SeriesState, now: float) -> SeriesState:
    """Return the state of a series whose sources are to be asked again for all that may still change."""
    attempts = {
        name: replace(each, history=replace(each.history, revise_at=now))
        for name, each in state.attempts.items()
    }
    return replace(state, attempts=attempts)


def is_restated(finding: SourceFinding, known: int, corrected: int) -> bool:
    """Return True if a source that adjusts its bars has done so anew, as after a split.

    `finding` is of an answer with bars that may be corrected. Of these, `known` were published before, and
    `corrected` of them have other values now. Bars that were missing say nothing of it.
    """
    is_adjusting = finding.answer.adjustment is not Adjustment.RAW
    return is_adjusting and known >= LEAST_RESTATED and corrected >= RESTATED_SHARE * known


def forget_older(state: SeriesState, source: str, start_ms: int) -> SeriesState:
    """Return the state as if nothing before a start were known, so that the source is asked for it again."""
    attempt = state.attempts[source]
    history = HistoryAttempt(revise_at=attempt.history.revise_at)
    attempts = {**state.attempts, source: replace(attempt, history=history)}
    return replace(state, history_ms=start_ms, attempts=attempts)


def conclude_older(state: SeriesState, finding: SourceFinding) -> SeriesState:
    """Return the state after its source was asked for the part of the history before `history_ms`.

    An answer without records settles what this source was asked for; others may have it. If only the
    newest parts of the question have none, the rest is asked for later.
    """
    attempt, known_ms, answer = state.attempts[finding.source], state.history_ms, finding.answer
    is_read = finding.verdict in (SourceVerdict.FRESH, SourceVerdict.LATE)
    is_begun = finding.verdict is SourceVerdict.EMPTY and answer.parts_left > 0
    pause_sec = PAUSE_SEC if answer.parts_left else 0.0
    history = replace(attempt.history, failures=0, retry_at=finding.asked_at + pause_sec)
    if (is_read or is_begun) and known_ms is not None and answer.since_ms is not None:
        known_ms = min(known_ms, answer.since_ms)
    elif finding.verdict in (SourceVerdict.EMPTY, SourceVerdict.REFUSED):
        history = HistoryAttempt(begins_ms=known_ms, revise_at=attempt.history.revise_at)
    elif not finding.is_asked:
        retry_at = finding.asked_at + max(PAUSE_SEC, answer.wait_sec)
        history = replace(attempt.history, retry_at=retry_at)
    else:
        failures = attempt.history.failures + 1
        retry_at = finding.asked_at + max(HISTORY_BACKOFF.pause_sec(failures), answer.wait_sec)
        history = replace(attempt.history, failures=failures, retry_at=retry_at)
    attempts = {**state.attempts, finding.source: replace(attempt, history=history)}
    return replace(state, history_ms=known_ms, attempts=attempts)
