"""Listen for HTTP with uvicorn as a task of an agent, with limits that uvicorn does not have.

A connection is aborted if its request is not complete in time, however slowly its bytes come, and if its
answer is not read in time, so neither keeps memory or a file descriptor longer than that. The agent handles
the signals; when it ends, streams end at once and other answers have half a second.

Uvicorn has no setting for any of these limits, and calls nothing of ours at the moments that they are about:
the first byte of a request, its end, the end of an answer, a buffer that is full. So the protocols here
override methods and read fields of uvicorn that have no public name (`uvicorn._types` gives only the types of
their arguments); 0.54 has nothing public in their place. So pyproject.toml allows no uvicorn from 1 on, and
tests/marketswarm/web goes through each of these moments. docs/development.md ("The HTTP server") has the
other servers that were tried.
"""

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
import struct
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from marketswarm.exit import Code, Exit
from marketswarm.web.limits import RateLimiter
from marketswarm.web.tls_listener import MAX_HANDSHAKES, TlsListener

REQUEST_SEC: Final = 10.0
"""How long a client may take to send a whole request, from its connection or from its last answer on."""
ANSWER_SEC: Final = 10.0  # how long a client may leave what it was sent unread
MAX_CONNECTIONS: Final = 1500  # besides streams; others are answered with 503. An idle one takes 14 kB
REFUSED_CONNECTIONS: Final = 100  # that get that answer; still others are closed without one
MAX_HEAD_BYTES: Final = 16 * 1024  # the most bytes of a request's line and headers
MAX_PIPELINED: Final = 16  # how many requests a client may send before the answer to the first
MAX_MESSAGE_BYTES: Final = 64 * 1024  # the most bytes of a message that the client of a WebSocket sends
LOG_LINES: Final = 5
OTHER_FILES: Final = 200  # open files besides: connections to buses and to PostgreSQL, and logs
BACKLOG: Final = 512
SEND_BUFFER_BYTES: Final = 256 * 1024  # what the kernel keeps for a client that does not read, twice
DRAIN_SEC: Final = 5.0  # how long a client may still send what was refused, until it has read why
MAX_DRAINED_BYTES: Final = 8 * 1024 * 1024  # of that
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
_BODILESS: Final = frozenset({"GET", "HEAD"})
_RESET: Final = struct.pack("ii", 1, 0)  # linger, for no time


WHOLE_ANSWER: Final = "marketswarm.whole_answer"
"""The ASGI extension by which a request is answered in one write, which a client gets in one piece."""

WholeAnswer = Callable[[bytes, bytes], Awaitable[None]]
"""Sends an answer: its head, then its body, which HEAD does not get. The head has the status line and the
headers, each with the end of its line, and says how long the body is; the server adds its own headers."""


def make_head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the status line and the headers of a whole answer, as HTTP/1.1 has them."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    return _find_status_line(status) + b"".join(lines)


@cache
def _find_status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()


class RequestTooLargeError(Exception):
    """A request's line and headers have too many bytes, or too many requests wait for an answer."""


