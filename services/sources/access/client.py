"""Ask one source a question: in parts, page by page, within its limits, with each of its keys in turn."""

import asyncio
import hashlib
import math
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import anyio

from marketswarm import log as logs
from marketswarm.bus import BusError
from marketswarm.bus.circuit_breaker import PAUSED, CircuitBreaker
from marketswarm.bus.rate_limiter import SHORTEST_BLOCK_SEC, SharedRateLimiter
from marketswarm.net.errors import NetworkReason
from marketswarm.net.http import HttpClient, HttpError, HttpResponse
from services.market.records import Record, RecordKind
from services.sources.access.worker_thread import LARGE_BYTES, run_large
from services.sources.catalog.answer import (
    NO_KEY,
    NOT_SERVED,
    AnswerStatus,
    Misfit,
    Page,
    SentRequest,
    SourceAnswer,
)
from services.sources.catalog.mapping import keep_asked, read_page, read_refusal
from services.sources.catalog.request import (
    ApiKey,
    Question,
    SourceRequest,
    hide_key,
    make_request,
    read_key,
    split_question,
)
from services.sources.catalog.source import Endpoint, MarketSource

MALFORMED: Final = "malformed"
"""The reason of an answer that raised an unexpected error; the log has its traceback."""
CANCELLED: Final = "cancelled"
"""The reason of a request whose load was broken off before its answer was read."""
TRACE_CALLS: Final = 20
"""The number of calls that such a traceback shows."""
NO_TIME: Final = "no_time"
"""The reason of an answer that is LIMITED: no time was left to send a request."""
QUEUE_SEC: Final = 1.0
"""How long a request waits for its turn at least: those before it mostly only ask the bus."""
TIMEOUT_SEC: Final = 20.0
"""The time limit of one request."""
LONGEST_WAIT_SEC: Final = 120.0
"""How long the further parts of a question wait for the limits, if their deadline allows that."""
PAUSES: Final = 3
"""How many pauses that a source asks for each page of the further parts waits out."""
SPARE_PARTS: Final = 25
"""The most parts of a question that can wait for which requests are sent at once."""
WAITED_FOR_SEC: Final = 10
"""The longest window of a limit that parts of a question wait for, and are not left out for."""
DAY_SEC: Final = 86_400
MAX_RETRY_AFTER_SEC: Final = 86_400.0
RETRY_SEC: Final = 1.0
"""The pause before a request is sent again."""
PASSING: Final = frozenset(
    {NetworkReason.DNS, NetworkReason.TIMEOUT, NetworkReason.REFUSED, NetworkReason.BROKEN}
)
"""The failures of the network that may be over a moment later."""
LIMITED_SEC: Final = 60.0
"""For how long a source is not asked that says 429 without saying for how long."""

log = logs.get("sources")

OnRequest = Callable[[SentRequest], None]
"""Is called with each request that was sent."""


@dataclass(frozen=True, slots=True)
class AskContext:
    """Say how a question is asked.

    Attributes:
        patience_sec: how long each request may wait for the source's limits.
        deadline: until when the source may take, by `time.monotonic`; then it has failed.
        on_request: called with each request that was sent, also if its answer is not waited for.
        can_wait: whether the question can be asked again later. It leaves half of what the limits allow to
            others, waits out no pause, and what came before a failure is its answer.
        is_paused: says before each request whether an operator took the source out of service: a question may
            have waited for the limits for minutes by then.
        retries: how often a request is sent again that the network or an error of the server ended.
    """

    limiter: SharedRateLimiter
    patience_sec: float = 0.0
    deadline: float = math.inf
    on_request: OnRequest = field(default=lambda _sent: None)
    can_wait: bool = False
    is_paused: Callable[[], Awaitable[bool]] | None = None
    retries: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """Hold which endpoint of which source is asked, how, and whether a part of the answer came already."""

    source: MarketSource
    endpoint: Endpoint
    context: AskContext
    has_part: bool = False


