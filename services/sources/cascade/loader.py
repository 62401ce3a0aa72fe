"""Load a series: ask the sources of its cascade in turn until one is fresh, and publish what came.

One load of a series runs at a time in all instances, under a claim on the bus. What is known of the series is
read again from the bus for each load, so any instance may continue where another one was killed.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import BusError
from marketswarm.bus.circuit_breaker import CircuitBreaker
from marketswarm.bus.stream_loss import LostSpan
from marketswarm.due_queue import DueWork
from marketswarm.keys import source_breaker_key
from marketswarm.net.retry import Backoff
from marketswarm.tasks import run_beside
from services.market.records import MINUTE_MS, Record, RecordKind
from services.market.sessions import Session
from services.sources.access.client import SourceClient
from services.sources.access.keys import read_keys
from services.sources.cascade.evaluation import RecordClock
from services.sources.cascade.history import (
    OlderPart,
    ask_again,
    choose_filler,
    conclude_older,
    conclude_revision,
    find_holes,
    find_missing,
    find_revision,
    forget_older,
    is_restated,
    keep_holes,
)
from services.sources.cascade.published_actions import choose_actions
from services.sources.cascade.series import (
    AT_CLOSE,
    Series,
    find_next_record,
    find_oldest,
    find_revised,
    make_older_question,
    measure_pace,
    time_of,
)
from services.sources.cascade.source_reader import AskTerms, SourceReader
from services.sources.cascade.state import (
    LONGEST_RETRY_SEC,
    REVISE_EVERY_SEC,
    USUAL_EVERY_SEC,
    WAITING,
    SeriesState,
    SourceFinding,
    SourceVerdict,
    choose_next,
    choose_serving,
    conclude_load,
    is_stream_wanted,
    plan_after_stream,
    plan_load,
)
from services.sources.cascade.store import CLAIM_SEC, Claim, Load, SeriesStore
from services.sources.catalog.answer import SentRequest, SourceAnswer
from services.sources.catalog.files import load_catalog
from services.sources.settings import WorkSettings

RECENT: Final = 70
"""The number of records of a series that are kept to see how fast its market moves."""
TRIAL_SEC: Final = 30.0
"""How long a source that is down may take to answer when it is tried."""
OLDER_SEC: Final = 20.0
"""How long a source may take for an older part of the history, since loads of the series wait meanwhile."""
PUBLISH_SEC: Final = 30.0
"""How much longer than its sources a load may take, to read and write the bus."""
LEAST_SHARE_SEC: Final = 2.0
"""The time that each source of a load has at least, also if those before it took longer than they may."""
PUBLISHED_LATE_MS: Final = 15 * MINUTE_MS
"""How long after its end a bar is published at the latest, unless its source has it late."""
ERROR_BACKOFF: Final = Backoff(USUAL_EVERY_SEC, LONGEST_RETRY_SEC)
"""The pauses of a series whose loads end with an error of ours."""

SHOWN: Final = 5
"""The number of actions that the log names."""
CLAIMED_PAUSE_SEC: Final = 0.2
"""Pause before retrying a series that another instance is loading."""

log = logs.get("sources")


class LoadOutcome(StrEnum):
    """Name the outcome of a load."""

    LOADED = "loaded"
    CLAIMED = "claimed"  # another load of the series runs
    LOST = "lost"  # the claim was lost meanwhile; nothing was published
    TIMEOUT = "timeout"
    ERROR = "error"  # an error of ours, which is in the log; nothing was published
    UNUSED = "unused"  # of a stream: it is paused, a source before it serves, or its minute is old


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Hold the outcome of a load, and the state of the series after it.

    `new`, `known` and `corrected` are those of `PublishResult`.
    `source` is the one whose records were published, which need not be the newest ones of the series.
    `outcomes` has the error of each source that failed, and None for each that is up, as of `answered_at`
    (epoch seconds). `took_sec` is how long all of it took.
    `wait_sec` is for CLAIMED and ERROR: after how many seconds to load the series again. `reason` is the type
    of the error.
    """

    outcome: LoadOutcome
    state: SeriesState = WAITING
    new: int = 0
    outcomes: Mapping[str, str | None] = field(default_factory=dict)
    answered_at: float = 0.0
    wait_sec: float = 0.0
    findings: tuple[SourceFinding, ...] = ()
    requests: tuple[SentRequest, ...] = field(default=(), repr=False)
    reason: str = ""
    source: str = ""
    took_sec: float = 0.0
    known: int = 0
    corrected: int = 0


