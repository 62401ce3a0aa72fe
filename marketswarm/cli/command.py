"""A command run as a shell would: same files, signals passed on, ended by its own end or by a time limit.

At a terminal it stays in the terminal's hands, as any program started there: Ctrl-C and Ctrl-Z reach it as
they reach us. Elsewhere (cron, systemd, a container) it leads a process group of its own, and what we are
sent goes to all of that group. Not here: what its run means for anyone.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any, Final

PASSED_ON: Final = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH")
_BY_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH)  # the terminal sends them to both
_GRACE_SEC: Final = 10.0  # from SIGTERM to SIGKILL, once its time is up


class Command:
    """A command that runs from the constructor on. In the main thread, once a process: it takes the signals.

    Args:
        words: the program and its arguments; no shell takes part.
        limit_sec: SIGTERM after that time, SIGKILL ten seconds later. None: as long as it takes.

    Raises:
        OSError: it can't be started.
    """

    def __init__(self, words: Sequence[str], limit_sec: float | None = None) -> None:
        self.limit_is_over = False
        self._alone = not _at_a_terminal()
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []  # signals that came before there was anyone to pass them on to
        for number in (signal.Signals[name] for name in PASSED_ON):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or a shell's background: it is meant so
                signal.signal(number, self._pass_on)
        # what we were given beyond the three is for it, too
        self._process = subprocess.Popen(  # noqa: S603 - running what the user says is what this is for
            list(words), close_fds=False, process_group=0 if self._alone else None
        )
        if limit_sec is not None:
            signal.signal(signal.SIGALRM, self._time_is_up)
            signal.setitimer(signal.ITIMER_REAL, limit_sec)
        for early in self._early:
            self._send(early)

    def wait(self) -> int:
        """Its exit status once it has ended, by itself or not; minus the number of a signal that ended it."""
        assert self._process is not None  # noqa: S101 - it runs
        status = self._process.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return status

    def _pass_on(self, number: int, _frame: Any) -> None:
        if self._process is None:
            self._early.append(number)
        elif self._alone or number not in _BY_TERMINAL:
            self._send(number)

    def _time_is_up(self, *_: Any) -> None:
        self._send(signal.SIGKILL if self.limit_is_over else signal.SIGTERM)
        self.limit_is_over = True
        signal.setitimer(signal.ITIMER_REAL, _GRACE_SEC)

    def _send(self, number: int) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            (os.killpg if self._alone else os.kill)(self._process.pid, number)


def _at_a_terminal() -> bool:
    """Whether there is a terminal that sends us its signals."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def unstartable(error: OSError) -> int:
    """The code that shells give to what can't be started: 127 when it is not there, else 126."""
    return 127 if isinstance(error, FileNotFoundError) else 126
