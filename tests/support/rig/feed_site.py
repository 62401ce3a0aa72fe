"""Sites that serve feeds to tests: one of scripted pages, one over HTTP/2. Real servers on 127.0.0.1."""

import contextlib
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from support.rig import HOST

RSS = '<?xml version="1.0"?><rss version="2.0"><channel><title>t</title>{}</channel></rss>'
ITEM = "<item><guid>{0}</guid><title>Item &lt;b&gt;{0}&lt;/b&gt;</title><link>https://a.example/{0}</link></item>"


def rss(*idents: Any) -> bytes:
    """A feed with these items, newest first."""
    return RSS.format("".join(ITEM.format(ident) for ident in idents)).encode()


@dataclass(frozen=True)
class Page:
    """The document at a path. A request with its ETag or its Last-Modified gets 304 and no body."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Visit:
    """A request that was answered: `at` is monotonic, `status` the answer."""

    at: float
    path: str
    headers: Mapping[str, str]
    status: int


class Site(http.server.ThreadingHTTPServer):
    """Serves `pages`: path to a Page, a body, a status, or a function of the handler; 404 for the rest."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        self.visits: list[Visit] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        super().__init__((HOST, 0), Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def url(self, path: str = "/") -> str:
        return f"http://{HOST}:{self.server_port}{path}"

    def of(self, path: str) -> list[Visit]:
        return [visit for visit in list(self.visits) if visit.path == path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: tests have clients hang up on purpose."""

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(5)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Site

    def do_GET(self) -> None:
        site = self.server
        with site.lock:
            site.at_once += 1
            site.most_at_once = max(site.most_at_once, site.at_once)
        try:
            self._answer(site.pages.get(self.path, 404))
        finally:
            with site.lock:
                site.at_once -= 1

    def _answer(self, page: Any) -> None:
        if callable(page):
            self._note(0)
            self.close_connection = True
            with contextlib.suppress(OSError):
                page(self)
            return
        if isinstance(page, int):
            page = Page(status=page)
        if isinstance(page, str | bytes):
            page = Page(page if isinstance(page, bytes) else page.encode())
        headers = {name.lower(): value for name, value in page.headers.items()}
        shown = (self.headers.get("if-none-match"), self.headers.get("if-modified-since"))
        same = any(one and one in (headers.get("etag"), headers.get("last-modified")) for one in shown)
        status, body = (304, b"") if same else (page.status, page.body)
        self._note(status)
        self.send_response(status)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _note(self, status: int) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.visits.append(Visit(time.monotonic(), self.path, headers, status))

    def log_message(self, *_args: Any) -> None:
        pass


class Http2Site:
    """Answers requests over HTTP/2 and TLS with one page, but those up to the `unanswered`th.

    Counts its connections, and all requests.
    """

    def __init__(self, context: ssl.SSLContext, body: bytes) -> None:
        self.unanswered = 0
        context.set_alpn_protocols(["h2"])
        self.body, self.connections, self.requests = body, 0, 0
        self._context, self._closing = context, threading.Event()
        self._listening = socket.create_server((HOST, 0))
        self._listening.settimeout(0.05)
        self.url = f"https://{HOST}:{self._listening.getsockname()[1]}/feed"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(5)
        self._listening.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                plain, _ = self._listening.accept()
                thread = threading.Thread(target=self._serve, args=(plain,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as wire:
            self.connections += 1
            wire.settimeout(0.05)
            talk = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            talk.initiate_connection()
            while not self._closing.is_set():
                wire.sendall(talk.data_to_send())
                with contextlib.suppress(TimeoutError):
                    heard = wire.recv(65_536)
                    if not heard:
                        return
                    for event in talk.receive_data(heard):
                        if isinstance(event, h2.events.RequestReceived):
                            self.requests += 1
                            if self.requests <= self.unanswered:
                                continue
                            # on a busy machine, what was asked is heard together with that it is given up
                            with contextlib.suppress(h2.exceptions.StreamClosedError):
                                talk.send_headers(
                                    event.stream_id, [(":status", "200"), ("content-type", "text/xml")]
                                )
                                talk.send_data(event.stream_id, self.body, end_stream=True)


def drip(handler: Handler, until_sec: float = 10.0) -> None:
    """A body that never ends, byte by byte."""
    handler.send_response(200)
    handler.end_headers()
    by = time.monotonic() + until_sec
    while time.monotonic() < by:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)  # the peer is slow on purpose


def endless(handler: Handler) -> None:
    """A body that never ends, as fast as it can."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"<item>" * 10_000)


def fifty_megabytes(handler: Handler) -> None:
    """A body that says at once how large it is."""
    handler.send_response(200)
    handler.send_header("Content-Length", "50000000")
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b" " * 1_000_000)


def to(location: str, status: int = 302) -> Page:
    """A redirect."""
    return Page(status=status, headers={"Location": location})
