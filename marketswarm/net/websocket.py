"""Talk to a WebSocket server that is not trusted.

It follows no redirect, takes no compressed frame, and writes no frame to the log, because one may have a key.
It is a module of its own so that `websockets` is imported only when there is something to stream.
"""

import contextlib
import logging
from typing import Final, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from marketswarm import __version__
from marketswarm.net.errors import EXACT_REASONS, ConnectionEnded, NetworkReason, find_reason

CLOSE_SEC: Final = 1.0
"""The time in which a connection is closed."""

_silent_log = logging.getLogger(__name__)
_silent_log.setLevel(logging.CRITICAL)  # at a lower level the library logs frames
_OUR_ENDS: Final = {1009: "too_big", 1011: "silent", 1002: "malformed", 1007: "malformed"}
"""Why we close a connection, by the code that we send."""


class _ConnectWithoutRedirects(connect):
    """Connect as the library does, without following redirects."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the error of every redirect, which the library then raises."""
        return exc


class WebSocketSession:
    """Hold one connection. Use as a context manager.

    It is closed within a second.

    Args:
        silent_sec: after how long a server that answers no ping counts as away.
        frame_bytes: the largest frame that is taken; at a larger one the connection ends.
        queued_frames: how many frames wait in memory; then the server has to wait.
        by_proxy: whether to use the proxy that the environment names.
    """

    def __init__(
        self,
        url: str,
        agent: str,
        *,
        open_sec: float,
        silent_sec: float,
        frame_bytes: int,
        queued_frames: int,
        by_proxy: bool = False,
    ) -> None:
        self._opening = _ConnectWithoutRedirects(
            url,
            open_timeout=open_sec,
            proxy=True if by_proxy else None,
            ping_interval=silent_sec / 2,
            ping_timeout=silent_sec / 2,
            close_timeout=CLOSE_SEC,
            max_size=frame_bytes,
            compression=None,  # few compressed bytes may unpack to very many large frames
            max_queue=queued_frames,
            user_agent_header=f"marketswarm-{agent}/{__version__}",
            logger=_silent_log,
        )
        self._socket: ClientConnection

    async def __aenter__(self) -> Self:
        """Open the connection. Raise ConnectionEnded."""
        try:
            self._socket = await self._opening
        except (OSError, WebSocketException, ValueError, EOFError) as error:
            raise ConnectionEnded(_describe_refusal(error)) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()

    async def receive(self) -> bytes:
        """Return the next frame. Raise ConnectionEnded. A wait that is given up loses no frame."""
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            raise ConnectionEnded(_find_close_reason(closed)) from None
        except (WebSocketException, OSError):
            raise ConnectionEnded("malformed") from None

    async def send(self, frame: str) -> None:
        """Send a frame of text.

        On a closed connection this does nothing: `receive` first returns the last frames, which have the
        reason, and then raises.
        """
        with contextlib.suppress(WebSocketException, OSError):
            await self._socket.send(frame)


def _describe_refusal(error: Exception) -> str:
    """Return one word for why a connection could not be opened."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return "redirected" if 300 <= status < 400 else f"http_{status}"
    return find_reason(error, EXACT_REASONS) or ("refused" if isinstance(error, OSError) else "handshake")


def _find_close_reason(closed: ConnectionClosed) -> str:
    """Return why a connection closed, as one word; the server's own text is not passed on."""
    if closed.rcvd is not None and closed.rcvd_then_sent is not False:  # the server began
        return "slow_consumer" if "slow" in closed.rcvd.reason.lower() else f"closed_{closed.rcvd.code}"
    return _OUR_ENDS.get(closed.sent.code if closed.sent is not None else 0, NetworkReason.BROKEN)
