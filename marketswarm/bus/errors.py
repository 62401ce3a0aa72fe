"""Define the errors of a bus: one exception, `BusError`, with one of a few reasons.

The log, the alert and the metric use the same words for these reasons.
"""

from collections.abc import Mapping
from typing import Final

import redis.exceptions as redis_errors

from marketswarm.net.errors import EXACT_REASONS, GENERAL_REASONS, ReasonTable, find_reason, iterate_causes

# the client library has one type for all of these; only the server's message tells them apart
_BY_WORD: Final = (
    ("NOAUTH", "auth"),
    ("WRONGPASS", "auth"),
    ("NOPERM", "auth"),
    ("DENIED", "auth"),
    # a forbidden command inside a script, in the messages of Redis and of Valkey
    ("The user executing the script can't", "auth"),
    ("ACL failure in script", "auth"),
    ("LOADING", "loading"),
    ("READONLY", "readonly"),
    ("MASTERDOWN", "readonly"),
    ("NOREPLICAS", "readonly"),
    ("OOM", "oom"),
    ("MISCONF", "misconf"),
    ("BUSY ", "busy"),  # not BUSYGROUP or BUSYKEY
)


class BusError(Exception):
    """A request to a bus failed.

    `reason` is one of refused, timeout, dns, tls, auth, loading, readonly, oom, misconf, busy, error. The
    message holds no credentials.
    """

    def __init__(self, bus: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{bus}: {reason}" + (f" ({detail})" if detail else ""))
        self.bus = bus
        self.reason = reason
        self.detail = detail


class NoBusError(Exception):
    """No bus took a request; `failed` has the reason of each."""

    def __init__(self, failed: Mapping[str, str]) -> None:
        super().__init__(f"no bus took it ({', '.join(f'{bus}: {why}' for bus, why in failed.items())})")
        self.failed = failed


class ClusterError(BusError):
    """The server is part of a Redis Cluster, which can't be a bus. Permanent: a retry is of no use.

    Our scripts and transactions take several keys at once, and the contract names these keys. A cluster
    refuses keys of several slots in one command, even where one server has all slots.
    """


class ReplyTooLongError(BusError):
    """A reply was longer than the caller allows; a request for fewer entries or bytes may succeed."""


class FunctionMissingError(redis_errors.ResponseError):
    """The server lacks a function of ours, and this user may not send scripts."""


_BY_TYPE: Final[ReasonTable] = (
    (FunctionMissingError, "misconf"),
    (redis_errors.AuthenticationError, "auth"),
    (redis_errors.NoPermissionError, "auth"),
    (redis_errors.BusyLoadingError, "loading"),
    (redis_errors.ReadOnlyError, "readonly"),
    (redis_errors.MasterDownError, "readonly"),
    (redis_errors.OutOfMemoryError, "oom"),
    (redis_errors.TimeoutError, "timeout"),
    *EXACT_REASONS,
)
REASONS: Final = frozenset(
    {str(reason) for _, reason in _BY_TYPE} | {reason for _, reason in _BY_WORD} | {"refused", "error"}
)
"""Every reason that a `BusError` may have."""


def find_bus_reason(error: BaseException) -> str:
    """Return one of `BusError`'s words, found in the error or in its causes."""
    lines = (str(link)[:200] for link in iterate_causes(error))
    by_word = (reason for line in lines for word, reason in _BY_WORD if word in line)
    reason = find_reason(error, _BY_TYPE) or next(by_word, None)
    if reason is None:
        is_unreachable = (
            find_reason(error, ((redis_errors.ConnectionError, "refused"), *GENERAL_REASONS)) is not None
        )
        # a bus has one reason for refused, reset and closed
        reason = "refused" if is_unreachable else "error"
    return reason


def make_bus_error(bus: str, error: Exception) -> BusError:
    """Return the error of a request to a bus: `error` itself if it is one already."""
    return error if isinstance(error, BusError) else BusError(bus, find_bus_reason(error), first_line(error))


def first_line(error: BaseException) -> str:
    """Return at most 200 characters."""
    return (str(error).splitlines() or [""])[0][:200]
