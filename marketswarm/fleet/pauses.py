"""How long to wait before a program that ended is started again. Pure."""

import signal
from dataclasses import dataclass

FIRST_SEC = 0.5
LONGEST_SEC = 30.0
WELL_SEC = 10.0
_CONFIGURATION = 2


@dataclass(slots=True)
class Pauses:
    """Growing pauses for one program: 0.5, 1, 2 … 30 s, and from the start again after it ran well.

    `killed_sec` is the least pause after a SIGKILL. Nothing that goes wrong in a program ends it so: it was a
    person, who wants to see it missed, or a kernel short of memory, which wants to be left alone for a while.
    """

    killed_sec: float = 0.0
    _next_sec: float = FIRST_SEC

    def after(self, ran_sec: float, code: int) -> float:
        """The pause, in seconds, after a run of `ran_sec` that ended with `code`.

        Code 2 waits longest at once: a wrong configuration does not mend itself.
        """
        if code == _CONFIGURATION:
            return LONGEST_SEC
        if ran_sec >= WELL_SEC:
            self._next_sec = FIRST_SEC
        pause_sec = self._next_sec
        self._next_sec = min(self._next_sec * 2, LONGEST_SEC)
        return max(pause_sec, self.killed_sec) if code == -signal.SIGKILL else pause_sec
