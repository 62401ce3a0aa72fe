"""Observe how long the board's answers take until they begin, by the class of their route."""

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from marketswarm.metrics import LabelledHistogram
from services.board.pings.other_gates import KUMA_PREFIX
from services.board.pings.requests import PREFIX as PING_PREFIX

_CLASSES: Final = {
    "/api/v1/bars/": "chart",
    "/api/v1/market": "market",
    "/api/v1/signals": "signals",
    "/static/": "static",
    "/health": "health",
    "/readyz": "health",
    "/api/v1/health": "health",
    PING_PREFIX: "ping",
    KUMA_PREFIX: "ping",
}
"""The class of a route by the beginning of its path; the first that fits."""
_API: Final = "api"
_PAGE: Final = "page"
ROUTE_CLASSES: Final = (*dict.fromkeys(_CLASSES.values()), _API, _PAGE)
"""The classes of all routes: the values of a label, so there are few, whatever a client asks for."""


def classify_path(path: str) -> str:
    """Return the class of a path's route, one of ROUTE_CLASSES."""
    found = next((name for start, name in _CLASSES.items() if path.startswith(start)), None)
    return found or (_API if path.startswith("/api/") else _PAGE)


class AnswerTimes:
    """Observes the time from a request over HTTP until its answer begins; a stream is not waited for.

    WebSockets are not observed. An answer that is sent in one write is observed once it is sent.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.seconds = LabelledHistogram(
            ROUTE_CLASSES, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, begins_at = time.monotonic(), 0.0

        async def send_and_note(message: Message) -> None:
            nonlocal begins_at
            begins_at = begins_at or time.monotonic()
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            self.seconds.observe(classify_path(scope["path"]), (begins_at or time.monotonic()) - begun)
