"""Run one command as `init` of a small world: orphans become its children, and all end with it.

`python init.py PARENT COMMAND ...` ends when its command ends, at SIGTERM, and when the process PARENT dies.
Then it ends each descendant by SIGKILL, so that a frozen one does not stay either.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from typing import Final

import psutil

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def main(parent: int, command: list[str]) -> None:
    signal.signal(signal.SIGTERM, end_once)
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        if os.getppid() == parent:
            child = subprocess.Popen(command)
            while os.wait()[0] != child.pid:
                pass
    finally:
        while children := psutil.Process().children(recursive=True):
            for each in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            with contextlib.suppress(ChildProcessError):
                os.wait()


def end_once(*_: object) -> None:
    """End, and ignore further signals: the death of a parent with several threads sends more than one."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
