"""Two machines on one: network namespaces with a wire between them. They need root and `ip`."""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from support.leftovers import TAG
from support.rig.process import Process

ADDRESSES = ("192.0.2.10", "192.0.2.20")
"""Of the fleet's machine and of the other one; no network has them but ours."""
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


def _remove(names: list[str]) -> None:
    for name in names:  # the wire goes with its ends
        _ip("netns", "delete", name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=_WITHIN_SEC)