class _Deadline:
    """A time within which a client must do something; `timer` runs from `begin` to `end`."""

    __slots__ = ("_loop", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.timer: asyncio.TimerHandle | None = None

    def begin(self, sec: float, act: Callable[[], None]) -> None:
        """Call `act` in so many seconds, unless the deadline already runs or ends before that."""
        if self.timer is None:
            self.timer = self._loop.call_later(sec, act)

    def end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _AnswerTransport:
    """A connection, for the answer to a request with a body; `close` may wait for the rest of that body."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write, self.is_closing, self.close = transport.write, transport.is_closing, close


class GuardedProtocol(HttpToolsProtocol):
    """A connection that is aborted when its client is too slow in sending or in reading.

    `find_bound` returns the most connections at once; the other arguments are those of uvicorn.
    """

    _is_complete = False  # whether the last request has arrived as a whole
    _in_head = True  # whether the next bytes belong to a request's line and headers
    _head_bytes = 0  # of pieces that did not complete it
    _field_bytes = 0  # of its address and its headers so far
    _idle_until: float | None = None  # the loop's time at which a connection without a request is closed
    _idle_check: asyncio.TimerHandle | None = None
    _drained_bytes: int | None = None  # read and dropped since the last answer; None before it

    def __init__(self, *args: Any, find_bound: Callable[[], int], **more: Any) -> None:
        super().__init__(*args, **more)
        self._find_bound = find_bound
        self._slow_request, self._slow_reader = _Deadline(self.loop), _Deadline(self.loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.limit_concurrency = self._find_bound()
        if len(self.connections) > self.limit_concurrency + REFUSED_CONNECTIONS:
            self._abort()
        else:
            self._slow_request.begin(REQUEST_SEC, self._abort)

    def data_received(self, data: bytes) -> None:
        """Handle bytes; the time for a request begins with its first byte, and ends when it is complete.

        After a last answer they are counted and dropped, and the connection is aborted if there are too many.
        """
        if self._drained_bytes is not None:
            self._drained_bytes += len(data)
            if self._drained_bytes > MAX_DRAINED_BYTES:
                self._abort()
            return
        was_in_head = self._in_head
        self.limit_concurrency = self._find_bound()
        super().data_received(data)
        if was_in_head and self._in_head and not self._is_complete:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("")
        if self._is_complete:
            self._slow_request.end()
        else:
            self._slow_request.begin(REQUEST_SEC, self._abort)

    def on_message_begin(self) -> None:
        self._is_complete, self._in_head, self._field_bytes = False, True, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one that follows the body is left out."""
        if self._in_head:
            self._count_head(len(name) + len(value) + 4)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Have the request answered. If too many wait already, abort and raise RequestTooLargeError."""
        self._in_head = False
        if len(self.pipeline) >= MAX_PIPELINED:
            self._abort()
            raise RequestTooLargeError
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope:
            return  # this one asks for a WebSocket
        if cycle.scope["method"] not in _BODILESS:
            cycle.transport = _AnswerTransport(self.transport, self._close_after_body)  # type: ignore[assignment]  # it has what a cycle uses
        # The task that answers begins in the next turn of the loop, and finds this in its scope. The cycle
        # has the scope: if that had the cycle, each request would stay until the garbage collector looks.
        self.scope["extensions"] = {WHOLE_ANSWER: partial(self._send_whole_answer, weakref.ref(cycle))}  # type: ignore[dict-item]  # uvicorn's type knows extensions without functions

    async def _send_whole_answer(
        self, find_cycle: Callable[[], RequestResponseCycle | None], head: bytes, body: bytes
    ) -> None:
        """Write the answer to a request in one piece, and end the request; nothing if its client is gone."""
        cycle = find_cycle()
        if cycle is None:
            return  # it has ended
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        pieces = [head]
        for name, value in self.server_state.default_headers:
            pieces += name, b": ", value, b"\r\n"
        pieces.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        if cycle.scope["method"] != "HEAD":
            pieces.append(body)
        self.transport.write(b"".join(pieces))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def _close_after_body(self) -> None:
        """Close the connection; if its client still sends, read and drop that first, within DRAIN_SEC.

        Closed with bytes unread, the kernel resets the connection, and the client may lose the answer that
        says why its request was refused.
        """
        if self._is_complete or self.transport.is_closing():
            self.transport.close()
            return
        self._drained_bytes = 0
        self._slow_request.end()
        self._slow_request.begin(DRAIN_SEC, self._abort)
        self.flow.resume_reading()
        if self.transport.can_write_eof():  # not over TLS
            self.transport.write_eof()

    def handle_websocket_upgrade(self) -> None:
        self._is_complete = True
        self._slow_request.end()
        super().handle_websocket_upgrade()

    def on_message_complete(self) -> None:
        self._is_complete, self._in_head = True, True
        self._head_bytes = self._field_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or begin the time in which one must come.

        One timer serves all requests of a connection, since a timer for each costs more than the rest.
        """
        if self._drained_bytes is not None:
            self.server_state.total_requests += 1
            return
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_until = self.loop.time() + self.timeout_keep_alive
        if self._idle_check is None:
            self._idle_check = self.loop.call_at(self._idle_until, self._check_idle)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_until = None
        super()._unset_keepalive_if_required()

    def _check_idle(self) -> None:
        """Close a connection on which no request came in time; look again later if there is time left."""
        self._idle_check = None
        if self._idle_until is None:
            return  # a request is on its way; its answer begins the time again
        if self._idle_until <= self.loop.time():
            self.timeout_keep_alive_handler()
        else:
            self._idle_check = self.loop.call_at(self._idle_until, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what waits for this connection, and let go of its last request."""
        self._slow_request.end()
        self._slow_reader.end()
        if self._idle_check is not None:
            self._idle_check.cancel()
            self._idle_check = None
        super().connection_lost(exc)
        # The last request refers back to this, and short connections would leave megabytes to the collector.
        self.cycle, self.scope = None, None  # type: ignore[assignment]  # as uvicorn begins

    def pause_writing(self) -> None:
        super().pause_writing()
        self._slow_reader.begin(ANSWER_SEC, self._abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._slow_reader.end()

    def _count_head(self, size: int) -> None:
        self._field_bytes += size
        if self._field_bytes > MAX_HEAD_BYTES:
            raise RequestTooLargeError

    def send_400_response(self, msg: str) -> None:
        """Close the connection; the client has ANSWER_SEC to read what it was sent before."""
        if self.transport.is_closing():
            return
        if self._field_bytes + self._head_bytes <= MAX_HEAD_BYTES:
            super().send_400_response(msg)
        else:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        self._slow_reader.begin(ANSWER_SEC, self._abort)

    def _abort(self) -> None:
        """End the connection by a reset, so that the kernel keeps nothing that the client has not read."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that is aborted when its client does not read what it was sent in time.

    Until then the client is not read, either, because each of its pings would get an answer to keep.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._slow_reader = _Deadline(self.loop)  # runs while writing is paused

    def pause_writing(self) -> None:
        super().pause_writing()
        self._slow_reader.begin(2 * ANSWER_SEC, self.transport.abort)
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._slow_reader.end()
        if not self.read_paused:  # otherwise a message of the client waits to be taken
            self.transport.resume_reading()

    async def receive(self) -> ASGIReceiveEvent:
        event = await super().receive()
        self._pause_reading_again()
        return event

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        self._pause_reading_again()

    def _pause_reading_again(self) -> None:
        """Have the client read no more, if uvicorn has just begun that while writing is paused."""
        if self._slow_reader.timer is not None:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._slow_reader.end()
        super().connection_lost(exc)


class LogLimiter(logging.Filter):
    """Passes LOG_LINES lines of each message of uvicorn, and one a minute after that.

    Strangers decide how often there is one, because each malformed request is a line.
    """

    def __init__(self) -> None:
        super().__init__()
        self._limiter = RateLimiter(LOG_LINES, 1 / 60, max_keys=100)
        self._left_out = Counter[str]()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if a record is logged, which counts towards the limit of its message.

        It says how many were left out before it.
        """
        message = str(record.msg)
        if self._limiter.take(message, time.monotonic()):
            self._left_out[message] += 1
            return False
        if count := self._left_out.pop(message, 0):
            record.msg = f"{message} ({count} more before this one)"
        return True


class _AgentServer(uvicorn.Server):
    """A server that leaves signals to the agent, and wakes once a second where uvicorn wakes ten times."""

    def __init__(
        self, config: uvicorn.Config, find_bound: Callable[[], int], tls: TlsListener | None
    ) -> None:
        super().__init__(config)
        self._find_bound, self._tls = find_bound, tls

    async def main_loop(self) -> None:
        """Keep the date of answers current, and accept connections over TLS, until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._tls is not None:
                group.create_task(self._accept_tls(self._tls), name="tls")
            while True:
                await self.on_tick(0)
                await asyncio.sleep(1.0)

    async def _accept_tls(self, tls: TlsListener) -> None:
        make: Callable[..., GuardedProtocol] = self.config.http_protocol_class  # type: ignore[assignment]  # what `serve` gave
        make_protocol = partial(
            make, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        await tls.accept_repeatedly(make_protocol, self._is_full)

    def _is_full(self) -> bool:
        return len(self.server_state.connections) >= self._find_bound() + REFUSED_CONNECTIONS

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def open_tls_listener(host: str | None, port: int, pem: Path | None, prefix: str) -> TlsListener | None:
    """Listen for TLS with the certificate and the key in `pem`; None if neither is given.

    Raises Exit, code 2, if one of them is missing or can't be used; the message names the variable, which
    begins with `prefix`, such as `BOARD`.
    """
    if host is None and pem is None:
        return None
    if host is None or pem is None:
        raise Exit(Code.CONFIGURATION, f"{prefix}_TLS_HOST, {prefix}_TLS_PEM: both are needed, or neither")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(pem, password="")  # or else it would ask for one
    except ssl.SSLError:
        raise Exit(Code.CONFIGURATION, f"{prefix}_TLS_PEM: not a certificate with its key, as PEM") from None
    except OSError as error:
        raise Exit(Code.CONFIGURATION, f"{prefix}_TLS_PEM: can't be read ({error.strerror})") from None
    return TlsListener(open_socket(host, port, prefix, "TLS_HOST"), context)


def open_socket(host: str, port: int, prefix: str, host_variable: str = "HOST") -> socket.socket:
    """Return a socket that listens at an address.

    Raises Exit, code 2, if that address can't be used; the message names the variable of the address, such as
    `BOARD_HOST` if `prefix` is `BOARD`, or the variable of the port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            listening.bind(address)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise Exit(Code.CONFIGURATION, _explain(host, port, error, prefix, host_variable)) from None
    listening.setblocking(False)
    return listening


def _explain(host: str, port: int, error: OSError, prefix: str, host_variable: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{prefix}_PORT: port {port} on {host} is taken by another program; give another one"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{prefix}_PORT: this user may not listen on port {port}; give one above 1023"
    return f"{prefix}_{host_variable}: this machine can't listen on {host} ({error.strerror})"


def raise_file_limit(wanted: int) -> None:
    """Allow this process so many open files, if it may: each connection is one, and a shell allows 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


async def serve(
    app: Any,
    listening: socket.socket,
    max_streams_now: Callable[[], int],
    close_streams: Callable[[], None],
    tls: TlsListener | None = None,
) -> None:
    """Answer requests until cancelled; then end streams by `close_streams`, and close what is still open.

    With `tls`, answer at that address too, over TLS alone. `max_streams_now` returns how many streams may
    be open, besides MAX_CONNECTIONS other connections.
    """
    logging.getLogger("uvicorn.error").addFilter(LogLimiter())

    def find_bound() -> int:
        return MAX_CONNECTIONS + max_streams_now()

    raise_file_limit(
        find_bound() + REFUSED_CONNECTIONS + OTHER_FILES + (0 if tls is None else MAX_HANDSHAKES)
    )
    config = uvicorn.Config(
        app,
        http=partial(GuardedProtocol, find_bound=find_bound),  # type: ignore[arg-type]  # any factory does
        ws=GuardedWebSocket,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # to pack small updates costs more than to send them
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _AgentServer(config, find_bound, tls)
    try:
        await server.serve(sockets=[listening])
    finally:
        close_streams()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        for one in getattr(server, "servers", ()):
            one.close()
        listening.close()
        if tls is not None:
            tls.listening.close()
        await _end_connections(server)


async def _end_connections(server: uvicorn.Server) -> None:
    """Wait half a second for answers that are on their way, then abort what is left."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            while server.server_state.connections:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
    for connection in list(server.server_state.connections):
        connection.transport.abort()
