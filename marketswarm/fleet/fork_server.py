"""Start programs by fork: the process behind `forks.py`, which runs this file as a program.

It imports what every agent needs, once. For each request it forks, and the fork becomes the program. What was
imported is then in memory once, and need not be imported again.

The process has one thread and no event loop, since only such a process can fork safely. A fork becomes a
child of `marketswarm up` as soon as the process between the two has ended, so no program depends on the fork
server. The fork server never sees a program's environment: the fork sends its pid to `marketswarm up` over a
socket of its own, and reads its environment there. So no program has the secrets of another one in memory.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, Final

from marketswarm.settings import CommonSettings
from marketswarm.truth import parse_truth

IMPORTED: Final = (
    "marketswarm.agent.lifecycle",
    "marketswarm.settings.programs",
    "marketswarm.structlog_import",
)
"""The modules that every agent imports, two of them when it uses them first."""
PID: Final = struct.Struct("i")
ROOM: Final = "-" * 80
"""The last argument of the fork server. It makes room for the command lines of programs."""
_PR_SET_PDEATHSIG: Final = 1
_POLL_SEC: Final = 0.0005
_LIBC: Final = ctypes.CDLL(None)


def _prepare() -> None:
    gc.disable()
    for name in IMPORTED:
        importlib.import_module(name)
    # what each agent would build at its start: the validators of settings and of the truth
    CommonSettings.model_rebuild()
    parse_truth(b'{"services": {"a": {}}}')
    gc.freeze()  # a garbage collection would write to each page, and so copy it
    gc.enable()
    if hasattr(_LIBC, "malloc_trim"):  # a library of GNU's: it gives back what compiling took
        _LIBC.malloc_trim(0)


def _serve(control: socket.socket) -> tuple[int, int]:
    """Fork for each request until `control` is closed, then end.

    Return in each fork, with the descriptors of its program: its socket and its output.
    """
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not message:
            os._exit(0)
        between = os.fork()
        if not between:
            between = os.getpid()
            if os.fork():
                os._exit(0)
            while os.getppid() == between:
                time.sleep(_POLL_SEC)
            return descriptors[0], descriptors[1]
        os.waitpid(between, 0)
        for descriptor in descriptors:
            os.close(descriptor)


def _receive_program(descriptor: int, parent: int) -> dict[str, Any]:
    """Send this process's pid to `marketswarm up`, whose pid is `parent`, and return what it is to run.

    End this process if that is not its parent, or wants no program any more.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with socket.socket(fileno=descriptor) as connection:
        connection.sendall(PID.pack(os.getpid()))
        with connection.makefile("rb") as file:
            raw = file.read()
    if not raw:
        os._exit(1)
    program: dict[str, Any] = json.loads(raw)
    return program


def _take_place(program: dict[str, Any], output: int) -> None:
    """Make this process what the interpreter would have started: session, descriptors, environment, name."""
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(program["environ"])
    sys.argv = [program["module"]]
    _show_command([sys.executable, "-m", program["module"]])


def _show_command(command: list[str]) -> None:
    """Write `command` over this process's command line, which `ps` shows; do nothing without /proc."""
    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return
    start, end = int(fields[45]), int(fields[46])
    if start:  # 0 if the kernel does not say
        raw = b"\0".join(map(os.fsencode, command))[: end - start - 1]
        ctypes.memmove(start, raw.ljust(end - start, b"\0"), end - start)


def _main(control: str, parent: str, _room: str) -> None:
    _prepare()
    with socket.socket(fileno=int(control)) as requests:
        connection, output = _serve(requests)
    program = _receive_program(connection, int(parent))
    _take_place(program, output)
    runpy.run_module(program["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
