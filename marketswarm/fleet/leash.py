"""Starts a program that can't outlive its parent, then gets out of the way.

Run as a script in front of the real command (see `leashed`): it asks the kernel for SIGKILL at the parent's
death and becomes the command by exec, under the same pid. A `preexec_fn` would do the same in the forked
child, which is not safe once the parent has threads. Where the kernel has no such thing (it is Linux'), the
command simply runs. The parent is the *thread* that starts it: start children from the main thread.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def leashed(command: list[str]) -> list[str]:
    """The command to start instead of `command` so that it dies with the calling process."""
    if sys.platform != "linux":
        return command
    # isolated and without site: 10 ms, nothing of the project is imported
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _main(parent: str, program: str, *rest: str) -> None:
    import ctypes  # noqa: PLC0415 - needed in the child alone, not by those who import `leashed`

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the kernel knew of the wish
        os._exit(1)
    os.execvp(program, [program, *rest])  # noqa: S606 - becoming that program is the point


if __name__ == "__main__":
    _main(*sys.argv[1:])
