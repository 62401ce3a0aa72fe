"""Probe a certificate: connect, make a TLS handshake that verifies it, disconnect."""

import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.tcp import connect_host
from services.massive.probes.probers.trace import ProbeError, Trace
from services.massive.probes.result import ProbeResult
from services.massive.targets import DAY_SEC, Tls


async def probe(target: Tls, context: ProbeContext) -> ProbeResult:
    """Return whether the certificate is trusted, valid now and for the right name.

    The result also has the number of days for which it is still valid.
    """
    trace = Trace(target.kind, f"{target.host}:{target.port}")
    async with (
        trace.within(context.timeout_sec),
        connect_host(trace, context, target.host, target.port) as writer,
    ):
        with trace.step("tls"):
            name = target.server_name or target.host
            await writer.start_tls(make_tls_context(target.ca_file), server_hostname=name)
        record_certificate(writer.get_extra_info("ssl_object"), trace, target.warn_days, context.wall())
    return trace.result()


def record_certificate(tls: Any, trace: Trace, warn_days: float, now: float) -> None:
    """Record the TLS version, who issued the certificate, until when it is valid, and for how many days.

    If those are fewer than `warn_days`, set the warning `ends_soon`; `now` is in epoch seconds.
    """
    trace.facts["tls"] = tls.version() or "?"
    certificate = tls.getpeercert() or {}
    issuer = _find_issuer(certificate)
    if issuer:
        trace.facts["issuer"] = issuer
    ends = certificate.get("notAfter")
    if ends is None:
        return
    ends_at = ssl.cert_time_to_seconds(ends)
    days_left = (ends_at - now) / DAY_SEC
    trace.facts["ends_at"] = int(ends_at)
    trace.facts["days_left"] = round(days_left, 1)
    if days_left < warn_days:
        trace.warning = "ends_soon"


def _find_issuer(certificate: Mapping[str, Any]) -> str:
    """Return the organization that issued a certificate, or else its common name; empty without both."""
    names = dict(pair for names in certificate.get("issuer", ()) for pair in names)
    return str(names.get("organizationName") or names.get("commonName") or "")


def make_tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a client context that trusts the authorities in the file, or the system's.

    A changed file is read again. Raises ProbeError, `no_ca_file`, if the file can't be read or holds none.
    """
    file = ca_file or ssl.get_default_verify_paths().cafile
    try:
        changed_at = Path(file).stat().st_mtime_ns if file else 0
        return _context(ca_file, changed_at)
    except OSError as error:  # ssl.SSLError, too
        raise ProbeError("no_ca_file") from error


@lru_cache(maxsize=32)
def _context(ca_file: str | None, _changed_at: int) -> ssl.SSLContext:
    """Make the TLS context of a file; cached until `_changed_at` differs. Raises OSError."""
    context = ssl.create_default_context(cafile=ca_file)
    # Python 3.13 sets this flag by default; the verdict must not depend on the version, and other clients
    # of the site are less strict
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
