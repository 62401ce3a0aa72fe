"""Ask one source a question over HTTP, within its limits, and read its answer.

Redirects are not followed, since a key must not go anywhere else. Everything that a source sends is hostile:
each answer is limited in size and time, and each failure is one word.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import anyio
import httpx

from marketswarm import __version__
from marketswarm.bus import BusError
from marketswarm.market.records import Record
from marketswarm.net.http_errors import find_http_reason
from marketswarm.net.retry import parse_retry_after
from services.sources.account import Permission, SourceAccount
from services.sources.answer import NO_KEY, NOT_SERVED, AnswerStatus, Misfit, Page
from services.sources.mapping import keep_asked, read_page
from services.sources.request import ApiKey, Question, SourceRequest, make_request, split_question
from services.sources.source import Endpoint, Limits, MarketSource

TIMEOUT_SEC: Final = 20.0
MAX_BYTES: Final = 20_000_000
MAX_RETRY_AFTER_SEC: Final = 86_400.0
LIMITED_SEC: Final = 60.0
"""For how long a source is not asked that says 429 without saying for how long."""
CLOSE_SEC: Final = 0.5

_TOO_MANY: Final = frozenset({418, 429})  # 418: Binance's word for a client that went on after 429
_NO_CONTENT: Final = 204


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """Hold what a source answered to a question.

    Attributes:
        source: its name.
        outcome: CLOSED is not among these: no source says it.
        reason: why, in one word or in the source's own; empty for OK.
        records: bars and observations of the time that was asked for, oldest first, each once; quotes.
        misfits: what of the answer is no record.
        missing: how many rows have no value, by the source's own word.
        asked_at: when the first request was sent, in epoch seconds.
        digest: the SHA-256 of all bodies, as hexadecimal digits; empty where none came.
        wait_sec: for LIMITED and an open breaker: after how many seconds to ask again.
        is_replay: whether the records were played from a recording, and must be marked as such.
        played_at: of a replay the time of the recording's clock, in epoch seconds; otherwise 0.
    """

    source: str
    outcome: AnswerStatus
    reason: str = ""
    records: tuple[Record, ...] = ()
    misfits: tuple[Misfit, ...] = ()
    missing: int = 0
    asked_at: float = 0.0
    digest: str = ""
    wait_sec: float = 0.0
    is_replay: bool = False
    played_at: float = 0.0


@dataclass(frozen=True, slots=True)
class SentRequest:
    """Hold one request and what came back, for whoever keeps account of them.

    `url` has no key, `body` is as it came. `status` is 0 where nothing came. `outcome`, `reason` and the
    number of `records` are what the body was read as. `is_replay` says that a recording was asked, and nobody
    outside.
    """

    source: str
    url: str
    took_sec: float
    status: int = 0
    body: bytes = field(default=b"", repr=False)
    asked_at: float = 0.0
    outcome: AnswerStatus = AnswerStatus.FAILED
    reason: str = ""
    records: int = 0
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class _Reply:
    """Hold what came back; `error` is why nothing could be read, or empty."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    error: str = ""


class _NoAnswerError(Exception):
    """A request has no answer that could be read; holds the answer to give instead."""

    def __init__(self, outcome: AnswerStatus, reason: str, wait_sec: float = 0.0) -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.wait_sec = outcome, reason, wait_sec


