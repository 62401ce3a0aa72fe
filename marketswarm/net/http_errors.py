"""Name the reason of a failed httpx request in one word of `errors.NetworkReason`. Pure.

This module is separate from `errors` because importing httpx takes time and memory, and a program that only
uses a bus does not need httpx.
"""

from typing import Final

import httpx

from marketswarm.net.errors import EXACT_REASONS, GENERAL_REASONS, NetworkReason, ReasonTable, find_reason

_EXACT: Final[ReasonTable] = ((httpx.TimeoutException, NetworkReason.TIMEOUT), *EXACT_REASONS)
_GENERAL: Final[ReasonTable] = (
    (httpx.ConnectError, NetworkReason.REFUSED),
    (httpx.NetworkError, NetworkReason.BROKEN),
    (httpx.RemoteProtocolError, NetworkReason.BROKEN),
    (httpx.ProxyError, NetworkReason.PROXY),
    (httpx.UnsupportedProtocol, NetworkReason.BAD_URL),
    (httpx.InvalidURL, NetworkReason.BAD_URL),
    *GENERAL_REASONS,
)


def find_http_reason(error: BaseException) -> str | None:
    """Return why a request got no answer; None if neither the network nor the URL caused the error."""
    return find_reason(error, _EXACT, _GENERAL)
