"""Send HTTP requests to a Unix socket whose server is not trusted, bounded in time and size.

`marketswarm.net.http` can't be used for this: what httpx does for one request takes a processor two
milliseconds, and the medic asks a container engine for hundreds of containers in a minute. This takes a
fortieth of that. It knows no redirects, proxies, compression or cookies, because an engine has none.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httptools

from marketswarm import __version__
from marketswarm.net.errors import EXACT_REASONS, GENERAL_REASONS, NetworkReason, ReasonTable, find_reason

KEPT: Final = 8
"""How many connections stay open between requests."""
MAX_OVERHEAD_BYTES: Final = 65_536
"""How much may come besides the body: the headers, and the sizes of chunks."""
TOO_LONG: Final = "too_long"
"""The reason if an answer is longer than it may be."""
_BLOCK_BYTES: Final = 65_536
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_OURS: Final[ReasonTable] = ((FileNotFoundError, NetworkReason.REFUSED),)


class SocketHttpError(Exception):
    """A request got no whole answer; `reason` is one word: a `NetworkReason` or `too_long`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SocketAnswer:
    """The status and the body of an answer."""

    status: int
    body: bytes


class _AnswerParser:
    """Parse one answer; the methods that begin with `on_` are called by httptools."""

    def __init__(self, max_bytes: int) -> None:
        self.body, self.status, self.is_whole, self.is_reusable = bytearray(), 0, False, False
        self._max_bytes, self._bytes = max_bytes, 0
        self._parser = httptools.HttpResponseParser(self)

    @property
    def has_begun(self) -> bool:
        return self._bytes > 0

    def feed(self, block: bytes) -> None:
        """Parse what came. Raises SocketHttpError, or an error of httptools."""
        self._bytes += len(block)
        self._parser.feed_data(block)
        if len(self.body) > self._max_bytes or self._bytes > self._max_bytes + MAX_OVERHEAD_BYTES:
            raise SocketHttpError(TOO_LONG)

    def on_headers_complete(self) -> None:
        if not self.is_whole:
            self.status = self._parser.get_status_code()

    def on_body(self, part: bytes) -> None:
        if not self.is_whole:
            self.body += part

    def on_message_begin(self) -> None:
        self.is_reusable = False  # nobody asked for a second answer

    def on_message_complete(self) -> None:
        self.is_reusable = not self.is_whole and self._parser.should_keep_alive()
        self.is_whole = True


class SocketHttpClient:
    """An HTTP client of one Unix socket, which keeps some connections until it is closed."""

    def __init__(self, socket: Path) -> None:
        self._socket, self._kept = str(socket), list[_Streams]()

    def close(self) -> None:
        """Close what is kept; the next request opens it again."""
        while self._kept:
            _, writer = self._kept.pop()
            writer.transport.abort()

    async def fetch(self, method: str, path: str, *, within_sec: float, max_bytes: int) -> SocketAnswer:
        """Send one request, and return its answer, whatever the status is. Raises SocketHttpError.

        A GET is sent once more if the connection that it came to was closed meanwhile. Any other request may
        have been followed, so it has a connection of its own and is sent once.
        """
        head = f"{method} {path} HTTP/1.1\r\nHost: engine\r\nUser-Agent: marketswarm-medic/{__version__}\r\n"
        request = (head + ("" if method == "GET" else "Content-Length: 0\r\n") + "\r\n").encode("ascii")
        try:
            async with asyncio.timeout(within_sec):
                kept = self._take() if method == "GET" else None
                if kept is not None:
                    with suppress(EOFError, ConnectionError):
                        return await self._ask(kept, request, max_bytes)
                new = await asyncio.open_unix_connection(self._socket)
                return await self._ask(new, request, max_bytes)
        except SocketHttpError:
            raise
        except (OSError, EOFError, httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            reason = find_reason(error, EXACT_REASONS, _OURS, GENERAL_REASONS) or NetworkReason.BROKEN
            raise SocketHttpError(reason) from error

    def _take(self) -> _Streams | None:
        """Return a kept connection that is still open, and drop those that are not; None without one."""
        while self._kept:
            reader, writer = self._kept.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.transport.abort()
        return None

    async def _ask(self, streams: _Streams, request: bytes, max_bytes: int) -> SocketAnswer:
        """Ask on a connection; it is kept only after a whole answer, and otherwise dropped.

        Raises SocketHttpError, OSError, an error of httptools, or EOFError if nothing was answered.
        """
        reader, writer = streams
        answer, is_reusable = _AnswerParser(max_bytes), False
        try:
            writer.write(request)
            while not answer.is_whole:
                block = await reader.read(_BLOCK_BYTES)
                if not block:
                    raise SocketHttpError(NetworkReason.BROKEN) if answer.has_begun else EOFError
                answer.feed(block)
            is_reusable = answer.is_reusable
        finally:
            if is_reusable and len(self._kept) < KEPT:
                self._kept.append(streams)
            else:
                writer.transport.abort()
        return SocketAnswer(answer.status, bytes(answer.body))
