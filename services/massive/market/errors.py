"""How a connection ends and how a request fails: one word each, the same in logs, beats and tests. Pure.

How long to wait before trying again, by why it failed and how often. Pure: chance is passed in.
"""

from collections.abc import Mapping
from typing import Final


class Ended(Exception):  # noqa: N818 - every connection ends
    """A connection is at its end, or never began; `reason` is one word, such as cut, refused, auth_failed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RestError(Exception):
    """It could not be had. `word`: a status, as `http_403`, or what went wrong. `pause_sec`: their wish."""

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
    """Seconds, for the `failures`th time in a row (from 1); `chance` in [0, 1) spreads half of it.

    Doubling from `first_sec` up to a minute, so that a fleet that lost one server does not come back as one.
    """
    doubled = min(LONGEST_SEC, first_sec * 2.0 ** min(failures - 1, 20))
    return max(doubled, AT_LEAST_SEC.get(reason, 0.0)) * (0.75 + 0.5 * chance)
