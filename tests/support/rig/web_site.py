"""A web server with pages as a test says, with a certificate or without."""

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.rig.closes import Closes
from support.rig.process import HOST

DRIP_SEC = 0.05
SILENT_AT_MOST_SEC = 60.0


@dataclass(frozen=True)
class Page:
    """The page at a path. `drip`: its body comes byte by byte, and never ends. `silent`: nothing comes.

    `delay_sec` is how long its answer is held back.
    """

    body: bytes = b"all is well"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    drip: bool = False
    silent: bool = False
    delay_sec: float = 0.0


class Site(Closes):
    """`Site({"/health": Page(b"ok")})`; `certificate` is a file and its key. Other paths are 404."""

    def __init__(
        self,
        pages: Mapping[str, Page] | None = None,
        *,
        certificate: tuple[Path, Path] | None = None,
        port: int = 0,
    ) -> None:
        self.pages: dict[str, Page] = dict(pages or {"/": Page()})
        self.seen: list[tuple[str, str, dict[str, str]]] = []  # method, path, headers
        self.names: list[str | None] = []  # what TLS clients asked for
        self._encrypted = certificate is not None
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer((HOST, port), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that turns away
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            context.sni_callback = lambda _sock, name, _context: self.names.append(name)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def url(self, path: str = "/", host: str = HOST) -> str:
        return f"http{'s' if self._encrypted else ''}://{host}:{self.port}{path}"

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def do_GET(self) -> None:
                site._answer(self)

            do_HEAD = do_GET  # noqa: N815 - the library's name

            def log_message(self, *_args: Any) -> None:
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append((handler.command, handler.path, {k.lower(): v for k, v in handler.headers.items()}))
        page = self.pages.get(handler.path.partition("?")[0], Page(b"no such page", 404))
        if page.silent:
            self._closing.wait(SILENT_AT_MOST_SEC)
            handler.close_connection = True
            return
        self._closing.wait(page.delay_sec)
        try:
            handler.send_response(page.status)
            for name, value in page.headers.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(10_000_000 if page.drip else len(page.body)))
            handler.end_headers()
            if handler.command != "HEAD":
                handler.wfile.write(page.body)
            while page.drip and not self._closing.wait(DRIP_SEC):
                handler.wfile.write(b"x")
        except (OSError, ssl.SSLError):  # whoever asked has hung up
            handler.close_connection = True
