"""Notifications to systemd, sent to the socket in NOTIFY_SOCKET: see sd_notify(3).

Messages are datagrams that are sent without waiting. One that the socket does not accept is sent again with
the next report of the status.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

from marketswarm.agent.status import AgentStatus
from marketswarm.alive_file import Phase

MESSAGES_PER_LIMIT: Final = 4  # watchdog messages per limit: one a second from each agent would be too many
SPARE_SEC: Final = 5.0  # so that the agent's own watchdog acts first: it logs the stacks and ends the process
MAX_STATUS_CHARS: Final = 300  # characters of a status


class SystemdOutlet:
    """The service manager that started this process, at the socket `address`.

    Its watchdog gets a message only when the work made progress. `watchdog_sec` is the watchdog's time of the
    unit, None if it has none; if the agent's own limit is longer, the manager is sent a longer time.
    """

    def __init__(self, address: str, watchdog_sec: float | None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog_sec = watchdog_sec
        self._sent = {} if watchdog_sec is None else {"WATCHDOG_USEC": _format_usec(watchdog_sec)}
        self._fed_at = float("-inf")  # the time of the progress in the last watchdog message

    def report(self, status: AgentStatus) -> None:
        """Send the variables that have changed since the last message, and `WATCHDOG=1` if it is due."""
        changes = {
            name: value
            for name, value in self._make_variables(status).items()
            if self._sent.get(name) != value
        }
        lines = [f"{name}={value}" for name, value in changes.items()]
        is_watched = self._watchdog_sec is not None and status.phase == Phase.WORKING
        is_due = is_watched and status.at - self._fed_at >= status.limit_sec / MESSAGES_PER_LIMIT
        if is_due:
            lines.append("WATCHDOG=1")
        if lines and self._send("\n".join(lines)):
            self._sent |= changes
            if is_due:
                self._fed_at = status.at

    def _make_variables(self, status: AgentStatus) -> dict[str, str]:
        # one printable line, because a newline would begin another variable of the message
        text = "".join(c if c.isprintable() else " " for c in status.text)
        variables = {"STATUS": " ".join(text.split())[:MAX_STATUS_CHARS]}
        if status.phase == Phase.STOPPING:
            variables["STOPPING"] = "1"
        elif status.phase == Phase.WORKING:
            variables["READY"] = "1"
            if self._watchdog_sec is not None:
                longest_sec = status.limit_sec * (1 + 1 / MESSAGES_PER_LIMIT) + SPARE_SEC
                variables["WATCHDOG_USEC"] = _format_usec(max(self._watchdog_sec, longest_sec))
        return variables

    def _send(self, message: str) -> bool:
        """Return True if the socket accepted the message at once."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True


def find_systemd(environ: Mapping[str, str]) -> SystemdOutlet | None:
    """Return the service manager of NOTIFY_SOCKET; None if it is not set or no socket's address."""
    address = environ.get("NOTIFY_SOCKET", "")
    return SystemdOutlet(address, _read_watchdog_sec(environ)) if address[:1] in {"/", "@"} else None


def _read_watchdog_sec(environ: Mapping[str, str]) -> float | None:
    """Return the seconds in WATCHDOG_USEC; None if it is absent, not valid or for another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # it is for another process of the service
    try:
        usec = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return usec / 1e6 if usec > 0 else None


def _format_usec(sec: float) -> str:
    return str(round(sec * 1e6))
