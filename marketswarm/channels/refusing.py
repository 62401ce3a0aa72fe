"""What an answer over HTTP that is no 2xx comes to, or none at all: a `SendError` in one word or number.

Not here: asking.
"""

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from marketswarm.channels.message import Failure, SendError

_LATER: Final = frozenset({302, 303, 307, 408, 425, 429})
"""Refusals that another time may not be: a receiver that is being moved or is too busy."""
_BROKEN: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 421, 426, 451})
"""Refusals of whoever sends, of the address or of the form of each request, whatever the message is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status, up to ANSWER_AT_MOST bytes, and headers, whose names have no case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal_of(answer: Answer, after_sec: float | None = None) -> SendError:
    """What an answer that is no 2xx comes to; `after_sec` is a pause that its body asks for, in seconds."""
    if after_sec is None:
        after_sec = retry_after(answer.headers.get("retry-after"), time.time())
    return SendError(str(answer.status), failure_of(answer.status), retry_after_sec=after_sec)


def failure_of(status: int) -> Failure:
    """What an HTTP status that is no 2xx says: of this message (400, 413), or of the channel (401, 404)."""
    if status in _LATER or not 300 <= status < 500:
        return Failure.TEMPORARY
    return Failure.BROKEN if status < 400 or status in _BROKEN else Failure.REJECTED


def retry_after(value: str | None, now: float) -> float | None:
    """The seconds that a Retry-After asks for, given as a number or as a date; None if it can't be read."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError, TypeError):
        return None


_WORDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (socket.gaierror, "dns"),
    (ssl.SSLError, "tls"),
    (httpx.TimeoutException, "timeout"),
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "refused"),
    (httpx.ConnectError, "refused"),
    (httpx.NetworkError, "broken"),
    (httpx.RemoteProtocolError, "broken"),
    (httpx.ProxyError, "proxy"),
    (OSError, "broken"),
)


def refusal_in(error: BaseException) -> SendError:
    """What went wrong, in one word; what is wrong with the URL or the request itself is permanent."""
    chain = list(_causes(error))
    for kind, word in _WORDS:
        if any(isinstance(link, kind) for link in chain):
            return SendError(word)
    of_channel = isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol))
    failure = Failure.BROKEN if of_channel else Failure.REJECTED
    return SendError(f"bad_request ({type(error).__name__})", failure)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
