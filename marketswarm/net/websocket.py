"""Open a WebSocket connection to a server that is not trusted.

It follows no redirect, takes no compressed frame, and writes no frame to the log, because one may have a key.
It is a module of its own so that `websockets` is imported only when there is something to stream.
"""

import logging
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from marketswarm import __version__
from marketswarm.net.errors import EXACT_REASONS, find_reason

CLOSE_SEC: Final = 1.0
"""The time in which a connection is closed."""

_silent_log = logging.getLogger(__name__)
_silent_log.setLevel(logging.CRITICAL)  # at a lower level the library logs frames


class OpenError(Exception):
    """A connection could not be opened; `str()` is one word, such as `timeout`, `refused` or `http_404`."""


class _ConnectWithoutRedirects(connect):
    """Connect as the library does, without following redirects."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the error of every redirect, which the library then raises."""
        return exc


async def open_websocket(
    url: str,
    agent: str,
    *,
    open_sec: float,
    silent_sec: float,
    frame_bytes: int,
    queued_frames: int,
    by_proxy: bool = False,
) -> ClientConnection:
    """Return an open connection.

    Args:
        url: the address, `ws:` or `wss:`.
        agent: the agent that asks, for the header User-Agent: `marketswarm-<agent>/<version>`.
        silent_sec: after how long a server that answers no ping counts as away.
        frame_bytes: the largest frame that is taken; at a larger one the connection ends.
        queued_frames: how many frames wait in memory; then the server has to wait.
        by_proxy: whether to use the proxy that the environment names.

    Raises:
        OpenError: the connection could not be opened.
    """
    try:
        return await _ConnectWithoutRedirects(
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
    except (OSError, WebSocketException, ValueError, EOFError) as error:
        raise OpenError(_describe(error)) from None


def _describe(error: Exception) -> str:
    """Return one word for why a connection could not be opened."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return "redirected" if 300 <= status < 400 else f"http_{status}"
    return find_reason(error, EXACT_REASONS) or ("refused" if isinstance(error, OSError) else "handshake")
