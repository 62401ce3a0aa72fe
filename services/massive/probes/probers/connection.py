"""Connect to a host: try its addresses one after the other, each for its share of the time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.trace import Trace


@asynccontextmanager
async def connect_host(
    trace: Trace, context: ProbeContext, host: str, port: int
) -> AsyncIterator[asyncio.StreamWriter]:
    """Look a host up and connect to it, as the steps `dns` and `tcp` of the trace; in the end, abort.

    Raises OSError or UnicodeError.
    """
    with trace.step("dns"):
        addresses = await context.look_up(host, port)
    with trace.step("tcp"):
        address, writer = await _connect_first(addresses, port, context.timeout_sec)
    try:
        trace.facts["address"] = address
        yield writer
    finally:
        writer.transport.abort()
        # the loop closes the socket in its next turn; after an unfinished handshake nothing else waits
        await asyncio.sleep(0)


async def _connect_first(
    addresses: Sequence[str], port: int, timeout_sec: float
) -> tuple[str, asyncio.StreamWriter]:
    """Connect to the first address that answers, within a share of `timeout_sec` each; return it, too.

    Raises the last address's error if none answers.
    """
    if not addresses:
        raise OSError("no address")
    for address in addresses[:-1]:
        try:
            async with asyncio.timeout(timeout_sec / (len(addresses) + 1)):
                return address, (await asyncio.open_connection(address, port))[1]
        except OSError:
            continue
    return addresses[-1], (await asyncio.open_connection(addresses[-1], port))[1]
