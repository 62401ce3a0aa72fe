"""Name the reason of a network error in one word, for buses, HTTP requests and WebSockets alike. Pure.

A library wraps the system's error in errors of its own, sometimes several times, so all causes of an error
are searched. Each caller adds the error types of its own library, and translates a reason that has another
name in the contract.
"""

import errno
import socket
import ssl
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

_CAUSES_AT_MOST: Final = 8
"""How many errors of a chain of causes are searched, the first one included."""


OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""Errors by which this process or its machine lacks what a connection takes: they say nothing of the peer."""


class NetworkReason(StrEnum):
    """Why a request over the network failed, if the cause is the network or the URL and not the answer."""

    DNS = "dns"  # the host's name could not be resolved
    TLS = "tls"  # the handshake failed, or the certificate is not accepted
    TIMEOUT = "timeout"
    REFUSED = "refused"  # no connection could be made
    BROKEN = "broken"  # a connection ended early
    PROXY = "proxy"
    BAD_URL = "bad_url"
    NO_RESOURCES = "no_resources"  # this process lacks a file descriptor or memory: the peer is not at fault


class ConnectionEnded(Exception):  # noqa: N818 - every connection ends, so this is not an error
    """A WebSocket connection ended or could not be opened.

    `reason` is one word, such as `refused`, `http_403`, `closed_1008` or `silent`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


ReasonTable = Sequence[tuple[type[BaseException], str]]
"""Types of errors and the reason of each; a type comes before those that it is derived from."""

EXACT_REASONS: Final[ReasonTable] = (
    (socket.gaierror, NetworkReason.DNS),
    (ssl.SSLError, NetworkReason.TLS),
    (TimeoutError, NetworkReason.TIMEOUT),
)
"""Errors that tell the reason exactly. They are looked for first, in the error and all of its causes."""
GENERAL_REASONS: Final[ReasonTable] = (
    (ConnectionRefusedError, NetworkReason.REFUSED),
    (OSError, NetworkReason.BROKEN),
)


def find_reason(error: BaseException, *tables: ReasonTable) -> str | None:
    """Return the reason of an error by the first table that has its type, or that of a cause; otherwise None.

    Within a table the error itself is looked up first, then its cause, then the cause of that cause.
    """
    causes = list(iterate_causes(error))
    found = (
        reason for table in tables for cause in causes for kind, reason in table if isinstance(cause, kind)
    )
    reason = next(found, None)
    return None if reason is None else str(reason)


def lacks_resources(error: BaseException) -> bool:
    """Return True if an error, or a cause of it, says nothing of the peer: OUT_OF_RESOURCES."""
    causes = iterate_causes(error)
    return any(isinstance(cause, OSError) and cause.errno in OUT_OF_RESOURCES for cause in causes)


def iterate_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, its cause and so on: eight errors at most."""
    for _ in range(_CAUSES_AT_MOST):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
