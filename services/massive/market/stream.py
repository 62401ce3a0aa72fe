"""Use one connection to the WebSocket API: log in, send requests, receive frames.

Each end of it raises `ConnectionEnded` with one word. `services.market.massive` interprets the frames. The
key is in one message, which is sent only to the host that it is meant for, because a redirect is refused.
This module imports websockets, so it is imported only when there is something to stream.
"""

import asyncio
import time
from typing import Final

import orjson
from pydantic import SecretStr

from marketswarm.net.errors import ConnectionEnded
from marketswarm.net.websocket import WebSocketSession
from services.market.massive import ConnectionState, ProtocolMachine, Request

MAX_FRAME_BYTES: Final = 1 << 20
MAX_QUEUED_FRAMES: Final = 16
"""The frames that wait in memory; then the server has to wait, until it disconnects us as a slow consumer."""


class StreamConnection(WebSocketSession):
    """Connect to the WebSocket API. Use as a context manager.

    A dead connection is detected after `alive_sec`.
    """

    def __init__(self, url: str, key: SecretStr, open_sec: float = 10.0, alive_sec: float = 30.0) -> None:
        super().__init__(
            url,
            "massive",
            open_sec=open_sec,
            silent_sec=alive_sec,
            frame_bytes=MAX_FRAME_BYTES,
            queued_frames=MAX_QUEUED_FRAMES,
            by_proxy=url.startswith("wss:"),  # a proxy would see the key of a plain connection
        )
        self._key = key

    async def send_request(self, request: Request) -> None:
        """Send a request, with the key in an `auth`."""
        params = self._key.get_secret_value() if request.action == "auth" else request.params
        await self.send(orjson.dumps({"action": request.action, "params": params}).decode())


async def authenticate(connection: StreamConnection, machine: ProtocolMachine, timeout_sec: float) -> None:
    """Wait for the greeting, send the key, and subscribe to what `machine` wants. Raises ConnectionEnded."""
    try:
        async with asyncio.timeout(timeout_sec):
            while machine.state is not ConnectionState.STREAMING:
                content = machine.receive(await connection.receive(), 1000 * time.time())
                if content.end_reason:
                    raise ConnectionEnded(content.end_reason)
                for request in content.requests:
                    await connection.send_request(request)
    except TimeoutError:
        raise ConnectionEnded("silent") from None
