"""Keep the sessions of people who signed in on the pages with a token: in memory, a bounded number. Pure.

A session belongs to a token and to the origin of the page on which its token was given. A browser has its
secret as a cookie; only the secret's hash is kept. The sessions end with the process. Times are monotonic
seconds.
"""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from marketswarm.operator.token import Token

LASTS_SEC: Final = 12 * 3600.0
"""How long a session lasts."""
MAX_SESSIONS: Final = 200
"""How many sessions there are at once; one more ends the oldest one."""
MAX_NOTICES: Final = 10
"""How many notices a session keeps, so that a page can be loaded again with its own."""
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class PageNotice:
    """A sentence that says what became of an act; `is_bad` is True if it was not done."""

    text: str
    is_bad: bool = False


def _make_secret() -> str:
    """Return a new random secret."""
    return secrets.token_urlsafe(_SECRET_BYTES)


@dataclass(slots=True)
class BrowserSession:
    """One session: its token, its origin, and its end.

    `csrf` is in every form of its pages. `author` is the name that the forms propose.
    """

    token: Token
    origin: str
    expires_at: float
    author: str
    csrf: str = field(default_factory=_make_secret, repr=False)
    _notices: OrderedDict[str, PageNotice] = field(default_factory=OrderedDict, init=False, repr=False)

    def matches_csrf(self, given: str) -> bool:
        """Return True if `given` is the secret of this session's forms."""
        return compare_digest(self.csrf.encode(), given.encode("utf-8", "replace"))

    def add_notice(self, notice: PageNotice) -> str:
        """Keep a notice; return the id by which a page asks for it."""
        ident = secrets.token_hex(4)
        self._notices[ident] = notice
        if len(self._notices) > MAX_NOTICES:
            self._notices.popitem(last=False)
        return ident

    def find_notice(self, ident: str) -> PageNotice | None:
        """Return the notice with this id; None if there is none, or not any more."""
        return self._notices.get(ident)


class SessionStore:
    """All sessions, by the hash of their secret."""

    def __init__(self, max_sessions: int = MAX_SESSIONS) -> None:
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[bytes, BrowserSession] = OrderedDict()

    def __len__(self) -> int:
        """Return how many sessions there are, those that are over included."""
        return len(self._sessions)

    def open(self, token: Token, origin: str, now: float) -> tuple[str, BrowserSession]:
        """Open a session; return its secret, which is kept nowhere, and the session."""
        for key in [key for key, each in self._sessions.items() if now >= each.expires_at]:
            del self._sessions[key]
        while len(self._sessions) >= self._max_sessions:
            self._sessions.popitem(last=False)
        secret, session = _make_secret(), BrowserSession(token, origin, now + LASTS_SEC, token.name)
        self._sessions[_hash(secret)] = session
        return secret, session

    def find(self, secret: str | None, now: float) -> BrowserSession | None:
        """Return the session with this secret; None if there is none, or it is over."""
        session = None if secret is None else self._sessions.get(_hash(secret))
        return session if session is not None and now < session.expires_at else None

    def close(self, secret: str | None) -> None:
        """End the session with this secret, if there is one."""
        if secret is not None:
            self._sessions.pop(_hash(secret), None)


def _hash(secret: str) -> bytes:
    """Return the key of a session."""
    return sha256(secret.encode("utf-8", "replace")).digest()
