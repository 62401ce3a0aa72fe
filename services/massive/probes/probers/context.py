"""What a probe needs besides its target.

Its time limit, how names are looked up, and where the market API is.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol

from pydantic import SecretStr

ADDRESSES_TRIED: Final = 3


class LookUp(Protocol):
    """Return the addresses of a host, at most three. Raises OSError or UnicodeError."""

    async def __call__(self, host: str, port: int) -> list[str]:
        """See the class."""
        ...


@dataclass(frozen=True, slots=True)
class ProbeContext:
    """The context of one probe.

    `within_sec` limits the whole probe. `wall` returns epoch seconds, to compare with a certificate's dates.
    """

    within_sec: float
    look_up: LookUp
    resolvers: tuple[str, ...] = ()
    """Whom to ask for names where the target does not say, with a port or without. Empty: the system's."""
    api_key: SecretStr | None = None
    """Of the market data API; None without one."""
    rest_url: str = ""
    """Where that is, where the target does not say."""
    ws_url: str = ""
    """Where it streams."""
    market_stream: Callable[[], str | None] = field(default=lambda: None)
    """How our own stream of market data does: `streaming`, or why not in a word; None where there is none."""
    wall: Callable[[], float] = field(default=time.time)


class SystemLookUp:
    """Look names up as every program here does (hosts file, resolver), in threads that serve nobody else.

    A look-up that hangs can't be ended: it holds its thread until the system gives it up.
    """

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="marketswarm-io probes")

    async def __call__(self, host: str, port: int) -> list[str]:
        """See `LookUp`."""
        if _is_address(host):
            return [host]
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))[:ADDRESSES_TRIED]

    def close(self) -> None:
        """End the threads, without waiting for look-ups that hang."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
