"""Serve a witness by HTTP: `POST /add-checkpoint`, and `GET /healthz`."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from marketswarm import log
from marketswarm.web.server import open_socket, serve
from services.signals.log.submission import MAX_REQUEST_BYTES
from services.signals.witness.witness import TEXT_TYPE, Witness

_log = log.get("witness")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def run_witness(witness: Witness, host: str, port: int, stopped: asyncio.Event) -> None:
    """Answer requests until `stopped` is set. Raises Exit, code 2, if the address can't be used."""
    listening = open_socket(host, port, "WITNESS")
    _log.info("witness.listening", host=host, port=port)
    serving = asyncio.ensure_future(serve(make_app(witness), listening, lambda: 0, lambda: None))
    await asyncio.wait([serving, asyncio.ensure_future(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    _log.info("witness.stopped")


def make_app(witness: Witness) -> Any:
    """Return the ASGI application of a witness."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, media_type, text = await _answer(witness, scope, receive)
        body = text.encode()
        headers = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def _answer(witness: Witness, scope: Message, receive: Receive) -> tuple[int, str, str]:
    route = scope["method"], scope["path"]
    if route in {("GET", "/healthz"), ("HEAD", "/healthz")}:
        return 200, TEXT_TYPE, "ok\n"
    if route != ("POST", "/add-checkpoint"):
        return 404, TEXT_TYPE, "there is POST /add-checkpoint\n"
    body = await _read_body(receive)
    if body is None:
        return 413, TEXT_TYPE, f"a request has {MAX_REQUEST_BYTES} bytes at most\n"
    try:
        answer = witness.add_checkpoint(body)
    except sqlite3.Error as error:
        _log.exception("witness.not_stored", error=str(error))
        return 503, TEXT_TYPE, "the checkpoint can't be stored now, so it is not cosigned\n"
    _log.info("witness.answered", status=int(answer.status), size=len(body))
    return answer.status, answer.media_type, answer.body


async def _read_body(receive: Receive) -> bytes | None:
    """Return the body of a request, None if it is too large."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MAX_REQUEST_BYTES:
            return None
        if not message.get("more_body"):
            return body
