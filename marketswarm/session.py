"""One subscriber connection, from connecting to its end.

Replies are taken in batches straight from the reader of the client library's connection: its own
`get_message` costs several times as much a beat. Channels are subscribed by name, never by pattern, and
added and dropped while it runs. What to do when it ends is the business of `listen.py`.
"""

import asyncio
from collections.abc import Collection, Iterator
from typing import Any, Final

from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser
from redis.exceptions import RedisError

from marketswarm.bus import Bus, BusError, first_line, reason_of

READ_BYTES: Final = 256 * 1024
AT_ONCE: Final = 1000
"""Channels in one SUBSCRIBE: the answers to more could fill both sides' buffers before we read."""


class _Batches(_AsyncHiredisParser):
    """The client's parser, which can also hand out all replies at hand at once."""

    async def read_batch(self) -> list[Any]:
        """Waits for at least one reply. Raises redis' ConnectionError when the server hangs up."""
        found: list[Any] = []
        reader: Any = self._reader
        gets = reader.gets
        while True:
            while (reply := gets()) is not NOT_ENOUGH_DATA:
                found.append(reply)
            if found:
                return found
            await self.read_from_socket()  # type: ignore[no-untyped-call]  # the library's


class Session:
    """A connection that subscribes. Every failure of it is a BusError.

    Use `open`, then `batches` from one task; `subscribe` and `unsubscribe` from any.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        kwargs = dict(bus.pool.connection_kwargs)
        kwargs["parser_class"] = _Batches
        kwargs["socket_read_size"] = READ_BYTES
        self._connection = bus.pool.connection_class(**kwargs)
        self._pending = 0  # SUBSCRIBE and UNSUBSCRIBE whose acknowledgements are still to come

    @property
    def settled(self) -> bool:
        """True when the server acknowledged all that was asked."""
        return self._pending == 0

    async def connect(self) -> None:
        """Connects and authenticates."""
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]  # the library's
        except (RedisError, OSError) as error:
            raise self._failed(error) from error

    async def subscribe(self, channels: Collection[str]) -> None:
        """Asks for channels, all by name; `batches` sees the acknowledgements."""
        await self._send("SUBSCRIBE", channels)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """Drops channels."""
        await self._send("UNSUBSCRIBE", channels)

    async def _send(self, command: str, channels: Collection[str]) -> None:
        for some in _chunks(list(channels)):
            self._pending += len(some)
            packed = self._connection.pack_command(command, *some)
            try:
                await self._connection.send_packed_command(packed, check_health=False)
            except (RedisError, OSError) as error:
                raise self._failed(error) from error

    async def batch(self) -> list[Any]:
        """The next messages, `[b"message", channel, payload]` each, as many as are at hand; may be none.

        Acknowledgements are counted and left out; an error reply ends the session.
        """
        parser: Any = self._connection._parser  # noqa: SLF001 - the one way to its batches
        try:
            replies: list[Any] = await parser.read_batch()
        except (RedisError, OSError) as error:
            raise self._failed(error) from error
        return self._messages(replies) if self._pending else self._checked(replies)

    def _messages(self, replies: list[Any]) -> list[Any]:
        found = []
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._failed(reply) from reply
            if reply[0] == b"message":
                found.append(reply)
            else:
                self._pending -= 1
        return found

    def _checked(self, replies: list[Any]) -> list[Any]:
        """The same while nothing is pending: whatever is not a message is the server's last word."""
        # an error stands alone, so a look at the last reply is enough
        last = replies[-1]
        if isinstance(last, Exception):
            raise self._failed(last) from last
        return replies

    async def close(self) -> None:
        """Closes the connection without waiting for the server."""
        try:
            async with asyncio.timeout(1.0):
                await self._connection.disconnect(nowait=True)
        except (RedisError, OSError):
            return

    def _failed(self, error: BaseException) -> BusError:
        if isinstance(error, BusError):
            return error
        return BusError(self._bus.name, reason_of(error), first_line(error))


def _chunks(channels: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(channels), AT_ONCE):
        yield channels[start : start + AT_ONCE]
