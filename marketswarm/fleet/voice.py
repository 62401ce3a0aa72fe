"""The fleet's one way to stderr: whole lines, in order, and never a reason to wait.

A terminal that was paused, or a slow reader behind a pipe, must not hold up the fleet: lines wait for a
thread that writes them, and beyond a bound they are dropped and counted. Looks are `screen`'s.
"""

import os
import queue
import threading
from collections.abc import Callable

_WAITING_LINES = 10_000


class Voice:
    """Writes lines to a file descriptor from a thread.

    Args:
        fd: where to.
        on_gone: called once, from that thread, when nobody reads any more.
    """

    def __init__(self, fd: int, on_gone: Callable[[], object]) -> None:
        self._fd, self._on_gone = fd, on_gone
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="voice", daemon=True)
        self._thread.start()

    def say(self, line: bytes) -> None:
        """One line, without its end."""
        if self._lines.qsize() < _WAITING_LINES:
            self._lines.put(line + b"\n")
        else:
            self._dropped += 1

    def close(self, within_sec: float = 1.0) -> None:
        """Waits for what is left to be written, but not for ever."""
        self._lines.put(None)
        self._thread.join(within_sec)

    def _write_all(self) -> None:
        """The thread: until `close`, or until nobody reads."""
        try:
            while (line := self._lines.get()) is not None:
                self._write(line)
                if self._lines.empty():
                    self._tell_dropped()
            self._tell_dropped()
        except OSError:
            self._on_gone()

    def _tell_dropped(self) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._write(b'{"level":"warning","event":"log.dropped","agent":"fleet","lines":%d}\n' % dropped)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]