class SeriesLoader:
    """Load series.

    An error of ours ends only what it is in: asking that source, whose turn the next one takes, or else that
    load. It is logged once for each series and type.
    """

    def __init__(self, reader: SourceReader) -> None:
        self.reader, self.store = reader, reader.store
        self._get_settings, self._now = reader.get_settings, reader.now
        self._recent: dict[str, dict[int, Record]] = {}
        self._whole_until: dict[str, float] = {}
        self._failed_loads: dict[str, int] = {}

    async def load(
        self, series: Series, *, forced: bool = False, patience_sec: float | None = None
    ) -> LoadResult:
        """Load a series once, if no other instance does so now, and publish what was found. Raise BusError.

        Args:
            forced: ask also sources that were late, empty or wrong lately.
            patience_sec: how long a request waits for its source's limits; by default as the settings say.
        """
        usual_sec = self._get_settings().load.patience_sec
        terms = AskTerms(forced, usual_sec if patience_sec is None else patience_sec)

        async def ask_and_publish(claim: Claim, before: SeriesState) -> LoadResult:
            with self.store.keep_requests(series, terms.sent):
                load, clock = await self._ask_cascade(series, before, terms)
                load = await self._complete_load(load, clock)
            return await self._publish(claim, before, load)

        result = await self._run_claimed(series, ask_and_publish)
        served = choose_serving(result.findings)
        if served is None or not served.is_revised:
            return result
        if not is_restated(served, result.known, result.corrected):
            return result
        return replace(result, state=await self._ask_anew(series, served) or result.state)

    async def _ask_anew(self, series: Series, served: SourceFinding) -> SeriesState | None:
        """Have the whole history before what a source gave asked for again; return the state of the series.

        Return None if another load of the series runs: the next revision shows nothing new, and the older
        part stays as it is. Raise BusError.
        """
        start_ms = min(map(time_of, served.records))

        async def store_state(claim: Claim, before: SeriesState) -> LoadResult:
            return await self._store(
                claim, Load(series, forget_older(before, served.source, start_ms), (), None, ())
            )

        log.warning("series.restated", series=series.id, source=served.source, bars=len(served.records))
        result = await self._run_claimed(series, store_state)
        return result.state if result.outcome is LoadOutcome.LOADED else None

    async def complete_history(self, series: Series, loaded: LoadResult) -> LoadResult | None:
        """Ask the source that served a load for a part of the history that is missing. Raise BusError.

        If none is, ask it for bars that it may have corrected, unless it was asked for them this hour; after
        that, ask another source of the cascade for the bars that the serving one lacks. This
        may take as long as a load, so take the result of that first. Return None if nothing was asked
        for, as after a load that asked for the whole history, or if another instance has the series.
        """
        served = choose_serving(loaded.findings)
        if loaded.outcome is not LoadOutcome.LOADED or served is None or served.answer.since_ms is not None:
            return None
        source, session = served.source, await self.reader.find_session(series.session)
        # one that is late, too: of a symbol that trades seldom it is for hours, and corrects bars meanwhile
        if not served.is_asked or source not in self.reader.catalog:
            return None
        now_ms, revise_days = round(1000 * self._now()), self._get_settings().load.revise_days
        wanted_ms = find_oldest(series, session, now_ms)

        def find(state: SeriesState) -> OlderPart | None:
            """Return the part to ask for now: one that is missing, else a known one that may be corrected."""
            missing = find_missing(series, state, source, wanted_ms, self._now())
            if missing is not None or served.is_revised or state.newest_ms is None:
                return missing
            revised_ms = find_revised(series, session, state.newest_ms, now_ms, revise_days)
            revision = find_revision(series, state, source, revised_ms, self._now())
            return revision and replace(revision, wanted_ms=wanted_ms)

        async def ask_and_publish(claim: Claim, before: SeriesState) -> LoadResult:
            part = find(before)  # another instance may have asked meanwhile
            if part is None:
                return LoadResult(LoadOutcome.UNUSED, before)
            return await self._load_older(claim, series, before, part)

        older = (
            await self._fill_holes(series, session, loaded.state, source)
            if find(loaded.state) is None
            else await self._run_claimed(series, ask_and_publish)
        )
        return older if older is not None and older.outcome is LoadOutcome.LOADED else None

    async def _fill_holes(
        self, series: Series, session: Session, state: SeriesState, serving: str
    ) -> LoadResult | None:
        """Ask another source of the cascade for the bars that the serving one lacks. Raise BusError.

        Each is asked once an hour, and so it is looked whether any are missing. Return None without a look.
        """
        asked = replace(series, sources=self.reader.list_asked(series))
        is_whole = self._now() < self._whole_until.get(series.id, 0.0)
        if is_whole or choose_filler(asked, state, serving, self._now()) is None:
            return None

        async def ask_and_publish(claim: Claim, before: SeriesState) -> LoadResult:
            source = choose_filler(asked, before, serving, self._now())
            if source is None or before.newest_ms is None:
                return LoadResult(LoadOutcome.UNUSED, before)
            now_ms, revise_days = round(1000 * self._now()), self._get_settings().load.revise_days
            start_ms = find_revised(series, session, before.newest_ms, now_ms, revise_days)
            times = await self.store.read_bar_times(series, start_ms, before.newest_ms)
            holes = find_holes(series, session, times, start_ms, before.newest_ms + 1)
            if not holes:
                self._whole_until[series.id] = self._now() + REVISE_EVERY_SEC
                return LoadResult(LoadOutcome.UNUSED, before)
            part = OlderPart(
                source,
                holes[0],
                holes[-1] + series.length_ms,
                find_oldest(series, session, now_ms),
                is_revision=True,
                holes=frozenset(holes),
            )
            return await self._load_older(claim, series, before, part)

        return await self._run_claimed(series, ask_and_publish)

    async def _load_older(
        self, claim: Claim, series: Series, before: SeriesState, part: OlderPart
    ) -> LoadResult:
        """Ask a source for an older part of the history, and publish what came. Raise BusError.

        What came says nothing of the source's newest records, so neither its state nor the freshness of the
        series change.
        """
        question = make_older_question(series, part.start_ms, part.end_ms)
        terms = AskTerms(forced=False, patience_sec=self._get_settings().load.patience_sec, older=question)
        with self.store.keep_requests(series, terms.sent):
            deadline = time.monotonic() + OLDER_SEC
            finding, _ = await self.reader.ask(series, part.source, before, terms, deadline)
            if part.holes:
                session = await self.reader.find_session(series.session)
                finding = keep_holes(series, session, finding, part.holes)
            load = Load(
                series,
                (conclude_revision if part.is_revision else conclude_older)(before, finding),
                (),
                finding if finding.records else None,
                tuple(terms.sent),
                remember_from_ms=part.wanted_ms,
            )
        result = await self._store(claim, load)
        if terms.sent and result.outcome is LoadOutcome.LOADED and (result.new or not part.is_revision):
            log.info(
                "series.history",
                series=series.id,
                source=part.source,
                verdict=finding.verdict.value,
                records=result.new,
                parts_left=finding.answer.parts_left,
            )
        if part.is_revision and is_restated(finding, result.known, result.corrected):
            await self._ask_anew(series, finding)
        return result

    async def publish_again(self, series: Series, span: LostSpan) -> LoadResult:
        """Have the next loads of a series publish again what came of it within a span. Raise BusError.

        That is forgotten here, and all that may still change is due to be asked for. A series without records
        is UNUSED.
        """

        async def forget(claim: Claim, before: SeriesState) -> LoadResult:
            if before.newest_ms is None or before.replay:
                return LoadResult(LoadOutcome.UNUSED, before)
            start_ms = span.from_ms - series.length_ms - PUBLISHED_LATE_MS
            await self.store.forget_bars(series, start_ms, span.to_ms)
            return await self._store(claim, Load(series, ask_again(before, self._now()), (), None, ()))

        return await self._run_claimed(series, forget)

    async def try_source(self, series: Series, source: str) -> LoadResult:
        """Ask a source for the newest records of a series, to see whether it answers again. Raise BusError.

        What came of it counts for the source alone: its records are not published, and the series stays as it
        is. A series without records is UNUSED: each of its loads asks all its sources.
        """
        terms = AskTerms(forced=True, patience_sec=self._get_settings().load.patience_sec)

        async def ask_and_publish(claim: Claim, before: SeriesState) -> LoadResult:
            if before.newest_ms is None:
                return LoadResult(LoadOutcome.UNUSED, before)
            latest = replace(before, attempts={})  # what the source missed meanwhile is of no use
            with self.store.keep_requests(series, terms.sent):
                deadline = time.monotonic() + TRIAL_SEC
                finding, _ = await self.reader.ask(series, source, latest, terms, deadline)
            return await self._store(claim, Load(series, before, (finding,), None, tuple(terms.sent)))

        return await self._run_claimed(series, ask_and_publish)

    async def record_requests(self, series: Series) -> LoadResult:
        """Record the requests of loads that were broken off, without another load. Raise BusError."""

        async def store_state(claim: Claim, before: SeriesState) -> LoadResult:
            return await self._store(claim, Load(series, before, (), None, ()))

        return await self._run_claimed(series, store_state)

    async def publish_streamed(self, series: Series, answer: SourceAnswer) -> LoadResult:
        """Publish a minute that the stream of a source brought, unless one before it serves. Raise BusError.

        The minute of a paused source is not used, also while its connection is still open.
        The newest record of a series is that up to which nothing is missing. So a minute that does not follow
        it is published, too, but the next load is at once, and asks for all since then.
        """

        async def evaluate_and_publish(claim: Claim, before: SeriesState) -> LoadResult:
            if await CircuitBreaker(self.store.bus, source_breaker_key(answer.source)).is_paused():
                return LoadResult(LoadOutcome.UNUSED, before)
            finding, clock = await self.reader.evaluate_streamed(series, answer)
            is_wanted = is_stream_wanted(series, before, answer.source, clock.wall)
            if not is_wanted or finding.verdict not in (SourceVerdict.FRESH, SourceVerdict.WRONG):
                return LoadResult(LoadOutcome.UNUSED, before)
            known_ms = None if before.replay else before.newest_ms
            is_complete = known_ms is not None and time_of(answer.records[0]) <= known_ms + series.length_ms
            if not is_complete:
                finding = replace(finding, newest_ms=known_ms)
            state = conclude_load(series, before, [finding], clock.wall)
            load = Load(series, state, (finding,), choose_serving([finding]), (), is_complete=is_complete)
            return await self._publish(claim, before, await self._complete_load(load, clock))

        return await self._run_claimed(series, evaluate_and_publish)

    async def _run_claimed(
        self, series: Series, work: Callable[[Claim, SeriesState], Awaitable[LoadResult]]
    ) -> LoadResult:
        """Return the outcome ERROR for an error of ours."""
        begun = time.monotonic()
        try:
            result = await self._run_under_claim(series, work)
        except BusError:
            raise
        except Exception as error:  # noqa: BLE001 - one series must not end the others
            self.reader.report_error(series, "", error)
            failures = self._failed_loads[series.id] = self._failed_loads.get(series.id, 0) + 1
            wait_sec = ERROR_BACKOFF.pause_sec(failures)
            result = LoadResult(LoadOutcome.ERROR, wait_sec=wait_sec, reason=type(error).__name__)
        if result.outcome is LoadOutcome.LOADED:
            self._failed_loads.pop(series.id, None)
        return replace(result, took_sec=time.monotonic() - begun)

    async def _run_under_claim(
        self, series: Series, work: Callable[[Claim, SeriesState], Awaitable[LoadResult]]
    ) -> LoadResult:
        """Return the result of `work` under the claim of a series, within the time limit of a load.

        `work` gets the claim and the state of the series as it is then. Its sources share the time limit, and
        what came from them is published after that.
        """
        within_sec = self._get_settings().load.timeout_sec + PUBLISH_SEC
        claim, wait_sec = await self.store.claim(series.id)
        if claim is None:
            return LoadResult(LoadOutcome.CLAIMED, wait_sec=wait_sec)
        is_published = False
        try:
            async with asyncio.timeout(within_sec), run_beside(self._renew(claim)):
                before = (await self.store.read_states([series.id], self._now()))[series.id]
                result = await work(claim, before)
                is_published = result.outcome is LoadOutcome.LOADED  # publishing gave the claim back
                return result
        except TimeoutError:
            log.warning("series.timeout", series=series.id, within_sec=within_sec)
            return LoadResult(LoadOutcome.TIMEOUT)
        finally:
            if not is_published:
                with contextlib.suppress(BusError):
                    await self.store.release(claim)

    def forget(self, series: str) -> None:
        """Drop what this process keeps in memory about a series; what is stored in Redis stays.

        So do requests that are not recorded yet.
        """
        for kept in (self._recent, self._failed_loads, self._whole_until):
            kept.pop(series, None)
        self.reader.forget(series)

    async def _ask_cascade(
        self, series: Series, before: SeriesState, terms: AskTerms
    ) -> tuple[Load, RecordClock]:
        """Ask the sources in turn until one is fresh.

        Return what all of them found, and what time it is for the records of the one that serves.

        Each has its share of the time that is left, and a least one, so a slow one keeps none from its turn.
        """
        findings: list[SourceFinding] = []
        clocks: dict[str, RecordClock] = {}
        within_sec = self._get_settings().load.timeout_sec
        ends_at, least_sec = time.monotonic() + within_sec, within_sec / len(series.sources)
        while not findings or findings[-1].verdict is not SourceVerdict.FRESH:
            asked = {finding.source for finding in findings}
            source = choose_next(series, before, asked, self._now(), forced=terms.forced)
            if source is None:
                break
            share_sec = (ends_at - time.monotonic()) / (len(series.sources) - len(asked))
            deadline = time.monotonic() + max(share_sec, min(LEAST_SHARE_SEC, least_sec))
            finding, clocks[source] = await self.reader.ask(series, source, before, terms, deadline)
            findings.append(finding)
        state = conclude_load(series, before, findings, self._now())
        clock = clocks.get(state.serving) or await self.reader.read_clock(series, state.serving)
        return Load(series, state, tuple(findings), choose_serving(findings), tuple(terms.sent)), clock

    async def _complete_load(self, load: Load, clock: RecordClock) -> Load:
        """Return a load with the time of the next one, and of actions what changes. Raise BusError."""
        series = load.series
        session = await self.reader.find_session(series.session)
        state = self._plan(load, session, clock)
        if load.is_complete is not None:
            state = plan_after_stream(state, clock.wall, is_complete=load.is_complete)
        load = replace(load, state=state, remember_from_ms=find_oldest(series, session, clock.now_ms))
        if series.kind is RecordKind.ACTIONS and load.served is not None:
            load = await self._settle_actions(load, load.served)
        return load

    async def _publish(self, claim: Claim, before: SeriesState, load: Load) -> LoadResult:
        """Publish a load that is complete, and log if another source serves now. Raise BusError."""
        series, state = load.series, load.state
        result = await self._store(claim, load)
        if result.outcome is LoadOutcome.LOADED and state.serving != before.serving:
            log.info(
                "series.switched", series=series.id, was=before.serving, now=state.serving, why=state.reason
            )
        return result

    async def _settle_actions(self, load: Load, served: SourceFinding) -> Load:
        """Return a load with the actions to publish and those to withdraw. Raise BusError."""
        series, published = load.series, await self.store.read_published(load.series)
        chosen = choose_actions(series, load.state, served, published)
        if chosen.withdrawn:
            names = [f"{each.kind} of {each.ex_day}" for each in chosen.withdrawn[:SHOWN]]
            log.info(
                "series.actions_withdrawn",
                series=series.id,
                source=served.source,
                count=len(chosen.withdrawn),
                actions=names,
            )
        if chosen.unexplained:
            log.warning(
                "series.actions_missing", series=series.id, source=served.source, count=chosen.unexplained
            )
        served = replace(served, records=chosen.records)
        return replace(load, served=served, withdrawn=chosen.withdrawn)

    async def _store(self, claim: Claim, load: Load) -> LoadResult:
        """Publish a load as it is, and give the claim back; LOST if another has it. Raise BusError."""
        settings, answered_at = self._get_settings(), self._now()  # the bus may take it much later
        published = await self.store.publish(claim, load, settings)
        if published.is_lost:
            return LoadResult(LoadOutcome.LOST)
        return LoadResult(
            LoadOutcome.LOADED,
            load.state,
            published.new,
            published.outcomes,
            answered_at,
            findings=load.findings,
            requests=load.requests,
            source=load.served.source if load.served else "",
            known=published.known,
            corrected=published.corrected,
        )

    def _plan(self, load: Load, session: Session, clock: RecordClock) -> SeriesState:
        """Return the state after a load, with the time of the next load."""
        series, state = load.series, load.state
        loaded_ms = clock.now_ms if load.served else round(1000 * state.loaded_at)
        day_end = load.served.day_end if load.served else AT_CLOSE
        next_ms = find_next_record(series, session, state.newest_ms, loaded_ms, clock.now_ms, day_end=day_end)
        next_at = None if next_ms is None else clock.to_wall(next_ms)
        state = replace(state, pace=measure_pace(self._keep_recent(load)))
        return plan_load(series, state, clock.wall, next_at, clock.speed)

    def _keep_recent(self, load: Load) -> list[Record]:
        """Return the newest records of a series, those of earlier loads too, in order."""
        recent = self._recent.setdefault(load.series.id, {})
        newest = load.served.records[-RECENT:] if load.served else ()
        recent |= {time_of(record): record for record in newest}
        for at in sorted(recent)[:-RECENT]:
            del recent[at]
        return [recent[at] for at in sorted(recent)]

    async def _renew(self, claim: Claim) -> None:
        """Renew a claim until cancelled. A claim that is lost is seen when the load is published."""
        while True:
            await asyncio.sleep(CLAIM_SEC / 3)
            with contextlib.suppress(BusError):
                await self.store.renew(claim)


