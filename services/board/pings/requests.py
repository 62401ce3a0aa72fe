"""Parse the addresses of pings, as Healthchecks' clients write them, and read their bodies.

The two ends of a body are kept; a body that is far too long is refused.

/ping/<uuid>              /ping/<uuid>/start  /fail  /log  /<exit code>
/ping/<ping key>/<slug>   and the same behind it
"""

import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from marketswarm.beat import MAX_EXIT_CODE
from marketswarm.operator.tokens import is_key_text, normalize_uuid
from marketswarm.pings import JobPing, PingForm, PingKind
from marketswarm.tail_buffer import TAIL_BYTES, TailBuffer
from marketswarm.web.tokens import find_address
from services.board.pings.answers import BAD_URL, BAD_UUID, NOT_FOUND, TOO_LARGE, RefusedPingError

PREFIX: Final = "/ping/"
_KINDS: Final = {"start": PingKind.START, "fail": PingKind.FAIL, "log": PingKind.LOG}
_SLUG: Final = re.compile(r"[a-z0-9._-]{1,100}", re.ASCII)
_CODE: Final = re.compile(r"\d{1,9}", re.ASCII)
_UUID_TEXT: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
MAX_QUERY_FIELDS: Final = 1_000  # further ones are left out, as by Uptime Kuma
MAX_BYTES: Final = 1024 * 1024  # of a body: clients send whole logs, and only the end is kept
RawHeaders = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class PingAddress:
    """The address of a ping: `secret` is a UUID in its normal form, or a key that needs a `slug`."""

    secret: str
    slug: str | None
    kind: PingKind = PingKind.SUCCESS
    exit_code: int | None = None


@lru_cache(maxsize=1024)
def parse_ping_path(path: str) -> PingAddress:
    """Return what a path that begins with `/ping/` says. Raise RefusedPingError if it is malformed.

    A job pings the same path again and again, so the last thousand that were paths of pings are kept.
    """
    first, *rest = path.removeprefix(PREFIX).split("/")
    secret = normalize_uuid(first) if _UUID_TEXT.fullmatch(first) else None
    if secret is not None:
        return _add_ending(secret, None, [] if rest == [""] else rest)
    if not rest or _SLUG.fullmatch(rest[0].lower()) is None or rest[0] != rest[0].lower():
        raise RefusedPingError(BAD_URL)
    if not is_key_text(first):
        raise RefusedPingError(NOT_FOUND)
    return _add_ending(first, rest[0], rest[1:])


def _add_ending(secret: str, slug: str | None, ending: list[str]) -> PingAddress:
    if not ending:
        return PingAddress(secret, slug)
    if len(ending) > 1:
        raise RefusedPingError(BAD_URL)
    kind = _KINDS.get(ending[0])
    if kind is not None:
        return PingAddress(secret, slug, kind)
    if _CODE.fullmatch(ending[0]) is None or int(ending[0]) > MAX_EXIT_CODE:
        raise RefusedPingError(BAD_URL)
    code = int(ending[0])
    return PingAddress(secret, slug, PingKind.FAIL if code else PingKind.SUCCESS, code)


def parse_query(query: bytes) -> dict[str, str]:
    """Return the fields of a query; if two have one name, the last."""
    return dict(list_fields(query)) if query else {}


def list_fields(query: bytes) -> list[tuple[str, str]]:
    read = b"&".join(query.split(b"&", MAX_QUERY_FIELDS)[:MAX_QUERY_FIELDS])
    return parse_qsl(read.decode("latin-1"), keep_blank_values=True)


def parse_run_id(fields: dict[str, str]) -> str | None:
    """Return the id of the run (`rid`, a UUID) in a query, or None. Raises RefusedPingError."""
    text = fields.get("rid")
    if text is None:
        return None
    if _UUID_TEXT.fullmatch(text) is None:
        raise RefusedPingError(BAD_UUID)
    return text.lower()


class LostClientError(Exception):
    """The client hung up before its request was complete."""


def announces_body(headers: RawHeaders) -> bool:
    for name, value in headers:  # noqa: SIM110 - each ping passes here, and any() costs three times as much
        if name in (b"content-length", b"transfer-encoding") and value != b"0":
            return True
    return False


def announces_too_much(headers: RawHeaders) -> bool:
    """Return True if a request announces a body of more than MAX_BYTES, or a length that is not a number."""
    sizes = [value for name, value in headers if name == b"content-length"]
    return any(not size.isdigit() or int(size[:20]) > MAX_BYTES for size in sizes)


@dataclass(frozen=True, slots=True)
class PingBody:
    """The ends of a body of `size` bytes: `tail` has the last, `head` the first if `tail` lacks them."""

    tail: bytes = b""
    head: bytes = b""
    size: int = 0


def cut_body(whole: bytes) -> PingBody:
    return PingBody(whole[-TAIL_BYTES:], whole[:TAIL_BYTES] if len(whole) > TAIL_BYTES else b"", len(whole))


async def read_ping_body(receive: Receive) -> PingBody:
    """Raises LostClientError, and RefusedPingError beyond MAX_BYTES."""
    head, tail = b"", TailBuffer()
    async for piece in _read_pieces(receive):
        head += piece[: max(0, TAIL_BYTES - len(head))]
        tail.add(piece)
    return PingBody(tail.read(), head if tail.size > TAIL_BYTES else b"", tail.size)


async def read_body(receive: Receive, keep_bytes: int) -> bytes:
    """Return the beginning of a body, and read all of it. Raises as `read_ping_body` does."""
    kept = bytearray()
    async for piece in _read_pieces(receive):
        kept += piece[: max(0, keep_bytes - len(kept))]
    return bytes(kept)


async def _read_pieces(receive: Receive) -> AsyncIterator[bytes]:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise LostClientError
        piece = message.get("body", b"")
        size += len(piece)
        if size > MAX_BYTES:
            raise RefusedPingError(TOO_LARGE)
        yield piece
        more = message.get("more_body", False)


def find_header(headers: RawHeaders, wanted: bytes) -> str:
    """Return the value of a header, the last one if there are several; empty if it is missing."""
    found = b""
    for name, value in headers:
        if name == wanted:
            found = value
    return found.decode("latin-1")


def make_ping(
    scope: Scope,
    kind: PingKind,
    body: PingBody,
    *,
    form: PingForm = PingForm.HEALTHCHECKS,
    rid: str | None = None,
    exit_code: int | None = None,
) -> JobPing:
    """Return the ping of a request, as received now."""
    return JobPing(
        kind=kind,
        ts=time.time(),
        form=form,
        rid=rid,
        exit_code=exit_code,
        method=scope["method"],
        client=find_address(scope),
        user_agent=find_header(scope["headers"], b"user-agent"),
        body=body.tail,
        head=body.head,
        size=body.size,
    )
