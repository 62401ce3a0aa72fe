"""Keep the end of what a command writes while it runs, and show of it what may be shown."""

import os

from marketswarm.channels.exec import OutputTail
from marketswarm.redactor import Redactor, list_secrets
from marketswarm.run_output import clean_output, find_last_line
from marketswarm.text import escape_text
from services.medic.owners.owner import MAX_SAID


class CommandOutput(OutputTail):
    """The end of what a command writes; shown of it is one bounded, printable line without secrets."""

    def __init__(self) -> None:
        super().__init__()
        self._redactor = Redactor(list_secrets(os.environ))
        self._shown = (0, "")

    def find_progress(self) -> str:
        """Return its last whole line, MAX_SAID characters at most; empty without one.

        A line that is still being written may end within a secret, which would not be found.
        """
        if self._shown[0] != self.size:
            head, _, unfinished = self.kept.rpartition(b"\n")
            self._shown = (self.size, self._clean(head, self.size - len(unfinished) - 1))
        return self._shown[1]

    def find_last_line(self) -> str:
        """Return the last line of an output that has ended by itself, as above."""
        return self._clean(self.kept, self.size)

    def _clean(self, tail: bytes, size: int) -> str:
        line = find_last_line(clean_output(tail, size, self._redactor)) or ""
        return escape_text(line)[:MAX_SAID]
