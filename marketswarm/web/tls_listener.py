"""Listen over TLS, and count each connection from the moment it is accepted.

A server of asyncio counts nothing before a handshake is complete, and each one that is not takes a file
descriptor and a buffer of 256 KiB: silent clients would use up what all others need. Here MAX_HANDSHAKES are
under way at once. One more ends the oldest of them: an honest client is done within milliseconds.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

HANDSHAKE_SEC: Final = 3.0
"""How long a client may take for the handshake, and for the end of TLS when its connection is closed."""
MAX_HANDSHAKES: Final = 500
"""Handshakes that are under way at once, besides the connections that have theirs."""
_REST_SEC: Final = 1.0  # how long nothing is accepted after the system had nothing left, as in asyncio
_NOTHING_LEFT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class TlsListener:
    """A socket that listens, the context with its certificate, and the handshakes that are under way."""

    def __init__(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        self.listening = listening
        self.refused = 0
        """The number of connections that were closed since there were too many, without a handshake."""
        self._context = context
        self._handshakes = dict[asyncio.Task[None], None]()  # the oldest first

    async def accept_repeatedly(
        self, make_protocol: Callable[[], asyncio.Protocol], is_full: Callable[[], bool]
    ) -> None:
        """Accept connections until cancelled, which ends the handshakes that are under way.

        `make_protocol` returns what a connection belongs to after its handshake. While `is_full` returns
        True, connections are closed at once.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    connection, _ = await loop.sock_accept(self.listening)
                except OSError as error:
                    if error.errno in _NOTHING_LEFT:
                        loop.call_exception_handler({"message": "no connection accepted", "exception": error})
                        await asyncio.sleep(_REST_SEC)
                    continue
                if is_full():
                    self.refused += 1
                    connection.close()
                else:
                    self._make_room()
                    task = group.create_task(self._shake_hands(connection, make_protocol))
                    self._handshakes[task] = None
                    task.add_done_callback(lambda done: self._handshakes.pop(done, None))
                await asyncio.sleep(0)  # others have their turn, however many connections wait

    def _make_room(self) -> None:
        """End the oldest handshake if there are as many as there may be."""
        if len(self._handshakes) >= MAX_HANDSHAKES:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
            self.refused += 1

    async def _shake_hands(
        self, connection: socket.socket, make_protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                make_protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SEC,
                ssl_shutdown_timeout=HANDSHAKE_SEC,
            )
        except OSError:
            pass  # it does not speak TLS, or not in time: it was closed
        except Exception as error:  # noqa: BLE001 - what others send must not end the server
            loop.call_exception_handler({"message": "a TLS handshake failed", "exception": error})
