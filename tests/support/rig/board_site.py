"""The board's pages without a fleet: a server of a snapshot that the test moves."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from marketswarm.status.service_rows import ServiceState
from services import board
from services.board.fleet.frame import Frame
from services.board.fleet.pages import write_turned
from services.board.fleet.snapshot import FleetSnapshot, diff, fold_incidents
from services.board.public.badges import Badge, draw_badge
from services.board.templates import TEMPLATES
from support.board_pages import make_pages
from support.rig.process import HOST

STATIC = Path(board.__file__).with_name("static")
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
TICK_SEC = 1.0


class BoardSite:
    """`with BoardSite(make_small()) as site:` serves it at `site.url`; `site.move(other)` tells all browsers.

    Templates and files are the real ones. The snapshot's time goes on with the clock, from the example's
    moment. `site.is_silent` keeps the streams open and sends nothing; while `site.may_begin` is not set, a
    new stream has no first event; `stop` and `start` are the server's.
    """

    def __init__(self, snapshot: FleetSnapshot) -> None:
        self.snapshot, self.is_silent, self.port = snapshot, False, 0
        self.moves = 0
        self.begun, self.first_at = time.monotonic(), snapshot.at
        self._queues: list[queue.Queue[bytes | None]] = []
        self._server: ThreadingHTTPServer | None = None
        self._ticks = threading.Thread(target=self._tick, daemon=True)
        self._over = threading.Event()
        self.may_begin = threading.Event()
        self.may_begin.set()

    def __enter__(self) -> Self:
        self.start()
        self._ticks.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self.may_begin.set()
        self._ticks.join()
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def position(self) -> str:
        return f"x-{self.moves}"

    @property
    def is_stopped(self) -> bool:
        return self._server is None

    def now(self) -> float:
        """The time of the fleet: the example's, moved on."""
        return self.first_at + time.monotonic() - self.begun

    def current(self) -> FleetSnapshot:
        return replace(self.snapshot, at=self.now())

    def move(self, snapshot: FleetSnapshot) -> None:
        """Makes this what the fleet is like, and sends what differs and the rows that turned."""
        after = replace(snapshot, at=self.now())
        delta = diff(self.current(), after)
        self.snapshot = snapshot
        self.moves += 1
        self._send(b"event: delta\nid: %s\ndata: %s\n\n" % (self.position.encode(), orjson.dumps(delta)))
        if rows := write_turned(TEMPLATES, after, delta):
            self._send(b"event: rows\ndata: %s\n\n" % orjson.dumps(rows))

    def change(self, svc: str, **values: Any) -> None:
        """Changes one service."""
        services = tuple(replace(one, **values) if one.svc == svc else one for one in self.snapshot.services)
        self.move(replace(self.snapshot, services=services, incidents=fold_incidents(services)))

    def start(self) -> None:
        self._server = ThreadingHTTPServer((HOST, self.port), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a browser that went
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Ends all streams and closes the port."""
        server, self._server = self._server, None  # first of all: from here on no stream begins
        for each in list(self._queues):
            each.put(None)
        if server is not None:
            server.shutdown()
            server.server_close()

    def _send(self, wire: bytes) -> None:
        if not self.is_silent:
            for each in list(self._queues):
                each.put(wire)

    def _tick(self) -> None:
        while not self._over.wait(TICK_SEC):
            self._send(b"event: tick\ndata: " + orjson.dumps({"at": self.now()}) + b"\n\n")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

            def do_GET(self) -> None:
                where = urlsplit(self.path)
                if site.is_stopped:  # a connection that was open before
                    self.close_connection = True
                    return
                with contextlib.suppress(ConnectionError):
                    params = dict(parse_qsl(where.query))
                    if where.path == "/api/v1/stream":
                        site.stream(self, self.headers.get("Last-Event-ID", params.get("after", "")))
                    else:
                        self.reply(*site.answer(where.path, params))

            def reply(self, status: int, kind: str, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Content-Security-Policy", CSP)
                self.end_headers()
                self.wfile.write(content)

        return Handler

    def answer(self, path: str, params: dict[str, str]) -> tuple[int, str, bytes]:
        """What there is at a path: the status, the kind and the content."""
        if path.startswith("/static/"):
            file = STATIC / path.rpartition("/")[2]
            found = file.read_bytes() if file.is_file() else b""
            return (200 if found else 404), KINDS.get(file.suffix, "text/plain"), found
        if path.startswith("/badge/"):
            return 200, "image/svg+xml", draw_badge(Badge("example", ServiceState.UP))
        page = self.find_page(unquote(path), params)
        return (200, "text/html", page.encode()) if page else (404, "text/plain", b"no such page")

    def find_page(self, path: str, params: dict[str, str]) -> str | None:
        snapshot = self.current()
        makers: dict[str, Callable[[Frame, dict[str, str]], Any]] = make_pages(snapshot)
        known = max((each for each in makers if path == each or path.startswith(f"{each}/")), default="")
        known = path if path in makers else known
        if not known or (known == "/" and path != "/"):
            return None
        name = known.strip("/").capitalize() or "Fleet"
        frame = Frame(name, known, snapshot, self.position)
        return TEMPLATES.render(makers[known](frame, {**params, "rest": path.removeprefix(known).strip("/")}))

    def stream(self, request: Any, known: str) -> None:
        """Sends what happens until the browser goes or the site stops; `known` is the last event that it has.

        No event is kept, so one that missed any begins anew.
        """
        mine: queue.Queue[bytes | None] = queue.Queue()
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Connection", "close")
        request.end_headers()
        request.close_connection = True
        request.wfile.write(b"retry: 300\n\n")
        request.wfile.flush()
        self.may_begin.wait()
        self._queues.append(mine)
        kind = "resumed" if known == self.position else "reset"
        mine.put(f"event: {kind}\nid: {self.position}\ndata: {{}}\n\n".encode())
        if self.is_stopped:  # `stop` may have looked just before
            mine.put(None)
        try:
            while (wire := mine.get()) is not None:
                request.wfile.write(wire)
                request.wfile.flush()
        finally:
            self._queues.remove(mine)
