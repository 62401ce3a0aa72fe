"""Floods of a bus by clients without a password: what they send, and what they leave unread."""

import contextlib
import re
import socket
from collections.abc import Mapping
from pathlib import Path

import redis

from support.rig.closes import Closes
from support.rig.process import HOST, Server

MIB = 1024 * 1024
LIMITS = Path(__file__).parents[3] / "deploy/redis/limits.conf"


def limits_of_containers() -> dict[str, str]:
    """The directives of deploy/redis/limits.conf, as `Server` takes them: one value a directive."""
    found: dict[str, str] = {}
    for name, value in re.findall(r"^([a-z-]+) (.+)$", LIMITS.read_text(encoding="utf-8"), re.MULTILINE):
        key = name.replace("-", "_")
        found[key] = f"{found[key]} {value}" if key in found else value
    return found


class Flood(Closes):
    """Connections of a stranger to one bus, open until the end: `with Flood(server) as flood:`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._ends = contextlib.ExitStack()

    def close(self) -> None:
        self._ends.close()

    def unfinished_queries(self, count: int = 2, mebibytes: int = 300) -> None:
        """Announces arguments that never come to their end."""
        size = mebibytes * MIB
        for _ in range(count):
            self._send(b"*2\r\n$3\r\nGET\r\n$%d\r\n" % size + b"x" * MIB)

    def unfinished_arguments(self, count: int = 10, mebibytes: int = 30) -> None:
        """As above, each argument of a length that a server takes, and sent but for its last bytes."""
        size = mebibytes * MIB
        for _ in range(count):
            self._send(b"*2\r\n$3\r\nGET\r\n$%d\r\n" % size + b"x" * (size - 10))

    def unread_replies(self, key: str, count: int = 30, mebibytes: int = 40) -> None:
        """Asks for a key again and again, and reads no answer."""
        with redis.Redis(HOST, self.server.port) as client:
            times = mebibytes * MIB // int(client.strlen(key))
        ask = b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key.encode())
        for _ in range(count):
            self._send(ask * times)

    def unread_subscriptions(self, pattern: str, count: int = 150) -> None:
        """Subscribes, and reads no message."""
        for _ in range(count):
            self._send(b"*2\r\n$10\r\nPSUBSCRIBE\r\n$%d\r\n%s\r\n" % (len(pattern), pattern.encode()))

    def _send(self, raw: bytes) -> None:
        """Sends what the server takes; one that hangs up or reads no more has had enough."""
        there = self._ends.enter_context(socket.socket())
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        there.settimeout(5)
        with contextlib.suppress(OSError):
            there.connect((HOST, self.server.port))
            there.sendall(raw)


def memory(server: Server) -> Mapping[str, int]:
    """Return the server's `INFO memory`."""
    return dict(server.cmd("INFO", "memory"))
