"""Let pages of other origins read by CORS: exact origins that the operator names, reads alone, no cookies.

A browser asks with the origin of the page in `Origin`. It shows the page an answer only if the answer names
that origin. Whoever asks still needs what every client needs: a token in `Authorization`, or to be let in by
its address. A cookie of another origin never counts, since no answer allows credentials.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

MAX_ORIGINS: Final = 100
READING: Final = ("GET", "HEAD")
ASKED_HEADERS: Final = ("Authorization", "If-None-Match")
"""The headers that a page of another origin may send, besides those that are always allowed."""
SHOWN_HEADERS: Final = (
    *("ETag", "Retry-After", "X-Cursor", "X-Universe"),
    *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy"),
)
"""The headers of an answer that such a page may see, besides those that it always may."""
MAX_AGE_SEC: Final = 600
"""For how long a browser keeps what it was told before a request."""
_USUAL_PORTS: Final = {"http": 80, "https": 443}
_VARY: Final = (b"vary", b"Origin")
RawHeader = tuple[bytes, bytes]


def check_origins(text: str) -> str:
    """Return origins, separated by commas, without blanks.

    Raises ValueError for one that no browser would send so: with a path, a usual port or capital letters, and
    for `*` and `null`, which stand for pages that nobody has named.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if len(words) > MAX_ORIGINS:
        raise ValueError(f"must be at most {MAX_ORIGINS} origins")
    for word in words:
        if not _is_origin(word):
            raise ValueError(
                "must be origins such as https://app.example or http://localhost:5173, with commas"
            )
    return ",".join(words)


def _is_origin(word: str) -> bool:
    try:
        parts = urlsplit(word)
        port = parts.port
    except ValueError:
        return False
    is_plain = (
        word.isascii() and word.isprintable() and not set(word) & set(" *@\\?#%") and word == word.lower()
    )
    if not is_plain or parts.scheme not in _USUAL_PORTS or not parts.hostname:
        return False
    return word == f"{parts.scheme}://{parts.netloc}" and port not in (_USUAL_PORTS[parts.scheme], 0)


class OtherOrigins:
    """Decide what pages of other origins may read: paths that begin with one of `paths`."""

    def __init__(self, origins: Collection[str], paths: Collection[str]) -> None:
        self._paths = tuple(paths)
        self._rules = CORSMiddleware(
            _answer_nothing,
            allow_origins=tuple(origins),
            allow_methods=READING,
            allow_headers=ASKED_HEADERS,
            expose_headers=SHOWN_HEADERS,
            max_age=MAX_AGE_SEC,
        )
        self._shown = [
            (name.lower().encode(), text.encode()) for name, text in self._rules.simple_headers.items()
        ]

    def is_allowed(self, scope: Mapping[str, Any]) -> bool:
        """Return True for a read that a page of an allowed origin sends, or for its WebSocket."""
        return scope["path"].startswith(self._paths) and _find_origin(scope) in self._rules.allow_origins

    def find_preflight(self, scope: Scope) -> Response | None:
        """Return the answer to what a browser asks before it sends a request; None for any other request."""
        if scope["method"] != "OPTIONS" or not scope["path"].startswith(self._paths):
            return None
        headers = Headers(scope=scope)
        if _find_origin(scope) == "" or "access-control-request-method" not in headers:
            return None
        return self._rules.preflight_response(headers)

    def list_headers(self, scope: Scope) -> list[RawHeader]:
        """Return the headers of the answer to a read: a kept answer is told apart by who asked."""
        if scope["method"] not in READING or not scope["path"].startswith(self._paths):
            return []
        if not self.is_allowed(scope):
            return [_VARY]
        return [_VARY, (b"access-control-allow-origin", _find_origin(scope).encode("latin-1")), *self._shown]


def _find_origin(scope: Mapping[str, Any]) -> str:
    """Return the origin of the page that sent a request; empty without one, or if there are several."""
    given = [value for name, value in scope["headers"] if name == b"origin"]
    return given[0].decode("latin-1") if len(given) == 1 else ""


async def _answer_nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise NotImplementedError
