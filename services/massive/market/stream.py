"""Use one connection to the WebSocket API: open it, send requests, receive frames, close it.

Each end of it raises `ConnectionEnded` with one word. `protocol.py` interprets the frames. The key is in one
message, which is sent only to the host that it is meant for, because a redirect is refused. This module
imports websockets, so it is imported only when there is something to stream.
"""

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Final, Self

import orjson
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from marketswarm.net.websocket import OpenError, open_websocket
from services.massive.market.errors import ConnectionEnded
from services.massive.market.protocol import ConnectionState, ProtocolMachine, Request

MAX_FRAME_BYTES: Final = 1 << 20
MAX_QUEUED_FRAMES: Final = 16
"""The frames that wait in memory; then the server has to wait, until it disconnects us as a slow consumer."""


class StreamConnection:
    """Connect to the WebSocket API. Use as a context manager.

    A dead connection is detected after `alive_sec`.
    """

    def __init__(self, url: str, key: SecretStr, open_sec: float = 10.0, alive_sec: float = 30.0) -> None:
        self._url, self._key, self._open_sec, self._alive_sec = url, key, open_sec, alive_sec
        self._socket: ClientConnection

    async def __aenter__(self) -> Self:
        """Open the connection. Raises ConnectionEnded."""
        try:
            self._socket = await open_websocket(
                self._url,
                "massive",
                open_sec=self._open_sec,
                silent_sec=self._alive_sec,
                frame_bytes=MAX_FRAME_BYTES,
                queued_frames=MAX_QUEUED_FRAMES,
                by_proxy=self._url.startswith("wss:"),  # a proxy would see the key of a plain connection
            )
        except OpenError as error:
            raise ConnectionEnded(str(error)) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the connection, within a second."""
        await self._socket.close()

    async def receive(self) -> bytes:
        """Return the next frame. Raises ConnectionEnded."""
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            raise ConnectionEnded(_close_reason(closed)) from None
        except (WebSocketException, OSError):
            raise ConnectionEnded("malformed") from None

    async def send(self, request: Request) -> None:
        """Send a request, with the key in an `auth`.

        On a closed connection this does nothing: `receive` first returns the last frames, which have the
        reason, and then raises.
        """
        params = self._key.get_secret_value() if request.action == "auth" else request.params
        with contextlib.suppress(WebSocketException, OSError):
            await self._socket.send(orjson.dumps({"action": request.action, "params": params}).decode())


async def authenticate(connection: StreamConnection, machine: ProtocolMachine, timeout_sec: float) -> None:
    """Wait for the greeting, send the key, and subscribe to what `machine` wants. Raises ConnectionEnded."""
    try:
        async with asyncio.timeout(timeout_sec):
            while machine.state is not ConnectionState.STREAMING:
                content = machine.receive(await connection.receive(), 1000 * time.time())
                if content.end_reason:
                    raise ConnectionEnded(content.end_reason)
                for request in content.requests:
                    await connection.send(request)
    except TimeoutError:
        raise ConnectionEnded("silent") from None


def _close_reason(closed: ConnectionClosed) -> str:
    """Return why a connection closed, as one word; the server's own text is not passed on."""
    if closed.rcvd is not None and closed.rcvd_then_sent is not False:  # the server began
        return "slow_consumer" if "slow" in closed.rcvd.reason.lower() else f"closed_{closed.rcvd.code}"
    sent = closed.sent.code if closed.sent is not None else None
    return {1009: "too_big", 1011: "silent", 1002: "malformed", 1007: "malformed"}.get(sent or 0, "cut")
