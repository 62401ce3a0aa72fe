"""Probes one target: resolve its name, connect to it, hang up. Every wait is bounded."""

import asyncio
import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from services.massive.targets import Probe

AT_ONCE: Final = 8
ADDRESSES_TRIED: Final = 3


class Prober:
    """Probes targets, a few at once. Look-ups have threads of their own: one that hangs harms nobody else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="marketswarm-io probes")
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def probe(self, name: str, host: str, port: int, timeout_sec: float) -> Probe:
        """The result for one host and port, within about two times `timeout_sec`, whatever happens."""
        async with self._gate:
            where, ts, begun = f"{host}:{port}", time.time(), time.perf_counter()
            try:
                addresses = await self._resolved(host, port, timeout_sec)
            except (OSError, UnicodeError) as error:
                return Probe(name, where, ts, "dns", _word(error), dns_ms=_ms(begun))
            dns_ms, begun = _ms(begun), time.perf_counter()
            try:
                await _connected(addresses, port, timeout_sec)
            except OSError as error:
                return Probe(name, where, ts, "tcp", _word(error), dns_ms, _ms(begun))
            return Probe(name, where, ts, "done", None, dns_ms, _ms(begun))

    async def _resolved(self, host: str, port: int, timeout_sec: float) -> list[str]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_sec):
            found = await loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))[:ADDRESSES_TRIED]


async def _connected(addresses: list[str], port: int, timeout_sec: float) -> None:
    """Connect to one of the addresses and hang up; the last one's error if none answers."""
    async with asyncio.timeout(timeout_sec):
        for at, address in enumerate(addresses, 1):
            try:
                _reader, writer = await asyncio.open_connection(address, port)
            except OSError:
                if at == len(addresses):
                    raise
            else:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                return
    raise OSError("no address")


def _word(error: BaseException) -> str:
    by_type = (
        (TimeoutError, "timeout"),
        (ConnectionRefusedError, "refused"),
        (ConnectionResetError, "reset"),
        (socket.gaierror, "unknown_name"),
        (UnicodeError, "bad_name"),
    )
    return next((word for kind, word in by_type if isinstance(error, kind)), "unreachable")


def _ms(since: float) -> float:
    return 1000 * (time.perf_counter() - since)
