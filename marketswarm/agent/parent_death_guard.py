"""Start a program that dies with its parent process.

This file runs as a script in front of the real command (see `die_with_parent`): it asks the kernel to send
SIGKILL when the parent dies, then replaces itself by the command (exec, so the pid stays the same). A
`preexec_fn` would do the same in the forked child, but is not safe once the parent has threads. Only Linux
has this kernel feature: elsewhere the command simply runs. To the kernel, the parent is the *thread* that
started the child, so start children from the main thread.

The kernel does this for one process, and not for those that it starts. Where all of them are to end, the
script stays in front of the command, and kills the process group (see `end_group_with_parent`).
"""

import os
import signal
import sys
from collections.abc import Iterable, Sequence

_PR_SET_PDEATHSIG = 1
_GROUP = "group"
_ENDING = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM})
"""What has the guard of a group kill it; SIGTERM is what the kernel sends when the parent dies."""

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""What an interpreter ignores, and a program that takes its place would, too."""


def die_with_parent(command: list[str]) -> list[str]:
    """Return the command to start instead of `command`; outside Linux, `command` itself."""
    if sys.platform != "linux":
        return command
    # isolated and without site: 10 ms, nothing of the project is imported
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def end_group_with_parent(command: Sequence[str], within_sec: int) -> list[str] | None:
    """Return the command to start instead of `command`, in a session of its own; None outside Linux.

    Its first process is a guard, which ends as the command does. It kills its whole process group, itself
    included, when this process dies or `within_sec` are over. What made a session of its own is not of the
    group any more. A guard that is killed alone leaves the command behind.
    """
    if sys.platform != "linux":
        return None
    guard = [sys.executable, "-I", "-S", __file__, _GROUP, str(os.getpid()), str(within_sec)]
    return [*guard, *command]


def _main(parent: str, program: str, *rest: str) -> None:
    """`parent` is the pid of the process that started us; end with code 1 if it has died already."""
    _signal_when_parent_dies(int(parent), signal.SIGKILL)
    os.execvp(program, [program, *rest])  # noqa: S606 - becoming that program is the point


def _guard(parent: str, within_sec: str, program: str, *rest: str) -> None:
    """Run a program, and exit as it does; kill this process group before that in the cases above."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignored it would leave nothing to wait for
    waited = _ENDING | {signal.SIGCHLD}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    _signal_when_parent_dies(int(parent), signal.SIGTERM)
    signal.alarm(int(within_sec))
    child = os.fork()
    if not child:
        _become(program, rest, mask)
    status = None
    while status is None:
        if signal.sigwait(waited) != signal.SIGCHLD:
            os.killpg(0, signal.SIGKILL)
        ended, found = os.waitpid(child, os.WNOHANG)  # it may only have been stopped
        status = found if ended else None
    _exit_as(os.waitstatus_to_exitcode(status))


def _become(program: str, rest: Sequence[str], mask: Iterable[int]) -> None:
    """Replace this process by a program; exit as a shell does if that can't be run."""
    for each in _IGNORED_BY_PYTHON:
        signal.signal(each, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        os.execvp(program, [program, *rest])  # noqa: S606 - as above
    except FileNotFoundError:
        os._exit(127)
    except OSError:
        os._exit(126)


def _exit_as(code: int) -> None:
    """End this process with an exit code, or if it is below 0 by the signal of that number."""
    if code < 0:
        import resource  # noqa: PLC0415 - seldom needed

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(os.getpid(), -code)
    os._exit(code)


def _signal_when_parent_dies(parent: int, number: signal.Signals) -> None:
    """Have the kernel signal this process when its parent dies; exit with 1 if it has died already."""
    import ctypes  # noqa: PLC0415 - needed in the child alone, not by those who import `die_with_parent`

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # the parent died before the kernel knew of our request
        os._exit(1)


if __name__ == "__main__":
    if sys.argv[1] == _GROUP:
        _guard(*sys.argv[2:])
    else:
        _main(*sys.argv[1:])
