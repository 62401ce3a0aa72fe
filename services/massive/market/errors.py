"""Define why a request failed, and the wait before the next attempt to connect or request. Pure."""

from typing import Final

from marketswarm.net.retry import Backoff

USUAL_BACKOFF: Final = Backoff(first_sec=1.0, longest_sec=60.0)
SLOW_BACKOFFS: Final = {
    # a wrong key stays wrong
    **dict.fromkeys(("auth_failed", "http_401", "http_403"), Backoff(300.0, 300.0)),
    # the account allows one connection: two clients that reconnect at once would disconnect each other
    "max_connections": Backoff(60.0, 60.0),
}
"""The pauses after errors that a quick attempt would not mend, by reason."""


class RestError(Exception):
    """A REST request failed.

    Args:
        reason: one word: a status, such as `http_403`, or what went wrong, such as `timeout`.
        retry_after_sec: the pause that the server asked for, if it did.
    """

    def __init__(self, reason: str, retry_after_sec: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_sec = reason, retry_after_sec


def backoff_sec(reason: str, failures: int, chance: float) -> float:
    """Return the seconds to wait after the `failures`th failure in a row: see `Backoff.pause_sec`."""
    return SLOW_BACKOFFS.get(reason, USUAL_BACKOFF).pause_sec(failures, chance)