@dataclass(slots=True)
class _Found:
    """Hold what the pages of an answer said so far."""

    records: list[Record] = field(default_factory=list)
    misfits: list[Misfit] = field(default_factory=list)
    missing: int = 0
    unknown_actions: Counter[str] = field(default_factory=Counter)
    reason: str = ""
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, pages: Sequence[tuple[Page, bytes]]) -> None:
        for page, body in pages:
            self.digest.update(body)
            self.records += page.records
            self.misfits += page.misfits
            self.unknown_actions.update(page.unknown_actions)
            self.missing, self.reason = self.missing + page.missing, page.reason

    def make_answer(
        self, asked: _Asked, question: Question, asked_at: float, done: Sequence[Question], parts_left: int
    ) -> SourceAnswer:
        """Return the answer to the parts that are done."""
        kept = keep_asked(question, self.records)
        since = min((part.start for part in done), default=None) if question.is_history else None
        is_bars = question.kind is RecordKind.BARS
        return SourceAnswer(
            asked.source.name,
            AnswerStatus.OK if kept else AnswerStatus.EMPTY,
            "" if kept else self.reason or "nothing of that time",
            kept,
            tuple(self.misfits),
            self.missing,
            asked_at,
            self.digest.hexdigest(),
            parts_left=parts_left,
            since_ms=None if since is None else round(1000 * since.timestamp()),
            min_interval_sec=asked.endpoint.min_interval_sec,
            delay_sec=asked.endpoint.delay_sec,
            is_utc_days=asked.endpoint.days == "utc",
            adjustment=asked.endpoint.find_adjustment(question.asset),
            volume_kind=asked.endpoint.find_volume(question.asset) if is_bars else None,
            is_untimed=asked.endpoint.is_untimed,
            unknown_actions=self.unknown_actions,
        )


class _NoAnswerError(Exception):
    """A request has no answer that could be read; holds the answer to give instead."""

    def __init__(self, outcome: AnswerStatus, reason: str, wait_sec: float = 0.0) -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.wait_sec = outcome, reason, wait_sec

    @property
    def may_pass(self) -> bool:
        """True if the same request may be answered a moment later: the network or the server failed."""
        is_server = self.reason.isdecimal() and self.reason.startswith("5")
        return self.outcome is AnswerStatus.FAILED and (is_server or self.reason in PASSING)


class _PausedError(Exception):
    """The source was taken out of service while a question to it waited."""


