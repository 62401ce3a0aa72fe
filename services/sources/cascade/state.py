"""Decide which source of a series serves, which one is asked next, and when it is loaded again. Pure.

Each load begins with the first source, so a better one gets its place back as soon as it is fresh again. One
whose answer was of no use is asked less and less often meanwhile. Whether one that is limited may be asked is
known by its limits alone, and of one that fails by its breaker. All times are epoch seconds of the wall
clock, unless a name says otherwise.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Final

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from marketswarm.bus.stored_values import is_ahead
from marketswarm.channels.text import printable_line
from marketswarm.net.retry import Backoff
from services.market.records import Record
from services.sources.cascade.series import AT_CLOSE, DayEnd, Pace, Series
from services.sources.catalog.answer import AnswerStatus, SourceAnswer

LONGEST_RETRY_SEC: Final = 900.0
"""The longest time for which a source is left out whose answer was of no use.

Also the longest from one load to the next of a series that is not fresh."""
REVISE_EVERY_SEC: Final = 3000.0
"""How often a source is asked for all bars that may still be corrected: at each hourly refresh."""
USUAL_EVERY_SEC: Final = 60.0
SHORTEST_PAUSE_SEC: Final = 0.2
"""The shortest time between two loads of a series, however fast its market moves or a recording plays."""
MAX_REASON: Final = 200
STREAM_OVERDUE_SEC: Final = 75.0
"""How long after a minute of a stream the next one is overdue, and asked for."""
_OF_TRUTH: Final = (
    *("id", "symbol", "kind", "timeframe", "asset", "session", "group", "critical"),
    *("max_age_sec", "every_sec"),
)
"""What is stored of a series beside its state, for those who read it."""
_PACE_FACTOR: Final[Mapping[Pace, float]] = {Pace.QUIET: 2.0, Pace.NORMAL: 1.0, Pace.VOLATILE: 0.5}


class SourceVerdict(StrEnum):
    """Name the outcome of asking one source. Only FRESH ends a load."""

    FRESH = "fresh"
    LATE = "late"  # it answered, and has nothing new enough
    WRONG = "wrong"  # it answered what can't be
    EMPTY = "empty"  # it answered, and has nothing
    REFUSED = "refused"  # it does not take the question: a symbol that it does not know
    LIMITED = "limited"  # it takes no more requests for now
    FAILED = "failed"
    BREAKER_OPEN = "breaker_open"  # it failed too often; its breaker is open
    PAUSED = "paused"  # an operator or the medic took it out of service
    NO_KEY = "no_key"
    NOT_SERVED = "not_served"
    ERROR = "error"  # asking it, or reading its answer, ended with an error of ours


class SeriesStatus(StrEnum):
    """Name the states of a series."""

    WAITING = "waiting"  # it was never loaded
    FRESH = "fresh"
    CLOSED = "closed"  # its market is closed, and nothing newer can be there
    LATE = "late"
    EMPTY = "empty"
    LIMITED = "limited"
    FAILED = "failed"


_WORKING: Final = frozenset({SourceVerdict.FRESH, SourceVerdict.LATE})
_SLOWER: Final = frozenset(
    {SourceVerdict.LATE, SourceVerdict.WRONG, SourceVerdict.EMPTY, SourceVerdict.REFUSED, SourceVerdict.ERROR}
)
ANSWERED: Final = frozenset({SourceVerdict.FRESH, SourceVerdict.LATE, SourceVerdict.EMPTY})


@dataclass(frozen=True, slots=True)
class SourceFinding:
    """Hold what came of asking one source in this load.

    Attributes:
        reason: in one word or in the source's own; empty for FRESH.
        newest_ms: the time of the newest of these records, or up to which a stream is complete.
        fresh_until: until when these records are fresh.
        is_asked: whether a request was sent to the source. None is for a minute of a stream, for a stream's
            mark on the bus, or if limits of ours allow none.
        day_end: when the source has a whole day, for bars of `1d`.
        answer: what the source answered, from which the above follow.
        set_aside: why each row that broke a rule did so; the others are `records`.
        is_revised: whether it was asked for all bars that may still be corrected.
    """

    source: str
    verdict: SourceVerdict
    reason: str = ""
    records: tuple[Record, ...] = field(default=(), repr=False)
    newest_ms: int | None = None
    fresh_until: float = 0.0
    asked_at: float = 0.0
    is_asked: bool = True
    day_end: DayEnd = AT_CLOSE
    answer: SourceAnswer = field(default=SourceAnswer("", AnswerStatus.EMPTY), repr=False)
    set_aside: tuple[str, ...] = ()
    is_revised: bool = False


Bounded = Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)]
"""A number that every reader of JSON can take, and that can be written again."""


@dataclass(frozen=True, slots=True)
class HistoryAttempt:
    """Hold what came of asking a source for the older part of a series' history.

    Before `begins_ms` the source has nothing, as it answered. `failures` counts the attempts in a row that
    brought nothing; before `retry_at` it is not asked for that part again. Before `revise_at` it is not asked
    again for what it may have corrected, or has had late.
    """

    begins_ms: Bounded | None = None
    failures: Bounded = 0
    retry_at: float = 0.0
    revise_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """Hold when and how a source was asked for a series last.

    `failures` counts the attempts in a row that did not serve. Before `retry_at` a source is left out whose
    answer was of no use, or that must not be asked often; of one that is limited it is when its limits let it
    be asked again, as they were then. `history` is of the questions for what is older.
    """

    verdict: SourceVerdict
    reason: str = ""
    at: float = 0.0
    newest_ms: Bounded | None = None
    failures: Bounded = 0
    retry_at: float = 0.0
    history: HistoryAttempt = HistoryAttempt()


@dataclass(frozen=True, slots=True)
class SeriesState:
    """Hold what is known of a series, as it is stored on the bus.

    Attributes:
        serving: the source whose records are the newest ones; empty before the first.
        since: when it took over.
        reason: why no source before it in the cascade serves: `massive late, yahoo limited`; empty for none.
        newest_ms: the time of the newest record, in epoch milliseconds.
        history_ms: from when on the history was asked for and is published; None if that is unknown.
        loaded_at: when a source answered last. asked_at: when one was asked last.
        fresh_until, due_at: until when it is fresh, and when it is loaded again; None: by the refresh alone.
        not_before: when the refresh may load it again. Before that its answer can't change, or the source
            that serves must not be asked.
        replay: whether it is served from a recording.
        attempts: of each source that was asked, the last one.
    """

    status: SeriesStatus = SeriesStatus.WAITING
    serving: str = ""
    since: float = 0.0
    reason: str = ""
    newest_ms: Bounded | None = None
    history_ms: Bounded | None = None
    loaded_at: float = 0.0
    asked_at: float = 0.0
    fresh_until: float = 0.0
    due_at: float | None = 0.0
    not_before: float = 0.0
    replay: bool = False
    played_at: float = 0.0
    pace: Pace = Pace.NORMAL
    attempts: Mapping[str, Attempt] = field(default_factory=dict)

    def encode(self, series: Series) -> bytes:
        """Return the state as JSON, with what the truth says of the series, for those who read it."""
        of_truth = {name: getattr(series, name) for name in _OF_TRUTH} | {"from": series.sources}
        return orjson.dumps(of_truth | {name: getattr(self, name) for name in self.__slots__})


WAITING: Final = SeriesState()
_STORED: Final[TypeAdapter[SeriesState]] = TypeAdapter(SeriesState)


def parse_series_state(raw: bytes | None) -> SeriesState:
    """Return `WAITING` itself if the state is missing or unusable."""
    try:
        return WAITING if raw is None else _STORED.validate_json(raw)
    except ValidationError:
        return WAITING


def forget_future(state: SeriesState, now: float) -> SeriesState:
    """Return the state without what was planned by a clock that was ahead, and was set back since.

    Such a state says nothing of when its series is to be loaded or how long it is fresh, so it is due at
    once; nor does such an attempt of when its source may be asked again. A load that was under way meanwhile
    is known by its attempts alone: it was planned by the time at which it asked. A time of the newest record
    that lies ahead is that of a record without a time of its own, which was dated by that clock.
    """
    at = max(state.asked_at, state.loaded_at, *(each.at for each in state.attempts.values()))
    attempts = {
        name: _forget_waits(each, now) if is_ahead(each.at, now) else each
        for name, each in state.attempts.items()
    }
    if attempts != state.attempts:
        state = replace(state, attempts=attempts)
    if not is_ahead(at, now):
        return state
    return replace(
        state,
        since=0.0 if is_ahead(state.since, now) else state.since,
        newest_ms=_forget_newest(state.newest_ms, now),
        loaded_at=0.0,
        asked_at=0.0,
        fresh_until=0.0,
        due_at=0.0,
        not_before=0.0,
    )


def _forget_waits(attempt: Attempt, now: float) -> Attempt:
    history = replace(attempt.history, retry_at=0.0, revise_at=0.0)
    newest_ms = _forget_newest(attempt.newest_ms, now)
    return replace(attempt, at=0.0, newest_ms=newest_ms, retry_at=0.0, history=history)


def _forget_newest(newest_ms: int | None, now: float) -> int | None:
    return None if newest_ms is None or is_ahead(newest_ms / 1000, now) else newest_ms


def choose_next(
    series: Series, state: SeriesState, asked: Collection[str], now: float, *, forced: bool = False
) -> str | None:
    """Return the source to ask next in this load, or None if there is none.

    `forced`: ask also those that are left out because of what they answered lately.
    """
    for source in series.sources:
        attempt = state.attempts.get(source)
        if source in asked:
            continue
        if attempt is None or now >= attempt.retry_at:
            return source
        is_fresh = attempt.verdict is SourceVerdict.FRESH
        if not is_fresh and (forced or attempt.verdict not in _SLOWER):  # limits and breaker decide
            return source
        if is_fresh and source == state.serving and now <= state.fresh_until:
            return None  # what it answered still counts
    return None


def find_known_until(state: SeriesState, source: str) -> int | None:
    """Return the time of the newest record that a source and the series both have; None before the first.

    A source that comes back is asked for all since its own newest record, because what it said last may be
    corrected since, and what others served meanwhile does not tell that.
    """
    attempt = state.attempts.get(source)
    if state.newest_ms is None or attempt is None or attempt.newest_ms is None:
        return state.newest_ms
    return min(state.newest_ms, attempt.newest_ms)


def note_attempt(series: Series, before: Attempt | None, finding: SourceFinding) -> Attempt:
    """Return the attempt that a finding leaves, with when the source may be asked again for this series."""
    history = before.history if before else HistoryAttempt()
    if finding.verdict in _WORKING and (finding.is_revised or finding.answer.since_ms is not None):
        history = replace(history, revise_at=finding.asked_at + REVISE_EVERY_SEC)
    interval_sec = finding.answer.min_interval_sec
    if finding.verdict is SourceVerdict.FRESH:
        retry_at = finding.asked_at + interval_sec if interval_sec else 0.0
        return Attempt(finding.verdict, "", finding.asked_at, finding.newest_ms, 0, retry_at, history)
    failures = 1 + (before.failures if before else 0)
    retry_at = 0.0
    if finding.verdict in _SLOWER:
        backoff = Backoff(series.every_sec or USUAL_EVERY_SEC, LONGEST_RETRY_SEC)
        retry_at = finding.asked_at + max(backoff.pause_sec(failures), interval_sec)
    elif finding.verdict is SourceVerdict.LIMITED:
        retry_at = finding.asked_at + finding.answer.wait_sec
    newest_ms = finding.newest_ms if finding.newest_ms is not None else (before.newest_ms if before else None)
    return Attempt(finding.verdict, finding.reason, finding.asked_at, newest_ms, failures, retry_at, history)


def choose_serving(findings: Sequence[SourceFinding]) -> SourceFinding | None:
    """Return the first fresh finding, otherwise the one with the newest record, or None."""
    working = [finding for finding in findings if finding.verdict in _WORKING]
    fresh = (finding for finding in working if finding.verdict is SourceVerdict.FRESH)
    return next(fresh, None) or max(working, key=lambda each: each.newest_ms or 0, default=None)


def conclude_load(
    series: Series, before: SeriesState, findings: Sequence[SourceFinding], now: float
) -> SeriesState:
    """Return the state after a load; `status` is not CLOSED yet and `due_at` is not set, see `plan_load`."""
    attempts = {name: each for name, each in before.attempts.items() if name in series.sources}
    for finding in findings:
        attempts[finding.source] = note_attempt(series, attempts.get(finding.source), finding)
    state = replace(before, attempts=attempts, asked_at=now if findings else before.asked_at)
    served = choose_serving(findings)
    if any(finding.verdict in ANSWERED for finding in findings):
        state = replace(state, loaded_at=now)
    is_older = served is not None and (served.newest_ms or 0) < (before.newest_ms or 0)
    # what was played is of another day
    is_same_time = served is not None and served.answer.is_replay == before.replay
    # not a source that is late, and has nothing newer than the one before it
    if served is not None and (served.verdict is SourceVerdict.FRESH or not is_older or not is_same_time):
        is_other = served.source != before.serving
        times = [each for each in (before.newest_ms, served.newest_ms) if each is not None]
        known_ms = served.answer.since_ms
        state = replace(
            state,
            serving=served.source,
            since=now if is_other or not before.since else before.since,
            newest_ms=max(times, default=None) if is_same_time else served.newest_ms,
            history_ms=before.history_ms if is_same_time and known_ms is None else known_ms,
            fresh_until=max(served.fresh_until, before.fresh_until if is_same_time else 0.0),
            not_before=now + served.answer.min_interval_sec,
            replay=served.answer.is_replay,
            played_at=served.answer.played_at,
        )
    earlier = series.sources
    if state.serving:
        earlier = earlier[: earlier.index(state.serving)] if state.serving in earlier else ()
    reason = explain_sources(state, earlier)
    return replace(state, reason=reason, status=find_status(series, state, now))


def clean_reason(reason: str) -> str:
    """Return a reason, which a source may have written, as one short printable line."""
    return printable_line(reason[: 2 * MAX_REASON])[:MAX_REASON]


def explain_sources(state: SeriesState, sources: Sequence[str]) -> str:
    """Return the outcome of each of these sources that was asked, as `yahoo limited, tiingo no_key`."""
    found = [(name, state.attempts.get(name)) for name in sources]
    return ", ".join(f"{name} {attempt.verdict}" for name, attempt in found if attempt is not None)


def find_status(series: Series, state: SeriesState, now: float) -> SeriesStatus:
    """Return the state of a series; of several reasons why it is not fresh, the one nearest to an answer."""
    if now <= state.fresh_until:
        return SeriesStatus.FRESH
    verdicts = {state.attempts[name].verdict for name in series.sources if name in state.attempts}
    if not verdicts:
        return SeriesStatus.WAITING
    if state.newest_ms is not None and verdicts & (_WORKING | {SourceVerdict.EMPTY}):
        return SeriesStatus.LATE
    if SourceVerdict.EMPTY in verdicts:
        return SeriesStatus.EMPTY
    if SourceVerdict.LIMITED in verdicts:
        return SeriesStatus.LIMITED
    return SeriesStatus.FAILED


def plan_load(
    series: Series, state: SeriesState, now: float, next_record_at: float | None, speed: float = 1.0
) -> SeriesState:
    """Return the state with when the series is loaded again: not while its answer can't change.

    Args:
        next_record_at: when its next record can be there, if its market is closed and the answer is complete;
            else None.
        speed: how much faster than the wall clock its records come, for one that is played.
    """
    if state.status is SeriesStatus.FRESH and next_record_at is not None:
        due_at = max(next_record_at, state.not_before)
        return replace(state, status=SeriesStatus.CLOSED, due_at=due_at, not_before=due_at)
    if series.every_sec is None and state.status is SeriesStatus.FRESH:
        return replace(state, due_at=None)
    pause_sec = series.every_sec or USUAL_EVERY_SEC
    if state.status is SeriesStatus.FRESH:
        quiet_sec = max(pause_sec, series.max_age_sec / 2)  # a quiet market must not make it late
        pause_sec = min(pause_sec * _PACE_FACTOR[state.pace], quiet_sec)
    else:  # one lost request must not cost the hours until the next one
        pause_sec = min(pause_sec, LONGEST_RETRY_SEC)
    due_at = now + max(SHORTEST_PAUSE_SEC, pause_sec / speed)
    if state.status is SeriesStatus.FRESH:
        due_at = max(due_at, min(state.not_before, state.fresh_until))
    return replace(state, due_at=due_at)


def is_stream_wanted(series: Series, state: SeriesState, source: str, now: float) -> bool:
    """Return True if the stream may serve now, because no source before it in the cascade is fresh."""
    if state.serving not in series.sources or now > state.fresh_until:
        return True
    return series.sources.index(source) <= series.sources.index(state.serving)


def plan_after_stream(state: SeriesState, now: float, *, is_complete: bool) -> SeriesState:
    """Return the state with when the series is loaded after a minute of a stream.

    That is when the next minute is overdue, or at once if one before it is missing.
    """
    if state.status is not SeriesStatus.FRESH:
        return state
    return replace(state, due_at=now + STREAM_OVERDUE_SEC if is_complete else now)


def is_stale(state: SeriesState, now: float) -> bool:
    return state.asked_at > 0 and now > state.fresh_until


def needs_refresh(state: SeriesState, now: float, older_than_sec: float) -> bool:
    """Return True if the answer is old, and could have changed.

    What a stream brings is new, and says nothing of what its source has corrected since.
    """
    attempt = state.attempts.get(state.serving)
    revise_at = attempt.history.revise_at if attempt is not None else 0.0
    is_unrevised = 0.0 < revise_at <= now
    return now >= state.not_before and (is_unrevised or now - state.loaded_at >= older_than_sec)
