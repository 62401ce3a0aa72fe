"""Other machines on this one: network namespaces with a wire between them. They need root and `ip`."""

import os
import re
import subprocess
import sys
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import TracebackType

from support.leftovers import TAG
from support.rig.process import Process

ADDRESSES = ("192.0.2.10", "192.0.2.20")
"""Of the fleet's machine and of the other one; no network has them but ours."""
HAS_IPV6 = Path("/proc/net/if_inet6").exists()
_WITHIN_SEC = 120


class Machine:
    """A machine with an address and a folder of its own, where lines are typed."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        folder.mkdir(parents=True)

    def run(self, line: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Type a line, wait for its end, and return what it printed."""
        return subprocess.run(
            [*self.enter, "sh", "-c", line],
            cwd=self.folder,
            env={**self.environ(), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_WITHIN_SEC,
            check=False,
        )

    def answer(self, line: str, question: str, given: str) -> str:
        """Type a line at a terminal, and `given` once it asks `question`; return what the terminal shows."""
        with subprocess.Popen(
            [*self.enter, "script", "-qec", line, "/dev/null"],
            cwd=self.folder,
            env=self.environ(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            shown = b""
            while question.encode() not in shown and (piece := os.read(process.stdout.fileno(), 4096)):
                shown += piece
            rest, _ = process.communicate(f"{given}\n".encode(), _WITHIN_SEC)
        return (shown + rest).decode(errors="replace")

    def start(self, line: str, **env: str) -> "Typed":
        """Type a line that goes on beside the others."""
        return Typed(self, line, env)

    @property
    def enter(self) -> list[str]:
        """The words before a command that is to run on this machine."""
        return ["ip", "netns", "exec", self.name]

    def environ(self) -> dict[str, str]:
        programs = Path(sys.executable).parent
        return {"PATH": f"{programs}:{os.environ['PATH']}", TAG: os.environ[TAG], "COLUMNS": "200"}


class Typed(Process):
    """A line that was typed on a machine, and that goes on."""

    def __init__(self, machine: Machine, line: str, env: dict[str, str]) -> None:
        super().__init__()
        self._file = machine.folder / f"printed-{len([*machine.folder.glob('printed-*')])}"
        with self._file.open("wb") as file:
            self.spawn(
                [*machine.enter, "sh", "-c", f"exec {line}"],
                env={**machine.environ(), **env},
                cwd=machine.folder,
                stdout=file,
                stderr=file,
            )

    def __str__(self) -> str:
        return f"what printed {self.text()[-2000:]!r}"

    def text(self) -> str:
        return self._file.read_text(encoding="utf-8", errors="replace")


class Machines:
    """`with Machines(folder) as (fleet, other):` two machines on a wire; all of it is removed at the end."""

    def __init__(self, folder: Path) -> None:
        names = [f"ms-{os.getpid()}-{which}" for which in ("fleet", "other")]
        self._folder, self._names = folder, names

    def __enter__(self) -> tuple[Machine, Machine]:
        first, second = self._names
        made: list[str] = []
        _remove_of_the_dead()
        try:
            for name in self._names:
                _ip("netns", "add", name)
                made.append(name)
                _ip("-n", name, "link", "set", "lo", "up")
            wire = ("peer", "name", "wire", "netns", second)
            _ip("-n", first, "link", "add", "wire", "type", "veth", *wire)
            for name, address in zip(self._names, ADDRESSES, strict=True):
                _ip("-n", name, "address", "add", f"{address}/24", "dev", "wire")
                _ip("-n", name, "link", "set", "wire", "up")
        except BaseException:
            _remove(made)
            raise
        fleet, other = (Machine(name, self._folder / name[-5:]) for name in self._names)
        return fleet, other

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _remove(self._names)


class OtherMachine:
    """`with OtherMachine(folder) as (address, other):` a machine on a wire to this one; the address is ours.

    The machine is removed at the end, and the wire with it. Each process has a network of its own, since
    two wires with one address answer for each other.
    """

    def __init__(self, folder: Path) -> None:
        pid = os.getpid()
        self._folder, self._name, self._wire = folder, f"ms-{pid}-other", f"ms{pid}"
        networks = IPv4Network("198.18.0.0/15"), IPv6Network("fd51:51::/32")
        start, start_v6 = networks[0][4 * (pid % 2**15)], networks[1][pid << 64]
        self.addresses = f"{start + 1}", f"{start + 2}"
        """Of this machine and of the other one; like those of `Machines`, they are no network's but ours."""
        self.addresses_v6 = f"{start_v6 + 1}", f"{start_v6 + 2}"
        """The same of IPv6, where this machine has that."""

    def __enter__(self) -> tuple[str, Machine]:
        ours, theirs = self.addresses
        _remove_of_the_dead()
        _ip("netns", "add", self._name)
        try:
            _ip("link", "add", self._wire, "type", "veth", "peer", "name", "wire", "netns", self._name)
            _ip("address", "add", f"{ours}/30", "dev", self._wire)
            _ip("link", "set", self._wire, "up")
            _ip("-n", self._name, "address", "add", f"{theirs}/30", "dev", "wire")
            for each in ("lo", "wire"):
                _ip("-n", self._name, "link", "set", each, "up")
            if HAS_IPV6:
                ours_v6, theirs_v6 = self.addresses_v6
                # nodad: nobody else is on the wire, so there is nothing to wait for
                _ip("address", "add", f"{ours_v6}/64", "dev", self._wire, "nodad")
                _ip("-n", self._name, "address", "add", f"{theirs_v6}/64", "dev", "wire", "nodad")
        except BaseException:
            _remove([self._name])
            raise
        return ours, Machine(self._name, self._folder / "other")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _remove([self._name])


def require_closed_bus(machine: Machine, address: str, port: int, certificate: Path, password: str) -> None:
    """Fail unless a bus answers that machine over TLS alone, and lets nobody look without a password.

    With `password`, that of the user `join`, a client comes in, and may do what that user may.
    """
    client = f"redis-cli -h {address} -p {port}"
    assert "PONG" not in machine.run(f"{client} PING").stdout
    secure = f"{client} --tls --cacert {certificate}"
    for words in ("PING", "GET truth:doc", "PUBSUB CHANNELS"):
        stranger = machine.run(f"{secure} {words}")
        assert "NOAUTH" in stranger.stdout, stranger
    wrong, asked, looked = (
        machine.run(f"{secure} --user join --no-auth-warning {words}", REDISCLI_AUTH=given)
        for given, words in (("wrong", "PING"), (password, "PING"), (password, "KEYS '*'"))
    )
    assert "PONG" not in wrong.stdout, wrong
    assert "WRONGPASS" in wrong.stdout + wrong.stderr, wrong
    assert "PONG" in asked.stdout, asked
    assert "NOPERM" in looked.stdout, looked


def _remove_of_the_dead() -> None:
    """Remove the machines of killed test runs: nobody else would, and their wires keep their addresses."""
    for name, pid in re.findall(r"^(ms-(\d+)-\w+)", _ip("netns", "list").stdout, re.MULTILINE):
        if not Path("/proc", pid).exists():
            _ip("netns", "delete", name, check=False)  # unless another run was first


def _remove(names: list[str]) -> None:
    for name in names:  # the wire goes with its ends
        _ip("netns", "delete", name)


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True, timeout=_WITHIN_SEC)
