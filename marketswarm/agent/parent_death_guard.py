"""Start a program that dies with its parent process.

This file runs as a script in front of the real command (see `die_with_parent`): it asks the kernel to send
SIGKILL when the parent dies, then replaces itself by the command (exec, so the pid stays the same). A
`preexec_fn` would do the same in the forked child, but is not safe once the parent has threads. Only Linux
has this kernel feature: elsewhere the command simply runs. To the kernel, the parent is the *thread* that
started the child, so start children from the main thread.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(command: list[str]) -> list[str]:
    """Return the command to start instead of `command`; outside Linux, `command` itself."""
    if sys.platform != "linux":
        return command
    # isolated and without site: 10 ms, nothing of the project is imported
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _main(parent: str, program: str, *rest: str) -> None:
    """`parent` is the pid of the process that started us; end with code 1 if it has died already."""
    import ctypes  # noqa: PLC0415 - needed in the child alone, not by those who import `die_with_parent`

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # the parent died before the kernel knew of our request
        os._exit(1)
    os.execvp(program, [program, *rest])  # noqa: S606 - becoming that program is the point


if __name__ == "__main__":
    _main(*sys.argv[1:])
