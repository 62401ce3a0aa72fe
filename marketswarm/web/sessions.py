"""Decide whose session a request belongs to, and whether a form was sent by one of our own pages.

A browser sends its cookie with whatever another page makes it ask. So a form counts only if its `Origin` is
the program's own, as the browser sees it, and if it has the secret that stands in the session's pages alone.
The bus is asked for the token at each request, so a session ends with its token.

A session belongs to a token and to the origin of the page on which its token was given. A browser has its
secret as a cookie; only the secret's hash is kept, in memory. The sessions end with the process.
"""

import contextlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request
from starlette.responses import Response

from marketswarm import log as logs
from marketswarm.operator.tokens import Scope, Token
from marketswarm.web.limits import RefusedError
from marketswarm.web.tokens import Client, TokenVerifier, find_address, find_media_type

LASTS_SEC: Final = 12 * 3600.0
MAX_SESSIONS: Final = 200  # how many sessions there are at once; one more ends the oldest one
MAX_NOTICES: Final = 10  # how many notices a session keeps, so that a page can be loaded again with its own
MAX_FIELDS: Final = 20  # how many fields a form may have
_FORM: Final = "application/x-www-form-urlencoded"
log = logs.get()


@dataclass(frozen=True, slots=True)
class PageNotice:
    """A sentence that says the outcome of an act; `is_bad` is True if it was not done."""

    text: str
    is_bad: bool = False


def _make_secret() -> str:
    return secrets.token_urlsafe(32)


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

    @property
    def may_write(self) -> bool:
        return Scope.WRITE in self.token.scopes

    @property
    def may_seed(self) -> bool:
        return Scope.SEED in self.token.scopes

    def matches_csrf(self, given: str) -> bool:
        return compare_digest(self.csrf.encode(), given.encode("utf-8", "replace"))

    def add_notice(self, notice: PageNotice) -> str:
        ident = secrets.token_hex(4)
        self._notices[ident] = notice
        if len(self._notices) > MAX_NOTICES:
            self._notices.popitem(last=False)
        return ident

    def find_notice(self, ident: str) -> PageNotice | None:
        return self._notices.get(ident)