@contextlib.asynccontextmanager
async def open_loader(
    store: SeriesStore,
    get_settings: Callable[[], WorkSettings],
    base_urls: Mapping[str, str] | None,
    environ: Mapping[str, str],
) -> AsyncIterator[SeriesLoader]:
    """Open a loader of the sources of the catalogue and of the settings, with the keys of the environment.

    Raise Exit, code 2, if a key can't be read.
    """
    catalog, problems = load_catalog(get_settings().catalog)
    for problem in problems:
        log.error("catalog.refused", why=problem)
    async with SourceClient(read_keys(catalog.values(), environ), base_urls) as client:
        yield SeriesLoader(SourceReader(client, store, catalog, get_settings))


async def load_concurrently(
    series: Iterable[Series], at_once: int, load: Callable[[Series], Awaitable[None]]
) -> None:
    """Call `load` with each series, `at_once` at a time.

    The next series is always one of the source that has the fewest loads running, by the first source of each
    cascade: otherwise all places would wait for a source that takes one request a second. The series of one
    source keep their order. Raise an ExceptionGroup of what `load` raises, which ends all others.
    """
    by_place = {str(place): each for place, each in enumerate(series)}
    due = DueWork(lambda place: by_place[place].sources[0])
    due.limit(at_once, at_once)
    for place in by_place:
        due.put(place, float(place))

    async def work() -> None:
        while (place := due.begin(len(by_place))) is not None:
            await load(by_place[place])
            due.finish(place, len(by_place))

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
