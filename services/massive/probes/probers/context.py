"""Define the context of a probe: its time limit, its host look-up, and the market data API's URLs."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from pydantic import SecretStr

from marketswarm.net.addresses import parse_address

MAX_ADDRESSES: Final = 3


LookUp = Callable[[str, int], Awaitable[list[str]]]
"""Returns the addresses of a host, at most MAX_ADDRESSES, for a port. Raises OSError or UnicodeError."""


@dataclass(frozen=True, slots=True)
class ProbeContext:
    """Hold the context of one probe.

    Args:
        look_up: looks up host names.
        resolvers: the name servers to ask if the target names none; empty: the system's.
        api_key: the key of the market data API, if there is one.
        rest_url: the URL of its REST API, if the target has none.
        ws_url: the URL of its WebSocket API.
        market_stream: returns the state of our own stream of market data: `streaming`, or one word for why
            it does not stream; None if there is no stream.
        wall: returns epoch seconds, to compare with the dates of a certificate.
    """

    timeout_sec: float
    look_up: LookUp
    resolvers: tuple[str, ...] = ()
    api_key: SecretStr | None = None
    rest_url: str = ""
    ws_url: str = ""
    market_stream: Callable[[], str | None] = field(default=lambda: None)
    wall: Callable[[], float] = field(default=time.time)


class SystemLookUp:
    """Look names up as this system does (hosts file, resolver), in threads of their own.

    A look-up that hangs can't be ended, so it holds its thread until the system gives up.
    """

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="marketswarm-io probes")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host, at most MAX_ADDRESSES. Raises OSError or UnicodeError."""
        if parse_address(host) is not None:
            return [host]
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))[:MAX_ADDRESSES]

    def close(self) -> None:
        """End the threads, without waiting for look-ups that hang."""
        self._threads.shutdown(wait=False, cancel_futures=True)
