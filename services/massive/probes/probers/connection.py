"""Connect to a host: to its addresses one after the other, each with its share of the time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.trace import Trace


@dataclass(frozen=True, slots=True)
class TcpConnection:
    """A connection; leaving its context aborts it."""

    address: str
    writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        # its end is in the loop's next round; after a handshake that was given up nobody would tell us of it
        await asyncio.sleep(0)


async def connected(trace: Trace, means: ProbeContext, host: str, port: int) -> TcpConnection:
    """Look a host up and connect to it. Raises OSError or UnicodeError."""
    with trace.step("dns"):
        addresses = await means.look_up(host, port)
    with trace.step("tcp"):
        line = await _first(addresses, port, means.within_sec)
    trace.facts["address"] = line.address
    return line


async def _first(addresses: Sequence[str], port: int, within_sec: float) -> TcpConnection:
    """Connect to the first address that answers. Raises the last one's error if none does."""
    if not addresses:
        raise OSError("no address")
    for address in addresses[:-1]:
        try:
            async with asyncio.timeout(within_sec / (len(addresses) + 1)):
                return await _opened(address, port)
        except OSError:
            continue
    return await _opened(addresses[-1], port)


async def _opened(address: str, port: int) -> TcpConnection:
    _reader, writer = await asyncio.open_connection(address, port)
    return TcpConnection(address, writer)
