"""Trace a probe step by step: the time of each step, a limit for the whole, an error as one word.

    trace = Trace("tcp", "db.example:5432")
    async with trace.within(context.timeout_sec):
        with trace.step("dns"):
            addresses = await context.look_up("db.example", 5432)
        ...
    return trace.result()

An error inside ends the probe at the step where it happened, and is not raised out of `within`.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

from marketswarm.net.errors import ReasonTable, find_reason, iterate_causes, lacks_resources
from services.massive.probes.result import CONFIG, DONE, NOT_MADE, Fact, ProbeResult

REASON_BY_CODE: Final = {
    9: "not_yet_valid",
    10: "expired",
    62: "wrong_name",
    64: "wrong_name",  # of an address
}
"""The codes X509_V_ERR_… of OpenSSL; any other means that the certificate is not trusted."""
_NO_SUCH_NAME: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
# A probe gives a diagnosis, so its reasons are finer than `net.errors.NetworkReason`.
REASON_BY_TYPE: Final[ReasonTable] = (
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "refused"),
    (ConnectionError, "reset"),
    (socket.gaierror, "look_up_failed"),
    (UnicodeError, "bad_name"),
    (ssl.SSLError, "tls_failed"),
)
REASON_OF_OTHERS: Final[ReasonTable] = ((OSError, "unreachable"),)


class ProbeError(Exception):
    """The target is not as it should be; `reason` is the error of the result, as one word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Trace:
    """Record one probe in progress: its steps, its facts, its warning and its error.

    `where` is what is probed, without credentials and query.
    """

    def __init__(self, kind: str, where: str) -> None:
        self.facts: dict[str, Fact] = {}
        self.warning: str | None = None
        self._kind, self._where = kind, where
        self._stage, self._error = CONFIG, "unfinished"
        self._ms: dict[str, float] = {}
        self._since: float | None = None  # when the current step began

    @contextlib.asynccontextmanager
    async def within(self, limit_sec: float) -> AsyncIterator[None]:
        """Limit the whole probe to `limit_sec`. An error inside ends it; only a cancellation is raised."""
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(limit_sec):
                yield
            self._stage, self._error = DONE, ""
        except Exception as error:  # noqa: BLE001 - whatever a hostile answer breaks is a failure of that target
            self._error = error_reason(error)
        self.end_step()
        self._ms["total"] = 1000 * (time.perf_counter() - begun)

    @contextlib.contextmanager
    def step(self, stage: str) -> Iterator[None]:
        """Measure the step `stage`, whether it succeeds or not."""
        self.begin_step(stage)
        try:
            yield
        finally:
            self.end_step()

    def begin_step(self, stage: str) -> None:
        """Begin a step; the step before, if it is not over, ends now."""
        self.end_step()
        self._stage, self._since = stage, time.perf_counter()

    def end_step(self) -> None:
        """End the current step, if there is one; times of a step that is repeated add up."""
        if self._since is not None:
            spent_ms = 1000 * (time.perf_counter() - self._since)
            self._ms[self._stage] = self._ms.get(self._stage, 0.0) + spent_ms
            self._since = None

    def result(self) -> ProbeResult:
        """Return the result; call this after the block of `within`."""
        return ProbeResult(
            self._kind, self._where, self._stage, self._error or None, self.warning, self._ms, self.facts
        )


def error_reason(error: BaseException) -> str:
    """Return one word for an error or for what caused it, such as `refused`; `garbled` for an unknown one."""
    if lacks_resources(error):
        return NOT_MADE
    for cause in iterate_causes(error):
        if isinstance(cause, ProbeError):
            return cause.reason
        if isinstance(cause, ssl.SSLCertVerificationError):
            return REASON_BY_CODE.get(cause.verify_code, "untrusted")
        if isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_NAME:
            return "unknown_name"
    return find_reason(error, REASON_BY_TYPE, REASON_OF_OTHERS) or "garbled"
