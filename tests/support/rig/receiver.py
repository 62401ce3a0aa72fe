"""A receiver of messages: an HTTP server with scripted answers, which keeps every request."""

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from support.rig.closes import Closes
from support.rig.process import HOST, free_port
from support.waiting import PATIENT_SEC, until

HANG_AT_MOST_SEC = 60.0
DRIP_SEC = 0.05


@dataclass(frozen=True)
class Answer:
    """An answer: after `after_sec`, `status` with `headers` and `body`.

    Or nothing for ever (`hang`), a body that never ends, byte by byte (`drip`), a connection cut (`reset`).
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang: bool = False
    drip: bool = False
    reset: bool = False
    after_sec: float = 0.0

    @property
    def accepts(self) -> int:
        """The status, or 0 for what is no answer."""
        return 0 if self.hang or self.drip or self.reset else self.status


@dataclass(frozen=True)
class Request:
    """A request that was answered: `at` is monotonic, `status` the answer."""

    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def data(self) -> dict[str, Any]:
        return dict(orjson.loads(self.body)["data"])


class Receiver(Closes):
    """Answers by the script, then always with `always`: `Receiver(503, 503)`, `receiver.script.append(…)`."""

    def __init__(self, *script: int | Answer, port: int | None = None, host: str = HOST) -> None:
        self.script: deque[int | Answer] = deque(script)
        self.always: int | Answer = 200
        self.choose: Callable[[Request], int | Answer | None] | None = None
        """Picks the answer to a request, before `script` and `always`; None leaves it to them."""
        self.seen: list[Request] = []
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer((host, port or free_port()), self._handler())
        self.host = host
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/hook/s3cret"

    def taken(self, svc: str | None = None) -> list[dict[str, Any]]:
        """The events of all messages that were accepted, in order."""
        accepted = [request for request in list(self.seen) if 200 <= request.status < 300 and request.body]
        events = [event for request in accepted for event in request.data["events"]]
        return [event for event in events if svc in (None, event["svc"])]

    def wait(self, kind: str, svc: str, within: float = PATIENT_SEC) -> dict[str, Any]:
        """The first such event that was accepted, waiting for it."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.taken(svc) if event["type"] == kind]

        until(
            found,
            within,
            lambda: f"{kind} of {svc} at the receiver; it has {self.taken()}, {self.statuses()}",
        )
        return found()[0]

    def statuses(self) -> list[int]:
        """Return the requests that were answered, in order."""
        return [request.status for request in list(self.seen)]

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = HANG_AT_MOST_SEC

            def do_GET(self) -> None:
                receiver._answer(self)

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, *_args: Any) -> None:
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Request(time.monotonic(), handler.command, handler.path, headers, body, 0)
        found = self.choose(asked) if self.choose is not None else None
        if found is None:
            found = self.script.popleft() if self.script else self.always
        answer = found if isinstance(found, Answer) else Answer(found)
        request = replace(asked, status=answer.accepts)
        self.seen.append(request)
        self._closing.wait(HANG_AT_MOST_SEC if answer.hang else answer.after_sec)
        if answer.hang or answer.reset:
            handler.close_connection = True
            if answer.reset:  # what is closed without lingering says RST
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                handler.connection.close()
            return
        try:
            handler.send_response(answer.status)
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(1_000_000 if answer.drip else len(answer.body)))
            handler.end_headers()
            handler.wfile.write(answer.body)
            while answer.drip and not self._closing.wait(DRIP_SEC):
                handler.wfile.write(b"x")
        except OSError:  # whoever asked has hung up
            handler.close_connection = True


def texts(requests: Iterable[Request]) -> list[str]:
    """Titles of messages."""
    return [request.data["title"] for request in requests]
