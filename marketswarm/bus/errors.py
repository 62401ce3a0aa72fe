"""What can go wrong with a bus: one exception, `BusError`, and one word for each reason.

The log, the alert and the metric share these words.
"""

import socket
import ssl
from collections.abc import Iterator
from typing import Final

from redis import exceptions as redis_errors

GARBLED: Final = (ValueError, TypeError, AttributeError, LookupError, MemoryError)
"""What the client library raises at replies that no Redis gives: it takes them apart without looking."""


class BusError(Exception):
    """A bus did not do what it was asked.

    `reason` is one of refused, timeout, dns, tls, auth, loading, readonly, oom, misconf, error; the
    message holds no credentials.
    """

    def __init__(self, bus: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{bus}: {reason}" + (f" ({detail})" if detail else ""))
        self.bus = bus
        self.reason = reason
        self.detail = detail


class ClusterError(BusError):
    """What is there is a Redis Cluster, and can be no bus: to ask again is of no use.

    Our scripts and transactions take several keys at once, whose names are given. A cluster refuses that when
    they are in several slots, even where one server has all slots.
    """


class TooLongError(BusError):
    """The reply is longer than the caller takes: a smaller question may have an answer."""


class FunctionMissingError(redis_errors.ResponseError):
    """A function was not loaded, and this user may send no scripts."""


CLUSTER_DETAIL: Final = (
    "part of a Redis Cluster; a bus is one server, with replicas and Redis Sentinel where one is not enough"
)
CLUSTER_ERRORS: Final = (
    redis_errors.AskError,  # MOVED is one, too
    redis_errors.ClusterCrossSlotError,
    redis_errors.ClusterDownError,
)
_BY_TYPE: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (FunctionMissingError, "misconf"),
    (redis_errors.AuthenticationError, "auth"),
    (redis_errors.NoPermissionError, "auth"),
    (redis_errors.BusyLoadingError, "loading"),
    (redis_errors.ReadOnlyError, "readonly"),
    (redis_errors.MasterDownError, "readonly"),
    (redis_errors.OutOfMemoryError, "oom"),
    (socket.gaierror, "dns"),
    (ssl.SSLError, "tls"),
    (redis_errors.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
)
# what servers say in words alone
_BY_WORD: Final = (
    ("NOAUTH", "auth"),
    ("WRONGPASS", "auth"),
    ("NOPERM", "auth"),
    ("DENIED", "auth"),
    # of a command inside a script, in Redis' words and in Valkey's
    ("The user executing the script can't", "auth"),
    ("ACL failure in script", "auth"),
    ("LOADING", "loading"),
    ("READONLY", "readonly"),
    ("MASTERDOWN", "readonly"),
    ("NOREPLICAS", "readonly"),
    ("OOM", "oom"),
    ("MISCONF", "misconf"),
)


def reason_of(error: BaseException) -> str:
    """One word for what went wrong, from the error or from what caused it."""
    chain = list(_causes(error))
    for link in chain:
        for kind, reason in _BY_TYPE:
            if isinstance(link, kind):
                return reason
    for link in chain:
        for word, reason in _BY_WORD:
            if word in str(link)[:200]:
                return reason
    # a connection that was refused, reset or closed: the server is not there for us
    away = (redis_errors.ConnectionError, OSError)
    return "refused" if any(isinstance(link, away) for link in chain) else "error"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """The error's first line, cut to what a log line can bear."""
    return (str(error).splitlines() or [""])[0][:200]
