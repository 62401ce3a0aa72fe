"""One connection to a bus, plain and blocking, for a program that has three things to say and ends.

Loading the client library takes longer than all that `marketswarm beat` has to do, so its parser alone is
used here, hiredis. TLS, Redis Sentinel, and URLs with options of the library's, are the library's after all.
"""

import contextlib
import re
import socket
import time
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import hiredis

from marketswarm.bus_url import place, sentinels

WITHIN_SEC: Final = 2.0
_REPLY_AT_MOST: Final = 256 * 1024 * 1024
_READ_BYTES: Final = 64 * 1024
# the parser makes room for what is announced, and a thousand million cost it minutes; JSON has no such line
_HUGE_LIST: Final = re.compile(rb"\*\d{5,}\r\n")

Word = str | bytes | int


class AwayError(Exception):
    """A bus did not do what it was asked. Holds no credentials."""

    def __init__(self, url: str, cause: Exception) -> None:
        super().__init__()
        self.where, self.cause = place(url), cause

    def __str__(self) -> str:
        from marketswarm.bus import first_line, reason_of  # noqa: PLC0415 - dear, and seldom needed

        said = f" ({first_line(self.cause)})" if isinstance(self.cause, hiredis.ReplyError) else ""
        return f"{self.where}: {reason_of(self.cause)}{said}"


class Wire:
    """A connection, made with the first `ask`, and made anew after any failure."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._socket: socket.socket | None = None
        self._reader = hiredis.Reader()

    def ask(self, *commands: tuple[Word, ...], within_sec: float = WITHIN_SEC) -> list[Any]:
        """The replies to some commands, sent at once. Raises AwayError, for an error reply too."""
        until = time.monotonic() + within_sec
        try:
            if sentinels(self.url) or self._parts().scheme == "rediss" or self._parts().query:
                return self._by_library(commands, within_sec)
            if self._socket is None:
                self._connect(until)
            return self._said(commands, until)
        except (OSError, ValueError, MemoryError, hiredis.HiredisError) as error:
            self.close()
            raise AwayError(self.url, error) from error

    def close(self) -> None:
        """Ends the connection; the next `ask` makes another one."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket, self._reader = None, hiredis.Reader()

    def _parts(self) -> Any:
        return urlsplit(self.url)

    def _connect(self, until: float) -> None:
        parts = self._parts()
        if parts.scheme == "unix":
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(_left(until))
            self._socket.connect(parts.path)
        else:
            address = (parts.hostname or "localhost", parts.port or 6379)
            self._socket = socket.create_connection(address, _left(until))
        greeting: list[tuple[Word, ...]] = []
        if parts.password is not None:
            user = (unquote(parts.username),) if parts.username else ()
            greeting.append(("AUTH", *user, unquote(parts.password)))
        database = parts.path.strip("/") if parts.scheme == "redis" else ""
        if database not in ("", "0"):
            greeting.append(("SELECT", database))
        self._said(tuple(greeting), until)

    def _said(self, commands: tuple[tuple[Word, ...], ...], until: float) -> list[Any]:
        assert self._socket is not None  # noqa: S101 - just connected
        if commands:
            self._socket.settimeout(_left(until))
            self._socket.sendall(b"".join(map(_packed, commands)))
        replies = [self._reply(self._socket, until) for _ in commands]
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
        return replies

    def _reply(self, connection: socket.socket, until: float) -> Any:
        taken, before = 0, b""
        while (reply := self._reader.gets()) is False:
            connection.settimeout(_left(until))
            some = connection.recv(_READ_BYTES)
            taken += len(some)
            if not some or taken > _REPLY_AT_MOST:
                raise ConnectionError("the server closed the connection" if not some else "an endless reply")
            if _HUGE_LIST.search(before + some):
                raise ConnectionError("a list longer than any that was asked for")
            before = some[-16:]
            self._reader.feed(some)
        return reply

    def _by_library(self, commands: tuple[tuple[Word, ...], ...], within_sec: float) -> list[Any]:
        import redis  # noqa: PLC0415 - see above

        with self._client(within_sec) as client:
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            try:
                return list(pipe.execute())
            except redis.RedisError as error:
                raise AwayError(self.url, error) from error

    def _client(self, within_sec: float) -> Any:
        import redis  # noqa: PLC0415 - see above
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        behind = sentinels(self.url)
        urls = [] if behind is None else behind.urls()
        options: dict[str, Any] = {
            "protocol": 2,
            "socket_timeout": within_sec / (1 + len(urls)),
            "socket_connect_timeout": within_sec / (1 + len(urls)),
            "retry": Retry(NoBackoff(), 0),
        }
        if behind is None:
            return redis.Redis.from_url(self.url, **options)
        failed: Exception = ConnectionError("no sentinel knows a master of that name")
        for url in urls:
            try:
                with redis.Redis.from_url(url, **options) as sentinel:
                    found = sentinel.sentinel_get_master_addr_by_name(behind.master)
            except redis.RedisError as error:
                failed = error
            else:
                if found:
                    host, port = found
                    return redis.Redis.from_url(behind.server_url(host.decode(), port), **options)
        raise AwayError(self.url, failed)


def _left(until: float) -> float:
    """Seconds that are left, for a socket, to which 0 would mean something else. Raises TimeoutError."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left


def _packed(command: tuple[Word, ...]) -> bytes:
    return bytes(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub allows for one word only
