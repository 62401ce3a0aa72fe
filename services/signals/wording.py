"""Have a model word the reasons of signals that changed their side, after their tick is committed.

    wording = SignalWording(me, settings_now, keys, asked, store=WordingTable(database))
    leader = SignalLeader(..., on_tick=(wording.follow_tick,))     # each tick that is committed
    me.task(wording.run(), name="wording")

It decides nothing: a sentence is stored and published beside the log, and no tick waits for one. Whatever
goes wrong, the signal has none, which is counted.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.keys import SIGNALS_WORDINGS
from marketswarm.metrics import Family, MetricTable
from marketswarm.postgres.errors import PostgresAwayError, RefusedRowsError
from marketswarm.tasks import end_tasks
from services.signals.ask.asked import AskedEndpoint, judge_failure
from services.signals.ask.calls import CallFailedError, ModelClient, explained_failures, make_guard
from services.signals.ask.endpoints import WORDING, WordingSettings
from services.signals.ask.keys import OriginKeys
from services.signals.ask.metrics import AskMetrics
from services.signals.ask.sentences import (
    WORDING_INSTRUCTION,
    OtherSideError,
    encode_wording_question,
    parse_sentence,
)
from services.signals.consensus.consensus import Abstention
from services.signals.cycle.decide import TickDecision
from services.signals.settings import SignalsSettings, find_bars, find_log
from services.tables.signal_places import SignalPlace, parse_place
from services.tables.signal_wordings import WordedSignal, Wording, make_wording_fields
from services.tables.signals import SignalRow

MAX_WAITING: Final = 100
"""The signals that may wait to be asked about; what they wait for is the bus with the limits."""
WORDINGS_KEPT: Final = 1000
"""The entries, roughly, that `signals:wordings` keeps."""
_HELP: Final = {"wordings_total{outcome}": "Signals that changed their side, by what came of their wording."}
_METRICS: Final = MetricTable("marketswarm_signals_", _HELP)


class WordingOutcome(StrEnum):
    """What came of a signal that was to be worded."""

    WORDED = "worded"
    LIMITED = "limited"
    """A limit of ours, or the model's, is reached: of a cycle, a minute, an hour."""
    FAILED = "failed"
    """The model was not asked, because it fails, or its answer can't be used."""
    OTHER_SIDE = "other_side"
    """The model explained another side."""
    NOT_STORED = "not_stored"


class WordingStore(Protocol):
    """What this needs of `WordingTable`, which a test may replace by memory."""

    async def write_wording(self, one: WordedSignal) -> bool:
        """Store a wording; return False if the signal has one. Raises PostgresAwayError, RefusedRowsError."""


class _ChangedSignal(NamedTuple):
    """A signal that changed its side: its row, its place, and its side, which is that of both."""

    row: SignalRow
    place: SignalPlace
    side: str


class _AskedModel(NamedTuple):
    """The model that is asked, by which settings and on which bus its limits are."""

    settings: WordingSettings
    bus: Bus
    client: ModelClient
    asked: AskedEndpoint


