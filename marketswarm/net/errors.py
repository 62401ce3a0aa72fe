"""Name what went wrong on a network with one word, for buses, HTTP requests and WebSockets alike. Pure.

A library wraps the error of the system in errors of its own, sometimes several times. So the whole chain
of causes is searched. Each caller adds the errors of its own library, and translates a reason that the
contract calls otherwise.
"""

import socket
import ssl
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final


class NetworkReason(StrEnum):
    """Why a request over the network failed, as far as it has nothing to do with what was requested."""

    DNS = "dns"  # the host's name could not be resolved
    TLS = "tls"  # the handshake failed, or the certificate is not accepted
    TIMEOUT = "timeout"
    REFUSED = "refused"  # no connection could be made
    BROKEN = "broken"  # a connection ended early
    PROXY = "proxy"
    BAD_URL = "bad_url"


Table = Sequence[tuple[type[BaseException], str]]
"""Types of errors and the reason of each; a type comes before those that it is derived from."""

EXACT: Final[Table] = (
    (socket.gaierror, NetworkReason.DNS),
    (ssl.SSLError, NetworkReason.TLS),
    (TimeoutError, NetworkReason.TIMEOUT),
)
"""Errors that tell the reason exactly. They are searched for in the whole chain before any other."""
GENERAL: Final[Table] = (
    (ConnectionRefusedError, NetworkReason.REFUSED),
    (OSError, NetworkReason.BROKEN),
)

_CAUSES_AT_MOST: Final = 8


def find_reason(error: BaseException, *tables: Table) -> str | None:
    """Return the reason of an error by the first table that knows the error or one of its causes.

    Within a table the error itself counts first, then its cause, then that one's cause. The result is None
    if no table knows any of them.
    """
    chain = list(chain_of(error))
    found = (word for table in tables for link in chain for kind, word in table if isinstance(link, kind))
    word = next(found, None)
    return None if word is None else str(word)


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, its cause, that one's cause and so on, at most eight."""
    for _ in range(_CAUSES_AT_MOST):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
