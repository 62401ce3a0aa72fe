"""Serve metrics to Prometheus: METRICS_PORT answers `GET /metrics` in the text format.

The server answers in threads of its own, not on the event loop: while the loop hangs, a scrape still reports
that and since when, and a scrape of a hundred thousand services does not delay the loop. The server renders
one answer at a time, and limits connections in number, in time and in bytes read. The server of
`prometheus_client` has none of these limits; `rendering` makes the text with that library, and is imported by
the first scrape.

A page in a browser can make its own host name resolve to 127.0.0.1 and then read the answers of a local
server (DNS rebinding). The browser still sends that name in `Host`, so only requests for our own names and
for plain addresses are answered, because an address can't be rebound.
"""

import contextlib
import errno
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler
from math import inf
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final, Self

from marketswarm import log as logs
from marketswarm.exit import Mistake
from marketswarm.metrics.family import Source
from marketswarm.net.addresses import parse_address

_HOST: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::[0-9]{0,5})?")
_LOCAL: Final = "localhost"
_parse_address: Final = lru_cache(maxsize=256)(parse_address)
GZIP: Final = 31  # as zlib's `wbits`
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
CLIENT_LIMIT_SEC: Final = 15.0
"""How long a client may take to send its request, and then to read the answer. The time in which the answer
is rendered does not count."""
MAX_CONNECTIONS: Final = 8
"""The most connections at once; for a new one the oldest that has sent no whole request yet is closed."""
MAX_HEAD_BYTES: Final = 16 * 1024
"""The most bytes of the header lines of a request."""
POLL_SEC: Final = 0.2
"""How often the server checks for its end and for connections whose time has ended."""
LOG_EVERY_SEC: Final = 60.0
"""The shortest time between two log lines about failed scrapes."""


def list_own_names(*names: str) -> frozenset[str]:
    """Return the host names of this machine and those of `names` that are not empty, in lower case."""
    return frozenset(_normalize_host_name(name) for name in (socket.gethostname(), _LOCAL, *names) if name)


def is_own_host(header: str, names: Iterable[str]) -> bool:
    """Return True if a `Host` header has an IP address, a name below `localhost`, or one of `names`."""
    found = _HOST.fullmatch(header.strip())
    if found is None:
        return False
    host = _normalize_host_name(found[1] or found[2] or "")
    return host in names or host.endswith(f".{_LOCAL}") or _parse_address(host) is not None


def _normalize_host_name(name: str) -> str:
    return name.lower().removesuffix(".")


def compress_pieces(pieces: Iterable[bytes]) -> tuple[int, list[bytes]]:
    """Compress a text with gzip, quickly rather than well; return its length and the result."""
    compressor = zlib.compressobj(level=1, wbits=GZIP)
    size, found = 0, []
    for piece in pieces:
        size += len(piece)
        found.append(compressor.compress(piece))
    found.append(compressor.flush())
    return size, found


log = logs.get("metrics")


class Exporter:
    """Serves the metrics of its sources while its `with` block runs. Sources may be added meanwhile.

    `names` are the host names that requests may have, besides addresses and the machine's own name. Raises
    Exit, code 2, when it can't listen at that address; the message names the variable.
    """

    def __init__(self, host: str, port: int, sources: Sequence[Source], names: Sequence[str] = ()) -> None:
        self._sources = sources
        self.names = list_own_names(host, *names)
        self._rendering = threading.Lock()
        try:
            self._server = _Server(host, port, self)
        except OSError as error:
            raise Mistake(_explain_listen_error(host, port, error)) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SEC,), name="metrics", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        host, port = self._server.server_address[:2]
        log.info("metrics.served", host=host, port=port)
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(CLIENT_LIMIT_SEC)

    def render(self) -> Iterator[bytes]:
        """Yield the metrics of all sources and of the process in the text format, piece by piece."""
        from marketswarm.metrics import rendering  # noqa: PLC0415 - 1 MB, which is taken by the first scrape

        with self._rendering:
            for source in list(self._sources):
                for family in source():
                    yield from rendering.render_family(family)
            yield from rendering.render_process()


