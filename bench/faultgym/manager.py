"""A program that runs the gym's services in place of `marketswarm up` and medic: monit, or supervisord."""

import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Final, Self

import psutil

from bench.faultgym.case import HealerAction
from bench.programs import ROOT, age_sec
from marketswarm.fleet_control import FleetProcess, ProcessState

INIT: Final = Path(__file__).with_name("init.py")
WITHIN_SEC: Final = 30.0
END_WITHIN_SEC: Final = 15.0
POLL_SEC: Final = 0.1
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What services need, and what is known of them.

    Attributes:
        env: the variables of a service, besides those of this process.
        url: that of the system bus.
        timeout_sec: the silence after which a service is missed.
        grace_sec: the time that a start may take.
        memory_mb: of some services, the memory above which one takes too much.
    """

    env: Mapping[str, str]
    url: str
    timeout_sec: float
    grace_sec: float
    memory_mb: Mapping[str, float]


class ProcessManager(ABC):
    """Run the services `names` while a `with` block runs; `folder` is for its files, and is private."""

    name: str
    programs: tuple[str, ...]
    """What must be installed."""
    install: str
    """The command that installs it."""
    sees: str
    """What it sees of a service, and what it does then; a sentence for the report."""
    patience_sec: float
    """The longest wait for what it does about a fault."""

    def __init__(self, folder: Path, names: Collection[str], needs: Needs) -> None:
        self.folder, self.names, self.needs = folder.absolute(), tuple(names), needs
        self.folder.mkdir(mode=0o700)
        self.target = self.folder / "target.sh"
        self.write_script(self.target, build_target_script(needs.env))
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def find_missing(cls) -> list[str]:
        """Return the programs that are not installed."""
        return [each for each in cls.programs if find_program(each) is None]

    def __enter__(self) -> Self:
        with (self.folder / "output.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(INIT), str(os.getpid()), *self.build_command()],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            self.wait_for_processes(self.names, is_running=True)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(END_WITHIN_SEC)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @abstractmethod
    def build_command(self) -> list[str]:
        """Write its configuration, and return the command that runs it in the foreground."""

    @abstractmethod
    def find_pid(self, svc: str) -> int | None:
        """Return the pid that a service has, or had last."""

    @abstractmethod
    def stop(self, svc: str) -> None:
        """Stop a service as an operator does, until `start`."""

    @abstractmethod
    def start(self, svc: str) -> None: ...

    @abstractmethod
    def read_actions(self) -> list[HealerAction]:
        """Return the restarts of services that still ran; to start one that ended is its manager's work."""

    @abstractmethod
    def read_given_up(self) -> list[tuple[float, str]]:
        """Return when it gave up a service, and which."""

    def read_process(self, svc: str) -> FleetProcess:
        pid = self.find_pid(svc)
        try:
            process = psutil.Process(pid) if pid else None
            if process is not None and process.status() != psutil.STATUS_ZOMBIE:
                identity = f"{pid}:{process.create_time()}"
                return FleetProcess(svc, ProcessState.RUNNING, True, identity, age_sec(process.pid), 0, pid)
        except (psutil.NoSuchProcess, OSError):
            pass
        return FleetProcess(svc, ProcessState.WAITING, True, "", 0.0, 0)

    def wait_for_processes(self, names: Collection[str], *, is_running: bool) -> None:
        until = time.monotonic() + WITHIN_SEC
        while any((self.read_process(svc).pid is not None) is not is_running for svc in names):
            has_ended = self._process is None or self._process.poll() is not None
            if has_ended or time.monotonic() > until:
                text = (self.folder / "output.log").read_text("utf-8", "replace")
                what = "it ended before" if has_ended else f"not within {WITHIN_SEC:g} s"
                raise AssertionError(
                    f"{what}: {self.name} to {'start' if is_running else 'stop'} {', '.join(names)}. "
                    f"{text[-1000:]}"
                )
            time.sleep(POLL_SEC)

    def write_script(self, path: Path, text: str) -> None:
        path.write_text(text, "utf-8")
        path.chmod(0o700)


def build_target_script(env: Mapping[str, str]) -> str:
    """Return a script that becomes the service that its argument names."""
    lines = [f"export {name}={quote(value)}" for name, value in sorted(env.items())]
    command = f'exec {quote(sys.executable)} -m bench.faultgym.target "$1"'
    return "\n".join(["#!/bin/sh", *lines, f"cd {quote(str(ROOT))}", command, ""])


def find_program(name: str) -> str | None:
    """Return the path of a program, also of one in a folder that only root has in its PATH."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)
