"""Probe a port: look the name up, connect, hang up."""

from services.massive.probes.probers.connection import connected
from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.trace import Trace
from services.massive.probes.result import CONFIG, Result
from services.massive.probes.targets import Tcp


async def probe(target: Tcp, means: ProbeContext) -> Result:
    """Return whether one can connect. A bus has been replaced by its host and port by then."""
    host, port = target.host, target.port
    if host is None or port is None:
        return Result(target.kind, target.bus or "", CONFIG, "no_host")
    trace = Trace(target.kind, f"{host}:{port}")
    async with trace.within(means.within_sec), await connected(trace, means, host, port):
        pass
    return trace.result()
