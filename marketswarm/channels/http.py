"""Send HTTP requests to receivers, and turn every failure into a `SendError`. Redirects are not followed."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import anyio
import orjson
from pydantic import AfterValidator, Field, SecretStr

from marketswarm.channels.channel import AcceptedParts, Channel, ChannelOptions, Failure, SendError
from marketswarm.net.errors import NetworkReason
from marketswarm.net.http import TOO_LONG, HttpClient, HttpError, HttpResponse
from marketswarm.net.retry import resolve_pause_sec
from marketswarm.settings import HttpUrl

_LATER: Final = frozenset({302, 303, 307, 408, 425, 429})
"""Statuses that may succeed later, because the receiver is being moved or is too busy."""
_BROKEN: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 421, 426, 451})
"""Statuses about the sender, the address or the form of every request, whatever the message is."""
WITHIN_SEC: Final = 5.0
"""How long one request may take, in seconds."""
PARTS_WITHIN_SEC: Final = 20.0
"""How long all requests of one message may take, in seconds; accepted requests are not repeated."""
MAX_RESPONSE_BYTES: Final = 64 * 1024
"""How many bytes of a response are read; the connection of a longer response is not used again."""
JSON: Final = "application/json; charset=utf-8"


def make_response_error(answer: HttpResponse, after_sec: float | None = None) -> SendError:
    """Return the SendError for a response whose status is not 2xx.

    `after_sec` is a pause that the body asks for, in seconds; without it the header Retry-After counts.
    """
    if after_sec is None:
        after_sec = answer.find_retry_after()
    return SendError(str(answer.status), classify_status(answer.status), retry_after_sec=after_sec)


def classify_status(status: int) -> Failure:
    """Return REJECTED if this message is not accepted (400, 413), BROKEN if no message is (401, 404)."""
    if status in _LATER or not 300 <= status < 500:
        return Failure.TEMPORARY
    return Failure.BROKEN if status < 400 or status in _BROKEN else Failure.REJECTED


def make_exception_error(error: HttpError) -> SendError:
    """Return the SendError for a request without a response; an invalid URL or request is permanent."""
    if error.reason == NetworkReason.BAD_URL:
        return SendError(f"bad_request ({error.kind})", Failure.BROKEN)
    if error.kind == "LocalProtocolError":  # ours: a header that can't be sent, for example
        return SendError(f"bad_request ({error.kind})", Failure.REJECTED)
    return SendError(error.reason)


def require_success(answer: HttpResponse) -> HttpResponse:
    """Return a response whose status is 2xx. Raises SendError for any other."""
    if not 200 <= answer.status < 300:
        raise make_response_error(answer)
    return answer


class Http(HttpClient):
    """An HTTP client that keeps its connections until it is closed; WITHIN_SEC bounds each request."""

    async def exchange(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """Send one request within WITHIN_SEC, and return any response. Raises SendError if there is none.

        Of its body, MAX_RESPONSE_BYTES are read at most.
        """
        try:
            return await self.fetch(
                method,
                url,
                within_sec=WITHIN_SEC,
                max_bytes=MAX_RESPONSE_BYTES,
                headers=headers,
                body=body,
            )
        except HttpError as error:
            if error.reason == TOO_LONG:
                return error.answer
            raise make_exception_error(error) from None


def _require_no_query(url: str) -> str:
    if "?" in url or "#" in url:
        raise ValueError("must have no ? and no #")
    return url


BaseUrl = Annotated[HttpUrl, AfterValidator(_require_no_query)]
"""A URL to which a channel appends a path, and a token in it; with a query, they would be a part of that."""


class UrlOptions(ChannelOptions):
    """The URL that messages are sent to, which may be a secret."""

    url: HttpUrl = Field(repr=False)


class HttpChannel(Channel):
    """A channel that sends its messages to one host over HTTP. `url` is any URL there."""

    def __init__(self, name: str, url: str, http: Http | None) -> None:
        self.name, self.where = name, find_host(url)
        self._url = url
        self._http = http or Http()
        self.within_sec = WITHIN_SEC

    async def aclose(self) -> None:
        await self._http.aclose()


class HttpPartsChannel(HttpChannel):
    """A channel whose messages may take several requests, the parts; all of them within PARTS_WITHIN_SEC."""

    def __init__(self, name: str, url: str, http: Http | None) -> None:
        super().__init__(name, url, http)
        self._parts = AcceptedParts()
        self.within_sec = PARTS_WITHIN_SEC

    async def send_parts(
        self, ident: str, parts: Iterable[str], send: Callable[[str], Awaitable[str]]
    ) -> str:
        """Send the parts of the message `ident` that were not accepted yet, in order, by `send`.

        Return what `send` returned last, or an empty text. Raises SendError.
        """
        answer = ""
        try:
            with anyio.fail_after(PARTS_WITHIN_SEC):  # anyio's timeout, for the reason in net/http.py
                for part in self._parts.remaining(ident, parts):
                    answer = await send(part)
                    self._parts.mark_accepted(ident, part)
        except TimeoutError:
            raise SendError("timeout") from None
        self._parts.forget(ident)
        return answer


def find_host(url: str) -> str:
    """Return the host and port of a URL, which may be shown; `?` if the URL is invalid."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    except ValueError:
        return "?"


async def exchange_json(
    http: Http, url: str, payload: Mapping[str, Any], token: SecretStr | None = None
) -> HttpResponse:
    """POST a JSON object, with a bearer token if given; return any response. Raises SendError if none."""
    headers = {"content-type": JSON}
    if token is not None:
        headers["authorization"] = f"Bearer {token.get_secret_value()}"
    return await http.exchange("POST", url, body=orjson.dumps(payload), headers=headers)


def parse_pause_sec(value: Any) -> float | None:
    """Return the pause that a header or JSON asks for, in seconds; None if it is not a number from 0 up.

    An epoch time is a date, not a number of seconds.
    """
    try:
        sec = float(value)
    except (TypeError, ValueError):
        return None
    return resolve_pause_sec(sec, time.time()) if 0 <= sec < float("inf") else None
