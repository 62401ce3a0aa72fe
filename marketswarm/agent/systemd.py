"""What systemd wants to hear of a service, said to the socket that it names: see sd_notify(3).

Plain datagrams, never waited for: where one is not taken, the same is said again with the next look.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

from marketswarm.agent.status import AgentStatus
from marketswarm.alive_file import Phase

FED_PER_LIMIT: Final = 4  # a message a second from each agent would be a lot for a whole machine's manager
SPARE_SEC: Final = 5.0  # the agent's own watchdog comes first: it shows the stacks, and ends the process
LONGEST: Final = 300  # characters of a status


class Manager:
    """The service manager that started us, at the socket `address`.

    Its watchdog is fed with progress alone. Where the truth lets the work be silent for longer than the unit
    does (`watchdog_sec`; None: there is no watchdog), it is told to wait for that long.
    """

    def __init__(self, address: str, watchdog_sec: float | None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog_sec = watchdog_sec
        self._said = {} if watchdog_sec is None else {"WATCHDOG_USEC": _usec(watchdog_sec)}
        self._fed_with = float("-inf")  # the progress that it was last fed with

    def show(self, sign: AgentStatus) -> None:
        """Send what has changed."""
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
        """Return True if it is time to feed systemd's watchdog and the work made progress meanwhile."""
        if self._watchdog_sec is None or sign.phase != Phase.WORKING:
            return False
        return sign.at - self._fed_with >= sign.limit_sec / FED_PER_LIMIT

    def _send(self, message: str) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                ours.setblocking(False)
                ours.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True


def manager(environ: Mapping[str, str]) -> Manager | None:
    """Return the service manager that the environment names, or None."""
    address = environ.get("NOTIFY_SOCKET", "")
    return Manager(address, _watchdog_sec(environ)) if address[:1] in {"/", "@"} else None


def _watchdog_sec(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # it is for another process of the service
    try:
        found = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return found / 1e6 if found > 0 else None


def _usec(sec: float) -> str:
    return str(round(sec * 1e6))


def _line(text: str) -> str:
    """Return the text as one line: a second line would be a message of its own."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST]
