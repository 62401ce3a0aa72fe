"""Starts Python programs by fork, from a process that has imported the product already.

`python -m healer` spends 0.4 s of a processor on imports before it does anything, and the live tests start
more than a thousand programs. Here each test process has a server, and a program is a fork of it: a process
with its own pid, session, environment, folder and descriptors, which runs the module as `python -m` would.
What an environment says to the interpreter or the loader needs a real start: `startable` tells.
MARKETSWARM_TEST_START=exec has every program started that way.

To import the product takes three seconds, so the test processes of a run share that, too: each server is a
fork of one process, which the first of them starts. It listens at an address with the run's tag in it, and
ends with the last of its servers. A server ends with its test process, and all it started ends with it.

A test process talks to its server over a socket: a request is one message with the program's descriptors.
Each program has a pipe, on which come its pid and, when it has ended, its exit code.
"""

import atexit
import contextlib
import errno
import functools
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from support.leftovers import TAG

PACKAGES = ("marketswarm", "bootstrap", "healer", "sentinel", "notifier", "services")
# tests/services, with its conftest, is a part of the namespace `services`
NOT_IMPORTED = ("__main__", "apprise", "conftest", "embedded", "otlp")
OF_THE_INTERPRETER = ("PYTHON", "LD_", "LC_", "LANG", "TZ", "COVERAGE")
LONGEST = 1 << 20
MOST_STARTS = 3
VARIABLE = "MARKETSWARM_TEST_START"
_STATUS = struct.Struct("ii")


@contextlib.contextmanager
def real_starts() -> Iterator[None]:
    """Start programs by the interpreter in this block: a fork shows its server's command line and memory."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "exec"
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def startable(environ: Mapping[str, str]) -> bool:
    """Return True if a fork of the server is what a real start with that environment would be."""
    return (
        sys.platform == "linux"
        and os.environ.get(VARIABLE) != "exec"
        and not any(name.startswith(OF_THE_INTERPRETER) for name in environ)
    )


# -- the test's end

_programs: "weakref.WeakSet[Forked]" = weakref.WeakSet()


class Forked:
    """A program that was started by fork, with what tests use of `subprocess.Popen`."""

    def __init__(self, status: int, module: str) -> None:
        self._status, self.module = status, module
        self._lock = threading.Lock()
        self.returncode: int | None = None
        self.pid = self._read()
        _programs.add(self)

    def _read(self) -> int:
        raw = os.read(self._status, _STATUS.size)
        if len(raw) < _STATUS.size:
            os.close(self._status)
            raise ChildProcessError("the server of forks is gone, and its children with it")
        return int(_STATUS.unpack(raw)[0])

    def poll(self) -> int | None:
        """Return the exit code, None while it runs; -9 after SIGKILL."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code; raise TimeoutExpired after so many seconds."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0.0)
        return code

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and self._ready(timeout):
            with self._lock:  # another thread may have read it meanwhile
                if self.returncode is None:
                    self.returncode = self._ended()
        return self.returncode

    def _ended(self) -> int:
        try:
            code = self._read()
        except ChildProcessError:
            return -signal.SIGKILL
        os.close(self._status)
        return code

    def _ready(self, timeout: float | None) -> bool:
        look = select.poll()
        look.register(self._status, select.POLLIN)
        return bool(look.poll(None if timeout is None else max(0, round(timeout * 1000))))

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def start(
    module: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    descriptors: tuple[int, int, int],
) -> Forked:
    """Start `python -m module` with these descriptors as its stdin, stdout and stderr."""
    request = {"module": module, "arguments": list(arguments), "env": dict(env), "cwd": str(cwd)}
    status, theirs = os.pipe()
    try:
        socket.send_fds(_server(), [json.dumps(request).encode()], [*descriptors, theirs])
    finally:
        os.close(theirs)
    return Forked(status, module)