class SignalWording:
    """Ask the model of `settings.wording`; without that setting, nothing."""

    def __init__(
        self,
        me: Agent[Any],
        settings_now: Callable[[], SignalsSettings],
        keys: OriginKeys,
        asked: AskMetrics,
        *,
        store: WordingStore,
    ) -> None:
        self._me, self._settings_now, self._keys = me, settings_now, keys
        self._asked, self._store = asked, store
        self._waiting: asyncio.Queue[_ChangedSignal] = asyncio.Queue(MAX_WAITING)
        self._model: _AskedModel | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.wordings_total: Counter[str] = Counter()

    def follow_tick(self, decision: TickDecision, *_: object) -> None:
        """Have the signals of a committed tick worded that changed their side, as many as a cycle takes.

        It returns at once, and raises nothing; those of the greatest confidence come first.
        """
        settings = self._settings_now().settings.wording
        if settings is None:
            return
        rows = sorted(list_changed(decision), key=lambda row: row.confidence or "", reverse=True)
        self.wordings_total[WordingOutcome.LIMITED] += len(rows[settings.calls_per_cycle :])
        for row in rows[: settings.calls_per_cycle]:
            place = parse_place(row.content)
            if place is None or row.side is None or place.before == row.side:
                continue
            if self._waiting.full():
                self._count(WordingOutcome.LIMITED)
            else:
                self._waiting.put_nowait(_ChangedSignal(row, place, row.side))

    async def run(self) -> None:
        """Ask about the signals that wait, until cancelled; then close all, and drop what is in flight."""
        try:
            while True:
                changed = await self._waiting.get()
                model = await self._follow_truth()
                if model is not None:
                    await self._begin(model, changed)
        finally:
            await self._end()

    async def _follow_truth(self) -> _AskedModel | None:
        """Return the model that the truth names now; end what is in flight to another one."""
        settings = self._settings_now().settings.wording
        bus = self._me.bus(find_bars(self._me.section).bus)
        if self._model is not None and self._model[:2] == (settings, bus):
            return self._model
        await self._end()
        if settings is not None:
            client = ModelClient(settings, self._keys.find(settings.url), make_guard(settings))
            asked = AskedEndpoint(bus, WORDING, settings, self._asked)
            self._model = _AskedModel(settings, bus, client, asked)
        return self._model

    async def _end(self) -> None:
        await end_tasks(*self._tasks)
        model, self._model = self._model, None
        if model is not None:
            self._asked.breakers.pop(WORDING, None)
            await model.client.aclose()

    async def _begin(self, model: _AskedModel, changed: _ChangedSignal) -> None:
        """Spend a call of the limits, and send the question in a task of its own, if that may be."""
        if not model.asked.room:
            self._count(WordingOutcome.LIMITED)
            return
        refusal, reading = await model.asked.ask_permission()
        if refusal is not None:
            self._count(_name_outcome(refusal))
            return
        work = self._word(model, changed, is_trial=reading.is_trial)
        task = asyncio.create_task(work, name=f"wording {changed.row.symbol}")
        model.asked.in_flight += 1
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._note_done(model, done))

    def _note_done(self, model: _AskedModel, task: asyncio.Task[None]) -> None:
        model.asked.in_flight -= 1
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._count(WordingOutcome.FAILED)
            self._me.log.error("wording.failed", error=type(error).__name__, exc_info=error)

    async def _word(self, model: _AskedModel, changed: _ChangedSignal, *, is_trial: bool) -> None:
        """Ask the model about a signal, and store and publish what it says."""
        self._asked.calls_total[WORDING] += 1
        began, failure, pause_sec, text = time.monotonic(), "", None, ""
        has_failed: bool | None = False
        outcome = WordingOutcome.WORDED
        try:
            with explained_failures():
                answer = await model.client.ask(WORDING_INSTRUCTION, encode_wording_question(changed.place))
                text = parse_sentence(answer, changed.side)
        except OtherSideError:
            outcome = WordingOutcome.OTHER_SIDE
        except CallFailedError as error:
            failure, pause_sec = error.reason, error.pause_sec
            refusal, has_failed = judge_failure(error)
            outcome = _name_outcome(refusal)
        self._asked.count_call(WORDING, time.monotonic() - began, failure or ("" if text else outcome))
        model.asked.log_change(failure, time.monotonic())
        try:
            await model.asked.settle(pause_sec, has_failed=has_failed, is_trial=is_trial)
        except BusError as error:
            self._me.log.debug("wording.unsettled", reason=error.reason)
        self._count(await self._keep(model, changed, text) if text else outcome)

    async def _keep(self, model: _AskedModel, changed: _ChangedSignal, text: str) -> WordingOutcome:
        """Store a wording, then publish it; one that is stored and not published is shown all the same."""
        row = changed.row
        wording = Wording(text, model.settings.model, time.time_ns() // 1_000_000)
        one = WordedSignal(row.ident, row.tick, row.symbol, changed.side, wording)
        try:
            if not await self._store.write_wording(one):
                return WordingOutcome.NOT_STORED
        except (PostgresAwayError, RefusedRowsError) as error:
            self._me.log.warning("wording.unstored", error=str(error)[:200])
            return WordingOutcome.NOT_STORED
        bus = self._me.bus(find_log(self._me.section).bus)
        fields: dict[Any, Any] = dict(make_wording_fields(one))
        try:
            await bus.ask(bus.client.xadd(SIGNALS_WORDINGS, fields, maxlen=WORDINGS_KEPT, approximate=True))
        except BusError as error:
            self._me.log.debug("wording.unpublished", reason=error.reason)
        return WordingOutcome.WORDED

    def _count(self, outcome: WordingOutcome) -> None:
        self.wordings_total[outcome] += 1

    def collect(self) -> Iterator[Family]:
        return _METRICS.read(self)


def list_changed(decision: TickDecision) -> list[SignalRow]:
    """Return the rows of a tick whose side began in it, by the states: no content is read for that."""
    found = []
    for row in decision.rows:
        state = decision.states.get(row.symbol)
        if row.side is not None and state is not None and state.side_ms == state.as_of_ms:
            found.append(row)
    return found


def _name_outcome(refusal: Abstention) -> WordingOutcome:
    is_limit = refusal is Abstention.LIMITED
    return WordingOutcome.LIMITED if is_limit else WordingOutcome.FAILED
