"""Probe a port: look the host up, connect, disconnect. Its addresses are tried one after the other."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.trace import Trace
from services.massive.probes.result import CONFIG, ProbeResult
from services.massive.targets import Tcp


async def probe(target: Tcp, context: ProbeContext) -> ProbeResult:
    """Return whether the port accepts a connection; a target that is a bus must be resolved by now."""
    host, port = target.host, target.port
    if host is None or port is None:
        return ProbeResult(target.kind, target.bus or "", CONFIG, "no_host")
    trace = Trace(target.kind, f"{host}:{port}")
    async with trace.within(context.timeout_sec), connect_host(trace, context, host, port):
        pass
    return trace.result()


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
