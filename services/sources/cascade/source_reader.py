"""Ask one source for a series, and evaluate what it answers.

A source is one of the catalogue, a recording that is played, or massive's own stream, whose bars are on the
bus already. Which source is asked when, and what is published, is decided in `loader.py`.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.circuit_breaker import BreakerLimits, CircuitBreaker
from marketswarm.bus.rate_limiter import SharedRateLimiter
from marketswarm.keys import source_account_key, source_breaker_key
from services.market.records import Quote, Record, RecordKind
from services.market.sessions import ROUND_THE_CLOCK, Session, UnknownSessionError, get_session
from services.sources.access.client import AskContext, SourceClient
from services.sources.access.health import SourceHealth, read_health
from services.sources.access.worker_thread import MANY_RECORDS, run_large
from services.sources.cascade.evaluation import RecordClock, date_finding, evaluate_answer
from services.sources.cascade.missing_keys import AvailableKeys, is_stream
from services.sources.cascade.series import Series, find_revised, make_question, time_of
from services.sources.cascade.state import (
    SeriesState,
    SourceFinding,
    SourceVerdict,
    clean_reason,
    find_known_until,
)
from services.sources.cascade.store import SeriesStore
from services.sources.catalog.answer import NOT_SERVED, AnswerStatus, SentRequest, SourceAnswer
from services.sources.catalog.request import Question, split_question
from services.sources.catalog.source import MarketSource
from services.sources.limits import FailureSettings
from services.sources.replay.replay_source import ReplaySource, open_replays
from services.sources.settings import ReplaySettings, WorkSettings

MAX_KINDS: Final = 10
"""The most kinds of actions that one line of the log names."""
MAX_KNOWN_KINDS: Final = 200
"""After so many kinds of a series no further one is logged, since they are the source's own words."""
MAX_BEHIND_SEC: Final = 10.0
"""The seconds by which our clock may be behind that of a stream's server."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

log = logs.get("sources")


@dataclass(frozen=True, slots=True)
class AskTerms:
    """Say how the sources of a load are asked.

    Attributes:
        forced: whether also those are asked whose answers were of no use lately.
        patience_sec: how long a request waits for its source's limits.
        older: the question for an older part of the history; None to ask for what is new.
        sent: each request that was sent is added here, also if an error is raised later.
    """

    forced: bool
    patience_sec: float
    older: Question | None = None
    sent: list[SentRequest] = field(default_factory=list)


class SourceReader:
    """Ask sources, one at a time, and keep what that takes from one question to the next.

    Attributes:
        replays: the recordings that are played, by the names of their sources.
        now: the clock, in epoch seconds.
    """

    def __init__(
        self,
        client: SourceClient,
        store: SeriesStore,
        catalog: Mapping[str, MarketSource],
        get_settings: Callable[[], WorkSettings],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.replays: Mapping[str, ReplaySource] = {}
        self.store, self.catalog, self.get_settings, self.now = store, catalog, get_settings, now
        self._client = client
        self._sessions: dict[str, Session] = {}
        self._opening = asyncio.Lock()
        self._replay: tuple[ReplaySettings, Bus] | None = None
        self._untimed: dict[str, dict[tuple[str, str], Quote]] = {}
        self._errors: dict[str, set[type[Exception]]] = {}
        self._set_aside: dict[str, set[str]] = {}
        self._unknown_actions: dict[str, set[str]] = {}
        self._unasked: dict[str, dict[str, int]] = {}

    def forget(self, series: str) -> None:
        for kept in (self._untimed, self._errors, self._set_aside, self._unknown_actions, self._unasked):
            kept.pop(series, None)

    async def ask(
        self, series: Series, source: str, before: SeriesState, terms: AskTerms, deadline: float
    ) -> tuple[SourceFinding, RecordClock]:
        """Return what a source found until `deadline` (`time.monotonic`), and the clock of its records.

        An error of ours becomes a finding, so that the next source is asked. Raise BusError.
        """
        sent_before = len(terms.sent)
        try:
            finding, clock = await self._ask_and_evaluate(series, source, before, terms, deadline)
        except BusError:
            raise
        except Exception as error:  # noqa: BLE001 - one source must not end the others
            self.report_error(series, source, error)
            clock = await self.read_clock(series, source)
            reason = type(error).__name__
            finding = SourceFinding(source, SourceVerdict.ERROR, reason, asked_at=clock.wall)
        self._note_set_aside(series, finding)
        return replace(finding, is_asked=len(terms.sent) > sent_before), clock

    def list_asked(self, series: Series) -> tuple[str, ...]:
        """Return the sources of a series that take requests: neither recordings nor massive's stream."""
        return tuple(
            source for source in series.sources if source in self.catalog and not is_stream(series, source)
        )

    def _note_set_aside(self, series: Series, finding: SourceFinding) -> None:
        """Log that rows of a source's answers break rules, once until an answer has none that do.

        Log each kind of action that no record can hold once.
        """
        known = self._set_aside.setdefault(series.id, set())
        if finding.set_aside and finding.source not in known:
            known.add(finding.source)
            log.warning(
                "series.rows_set_aside",
                series=series.id,
                source=finding.source,
                rows=len(finding.set_aside),
                reason=clean_reason(finding.set_aside[0]),
            )
        elif finding.records and not finding.set_aside:
            known.discard(finding.source)
        kinds = self._unknown_actions.setdefault(series.id, set())
        new = sorted(finding.answer.unknown_actions.keys() - kinds)[: max(0, MAX_KNOWN_KINDS - len(kinds))]
        if new:
            kinds.update(new)
            named = new[:MAX_KINDS]
            log.warning("series.actions_unknown", series=series.id, source=finding.source, kinds=named)

    async def _ask_and_evaluate(
        self, series: Series, source: str, before: SeriesState, terms: AskTerms, deadline: float
    ) -> tuple[SourceFinding, RecordClock]:
        clock = await self.read_clock(series, source)
        if is_stream(series, source):
            return await self._read_stream(series, source, clock), clock
        replay = self.replays.get(source)
        is_known = before.replay is (replay is not None)  # a recording is of another time
        session = await self.find_session(series.session)
        known_until = find_known_until(before, source) if is_known else None
        question = terms.older or make_question(series, session, known_until, clock.now_ms)
        is_revised = False
        attempt, newest_ms = before.attempts.get(source), before.newest_ms
        if series.kind is RecordKind.BARS and terms.older is None and known_until and newest_ms and attempt:
            days = self.get_settings().load.revise_days
            revised_ms = find_revised(series, session, newest_ms, clock.now_ms, days)
            first = _EPOCH + timedelta(milliseconds=max(revised_ms, before.history_ms or revised_ms))
            question = replace(question, keep_from=min(first, question.start))
            if replay is None and clock.wall >= attempt.history.revise_at:
                question, is_revised = self._widen(source, question, clock)
        if replay is not None:
            answer = await replay.ask(question, on_request=terms.sent.append)
            if answer.played_at:  # it may have played minutes on while the question was on its way
                clock = replace(clock, wall=self.now(), now=answer.played_at)
        elif source in self.catalog:
            answer = await self._ask_outside(series, source, question, terms, deadline)
            answer = self._date_quotes(series, answer) if answer.is_untimed else answer
            answer = self._drop_seen(series, answer, question)
        else:
            answer = SourceAnswer(source, AnswerStatus.FAILED, NOT_SERVED)
        is_large = len(answer.records) > MANY_RECORDS
        finding = await run_large(is_large, evaluate_answer, series, session, answer, clock)
        return replace(finding, is_revised=is_revised), clock

    def _widen(self, source: str, question: Question, clock: RecordClock) -> tuple[Question, bool]:
        """Return a question for all bars that may be corrected if one request has them, and whether it does.

        That costs no more than a question for the newest ones.
        """
        if source not in self.catalog or question.keep_from is None:
            return question, False
        wide, now = replace(question, start=question.keep_from), datetime.fromtimestamp(clock.now, UTC)
        endpoints = self.catalog[source].find_endpoints(
            question.kind, question.asset, question.symbol, question.timeframe
        )
        is_one = all(len(split_question(endpoint, wide, now)) <= 1 for endpoint in endpoints)
        return (wide, True) if is_one else (question, False)

    def _drop_seen(self, series: Series, answer: SourceAnswer, question: Question) -> SourceAnswer:
        """Return an answer without what came unasked before its question, if that came before just so.

        Some sources send the same hundreds of bars with each new one: what they corrected among them counts.
        """
        start_ms = round(1000 * question.start.timestamp())
        unasked = tuple(record for record in answer.records if time_of(record) < start_ms)
        if series.kind is not RecordKind.BARS or not unasked:
            return answer
        seen = self._unasked.setdefault(series.id, {})
        digest = hash(unasked)
        if seen.get(answer.source) != digest:
            seen[answer.source] = digest
            return answer
        return replace(answer, records=answer.records[len(unasked) :])

    async def _ask_outside(
        self, series: Series, source: str, question: Question, terms: AskTerms, deadline: float
    ) -> SourceAnswer:
        """Return the answer of a source of the catalogue, within its limits and unless it is paused."""
        bus, can_wait = self.store.bus, terms.older is not None
        failures = self.get_settings().failures.get(source, FailureSettings())
        longest_sec = max(failures.recovery_sec, failures.longest_recovery_sec)
        limits = BreakerLimits(failures.failure_threshold, failures.recovery_sec, longest_sec)
        breaker = CircuitBreaker(bus, source_breaker_key(source), limits)
        context = AskContext(
            SharedRateLimiter(bus, source_account_key(source)),
            terms.patience_sec,
            deadline,
            terms.sent.append,
            can_wait,
            breaker.is_paused,
            failures.retries,
        )
        answer = await self._client.ask(self._find_source(source), question, breaker, context)
        if answer.parts_left and not can_wait:
            log.warning("series.cut", series=series.id, source=source, parts_left=answer.parts_left)
        return answer

    @property
    def keys(self) -> AvailableKeys:
        """Return which sources have their keys, of the catalogue and the recordings of now."""
        return AvailableKeys(self.catalog, self._client.keys, self.replays)

    def is_excused(self, series: Series) -> bool:
        """Return True for a series all of whose sources lack their keys, if the settings allow that."""
        return not self.get_settings().gate.need_keys and self.keys.lacks_keys(series)

    def _find_source(self, name: str) -> MarketSource:
        return self.catalog[name].replace_limits(self.get_settings().limits)

    def _date_quotes(self, series: Series, answer: SourceAnswer) -> SourceAnswer:
        """Return an answer without times in which a quote is as old as the first one with its values.

        Such quotes have the time at which we asked. So the price of a pair that is not traded any more, or
        whose trading is halted, would be new each time.
        """
        known, records = self._untimed.setdefault(series.id, {}), list[Record]()
        for record in answer.records:
            if isinstance(record, Quote):
                before = known.get((answer.source, record.symbol), record)
                quote = before if replace(before, at_ms=record.at_ms) == record else record
                known[answer.source, record.symbol] = quote
                records.append(quote)
        return replace(answer, records=tuple(records))

    async def _read_stream(self, series: Series, source: str, clock: RecordClock) -> SourceFinding:
        """Return how complete massive's own stream of a symbol is; its bars are on the bus already."""
        mark = await self.store.read_mark(series.symbol)
        finding = SourceFinding(source, SourceVerdict.EMPTY, "no stream of it", asked_at=clock.wall)
        if mark is None:
            return finding
        session = await self.find_session(series.session)
        return date_finding(series, session, finding, mark, clock, late="its stream is late")

    async def evaluate_streamed(
        self, series: Series, answer: SourceAnswer
    ) -> tuple[SourceFinding, RecordClock]:
        """Return what the minute is worth, and the clock by which it has ended."""
        wall = self.now()
        end = (time_of(answer.records[0]) + series.length_ms) / 1000
        # the source says that it has ended; our clock may be a little behind that of the source
        clock = RecordClock(wall, max(wall, min(end, wall + MAX_BEHIND_SEC)))
        finding = evaluate_answer(series, await self.find_session(series.session), answer, clock)
        return replace(finding, is_asked=False), clock

    async def read_clock(self, series: Series, source: str) -> RecordClock:
        """Return the time of a source's records: our own, or that of its recording."""
        wall = self.now()
        replay = self.replays.get(source)
        settings = self.get_settings().replay
        if replay is None or settings is None:
            return RecordClock(wall, wall)
        return RecordClock(wall, await replay.find_time(series.symbol) or wall, settings.speed)

    async def follow_replay(self) -> None:
        """Play the recording that the settings name, or none. Raise RecordingError if it can't be read."""
        settings = self.get_settings().replay
        wanted = None if settings is None else (settings, self.store.bus)
        if wanted == self._replay:
            return
        self.replays, self._replay = {}, None
        if wanted is not None:
            file, bus = wanted
            self.replays = await open_replays(file.file, file.names, bus, speed=file.speed, start=file.start)
            self._replay = wanted

    async def find_session(self, code: str) -> Session:
        """Return when an exchange trades, by its code; of an unknown one, that it always does."""
        # Loads that begin at once want the same calendar, so it is computed once. And one at a time,
        # since what keeps the warnings of its library away is not made for several threads.
        async with self._opening:
            if code not in self._sessions:
                try:  # computing an exchange's calendar takes up to a second
                    self._sessions[code] = await asyncio.to_thread(get_session, code)
                except UnknownSessionError as error:
                    log.warning("series.session_unknown", session=code, why=str(error))
                    self._sessions[code] = get_session(ROUND_THE_CLOCK)
        return self._sessions[code]

    async def read_health(self, sources: Iterable[str]) -> dict[str, SourceHealth]:
        """Return how each of these sources is. Raise BusError."""
        names = set(sources)
        catalog = {name: self._find_source(name) for name in names & self.catalog.keys()}
        return await read_health(self.store.bus, names, catalog, self._client.keys)

    def report_error(self, series: Series, source: str, error: Exception) -> None:
        """Log an error of ours in a load, with its traceback, once for each series and type.

        `source` is empty if no source was just asked.
        """
        known = self._errors.setdefault(series.id, set())
        if type(error) not in known:
            known.add(type(error))
            log.error("series.error", series=series.id, source=source, exc_info=error)
