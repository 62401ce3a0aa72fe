"""Name what went wrong inside the notifier itself, so that it is logged and counted. Pure."""

import traceback
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FRAMES_AT_MOST: Final = 20


class DefectKind(StrEnum):
    """What failed: the label `defect` of `marketswarm_notifier_defects_total`."""

    EVENT = "event"  # an event could not be handled: a plain message says so
    CHECK = "check"  # the timers of an incident could not be checked: that is tried again
    MESSAGE = "message"  # the words of a notice could not be made: a plain message is sent in their place
    LOST = "lost"  # a service was down, and nobody would ever have heard of it: its notice is queued


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect that was found, and what was done about it follows from its kind.

    `about` is the key of the incident. `error` is the type of the exception, and `trace` has its frames; both
    are empty without one. The text of an exception is left out: it may hold an address or a token.
    """

    kind: DefectKind
    about: str
    error: str = ""
    trace: tuple[str, ...] = ()

    @classmethod
    def of(cls, kind: DefectKind, about: str, error: Exception) -> "Defect":
        frames = traceback.extract_tb(error.__traceback__)[-FRAMES_AT_MOST:]
        lines = (f"{each.filename}:{each.lineno} in {each.name}: {each.line}" for each in frames)
        return cls(kind, about, type(error).__name__, tuple(lines))