class Account(Protocol):
    """Keeps account of the requests to a source; see `SourceAccount`."""

    async def take_request(self, key: ApiKey | None, windows: Sequence[tuple[int, int]]) -> Permission:
        """Take a request out of what the limits allow; `windows` are seconds and requests."""
        ...

    async def block(self, key: ApiKey | None, sec: float, windows: Sequence[tuple[int, int]]) -> None:
        """Take no request for so many seconds, since the source asked for that."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """Hold which endpoint of which source is asked, and for how long each request waits for its limits."""

    source: MarketSource
    account: Account
    endpoint: Endpoint
    patience_sec: float
    on_request: "OnRequest | None"


OnRequest = Callable[[SentRequest], None]
"""Is called with each request that was sent."""


class SourceClient:
    """Ask sources over HTTP, with one pool of connections for all. Use as a context manager.

    Args:
        keys: the keys of each source; they take turns. A source that is not in it has none.
        base_urls: where to find a source instead of where its file says, as for a test or a proxy.
        on_request: called with each request that was sent.
    """

    def __init__(
        self,
        keys: Mapping[str, Sequence[ApiKey]],
        base_urls: Mapping[str, str] | None = None,
        on_request: OnRequest | None = None,
    ) -> None:
        self._keys, self._base_urls, self._on_exchange = keys, base_urls or {}, on_request
        self._turns: dict[str, int] = {}
        self._queues: defaultdict[tuple[str, ApiKey | None], anyio.Lock] = defaultdict(anyio.Lock)
        self._client = httpx.AsyncClient(
            # a chunk of gzip becomes a thousand chunks at most, which fits; one of brotli has no such bound
            headers={"User-Agent": f"marketswarm-sources/{__version__}", "Accept-Encoding": "gzip"},
            timeout=None,  # noqa: S113 - each request has a limit as a whole
            trust_env=False,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with anyio.move_on_after(CLOSE_SEC):
            await self._client.aclose()

    def lacks_key(self, source: MarketSource) -> bool:
        """Return True if a source needs a key and there is none."""
        return bool(source.auth.env) and not source.auth.optional and not self._keys.get(source.name)

    async def ask(
        self,
        source: MarketSource,
        account: SourceAccount,
        question: Question,
        patience_sec: float = 0.0,
        *,
        on_request: OnRequest | None = None,
    ) -> SourceAnswer:
        """Return the answer of a source, and record in its breaker whether it failed.

        The endpoints that serve the question are asked in turn, until one is not empty. Raise BusError if the
        bus with the accounts fails.

        A question that the source does not answer at all is FAILED with the reason `not_served`. Each of its
        requests waits for the source's limits for `patience_sec` at most. `on_request` is called with
        those of this question.
        """
        endpoints = list(
            source.find_endpoints(question.kind, question.asset, question.symbol, question.timeframe)
        )
        if not endpoints:
            return SourceAnswer(source.name, AnswerStatus.FAILED, NOT_SERVED)
        if self.lacks_key(source):
            return SourceAnswer(source.name, AnswerStatus.FAILED, NO_KEY)
        permission = await account.ask_breaker()
        if not permission.is_granted:
            return SourceAnswer(
                source.name, AnswerStatus.FAILED, permission.why, wait_sec=permission.wait_sec
            )
        answer = SourceAnswer(source.name, AnswerStatus.EMPTY)
        for endpoint in endpoints:
            answer = await self.ask_endpoint(
                source, account, endpoint, question, patience_sec, on_request=on_request
            )
            if answer.outcome is not AnswerStatus.EMPTY:
                break
        if answer.outcome is AnswerStatus.FAILED:
            await account.record_failure()
        elif answer.outcome is not AnswerStatus.LIMITED:
            await account.record_success()
        return answer

    async def ask_endpoint(
        self,
        source: MarketSource,
        account: Account,
        endpoint: Endpoint,
        question: Question,
        patience_sec: float = 0.0,
        *,
        on_request: OnRequest | None = None,
    ) -> SourceAnswer:
        """Return the answer of one endpoint, of all its parts and pages, whatever the breaker says.

        What came before a failure is lost: half a series is none. Raise BusError as `ask` does.
        """
        asked_at, digest = time.time(), hashlib.sha256()
        records: list[Record] = []
        misfits: list[Misfit] = []
        missing, reason = 0, ""
        try:
            for part in split_question(endpoint, question, datetime.fromtimestamp(asked_at, UTC)):
                token: str | None = None
                for _ in range(endpoint.paging.max_pages if endpoint.paging else 1):
                    page, body = await self._ask_page(
                        _Asked(source, account, endpoint, patience_sec, on_request), part, token
                    )
                    digest.update(body)
                    if page.outcome not in (AnswerStatus.OK, AnswerStatus.EMPTY):
                        raise _NoAnswerError(page.outcome, page.reason, LIMITED_SEC)  # noqa: TRY301 - one way out
                    records += page.records
                    misfits += page.misfits
                    missing, reason = missing + page.missing, page.reason
                    token = page.next_page
                    if token is None:
                        break
                if token is not None:
                    raise _NoAnswerError(AnswerStatus.FAILED, "too_many_pages")  # noqa: TRY301
        except _NoAnswerError as error:
            wait_sec = error.wait_sec if error.outcome is AnswerStatus.LIMITED else 0.0
            return SourceAnswer(
                source.name, error.outcome, error.reason, asked_at=asked_at, wait_sec=wait_sec
            )
        found = keep_asked(question, records)
        return SourceAnswer(
            source.name,
            AnswerStatus.OK if found else AnswerStatus.EMPTY,
            "" if found else reason or "nothing of that time",
            found,
            tuple(misfits),
            missing,
            asked_at,
            digest.hexdigest(),
        )

    async def _ask_page(self, asked: _Asked, question: Question, token: str | None) -> tuple[Page, bytes]:
        """Return one page and its body. Raise _NoAnswerError or BusError."""
        source, endpoint = asked.source, asked.endpoint
        key = self._next_key(source)
        await self._wait_for_permission(asked, key)
        request = make_request(source, endpoint, question, token)
        self._require_same_host(source, request)
        asked_at, begun = time.time(), time.monotonic()
        reply = await self._send(source, request, key)
        sent = SentRequest(
            source.name,
            _hide_secrets(request.describe(), key),
            time.monotonic() - begun,
            reply.status,
            reply.body,
            asked_at,
        )
        try:
            page = await _read_reply(asked, question, key, reply)
        except _NoAnswerError as error:
            self._report(asked, replace(sent, outcome=error.outcome, reason=error.reason))
            raise
        except BusError:  # which could not be told that the source wants a pause
            self._report(asked, replace(sent, outcome=AnswerStatus.LIMITED, reason=str(reply.status)))
            raise
        found = replace(sent, outcome=page.outcome, reason=page.reason, records=len(page.records))
        self._report(asked, found)
        return page, reply.body

    async def _wait_for_permission(self, asked: _Asked, key: ApiKey | None) -> None:
        """Take a request out of what the limits allow. Raise _NoAnswerError if the wait is too long.

        Requests that wait for one account take turns in the order in which they came. Otherwise the next is
        whoever asks the bus at the right moment, and one that has waited longer gives up.
        """
        windows = _find_limits(asked.source, key).windows()
        gives_up_at = time.monotonic() + asked.patience_sec
        async with self._queues[asked.source.name, key]:
            while not (permission := await asked.account.take_request(key, windows)).is_granted:
                if time.monotonic() + permission.wait_sec > gives_up_at:
                    raise _NoAnswerError(AnswerStatus.LIMITED, permission.why, permission.wait_sec)
                await anyio.sleep(permission.wait_sec)

    def _report(self, asked: _Asked, sent: SentRequest) -> None:
        """Call those who keep account of requests."""
        for callback in (self._on_exchange, asked.on_request):
            if callback is not None:
                callback(sent)

    def _next_key(self, source: MarketSource) -> ApiKey | None:
        """Return the key whose turn it is; None for a source without keys."""
        keys = self._keys.get(source.name, ())
        if not keys:
            return None
        turn = self._turns.get(source.name, 0)
        self._turns[source.name] = turn + 1
        return keys[turn % len(keys)]

    def _require_same_host(self, source: MarketSource, request: SourceRequest) -> None:
        """Raise _NoAnswerError if the address of a next page leads to another host: it would get the key."""
        if urlsplit(request.url)[:2] != urlsplit(source.base_url)[:2]:
            raise _NoAnswerError(AnswerStatus.FAILED, "redirected")

    def _relocate(self, source: MarketSource, request: SourceRequest) -> httpx.Request:
        """Return the request as it is sent, to where the source is found."""
        base = self._base_urls.get(source.name, source.base_url)
        url = base + request.url.removeprefix(source.base_url)
        parts = urlsplit(url)
        # a next page's address has a query of its own
        query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *request.params])
        url = urlunsplit((*parts[:3], query, ""))
        return self._client.build_request(
            request.method, url, headers=dict(request.headers), content=request.body
        )

    async def _send(self, source: MarketSource, request: SourceRequest, key: ApiKey | None) -> _Reply:
        """Send a request, and return what came back."""
        sent = self._relocate(source, request.with_key(source, key))
        status, body = 0, b""
        headers: Mapping[str, str] = {}
        try:
            with anyio.fail_after(TIMEOUT_SEC):
                response = await self._client.send(sent, stream=True)
                try:
                    status, headers = response.status_code, response.headers
                    body = await _read_body(response)
                finally:
                    await response.aclose()
        except _NoAnswerError as error:
            return _Reply(status, headers, body, error.reason)
        except TimeoutError:
            return _Reply(status, headers, body, "timeout")
        except Exception as error:  # noqa: BLE001 - whatever a hostile server does to the client's libraries
            return _Reply(status, headers, body, find_http_reason(error) or "broken")
        return _Reply(status, headers, body)


async def _read_reply(asked: _Asked, question: Question, key: ApiKey | None, reply: _Reply) -> Page:
    """Return the page of a reply; block the account if the source wants that. Raise _NoAnswerError."""
    source, account, endpoint = asked.source, asked.account, asked.endpoint
    windows = _find_limits(source, key).windows()
    if reply.status in _TOO_MANY:
        asked_sec = parse_retry_after(reply.headers.get("retry-after"), time.time())
        wait_sec = LIMITED_SEC if asked_sec is None else min(asked_sec, MAX_RETRY_AFTER_SEC)
        await account.block(key, wait_sec, windows)
        raise _NoAnswerError(AnswerStatus.LIMITED, str(reply.status), wait_sec)
    if reply.error:
        raise _NoAnswerError(AnswerStatus.FAILED, reply.error)
    if reply.status == _NO_CONTENT or reply.status in endpoint.empty_status:
        return Page(AnswerStatus.EMPTY, str(reply.status))
    if not httpx.codes.is_success(reply.status):
        raise _NoAnswerError(AnswerStatus.FAILED, str(reply.status))
    page = _hide_key(read_page(source, endpoint, question, reply.body), key)
    if page.outcome is AnswerStatus.LIMITED:
        await account.block(key, LIMITED_SEC, windows)
    return page


def _find_limits(source: MarketSource, key: ApiKey | None) -> Limits:
    """Return the limits that a source sets for requests with this key."""
    return source.limits_without_key if key is None and source.limits_without_key else source.limits


def _hide_key(page: Page, key: ApiKey | None) -> Page:
    """Return a page whose reasons don't have the key, which some sources repeat in what they refuse."""
    misfits = tuple(replace(each, why=_hide_secrets(each.why, key)) for each in page.misfits)
    return replace(page, reason=_hide_secrets(page.reason, key), misfits=misfits)


def _hide_secrets(text: str, key: ApiKey | None) -> str:
    """Return a text without the key and its secret."""
    for secret in () if key is None else (key.key, key.secret):
        text = text.replace(secret, "KEY") if secret else text
    return text


async def _read_body(response: httpx.Response) -> bytes:
    """Return the body of an answer, decompressed. Raise _NoAnswerError if it is too long."""
    if response.headers.get("content-encoding", "identity").lower() not in ("identity", "gzip", ""):
        raise _NoAnswerError(AnswerStatus.FAILED, "encoding")  # one that nobody asked for: it may be a bomb
    body: Any = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BYTES:
            raise _NoAnswerError(AnswerStatus.FAILED, "too_long")
    return bytes(body)
