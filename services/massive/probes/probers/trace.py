"""Trace a probe step by step: the time of each, a limit for the whole, an error as one word.

    trace = Trace("tcp", "db.example:5432")
    async with trace.within(means.within_sec):
        with trace.step("dns"):
            addresses = await means.look_up("db.example", 5432)
        ...
    return trace.result()

An error inside ends the probe at the step where it happened, and is never raised from it.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

from marketswarm.net.errors import Table, chain_of, find_reason
from services.massive.probes.result import CONFIG, DONE, Fact, Result


class ProbeError(Exception):
    """What a probe itself finds wrong; `word` is the error."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Trace:
    """One probe in progress."""

    def __init__(self, kind: str, where: str) -> None:
        self.facts: dict[str, Fact] = {}
        self.warning: str | None = None
        self._kind, self._where = kind, where
        self._stage, self._error = CONFIG, "unfinished"
        self._ms: dict[str, float] = {}
        self._since: float | None = None  # when the step began that is not over

    @contextlib.asynccontextmanager
    async def within(self, limit_sec: float) -> AsyncIterator[None]:
        """Limit the whole probe; an error inside ends it. Only a cancellation from outside is raised."""
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(limit_sec):
                yield
            self._stage, self._error = DONE, ""
        except Exception as error:  # noqa: BLE001 - whatever a stranger's answer breaks is that target's failure
            self._error = error_word(error)
        self.leave()
        self._ms["total"] = 1000 * (time.perf_counter() - begun)

    @contextlib.contextmanager
    def step(self, stage: str) -> Iterator[None]:
        """Time one step, whether it succeeds or not."""
        self.enter(stage)
        try:
            yield
        finally:
            self.leave()

    def enter(self, stage: str) -> None:
        """Begin a step, and end the one before."""
        self.leave()
        self._stage, self._since = stage, time.perf_counter()

    def leave(self) -> None:
        """End the step; times of a step that is repeated add up."""
        if self._since is not None:
            spent_ms = 1000 * (time.perf_counter() - self._since)
            self._ms[self._stage] = self._ms.get(self._stage, 0.0) + spent_ms
            self._since = None

    def result(self) -> Result:
        """Return the result."""
        return Result(
            self._kind, self._where, self._stage, self._error or None, self.warning, self._ms, self.facts
        )


_BY_CODE: Final = {
    9: "not_yet_valid",
    10: "expired",
    62: "wrong_name",
    64: "wrong_name",  # of an address
}
"""What OpenSSL calls X509_V_ERR_…; all others mean that nobody trusted vouches for the certificate."""

_NO_SUCH_NAME: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))

# A probe is asked for a diagnosis, so its words are finer than `net.errors.NetworkReason`.
_EXACT: Final[Table] = (
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "refused"),
    (ConnectionError, "reset"),
    (socket.gaierror, "look_up_failed"),
    (UnicodeError, "bad_name"),
    (ssl.SSLError, "tls_failed"),
)
_GENERAL: Final[Table] = ((OSError, "unreachable"),)


def error_word(error: BaseException) -> str:
    """Return one word for what went wrong, from the error or from what caused it."""
    for link in chain_of(error):
        if isinstance(link, ProbeError):
            return link.word
        if isinstance(link, ssl.SSLCertVerificationError):
            return _BY_CODE.get(link.verify_code, "untrusted")
        if isinstance(link, socket.gaierror) and link.errno in _NO_SUCH_NAME:
            return "unknown_name"
    return find_reason(error, _EXACT, _GENERAL) or "garbled"
