"""Ends this process, and shows its stacks, if something in it does not end.

`faulthandler.dump_traceback_later` starts a thread for each wait, and waits for its end. On busy processors
this takes two milliseconds, as long as most tests. Here one thread looks every now and then.
"""

import faulthandler
import os
import threading
import time
from math import inf

LOOK_EVERY_SEC = 2.0


class Watchdog:
    """One for a process; what is to end is what runs between `begin` and `end`."""

    def __init__(self) -> None:
        self._deadline = inf
        self._stderr = 2
        self._pid = 0  # whose thread looks; a fork has none

    def begin(self, within_sec: float, stderr: int) -> None:
        """Allow so many seconds; what is shown goes to the file descriptor `stderr`."""
        self._stderr, self._deadline = stderr, time.monotonic() + within_sec
        if self._pid != os.getpid():
            self._pid = os.getpid()
            threading.Thread(target=self._look, name="watchdog", daemon=True).start()

    def end(self) -> None:
        self._deadline = inf

    def _look(self) -> None:
        while time.monotonic() < self._deadline:
            time.sleep(LOOK_EVERY_SEC)
        faulthandler.dump_traceback(self._stderr)
        os._exit(1)
