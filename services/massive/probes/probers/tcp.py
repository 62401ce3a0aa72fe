"""Probe a port: look the host up, connect, disconnect."""

from services.massive.probes.probers.connection import connect_host
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
