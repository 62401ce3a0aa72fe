"""A connection over TLS that says when it is its certificate that is not wanted.

With TLS 1.3 a client is told only after the handshake that its certificate is missing or will not do. What it
has sent by then makes the server's end a reset, which looks like a server that went away. So it waits for
one answer before it counts as made: a server that hangs up there has seen the certificate and nothing else.
"""

import contextlib
import ssl
from typing import Final

from redis.asyncio.connection import SSLConnection
from redis.exceptions import AuthenticationError, BusyLoadingError, ConnectionError, ResponseError  # noqa: A004 - the library's

_HUNG_UP: Final = "hung up after the handshake; does it want another client certificate (ssl_certfile)?"


class Secure(SSLConnection):
    """What comes of a certificate that is missing, unreadable or refused is an SSLError, as its cause."""

    async def _connect(self) -> None:
        try:
            await super()._connect()  # type: ignore[no-untyped-call]  # the library's
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            files = "ssl_ca_certs, ssl_certfile or ssl_keyfile can't be read"
            raise ssl.SSLError(f"{files} ({error.strerror})") from error

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """See the library."""
        try:
            await super().on_connect_check_health(check_health)
            await self._answered()
        except ConnectionError as error:
            if type(error) is not ConnectionError:  # an answer: of one who does not know us, or is loading
                raise
            raise ConnectionError(f"{self.host}:{self.port} {_HUNG_UP}") from ssl.SSLError(str(error))

    async def _answered(self) -> None:
        await self.send_command("PING", check_health=False)
        with contextlib.suppress(ResponseError, AuthenticationError, BusyLoadingError):
            await self.read_response()
