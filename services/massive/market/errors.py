"""How a connection ends and a request fails, one word each, and how long to wait before trying again.

Pure.
"""

from collections.abc import Mapping
from typing import Final

from marketswarm.net.retry import Backoff


class Ended(Exception):  # noqa: N818 - every connection ends
    """A connection ended or could not be opened; `reason` is one word, such as cut, refused, auth_failed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RestError(Exception):
    """A request failed.

    `word` is a status, as `http_403`, or what went wrong; `pause_sec` the pause they ask for.
    """

    def __init__(self, word: str, pause_sec: float | None = None) -> None:
        super().__init__(word)
        self.word, self.pause_sec = word, pause_sec


FIRST_SEC: Final = 1.0
LONGEST_SEC: Final = 60.0
AT_LEAST_SEC: Final[Mapping[str, float]] = {
    "auth_failed": 300.0,  # a key does not become right by being shown often
    "http_401": 300.0,
    "http_403": 300.0,
    # another one with our key was cut off for us, or we for it: who comes back at once cuts it off in turn
    "max_connections": 60.0,
}


def pause_sec(reason: str, failures: int, chance: float, first_sec: float = FIRST_SEC) -> float:
    """Return the seconds to wait after the `failures`th failure in a row (from 1), doubling up to a minute.

    `chance`, in [0, 1), spreads half of it, so that a fleet that lost one server does not come back all at
    once.
    """
    least_sec = AT_LEAST_SEC.get(reason, 0.0)
    return Backoff(max(first_sec, least_sec), max(LONGEST_SEC, least_sec)).pause_sec(failures, chance)
