"""Define why a request failed, and the wait before the next attempt to connect or request. Pure."""

from collections.abc import Mapping
from typing import Final

from marketswarm.net.retry import Backoff


class RestError(Exception):
    """A REST request failed.

    Args:
        reason: one word: a status, such as `http_403`, or what went wrong, such as `timeout`.
        retry_after_sec: the pause that the server asked for, if it did.
    """

    def __init__(self, reason: str, retry_after_sec: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_sec = reason, retry_after_sec


FIRST_BACKOFF_SEC: Final = 1.0
MAX_BACKOFF_SEC: Final = 60.0
MIN_BACKOFF_SEC: Final[Mapping[str, float]] = {
    "auth_failed": 300.0,  # a wrong key stays wrong
    "http_401": 300.0,
    "http_403": 300.0,
    # the account allows one connection: two clients that reconnect at once would disconnect each other
    "max_connections": 60.0,
}
"""The shortest pause after an error that a quick attempt would not mend, by reason."""


def backoff_sec(reason: str, failures: int, chance: float) -> float:
    """Return the seconds to wait after the `failures`th failure in a row (from 1).

    The wait doubles up to a minute; it begins at MIN_BACKOFF_SEC if that has the reason. `chance`, from 0 to
    below 1, varies the result by a quarter up or down, so that the instances of a fleet that lost one server
    do not all return at once.
    """
    least_sec = MIN_BACKOFF_SEC.get(reason, 0.0)
    backoff = Backoff(max(FIRST_BACKOFF_SEC, least_sec), max(MAX_BACKOFF_SEC, least_sec))
    return backoff.pause_sec(failures, chance)
