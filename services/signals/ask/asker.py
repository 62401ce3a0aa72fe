"""Ask voters outside: what is known already, then what Redis has, then the voters, as many as allowed."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Self

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.tasks import end_tasks, gather_all
from services.signals.ask.answers import CachedVote, find_life_ms, parse_answer
from services.signals.ask.asked import AskedEndpoint, judge_failure
from services.signals.ask.cache import VoteCache
from services.signals.ask.calls import CallFailedError, VoterClient, make_voter_client
from services.signals.ask.endpoints import AskSettings, ChatSettings, NewsSettings
from services.signals.ask.keys import OriginKeys
from services.signals.ask.metrics import AskMetrics
from services.signals.ask.news import NewsMemory, list_headlines, vote_by_news
from services.signals.ask.questions import MAX_HEADLINES, VoteQuestion
from services.signals.consensus.consensus import Abstention
from services.signals.voters.votes import Vote

REST_SEC: Final = 60.0
"""For how long a voter is not asked again about a symbol on which it had no vote."""
HEADLINES_SEC: Final = 86_400.0
"""The age up to which a headline goes with a question."""
MAX_RESTS: Final = 100_000
_RESTS: Final = (Abstention.FAILED, Abstention.NOT_A_NUMBER, Abstention.OUT_OF_RANGE)

Key = tuple[str, str]
"""A symbol and the name of a voter."""
log = logs.get("signals")


class _AskedVoter(NamedTuple):
    """Hold a voter that is asked over HTTP: how it is asked, and within which limits."""

    client: VoterClient
    asked: AskedEndpoint


class VoteAsker:
    """Ask voters outside. Use as a context manager, or `aclose` it; what is in flight then ends.

    Args:
        keys: the keys of voters, by origin.
        news: the newest notes; who owns it keeps it up to date.
    """

    def __init__(
        self,
        keys: OriginKeys,
        news: NewsMemory,
        metrics: AskMetrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys, self.news, self.metrics, self._monotonic = keys, news, metrics, monotonic
        self._cache = VoteCache(monotonic)
        self._bus: Bus | None = None
        self._settings: dict[str, AskSettings] = {}
        self._voters: dict[str, _AskedVoter] = {}
        self._tasks: dict[Key, asyncio.Task[Vote | Abstention]] = {}
        self._rests: dict[Key, tuple[float, Abstention]] = {}
        self._arrived: set[Key] = set()
        self._unsent: set[Key] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what is in flight, and close all connections to voters."""
        await self._end(self._voters.keys())

    async def configure(self, bus: Bus, voters: Mapping[str, AskSettings]) -> None:
        """Ask these voters from now on, by name; limits, breakers and votes are kept on `bus`.

        What is in flight to a voter that is gone or changed is cancelled. A voter whose URL changed gets the
        key that is filed under the new origin, or none. It has neither breaker nor pause of the old URL; what
        was spent of its hour stays spent.
        """
        changed = [
            name for name in self._voters if bus is not self._bus or voters.get(name) != self._settings[name]
        ]
        await self._end(changed)
        self._bus, self._settings = bus, dict(voters)
        for name, settings in voters.items():
            if not isinstance(settings, NewsSettings) and name not in self._voters:
                client = make_voter_client(settings, self._keys.find(settings.url))
                self._voters[name] = _AskedVoter(client, AskedEndpoint(bus, name, settings, self.metrics))

    async def _end(self, names: Iterable[str]) -> None:
        gone = [self._voters.pop(name) for name in list(names)]
        ended = {each.asked.name for each in gone}
        await end_tasks(*(task for (_, voter), task in list(self._tasks.items()) if voter in ended))
        self._rests = {key: each for key, each in self._rests.items() if key[1] not in ended}
        for each in gone:
            self.metrics.breakers.pop(each.asked.name, None)
            await each.client.aclose()

    def take_arrived(self) -> frozenset[str]:
        """Return the symbols to ask about again, and forget them.

        Their votes came after they were late; or they are late because no time was left to send the question,
        as when the bus was slow: nothing of them is in flight.
        """
        symbols = frozenset(symbol for symbol, _ in self._arrived | self._unsent)
        self._arrived.clear()
        self._unsent.clear()
        return symbols

    async def ask(self, questions: Sequence[VoteQuestion], deadline: float) -> dict[Key, Vote | Abstention]:
        """Return the vote, or why there is none, for each question, by `deadline` (`time.monotonic`).

        A question whose answer is not there by then is LATE, and stays in flight: its answer counts from the
        next call on. So is one that could not be sent by then, which `take_arrived` names at once. Of each
        voter as many questions are sent as its settings allow, those about the most volatile symbols first.
        Spends calls of the voters' limits. Raises KeyError for a voter that is not among those of
        `configure`.
        """
        self._drop_done()
        found: dict[Key, Vote | Abstention] = {}
        unknown: dict[Key, VoteQuestion] = {}
        for question in questions:
            known = self._find_known(question)
            if known is None:
                unknown[question.key] = question
            else:
                found[question.key] = known
        missing = sorted(unknown.values(), key=lambda each: -each.volatility)
        try:
            async with asyncio.timeout(max(0.0, deadline - self._monotonic())):
                await self._look_up(missing, found)
                await self._begin_calls([each for each in missing if each.key not in found], found)
        except TimeoutError:
            log.debug("votes.late", questions=len(missing))
            sent = found.keys() | self._tasks.keys()
            self._unsent.update(each.key for each in missing if each.key not in sent)
        waiting = [each for each in missing if each.key not in found]
        await self._wait([each.key for each in waiting], deadline)
        found |= {each.key: self._collect(each) for each in waiting}
        for (_, voter), each in found.items():
            self.metrics.answers_total[voter, "vote" if isinstance(each, Vote) else each.value] += 1
        return found

    def _drop_done(self) -> None:
        """Forget the questions whose answers came since the last call: what they said is kept."""
        for key in [key for key, task in self._tasks.items() if task.done()]:
            del self._tasks[key]

    def _find_known(self, question: VoteQuestion) -> Vote | Abstention | None:
        """Return what needs no call: the vote of news, one in memory, or why the voter is left alone."""
        settings = self._settings[question.voter]
        if isinstance(settings, NewsSettings):
            notes = self.news.find(question.symbol, question.as_of_ms, settings.window_sec)
            return vote_by_news(question, notes, settings.half_sec)
        if isinstance(settings, ChatSettings) and settings.may_know_future(question.as_of_ms):
            return Abstention.BEFORE_CUTOFF
        if not math.isfinite(question.price):
            return Abstention.NOT_A_NUMBER
        cached = self._cache.find(question, settings)
        if cached is not None:
            self.metrics.cache_hits_total["memory"] += 1
            return cached.vote
        until, reason = self._rests.get(question.key, (-math.inf, Abstention.FAILED))
        return reason if self._monotonic() < until and question.key not in self._tasks else None

    async def _look_up(self, questions: Sequence[VoteQuestion], found: dict[Key, Vote | Abstention]) -> None:
        """Add to `found` what Redis has; a bus that is away has nothing."""
        asked = {name: each.client.settings for name, each in self._voters.items()}
        wanted = [each for each in questions if each.key not in self._tasks]
        stored: dict[Key, CachedVote] = {}
        try:
            if self._bus is not None and wanted:
                stored = await self._cache.load(self._bus, wanted, asked)
        except BusError as error:
            log.debug("votes.unread", reason=error.reason)
        self.metrics.cache_hits_total["redis"] += len(stored)
        found |= {key: cached.vote for key, cached in stored.items()}

    async def _begin_calls(
        self, questions: Sequence[VoteQuestion], found: dict[Key, Vote | Abstention]
    ) -> None:
        """Send the questions that may be sent, and add to `found` why the others are not."""
        by_voter: dict[str, list[VoteQuestion]] = {}
        for question in questions:
            if question.key not in self._tasks:
                by_voter.setdefault(question.voter, []).append(question)
        works = [self._begin_voter(self._voters[name], each, found) for name, each in by_voter.items()]
        await gather_all(works)

    async def _begin_voter(
        self, voter: _AskedVoter, questions: Sequence[VoteQuestion], found: dict[Key, Vote | Abstention]
    ) -> None:
        room = voter.asked.room
        found |= {each.key: Abstention.LIMITED for each in questions[room:]}
        for at, question in enumerate(questions[:room]):
            refusal, reading = await voter.asked.ask_permission()
            if refusal is not None:
                found |= {each.key: refusal for each in questions[at:room]}
                return
            self._start(voter, question, is_trial=reading.is_trial)

    def _start(self, voter: _AskedVoter, question: VoteQuestion, *, is_trial: bool) -> None:
        """Send a question in a task of its own, which outlives the cycle if the answer is late."""
        work = self._call(voter, question, is_trial=is_trial)
        task = asyncio.create_task(work, name=f"vote {question.voter} {question.symbol}")
        self._tasks[question.key] = task
        voter.asked.in_flight += 1
        task.add_done_callback(lambda done: self._note_done(voter, question, done))

    def _note_done(
        self, voter: _AskedVoter, question: VoteQuestion, task: asyncio.Task[Vote | Abstention]
    ) -> None:
        voter.asked.in_flight -= 1
        if not task.cancelled() and isinstance(task.result(), Vote):
            self._arrived.add(question.key)

    async def _call(self, voter: _AskedVoter, question: VoteQuestion, *, is_trial: bool) -> Vote | Abstention:
        """Ask a voter, and keep what it answers; note in its breaker and limiter how that went."""
        name = voter.asked.name
        self.metrics.calls_total[name] += 1
        notes = self.news.find(question.symbol, question.as_of_ms, HEADLINES_SEC)
        began, failure, cached = self._monotonic(), "", None
        has_failed: bool | None = False
        pause_sec: float | None = None
        try:
            text = await voter.client.ask(question, list_headlines(notes, MAX_HEADLINES))
        except CallFailedError as error:
            failure, pause_sec = error.reason, error.pause_sec
            outcome: Vote | Abstention
            outcome, has_failed = judge_failure(error)
        else:
            settings = voter.client.settings
            outcome = parse_answer(text, question.as_of_ms + find_life_ms(settings.answer_sec, question))
            has_failed = outcome is Abstention.FAILED
            if isinstance(outcome, Vote):
                at = question.as_of_ms, question.price, question.is_open
                cached = CachedVote(outcome, *at, settings.identity)
                self._cache.keep(question.key, cached)
            else:
                failure = "schema" if has_failed else outcome.value
        self.metrics.count_call(name, self._monotonic() - began, failure)
        if outcome in _RESTS:
            self._rest(question.key, outcome)
        voter.asked.log_change(failure, self._monotonic())
        try:
            await voter.asked.settle(pause_sec, has_failed=has_failed, is_trial=is_trial)
            if cached is not None and self._bus is not None:
                await self._cache.store(self._bus, question, cached)
        except BusError as error:
            log.debug("vote.unwritten", voter=name, reason=error.reason)
        return outcome

    def _rest(self, key: Key, outcome: Abstention) -> None:
        if len(self._rests) >= MAX_RESTS:
            self._rests.clear()
        self._rests[key] = self._monotonic() + REST_SEC, outcome

    async def _wait(self, keys: Iterable[Key], deadline: float) -> None:
        """Wait for the answers to these questions until the deadline; cancel none."""
        tasks = [self._tasks[key] for key in keys if key in self._tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, deadline - self._monotonic()))

    def _collect(self, question: VoteQuestion) -> Vote | Abstention:
        """Return what came to a question, which is LATE while nothing has.

        An answer to a question of an earlier cycle may not answer this one any more: then it is EXPIRED.
        """
        task = self._tasks.get(question.key)
        if task is None or not task.done() or task.cancelled():
            return Abstention.LATE
        del self._tasks[question.key]
        self._arrived.discard(question.key)
        outcome, voter = task.result(), self._voters.get(question.voter)
        if not isinstance(outcome, Vote):
            return outcome
        cached = None if voter is None else self._cache.find(question, voter.client.settings)
        return Abstention.EXPIRED if cached is None else cached.vote