class SourceClient(HttpClient):
    """Ask sources over HTTP. Use as a context manager.

    Args:
        keys: the keys of each source; they take turns. A source that is not in it has none.
        base_urls: where to find a source instead of where its file says, as for a test or a proxy.
    """

    def __init__(
        self, keys: Mapping[str, Sequence[ApiKey]], base_urls: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("sources", encodings="gzip", by_proxy=False)
        self.keys = keys
        self._turns: dict[str, int] = {}
        self._queues: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._base_urls = base_urls or {}

    async def ask(
        self, source: MarketSource, question: Question, breaker: CircuitBreaker, context: AskContext
    ) -> SourceAnswer:
        """Return the answer of a source, and record in its breaker whether it failed.

        The endpoints that serve the question are asked in turn, until one has something; those of actions
        all, since one may have the splits and another the dividends of a share. A question that the
        source does not answer at all is FAILED with the reason `not_served`, one that needs a key that is not
        there with `no_key`. One that is REFUSED is not a failure of the source. Raise BusError if the bus
        with the limits fails.
        """
        endpoints = list(
            source.find_endpoints(question.kind, question.asset, question.symbol, question.timeframe)
        )
        if not endpoints:
            return SourceAnswer(source.name, AnswerStatus.FAILED, NOT_SERVED)
        if source.auth.is_key_needed and not self.keys.get(source.name):
            return SourceAnswer(source.name, AnswerStatus.FAILED, NO_KEY)
        reading = await breaker.ask()
        if reading.refusal:
            wait_sec = reading.wait_sec or 0.0
            return SourceAnswer(source.name, AnswerStatus.FAILED, reading.refusal, wait_sec=wait_sec)
        try:
            if question.kind is RecordKind.ACTIONS:
                answer = await self._ask_all(source, endpoints, question, context)
            else:
                answer = await self._ask_in_turn(source, endpoints, question, context)
        except _PausedError:  # the source did nothing wrong
            return SourceAnswer(source.name, AnswerStatus.FAILED, PAUSED)
        if answer.outcome is AnswerStatus.FAILED:
            await breaker.record_failure(is_trial=reading.is_trial)
        elif answer.outcome is not AnswerStatus.LIMITED:
            await breaker.record_success()
        return answer

    async def _ask_in_turn(
        self, source: MarketSource, endpoints: Sequence[Endpoint], question: Question, context: AskContext
    ) -> SourceAnswer:
        """Return the first answer that has something, or the last one. Raise _PausedError or BusError."""
        answer = SourceAnswer(source.name, AnswerStatus.EMPTY)
        for endpoint in endpoints:
            answer = await self.ask_endpoint(source, endpoint, question, context)
            if answer.outcome not in (AnswerStatus.EMPTY, AnswerStatus.REFUSED):
                break
        return answer

    async def _ask_all(
        self, source: MarketSource, endpoints: Sequence[Endpoint], question: Question, context: AskContext
    ) -> SourceAnswer:
        """Return what all endpoints have together. Raise _PausedError or BusError.

        If one has no answer, that is the answer, unless it is optional: dividends without the splits would
        be a wrong return.
        """
        answers: list[SourceAnswer] = []
        lacks_optional = False
        for endpoint in endpoints:
            answer = await self.ask_endpoint(source, endpoint, question, context)
            if answer.outcome in (AnswerStatus.OK, AnswerStatus.EMPTY):
                answers.append(answer)
            elif endpoint.optional and answers:
                lacks_optional = True
            else:
                return answer
            # the answers before it would be for nothing if the next one did not wait
            context = replace(context, patience_sec=max(context.patience_sec, LONGEST_WAIT_SEC))
        return replace(_join_answers(question, answers), lacks_optional=lacks_optional)

    async def ask_endpoint(
        self, source: MarketSource, endpoint: Endpoint, question: Question, context: AskContext
    ) -> SourceAnswer:
        """Return the answer of one endpoint, of its parts and pages, whatever the breaker says.

        Parts that the limits don't allow are left out; those before them are the answer. What came before a
        failure is lost, because half a series is of no use, unless the rest is asked for later. Raise
        BusError as `ask` does.
        """
        asked, found, asked_at, done = _Asked(source, endpoint, context), _Found(), time.time(), 0
        parts = split_question(endpoint, question, datetime.fromtimestamp(asked_at, UTC))
        is_counted = len(parts) > 1 or (context.can_wait and parts)
        allowed = await self._count_allowed(asked) if is_counted else len(parts)
        if parts and not allowed:
            return SourceAnswer(source.name, AnswerStatus.LIMITED, "limited", asked_at=asked_at)
        try:
            for part in parts[:allowed]:
                found.add(await self._ask_part(asked, part))
                done += 1
                if not context.can_wait:
                    # the parts before it would be for nothing if the next one did not wait
                    patient = replace(context, patience_sec=LONGEST_WAIT_SEC)
                    asked = replace(asked, context=patient, has_part=True)
        except _NoAnswerError as error:
            is_limited = error.outcome is AnswerStatus.LIMITED
            if not done or not (is_limited or context.can_wait):
                return SourceAnswer(
                    source.name,
                    error.outcome,
                    error.reason,
                    asked_at=asked_at,
                    wait_sec=error.wait_sec if is_limited else 0.0,
                    min_interval_sec=endpoint.min_interval_sec,
                )
        return found.make_answer(asked, question, asked_at, parts[:done], len(parts) - done)

    async def _count_allowed(self, asked: _Asked) -> int:
        """Return how many requests one question may take, 1 at least unless it can wait. Raise BusError.

        What a request waits for does not count, be it a window or a pause that the source wants. Of a limit
        that lasts for days, a question takes at most half of what is left, so that others have something, and
        so does this series later. One that can wait does so of each limit.
        """
        can_wait = asked.context.can_wait
        allowed, waited_for_sec = 0, max(WAITED_FOR_SEC, asked.context.patience_sec)
        for key in self.keys.get(asked.source.name, (None,)):
            windows = asked.source.find_limits(has_key=key is not None).windows()
            left = await asked.context.limiter.count_left(read_key(key), windows, waited_for_sec)
            shares = [
                (count + 1) // 2 if can_wait or sec >= DAY_SEC else count
                for (sec, _), count in zip(windows, left, strict=True)
                if sec > WAITED_FOR_SEC
            ]
            allowed += min(shares, default=sys.maxsize)
        return min(allowed, SPARE_PARTS) if can_wait else max(1, allowed)

    async def _ask_part(self, asked: _Asked, part: Question) -> list[tuple[Page, bytes]]:
        """Return all pages of a part of a question, with their bodies. Raise _NoAnswerError or BusError."""
        pages: list[tuple[Page, bytes]] = []
        token: str | None = None
        for _ in range(asked.endpoint.paging.max_pages if asked.endpoint.paging else 1):
            pages.append(await self._ask_page(asked, part, token))
            token = pages[-1][0].next_page
            if token is None:
                return pages
        raise _NoAnswerError(AnswerStatus.FAILED, "too_many_pages")

    async def _ask_page(self, asked: _Asked, question: Question, token: str | None) -> tuple[Page, bytes]:
        """Return one page and its body. Raise _NoAnswerError or BusError.

        If the source refuses a key for now, the other keys are tried. Once a part came, a short pause
        that the source asks for is waited out, as a limit of ours is. What a retry may mend is sent again.
        """
        request = make_request(asked.source, asked.endpoint, question, token)
        _require_same_host(asked.source, request)
        pauses, retries = PAUSES if asked.has_part else 0, asked.context.retries
        while True:
            keys, waits = self._rotate_keys(asked.source), list[float]()
            while keys:
                key = await self._take_permission(asked, keys, waits)
                try:
                    return await self._send(asked, question, request, key)
                except _NoAnswerError as error:
                    if retries and error.may_pass:
                        retries -= 1
                        await anyio.sleep(RETRY_SEC)
                        continue
                    if error.outcome is not AnswerStatus.LIMITED:
                        raise
                    reason = error.reason
                    waits.append(error.wait_sec)
                    keys = [each for each in keys if each != key]
            if pauses == 0:
                raise _NoAnswerError(AnswerStatus.LIMITED, reason, min(waits))
            pauses -= 1

    def _rotate_keys(self, source: MarketSource) -> list[ApiKey | None]:
        """Start with the key whose turn it is; return one None for a source without keys."""
        keys = self.keys.get(source.name, ())
        if not keys:
            return [None]
        turn = self._turns.get(source.name, 0) % len(keys)
        self._turns[source.name] = turn + 1
        return [*keys[turn:], *keys[:turn]]

    async def _take_permission(
        self, asked: _Asked, keys: Sequence[ApiKey | None], waits: Sequence[float]
    ) -> ApiKey | None:
        """Take a request out of what the limits of one of the keys allow, and return that key.

        Raise _NoAnswerError with the shortest wait if that is too long, and _PausedError if the source was
        paused meanwhile; `waits` are those of keys that were refused already.
        """
        windows = asked.source.find_limits(has_key=keys[0] is not None).windows()
        now, patience_sec = time.monotonic(), asked.context.patience_sec
        # of the time that is left half is for the answer
        longest_sec = (asked.context.deadline - now) / 2
        gives_up_at = now + min(patience_sec, longest_sec)
        async with self._queue(asked, min(max(patience_sec, QUEUE_SEC), longest_sec)):
            while True:
                if asked.context.is_paused is not None and await asked.context.is_paused():
                    raise _PausedError
                wait_sec = math.inf
                for key in keys:
                    key_wait_sec = await asked.context.limiter.take(read_key(key), windows)
                    if not key_wait_sec:
                        return key
                    wait_sec = min(wait_sec, key_wait_sec)
                if time.monotonic() + wait_sec > gives_up_at:
                    raise _NoAnswerError(AnswerStatus.LIMITED, "limited", min(wait_sec, *waits, math.inf))
                await anyio.sleep(wait_sec)

    @asynccontextmanager
    async def _queue(self, asked: _Asked, within_sec: float) -> AsyncIterator[None]:
        """Wait for the turn of a request to its source, and hold it.

        Raise _NoAnswerError if the turn does not come within these seconds.

        Requests to one source take turns in the order in which they came. Otherwise the next is the request
        that asks the bus at the right moment, and one that has waited longer gives up.
        """
        if within_sec <= 0:
            raise _find_time_error(asked)
        turn = self._queues[asked.source.name]
        with anyio.move_on_after(within_sec) as wait:
            await turn.acquire()
        if wait.cancelled_caught:  # those before it wait for the limits
            raise _NoAnswerError(AnswerStatus.LIMITED, "limited", QUEUE_SEC)
        try:
            yield
        finally:
            turn.release()

    async def _send(
        self, asked: _Asked, question: Question, request: SourceRequest, key: ApiKey | None
    ) -> tuple[Page, bytes]:
        """Send a request, report it, and return the page that came. Raise _NoAnswerError or BusError."""
        asked_at, begun = time.time(), time.monotonic()
        within_sec = min(TIMEOUT_SEC, asked.context.deadline - begun)
        if within_sec <= 0:
            raise _find_time_error(asked)
        source, keyed, error = asked.source, request.with_key(asked.source, key), ""
        sent = SentRequest(source.name, hide_key(request.describe(), key), 0.0, asked_at=asked_at)
        try:
            reply = await self.fetch(
                keyed.method,
                keyed.find_url(source, self._base_urls.get(source.name, source.base_url)),
                within_sec=within_sec,
                max_bytes=asked.endpoint.size_limit,
                headers=dict(keyed.headers),
                body=keyed.body,
            )
        except HttpError as failure:
            reply, error = replace(failure.answer, body=b""), failure.reason
        except asyncio.CancelledError:
            asked.context.on_request(replace(sent, took_sec=time.monotonic() - begun, reason=CANCELLED))
            raise
        if error == NetworkReason.NO_RESOURCES:  # nor was anything sent here
            raise _NoAnswerError(AnswerStatus.LIMITED, error, LIMITED_SEC)
        sent = replace(sent, took_sec=time.monotonic() - begun, status=reply.status, body=reply.body)
        try:
            page = await _read_reply(asked, question, key, reply, error)
        except _NoAnswerError as why:
            asked.context.on_request(replace(sent, outcome=why.outcome, reason=why.reason))
            raise
        except BusError:  # which could not be told that the source wants a pause
            asked.context.on_request(replace(sent, outcome=AnswerStatus.LIMITED, reason=str(reply.status)))
            raise
        except asyncio.CancelledError:
            asked.context.on_request(replace(sent, reason=CANCELLED))
            raise
        asked.context.on_request(
            replace(sent, outcome=page.outcome, reason=page.reason, records=len(page.records))
        )
        return page, reply.body


def _find_time_error(asked: _Asked) -> _NoAnswerError:
    """Return what to say of a request for which no time is left, so that it is not sent.

    That is not the source's fault, unless its own answers took the time: then it is as late as if the last of
    them had not come, and a few milliseconds don't choose between a failure and half a series.
    """
    if asked.has_part:
        return _NoAnswerError(AnswerStatus.FAILED, NetworkReason.TIMEOUT)
    return _NoAnswerError(AnswerStatus.LIMITED, NO_TIME)


def _join_answers(question: Question, answers: Sequence[SourceAnswer]) -> SourceAnswer:
    """Return one answer with the records of all, each of which is whole."""
    records = keep_asked(question, [record for each in answers for record in each.records])
    first, digests = answers[0], "".join(each.digest for each in answers)
    return replace(
        first,
        outcome=AnswerStatus.OK if records else AnswerStatus.EMPTY,
        reason="" if records else first.reason,
        records=records,
        misfits=tuple(misfit for each in answers for misfit in each.misfits),
        missing=sum(each.missing for each in answers),
        unknown_actions=sum((Counter(each.unknown_actions) for each in answers), Counter[str]()),
        digest=first.digest if len(answers) == 1 else hashlib.sha256(digests.encode()).hexdigest(),
        parts_left=sum(each.parts_left for each in answers),
        since_ms=max((each.since_ms for each in answers if each.since_ms is not None), default=None),
        min_interval_sec=max(each.min_interval_sec for each in answers),
    )


def _require_same_host(source: MarketSource, request: SourceRequest) -> None:
    """Raise _NoAnswerError if the address of a next page leads to another host, because it would get the key.

    It must begin as the address of the source does, letter by letter: what follows is put behind it again.
    """
    try:
        is_same = urlsplit(request.url)[:2] == urlsplit(source.base_url)[:2]
        leads_away = not (is_same and request.url.startswith(source.base_url))
    except ValueError:  # it is not an address
        leads_away = True
    if leads_away:
        raise _NoAnswerError(AnswerStatus.FAILED, "redirected")


async def _read_reply(
    asked: _Asked, question: Question, key: ApiKey | None, reply: HttpResponse, error: str
) -> Page:
    """Return the page of a reply, OK or EMPTY; block the key if the source wants a pause.

    `error` is why the reply could not be read, or empty. Raise _NoAnswerError or BusError.
    """
    pause_sec = reply.find_pause(LIMITED_SEC, MAX_RETRY_AFTER_SEC)
    if pause_sec is not None:
        raise await _block(asked, key, str(reply.status), max(SHORTEST_BLOCK_SEC, pause_sec))
    if error:
        raise _NoAnswerError(AnswerStatus.FAILED, error)
    if reply.status == 204 or reply.status in asked.endpoint.empty_status:
        return Page(AnswerStatus.EMPTY, str(reply.status))
    page = await _read_document(asked, question, key, reply)
    if page.outcome is AnswerStatus.LIMITED:
        raise await _block(asked, key, page.reason, LIMITED_SEC)
    if page.outcome not in (AnswerStatus.OK, AnswerStatus.EMPTY):
        raise _NoAnswerError(page.outcome, page.reason)
    return page


async def _read_document(asked: _Asked, question: Question, key: ApiKey | None, reply: HttpResponse) -> Page:
    """Return what the body of a reply says. No body may end the service: one that raises an error FAILED."""
    source, endpoint = asked.source, asked.endpoint
    try:
        if 200 <= reply.status < 300:
            is_large = len(reply.body) > LARGE_BYTES
            return await run_large(is_large, read_page, source, endpoint, question, reply.body, key=key)
        return read_refusal(source, endpoint, question, reply.status, reply.body, key=key)
    except Exception:  # noqa: BLE001 - whatever a hostile document does to the libraries that read it
        trace = hide_key(traceback.format_exc(limit=-TRACE_CALLS), key)
        log.error(  # noqa: TRY400 - `exception` would show the key
            "source.malformed", source=source.name, symbol=question.symbol, exception=trace
        )
        return Page(AnswerStatus.FAILED, MALFORMED)


async def _block(asked: _Asked, key: ApiKey | None, reason: str, sec: float) -> _NoAnswerError:
    windows = asked.source.find_limits(has_key=key is not None).windows()
    await asked.context.limiter.block(read_key(key), sec, windows)
    return _NoAnswerError(AnswerStatus.LIMITED, reason, sec)
