"""Define how a program of the swarm ends: with an exit code and one line that says why.

`marketswarm.agent.run` turns an `Exit` into the end of the process.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


class Code(IntEnum):
    """The exit codes of every program here (docs/contract.md, section 7)."""

    DONE = 0  # done, or stopped as asked
    CONFIGURATION = 2  # the environment, the command line or the truth is wrong
    NO_BUS = 3  # no bus answered in time
    NO_TRUTH = 4  # a bus answered, none held a truth in time
    DIED = 5  # a task of the program failed or hung, so the restart policy starts the program again
    NOT_WATCHED = 6  # a beat was sent for a service that nobody watches


class Exit(Exception):  # noqa: N818 - an end is not always an error: code 0 is one too
    """Ends the program with `code` and one log line, `message`, which never holds a secret."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = int(code)
        self.message = message


class Mistake(Exit):
    """Ends the program with code 2: the environment, the command line or the truth is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.CONFIGURATION, message)


def find_error(error: BaseException, kind: type[E]) -> E | None:
    """Return `error` if it is of this kind, or the first such one in a group of errors; otherwise None."""
    if isinstance(error, kind):
        return error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            found = find_error(inner, kind)
            if found is not None:
                return found
    return None