def run(
    module: str, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` to its end; return its exit code and what it wrote, as text."""
    pipes = [os.pipe(), os.pipe()]
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        program = start(
            module, arguments, env=env, cwd=cwd, descriptors=(nothing.fileno(), pipes[0][1], pipes[1][1])
        )
    written: list[bytes] = [b"", b""]
    readers = []
    for at, (ours, theirs) in enumerate(pipes):
        os.close(theirs)
        reader = threading.Thread(target=_drain, args=(ours, written, at))
        reader.start()
        readers.append(reader)
    try:
        code = program.wait(timeout)
    except subprocess.TimeoutExpired:
        program.kill()
        raise
    finally:
        for reader in readers:
            reader.join(5)
    out, err = (raw.decode() for raw in written)
    return subprocess.CompletedProcess([module, *arguments], code, out, err)


def _drain(descriptor: int, into: list[bytes], at: int) -> None:
    with open(descriptor, "rb") as pipe:
        into[at] = pipe.read()


@functools.cache
def _server() -> socket.socket:
    """Return the connection to the server of this process, which ends with it."""
    starts = 0
    while starts <= MOST_STARTS:
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours.connect(_address())
            if ours.recv(len(_READY)) == _READY:
                _connected.append(ours)
                return ours
        except ConnectionError:  # there is none yet, or no more
            pass
        ours.close()
        starts += _start_parent()
    raise ChildProcessError("the parent of the servers of forks ends at once: stderr says why")


def _address() -> str:
    """Return where the parent of this run's servers listens; a name of the kernel's, and no file."""
    return f"\0{TAG}-forks-{os.getuid()}-{os.environ.get(TAG, os.getpid())}"


def _start_parent() -> bool:
    """Start the process that imports; return False if another test process was faster."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        try:
            listening.bind(_address())
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            time.sleep(0.01)  # the other is about to listen, or just ends
            return False
        listening.listen(64)
        tests = str(Path(__file__).parents[2])
        program = "from support.rig.forkserver import serve_forks; serve_forks()"
        environ = {name: os.environ[name] for name in ("PATH", TAG) if name in os.environ}
        parent = subprocess.Popen(
            [sys.executable, "-c", program, str(listening.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={**environ, "PYTHONPATH": tests},
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
        parent.returncode = 0  # it may outlive this process: nobody waits for it
        return True


_READY = b"ready"
_connected: list[socket.socket] = []


def close() -> list[str]:
    """End the server, if there is one, and with it what it started; return a line for each that still ran."""
    left = [f"{program.pid} python -m {program.module}" for program in _programs if program.poll() is None]
    while _connected:
        with _connected.pop() as ours:
            ours.shutdown(socket.SHUT_WR)
            ours.settimeout(30)
            with contextlib.suppress(ConnectionError):
                ours.recv(1)  # the end: of the server, and of its parent if it was the last one
    _server.cache_clear()
    return left


# -- the server's end


def _import_everything() -> None:
    """Import every module of the product that an agent or a command may need."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith(NOT_IMPORTED):
                with contextlib.suppress(ImportError):  # an extra that is not installed
                    importlib.import_module(module.name)


def _die_with(parent: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _wake_at_child_exit() -> int:
    """Return a descriptor that can be read once a child has ended."""
    wake, wakes = os.pipe()
    for end in (wake, wakes):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    return wake


def _serve_servers(listening: socket.socket) -> socket.socket:
    """Fork a server for each test process that connects, until all have ended; return the connection in each.

    The connection is kept here until its server has ended: so the other end sees when that is.
    """
    wake = _wake_at_child_exit()
    connections: dict[int, socket.socket] = {}
    parent = os.getpid()
    while True:
        ready, _, _ = select.select([listening, wake], [], [])
        if listening in ready:
            connection, _ = listening.accept()
            pid = os.fork()
            if not pid:
                os.setsid()
                _die_with(parent)
                for each in (listening, *connections.values()):
                    each.close()
                return connection
            connections[pid] = connection
        if wake in ready:
            os.read(wake, 4096)
            while connections:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                if len(connections) == 1:
                    os._exit(0)
                connections.pop(pid).close()


class _Server:
    """Waits for requests, and forks for each; in the fork `serve` returns the request."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pipes: dict[int, int] = {}
        self._wake = _wake_at_child_exit()

    def serve(self) -> dict[str, object]:
        """Serve until the test's end goes away; return in each child."""
        while True:
            ready, _, _ = select.select([self._control, self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if self._control in ready:
                try:
                    message, descriptors, _, _ = socket.recv_fds(self._control, LONGEST, 4)
                except ConnectionResetError:
                    message, descriptors = b"", []
                if not message:
                    self._end()
                request = json.loads(message)
                if self._fork(descriptors):
                    return request

    def _fork(self, descriptors: list[int]) -> bool:
        server = os.getpid()
        pid = os.fork()
        if pid:
            *standard, status = descriptors
            for each in standard:
                os.close(each)
            self._pipes[pid] = status
            self._say(status, pid)
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _die_with(server)
        for number, each in enumerate(descriptors[:3]):
            os.dup2(each, number)
        os.closerange(3, max(*descriptors, self._control.fileno(), *self._pipes.values(), 64) + 16)
        self._control.detach()
        return True

    def _reap(self) -> None:
        while self._pipes:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            pipe = self._pipes.pop(pid)
            self._say(pipe, os.waitstatus_to_exitcode(status))
            os.close(pipe)

    @staticmethod
    def _say(pipe: int, word: int) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(pipe, _STATUS.pack(word, 0))

    def _end(self) -> None:
        for pid in self._pipes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self._pipes:
            os.waitpid(pid, 0)
        os._exit(0)


def _become(request: dict[str, object]) -> None:
    """Make this fork what a start of the interpreter would have been."""
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    sys.path[0] = str(request["cwd"])
    sys.path.remove(str(Path(__file__).parents[2]))
    importlib.invalidate_caches()
    sys.argv = [str(request["module"]), *request["arguments"]]  # type: ignore[misc]
    random.seed()


def serve_forks() -> None:
    """Import, fork a server for each test process, and from it for each request; there, be the program."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    listening = socket.socket(fileno=int(sys.argv[1]))
    _import_everything()
    gc.collect()
    gc.freeze()  # a collection in a fork copies no pages for it
    assert threading.active_count() == 1, "a process with threads is not to be forked"
    control = _serve_servers(listening)
    control.send(_READY)
    request = _Server(control).serve()
    _become(request)
    for name in [name for name in sys.modules if name.split(".")[0] == "support"]:
        del sys.modules[name]
    code: object = None
    try:
        runpy.run_module(str(request["module"]), run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    _exit(code)


def _exit(code: object) -> None:
    """End as the interpreter does after SystemExit, but leave its modules to the kernel, which is faster."""
    threading._shutdown()  # noqa: SLF001 - as the interpreter does
    atexit._run_exitfuncs()  # noqa: SLF001 - the same
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit((code or 0) & 0xFF)
