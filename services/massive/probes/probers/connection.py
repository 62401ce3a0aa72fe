"""Connect to a host: try its addresses one after the other, each for its share of the time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.trace import Trace


@dataclass(frozen=True, slots=True)
class TcpConnection:
    """A TCP connection to `address`, as a context manager: leaving it aborts the connection."""

    address: str
    writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        # the loop closes the socket in its next turn; after an unfinished handshake nothing else waits
        await asyncio.sleep(0)


async def connect_host(trace: Trace, context: ProbeContext, host: str, port: int) -> TcpConnection:
    """Look a host up and connect to it, as the steps `dns` and `tcp` of the trace.

    Raises OSError or UnicodeError.
    """
    with trace.step("dns"):
        addresses = await context.look_up(host, port)
    with trace.step("tcp"):
        connection = await _connect_first(addresses, port, context.timeout_sec)
    trace.facts["address"] = connection.address
    return connection


async def _connect_first(addresses: Sequence[str], port: int, timeout_sec: float) -> TcpConnection:
    """Connect to the first address that answers, within a share of `timeout_sec` each.

    Raises the last address's error if none answers.
    """
    if not addresses:
        raise OSError("no address")
    for address in addresses[:-1]:
        try:
            async with asyncio.timeout(timeout_sec / (len(addresses) + 1)):
                return await _open(address, port)
        except OSError:
            continue
    return await _open(addresses[-1], port)


async def _open(address: str, port: int) -> TcpConnection:
    _reader, writer = await asyncio.open_connection(address, port)
    return TcpConnection(address, writer)
