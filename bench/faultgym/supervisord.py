"""supervisord, which runs programs, starts one again that ends, and sees nothing else of them."""

import http.client
import re
import socket
import xmlrpc.client
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bench.faultgym.case import HealerAction
from bench.faultgym.manager import ProcessManager, find_program

STOP_WITHIN_SEC: Final = 3
ANSWER_WITHIN_SEC: Final = 30.0
_GAVE_UP: Final = re.compile(r"^(\S+ \S+) INFO gave up: (\w+) entered FATAL state", re.MULTILINE)
_NOTHING_TO_DO: Final = (60, 70)
"""The codes of ALREADY_STARTED and NOT_RUNNING."""


class Supervisord(ProcessManager):
    """supervisord in the foreground, with `autorestart`, and the time that a start takes."""

    name = "supervisor"
    patience_sec = 60.0
    programs = ("supervisord",)
    install = "apt-get install supervisor, or pip install supervisor"
    sees = (
        "supervisor sees that a process ended, and nothing else; it starts it again, and gives up after "
        "three retries in a row that did not last for the time of a start, which it writes to its log."
    )

    def build_command(self) -> list[str]:
        config = self.folder / "supervisord.conf"
        self.write_script(config, build_config(self.folder, self.names, self.needs.grace_sec))
        return [find_program("supervisord") or "supervisord", "--nodaemon", "-c", str(config)]

    def find_pid(self, svc: str) -> int | None:
        try:
            return int(self._ask("getProcessInfo", svc)["pid"]) or None
        except (OSError, http.client.HTTPException):  # it has just been started
            return None

    def stop(self, svc: str) -> None:
        self._ask("stopProcess", svc)
        self.wait_for_processes([svc], is_running=False)

    def start(self, svc: str) -> None:
        self._ask("startProcess", svc, False)
        self.wait_for_processes([svc], is_running=True)

    def _ask(self, method: str, *args: Any) -> Any:
        """Ask the supervisord; what is done already is no error."""
        transport = UnixTransport(self.folder / "supervisor.sock")
        with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport) as proxy:
            try:
                return getattr(proxy.supervisor, method)(*args)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode not in _NOTHING_TO_DO:
                    raise
                return None

    def read_actions(self) -> list[HealerAction]:
        return []  # it restarts nothing that runs

    def read_given_up(self) -> list[tuple[float, str]]:
        try:
            return find_given_up((self.folder / "supervisord.log").read_text("utf-8", "replace"))
        except OSError:
            return []


class UnixConnection(http.client.HTTPConnection):
    """A connection to a server on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_WITHIN_SEC)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class UnixTransport(xmlrpc.client.Transport):
    """XML-RPC by such a connection."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> UnixConnection:  # noqa: ARG002 - the base class' signature
        return UnixConnection(self._path)


def find_given_up(log: str) -> list[tuple[float, str]]:
    """Return from supervisord's log, which has local times, when it gave up a service."""
    return [
        (datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp(), svc)
        for at, svc in _GAVE_UP.findall(log)
    ]


def build_config(folder: Path, names: Collection[str], grace_sec: float) -> str:
    head = f"""\
[supervisord]
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}

[unix_http_server]
file={folder}/supervisor.sock
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
    return head + "".join(build_program(folder, svc, grace_sec) for svc in names)


def build_program(folder: Path, svc: str, grace_sec: float) -> str:
    """Return the section of a service.

    One that lasts a second is well by default: of a program that takes two to fail, no start would fail.
    """
    return f"""
[program:{svc}]
command={folder}/target.sh {svc}
autorestart=true
startsecs={grace_sec:.0f}
stopwaitsecs={STOP_WITHIN_SEC}
redirect_stderr=true
stdout_logfile={folder}/{svc}.log
"""
