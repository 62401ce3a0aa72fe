"""One connection to the WebSocket API: opened, used and closed, whatever ends it being one word.

`protocol.Machine` knows what is said; here it is carried. The key is in one message that is sent over a
connection to the host it was given for; a redirect would lead it elsewhere, and is refused. websockets is
imported here alone, once there is something to listen to.
"""

import asyncio
import contextlib
import logging
import time
from types import TracebackType
from typing import Final, Self

import orjson
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from marketswarm import __version__
from marketswarm.net.errors import EXACT, find_reason
from services.massive.market.errors import Ended
from services.massive.market.protocol import Ask, ProtocolMachine, State

FRAME_BYTES: Final = 1 << 20
FRAMES_WAITING: Final = 16
"""So many frames wait in memory at most; then the other side does, until it calls us a slow consumer."""
CLOSE_WITHIN_SEC: Final = 1.0

_quiet = logging.getLogger("services.massive.market.wire")
_quiet.setLevel(logging.CRITICAL)  # at a lower level the library logs frames, and one of ours holds the key


class _Straight(connect):
    """Goes where it was sent, or nowhere."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """See the library: gives the error back where it would have followed."""
        return exc


class StreamConnection:
    """One connection. `open_sec` bounds the way to it, `alive_sec` how long its death may go unnoticed."""

    def __init__(self, url: str, key: SecretStr, open_sec: float = 10.0, alive_sec: float = 30.0) -> None:
        self._url, self._key, self._open_sec, self._alive_sec = url, key, open_sec, alive_sec
        self._socket: ClientConnection

    async def __aenter__(self) -> Self:
        """Opens it. Raises Ended."""
        try:
            self._socket = await _Straight(
                self._url,
                open_timeout=self._open_sec,
                proxy=True if self._url.startswith("wss:") else None,  # which would see the key else
                ping_interval=self._alive_sec / 2,
                ping_timeout=self._alive_sec / 2,
                close_timeout=CLOSE_WITHIN_SEC,
                max_size=FRAME_BYTES,
                compression=None,  # a small piece of the wire may hold very many large frames, all at once
                max_queue=FRAMES_WAITING,
                user_agent_header=f"marketswarm-massive/{__version__}",
                logger=_quiet,
            )
        except (OSError, WebSocketException, ValueError, EOFError) as error:
            raise Ended(_opening(error)) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Closes it, within a second."""
        await self._socket.close()

    async def read(self) -> bytes:
        """The next frame. Raises Ended."""
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            raise Ended(_closing(closed)) from None
        except (WebSocketException, OSError):
            raise Ended("malformed") from None

    async def ask(self, ask: Ask) -> None:
        """Sends it, with the key where it belongs. On a closed connection that is for nothing.

        Who reads hears of the end, and first of what they said before it: why.
        """
        params = self._key.get_secret_value() if ask.action == "auth" else ask.params
        with contextlib.suppress(WebSocketException, OSError):
            await self._socket.send(orjson.dumps({"action": ask.action, "params": params}).decode())


async def authenticate(wire: StreamConnection, machine: ProtocolMachine, within_sec: float) -> None:
    """Be greeted, show the key, be let in, ask for what is wanted. Raises Ended."""
    try:
        async with asyncio.timeout(within_sec):
            while machine.state is not State.STREAMING:
                heard = machine.receive(await wire.read(), 1000 * time.time())
                if heard.over:
                    raise Ended(heard.over)
                for ask in heard.asks:
                    await wire.ask(ask)
    except TimeoutError:
        raise Ended("silent") from None


def _opening(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return "redirected" if 300 <= status < 400 else f"http_{status}"
    return find_reason(error, EXACT) or ("refused" if isinstance(error, OSError) else "handshake")


def _closing(closed: ConnectionClosed) -> str:
    """Why a connection closed, in a word; what they write beside the code is theirs, and is not passed on."""
    if closed.rcvd is not None and closed.rcvd_then_sent is not False:  # they began
        return "slow_consumer" if "slow" in closed.rcvd.reason.lower() else f"closed_{closed.rcvd.code}"
    sent = closed.sent.code if closed.sent is not None else None
    return {1009: "too_big", 1011: "silent", 1002: "malformed", 1007: "malformed"}.get(sent or 0, "cut")
