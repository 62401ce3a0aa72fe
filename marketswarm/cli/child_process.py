"""A child process as a shell would start it: same files, signals passed on, an optional time limit.

With a terminal, the child stays in the terminal's process group, so that Ctrl-C and Ctrl-Z reach it as they
reach us. Without one (cron, systemd, a container) it leads a process group of its own, and each signal that
we get is sent to all of that group.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any, Final

PASSED_ON: Final = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH")
_SENT_BY_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH)  # to the child and to us
_KILL_AFTER_SEC: Final = 10.0  # from SIGTERM to SIGKILL, once the time limit is over


class ChildProcess:
    """A command that runs from the constructor on.

    Make one in the main thread and once a process: it takes over the process's signal handlers.

    Args:
        command: the program and its arguments; no shell takes part.
        limit_sec: send SIGTERM after that time, and SIGKILL ten seconds later. None: no limit.

    Raises:
        OSError: it can't be started.
    """

    def __init__(self, command: Sequence[str], limit_sec: float | None = None) -> None:
        self.limit_is_over = False
        self._leads_group = not _has_terminal()
        self._process: subprocess.Popen[bytes] | None = None
        self._early_signals: list[int] = []  # that came before there was a child to pass them on to
        for number in (signal.Signals[name] for name in PASSED_ON):
            if signal.getsignal(number) != signal.SIG_IGN:  # under nohup it stays ignored
                signal.signal(number, self._pass_on)
        # close_fds: the files that we were given beyond the usual three are the child's, too
        self._process = subprocess.Popen(  # noqa: S603 - running what the user says is what this is for
            list(command), close_fds=False, process_group=0 if self._leads_group else None
        )
        if limit_sec is not None:
            signal.signal(signal.SIGALRM, self._enforce_limit)
            signal.setitimer(signal.ITIMER_REAL, limit_sec)
        for early in self._early_signals:
            self._send(early)

    def wait(self) -> int:
        """Wait for its end. Return the exit status, or minus the number of the signal that ended it."""
        assert self._process is not None  # noqa: S101 - the constructor started it
        status = self._process.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return status

    def _pass_on(self, number: int, _frame: Any) -> None:
        if self._process is None:
            self._early_signals.append(number)
        elif self._leads_group or number not in _SENT_BY_TERMINAL:
            self._send(number)

    def _enforce_limit(self, *_: Any) -> None:
        self._send(signal.SIGKILL if self.limit_is_over else signal.SIGTERM)
        self.limit_is_over = True
        signal.setitimer(signal.ITIMER_REAL, _KILL_AFTER_SEC)

    def _send(self, number: int) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            (os.killpg if self._leads_group else os.kill)(self._process.pid, number)


def _has_terminal() -> bool:
    """Return whether this process has a controlling terminal, which then sends us its signals."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def exit_code_of_start_error(error: OSError) -> int:
    """Return the code of shells for a command that can't be started: 127 if it is not there, else 126."""
    return 127 if isinstance(error, FileNotFoundError) else 126
