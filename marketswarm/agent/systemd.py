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

FED_PER_LIMIT: Final = 4  # watchdog messages per limit: one a second from each agent would be too many
SPARE_SEC: Final = 5.0  # so that the agent's own watchdog acts first: it logs the stacks and ends the process
LONGEST: Final = 300  # characters of a status


class Manager:
    """The service manager that started this process, at the socket `address`.

    Its watchdog gets a message only when the work made progress. `watchdog_sec` is the watchdog's time of the
    unit, None if it has none; if the agent's own limit is longer, the manager is sent a longer time.
    """

    def __init__(self, address: str, watchdog_sec: float | None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog_sec = watchdog_sec
        self._said = {} if watchdog_sec is None else {"WATCHDOG_USEC": _usec(watchdog_sec)}
        self._fed_with = float("-inf")  # the time of the progress in the last watchdog message

    def show(self, sign: AgentStatus) -> None:
        """Send the variables that have changed since the last message, and `WATCHDOG=1` if it is due."""
        news = {name: value for name, value in self._facts(sign).items() if self._said.get(name) != value}
        lines = [f"{name}={value}" for name, value in news.items()]
        feed = self._is_food(sign)
        if feed:
            lines.append("WATCHDOG=1")
        if lines and self._send("\n".join(lines)):
            self._said |= news
            if feed:
                self._fed_with = sign.at

    def _facts(self, sign: AgentStatus) -> dict[str, str]:
        """Return the variables of sd_notify(3) for a status."""
        facts = {"STATUS": _line(sign.status)}
        if sign.phase == Phase.STOPPING:
            facts["STOPPING"] = "1"
        elif sign.phase == Phase.WORKING:
            facts["READY"] = "1"
            if self._watchdog_sec is not None:
                longest_sec = sign.limit_sec * (1 + 1 / FED_PER_LIMIT) + SPARE_SEC
                facts["WATCHDOG_USEC"] = _usec(max(self._watchdog_sec, longest_sec))
        return facts

    def _is_food(self, sign: AgentStatus) -> bool:
        """Return True if `WATCHDOG=1` is due: the agent works, and made progress since the last one."""
        if self._watchdog_sec is None or sign.phase != Phase.WORKING:
            return False
        return sign.at - self._fed_with >= sign.limit_sec / FED_PER_LIMIT

    def _send(self, message: str) -> bool:
        """Send one message without waiting; return True if the socket accepted it."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                ours.setblocking(False)
                ours.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True


def manager(environ: Mapping[str, str]) -> Manager | None:
    """Return the service manager of NOTIFY_SOCKET; None if it is not set or no socket's address."""
    address = environ.get("NOTIFY_SOCKET", "")
    return Manager(address, _watchdog_sec(environ)) if address[:1] in {"/", "@"} else None


def _watchdog_sec(environ: Mapping[str, str]) -> float | None:
    """Return the seconds in WATCHDOG_USEC; None if it is absent, not valid or for another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # it is for another process of the service
    try:
        found = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return found / 1e6 if found > 0 else None


def _usec(sec: float) -> str:
    """Return seconds as whole microseconds."""
    return str(round(sec * 1e6))


def _line(text: str) -> str:
    """Return the text as one printable line of at most 300 characters.

    A newline would begin another variable of the message.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST]