class _Server(ThreadingMixIn, TCPServer):
    """The HTTP server of an `Exporter`: one thread for each connection, MAX_CONNECTIONS at most."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 8 * MAX_CONNECTIONS

    def __init__(self, host: str, port: int, exporter: Exporter) -> None:
        self.exporter = exporter
        self.failed_at = float("-inf")
        # in order of arrival: the time from which the limit of a connection counts
        self._connections: dict[socket.socket, float] = {}
        self._requests_read: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.address_family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]  # a host and a port, of either family

    def process_request(self, request: Any, client_address: Any) -> None:
        """Register a new connection and start its thread.

        If there are too many, the oldest that has sent no whole request is closed, otherwise the new one.
        """
        with self._lock:
            if len(self._connections) >= MAX_CONNECTIONS:
                self._close_connection(
                    next((each for each in self._connections if each not in self._requests_read), request)
                )
            self._connections[request] = time.monotonic()
        super().process_request(request, client_address)

    def move_limit(self, request: Any, since: float) -> None:
        """Count the limit of a connection whose request was read from `since` on; infinity means no limit."""
        with self._lock:
            self._requests_read.add(request)
            if request in self._connections:
                self._connections[request] = since

    def service_actions(self) -> None:
        """Close connections whose time has ended; the library calls this every POLL_SEC."""
        with self._lock:
            for request, since in list(self._connections.items()):
                if time.monotonic() - since > CLIENT_LIMIT_SEC:
                    self._close_connection(request)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.pop(request, None)
            self._requests_read.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            for request in list(self._connections):
                self._close_connection(request)

    def _close_connection(self, request: socket.socket) -> None:
        """Close a connection that a thread reads or writes; that thread then gets an error and ends."""
        self._connections.pop(request, None)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: a disconnect is not an event, and other errors were logged where they occurred."""


class _Handler(BaseHTTPRequestHandler):
    """Answers the request of one connection."""

    server: _Server
    timeout = CLIENT_LIMIT_SEC

    def setup(self) -> None:
        super().setup()
        self.rfile = _HeadReader(self.rfile)  # type: ignore[assignment]  # all that is called is `readline`

    def do_GET(self) -> None:
        """Answer 200 with the metrics, 404 for any other path, 421 for a host that is not ours.

        A request during which a source fails gets 500.
        """
        self.server.move_limit(self.request, inf)  # to render the answer has no limit
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "there is /metrics here")
            return
        if not all(
            is_own_host(name, self.server.exporter.names) for name in self.headers.get_all("Host", ())
        ):
            self.send_error(421, "no name of this host; METRICS_ALLOWED_HOSTS can have it")
            return
        gzip = "gzip" in self.headers.get("Accept-Encoding", "")
        try:
            # render all before sending, so that no answer is incomplete; compress it, since it may be long
            size, pieces = compress_pieces(self.server.exporter.render())
        except Exception:  # if a source fails, this scrape fails, and the server continues
            if time.monotonic() - self.server.failed_at >= LOG_EVERY_SEC:
                self.server.failed_at = time.monotonic()
                log.exception("metrics.failed")
            self.send_error(500, "the metrics can't be read; the log says why")
            return
        self.server.move_limit(self.request, time.monotonic())  # that of sending it
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        if gzip:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(sum(map(len, pieces)) if gzip else size))
        self.end_headers()
        unpack = zlib.decompressobj(wbits=GZIP).decompress
        for piece in pieces:
            self.wfile.write(piece if gzip else unpack(piece))

    def version_string(self) -> str:
        return "marketswarm"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Log nothing, because a scrape is not an event."""


class _HeadReader:
    """Reads the lines of the head of a request from a file, up to MAX_HEAD_BYTES in all."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._bytes_left = MAX_HEAD_BYTES

    def readline(self, limit: int) -> bytes:
        """Raises LineTooLong if all lines together are too long; the library answers with 431."""
        line: bytes = self._file.readline(min(limit, self._bytes_left + 1))
        self._bytes_left -= len(line)
        if self._bytes_left < 0:
            raise LineTooLong("head")
        return line

    def close(self) -> None:
        self._file.close()


def _explain_listen_error(host: str, port: int, error: OSError) -> str:
    """Return the message that says why the server can't listen at an address, and what the user can do."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"METRICS_PORT: port {port} on {host} is taken by another program; "
            "give another one, or none for no metrics"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"METRICS_PORT: port {port} is not this user's to listen on; one above 1023 is"
    return f"METRICS_HOST: nobody can listen on {host} here ({error.strerror})"