class SessionStore:
    """All sessions, by the hash of their secret."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[bytes, BrowserSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, token: Token, origin: str, now: float) -> tuple[str, BrowserSession]:
        """Open a session; return its secret, which is kept nowhere, and the session."""
        for key in [key for key, each in self._sessions.items() if now >= each.expires_at]:
            del self._sessions[key]
        while len(self._sessions) >= MAX_SESSIONS:
            self._sessions.popitem(last=False)
        secret, session = _make_secret(), BrowserSession(token, origin, now + LASTS_SEC, token.name)
        self._sessions[_hash(secret)] = session
        return secret, session

    def find(self, secret: str | None, now: float) -> BrowserSession | None:
        session = None if secret is None else self._sessions.get(_hash(secret))
        return session if session is not None and now < session.expires_at else None

    def close(self, secret: str | None) -> None:
        if secret is not None:
            self._sessions.pop(_hash(secret), None)


def _hash(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "replace")).digest()


class SessionOver(Exception):  # noqa: N818 - becomes an answer
    """A request has no session, or its session has ended."""


@dataclass(frozen=True, slots=True)
class SentForm:
    """A form that one of our own pages sent: the session, who acts, and its fields without the empty ones."""

    session: BrowserSession
    client: Client
    fields: dict[str, str]

    @property
    def text(self) -> str:
        """The field `text` with the ends of lines that files have; browsers send CR and LF."""
        return self.fields.get("text", "").replace("\r\n", "\n").replace("\r", "\n")


@dataclass(frozen=True, slots=True)
class SessionGate:
    """Opens, finds and ends sessions.

    `cookie` is the cookie's name; a browser sends the cookies of all ports of a host to each of them.
    """

    verifier: TokenVerifier
    cookie: str
    store: SessionStore = field(default_factory=SessionStore)

    async def find_session(self, request: Request) -> BrowserSession | None:
        """Return the session of a request for a page.

        While the bus that keeps the tokens does not answer, the session is shown, and nothing can be done.
        """
        session = self._find(request)
        with contextlib.suppress(RefusedError):
            if session is not None and not await self.verifier.is_current(session.token, time.time()):
                self._end(request, session)
                return None
        return session

    async def find_token(self, request: Request) -> Token | None:
        """Return a session's valid token, None for another site's request. Raises RefusedError."""
        session = self._find(request)
        if session is None or is_foreign(request):
            return None
        return session.token if await self.verifier.is_current(session.token, time.time()) else None

    async def open(self, request: Request, answer: Response, text: str) -> None:
        """Open a session by a token's text, and set the cookie in `answer`. Raises RefusedError.

        The form must have come from our own page: `find_origin` is called before.
        """
        origin, address = self.find_origin(request), find_address(request)
        now = time.monotonic()
        token = await self.verifier.identify(f"Bearer {text}", address, now, time.time())
        self.store.close(request.cookies.get(self.cookie))
        secret, _ = self.store.open(token, origin, now)
        event = f"{self.verifier.program}.signed_in"
        log.info(event, token=token.id, client=address)
        answer.set_cookie(
            self.cookie,
            secret,
            max_age=int(LASTS_SEC),
            path="/",
            httponly=True,
            samesite="strict",
            secure=origin.startswith("https:"),
        )

    async def close(self, request: Request, answer: Response) -> None:
        """End the session of a form, and its cookie. Raises RefusedError if no page of ours sent it."""
        session = self._find(request)
        if session is not None:
            self._require_own_form(request, session, await read_fields(request))
            self._end(request, session)
        answer.delete_cookie(self.cookie, path="/", httponly=True, samesite="strict")

    async def read_form(self, request: Request) -> SentForm:
        """Return a form that one of our pages sent, by a session with a token that is still valid.

        Raises SessionOver, and RefusedError if another page sent the form, it can't be read, or the bus that
        keeps the tokens does not answer.
        """
        self.find_origin(request)
        session = self._find(request)
        if session is None:
            raise SessionOver
        fields = await read_fields(request)
        self._require_own_form(request, session, fields)
        if not await self.verifier.is_current(session.token, time.time()):
            self._end(request, session)
            raise SessionOver
        return SentForm(session, Client(session.token, find_address(request)), fields)

    def _find(self, request: Request) -> BrowserSession | None:
        return self.store.find(request.cookies.get(self.cookie), time.monotonic())

    def _end(self, request: Request, session: BrowserSession) -> None:
        self.store.close(request.cookies.get(self.cookie))
        event = f"{self.verifier.program}.session_ended"
        log.info(event, token=session.token.id, client=find_address(request))

    def find_origin(self, request: Request) -> str:
        """Return the origin of the page that sent a form. Raises RefusedError if it is not our own."""
        return find_origin(request, self.verifier.program)

    def _require_own_form(self, request: Request, session: BrowserSession, fields: dict[str, str]) -> None:
        if self.find_origin(request) != session.origin or not session.matches_csrf(fields.pop("csrf", "")):
            raise RefusedError(403, "this form was not sent by a page of this session: load the page again")


def is_foreign(request: Request) -> bool:
    """Return True if a page of another origin had the browser send a request in its back.

    The browser sends the cookie for other ports of this machine too. A person who follows a link is welcome;
    a page that loads ours into a frame of its own is not.
    """
    site, mode, use = (request.headers.get(f"sec-fetch-{name}", "") for name in ("site", "mode", "dest"))
    is_followed = mode == "navigate" and use in ("", "document")
    return names_other_origin(request) or (site in ("cross-site", "same-site") and not is_followed)


def names_other_origin(request: Request) -> bool:
    """Return True if a request is from a page of another origin. A program names none."""
    given, host = request.headers.getlist("origin"), request.headers.get("host", "").lower()
    try:
        places = [urlsplit(origin).netloc.lower() for origin in given]
    except ValueError:
        return True
    return bool(given) and (not host or places != [host])


def find_origin(request: Request, program: str) -> str:
    """Return the origin of the page that sent a form. Raises RefusedError if it is not `program`'s own.

    A browser names the origin in each form that it sends, and its own idea of the program's host in `Host`.
    """
    given = request.headers.getlist("origin")
    try:
        parts = urlsplit(given[0]) if len(given) == 1 else None
    except ValueError:
        parts = None
    host = request.headers.get("host", "").lower()
    if parts is None or parts.scheme not in ("http", "https") or not host or parts.netloc.lower() != host:
        raise RefusedError(403, f"this form was not sent by a page of the {program}")
    return f"{parts.scheme}://{host}"


async def read_fields(request: Request) -> dict[str, str]:
    """Return the fields of a form that are not empty, without blanks around them. Raises RefusedError."""
    if find_media_type(request) != _FORM:
        raise RefusedError(415, f"a form is {_FORM}")
    try:
        pairs = parse_qsl((await request.body()).decode(), max_num_fields=MAX_FIELDS)
    except ValueError:
        raise RefusedError(422, "the form can't be read") from None
    return {name: value.strip() for name, value in pairs if value.strip()}
