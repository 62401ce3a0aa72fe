"""Read the body of a request, keep its beginning, and refuse one that is far too long."""

from collections.abc import Sequence
from typing import Final

from starlette.types import Receive

from services.board.pings.answers import TOO_LARGE, RefusedPingError

MAX_BYTES: Final = 1024 * 1024
"""The most bytes of a body: clients send whole logs, of which only the beginning is kept."""

RawHeaders = Sequence[tuple[bytes, bytes]]


class LostClientError(Exception):
    """The client hung up before its request was complete."""


def announces_body(headers: RawHeaders) -> bool:
    """Return True if a request has a body, by its headers."""
    for name, value in headers:  # noqa: SIM110 - each ping passes here, and any() costs three times as much
        if name in (b"content-length", b"transfer-encoding") and value != b"0":
            return True
    return False


def announces_too_much(headers: RawHeaders) -> bool:
    """Return True if a request says that its body is longer than MAX_BYTES, or says no length that counts."""
    sizes = [value for name, value in headers if name == b"content-length"]
    return any(not size.isdigit() or int(size[:20]) > MAX_BYTES for size in sizes)


async def read_body(receive: Receive, keep_bytes: int) -> tuple[bytes, int]:
    """Return the first `keep_bytes` bytes of a body, and how many bytes it has.

    Raises:
        RefusedPingError: the body has more than MAX_BYTES bytes.
        LostClientError: the client hung up.
    """
    kept, size, more = bytearray(), 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise LostClientError
        piece = message.get("body", b"")
        size += len(piece)
        if size > MAX_BYTES:
            raise RefusedPingError(TOO_LARGE)
        kept += piece[: max(0, keep_bytes - len(kept))]
        more = message.get("more_body", False)
    return bytes(kept), size


def find_header(headers: RawHeaders, wanted: bytes) -> str:
    """Return the value of a header, the last one if there are several; empty if there is none."""
    found = b""
    for name, value in headers:
        if name == wanted:
            found = value
    return found.decode("latin-1")
