"""Probe a certificate: connect, shake hands as a client that checks it, hang up."""

import ssl
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from services.massive.probes.probers.connection import connected
from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.trace import ProbeError, Trace
from services.massive.probes.result import Result
from services.massive.probes.targets import DAY_SEC, Tls

ENDS_SOON: Final = "ends_soon"


async def probe(target: Tls, means: ProbeContext) -> Result:
    """Return whether the certificate is trusted, in force and for the right name, and how long it lasts."""
    trace = Trace(target.kind, f"{target.host}:{target.port}")
    async with (
        trace.within(means.within_sec),
        await connected(trace, means, target.host, target.port) as line,
    ):
        with trace.step("tls"):
            name = target.server_name or target.host
            await line.writer.start_tls(trusting(target.ca_file), server_hostname=name)
        look_at(line.writer.get_extra_info("ssl_object"), trace, target.warn_days, means.wall())
    return trace.result()


def look_at(tls: Any, trace: Trace, warn_days: float, now: float) -> None:
    """Record the protocol version and for how many days the certificate is valid; warn if those are few."""
    trace.facts["tls"] = tls.version() or "?"
    ends = (tls.getpeercert() or {}).get("notAfter")
    if ends is None:
        return
    days_left = (ssl.cert_time_to_seconds(ends) - now) / DAY_SEC
    trace.facts["days_left"] = round(days_left, 1)
    if days_left < warn_days:
        trace.warning = ENDS_SOON


def trusting(ca_file: str | None) -> ssl.SSLContext:
    """Return a client context that trusts the file's authorities, or the system's.

    A changed file is read again.

    Raises ProbeError, `no_ca_file`, if the file can't be read or holds none.
    """
    file = ca_file or ssl.get_default_verify_paths().cafile
    try:
        changed_at = Path(file).stat().st_mtime_ns if file else 0
        return _context(ca_file, changed_at)
    except OSError as error:  # of which ssl.SSLError is one
        raise ProbeError("no_ca_file") from error


@lru_cache(maxsize=32)
def _context(ca_file: str | None, _changed_at: int) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    # since 3.13 it refuses what a certificate leaves unsaid; it is to be good or not on every Python, and no
    # other client of that site asks so much
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
