"""One subscriber connection, from connecting to its end.

Replies are taken in batches straight from the reader of the client library's connection: its own
`get_message` costs several times as much a beat. Channels are subscribed by name, never by pattern, and
added and dropped while it runs. What to do when it ends is the business of `listen.py`.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final

from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser
from redis.exceptions import RedisError

from marketswarm.bus import Bus, BusError, first_line, reason_of

READ_BYTES: Final = 64 * 1024
AT_ONCE: Final = 1000
"""Channels in one SUBSCRIBE: the answers to more could fill both sides' buffers before we read."""


class _Batches(_AsyncHiredisParser):
    """The client's parser, which can also hand out all the replies at hand."""

    @classmethod
    def parse_error(cls, response: str) -> Exception:
        """Raises an error reply, from the reader itself: nobody who takes messages need look for one."""
        raise super().parse_error(response)  # type: ignore[no-untyped-call]  # the library's

    async def first(self) -> Any:
        """Waits for a reply. Raises RedisError when it is an error, or the server hangs up."""
        reader: Any = self._reader
        while (reply := reader.gets()) is NOT_ENOUGH_DATA:
            await self.read_from_socket()  # type: ignore[no-untyped-call]  # the library's
        return reply

    def more(self) -> Callable[[], Any]:
        """Gives what gives the next reply at hand, or NOT_ENOUGH_DATA."""
        reader: Any = self._reader
        gets: Callable[[], Any] = reader.gets
        return gets


class Session:
    """A connection that subscribes. Every failure of it is a BusError.

    Use `connect`, then `batch` from one task; `subscribe` and `unsubscribe` from any.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        kwargs = dict(bus.pool.connection_kwargs)
        kwargs["parser_class"] = _Batches
        kwargs["socket_read_size"] = READ_BYTES
        self._connection = bus.pool.connection_class(**kwargs)
        self._broken: BusError | None = None  # what ended it in the midst of a batch
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
        """Asks for channels, all by name; `batch` sees the acknowledgements."""
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

    async def batch(self) -> Iterable[Any]:
        """The next messages, `[b"message", channel, payload]` each, as many as are at hand; may be none.

        To be used up before the next call. Acknowledgements are counted and left out; an error reply ends
        the session.
        """
        if self._broken is not None:
            raise self._broken
        parser: Any = self._connection._parser  # noqa: SLF001 - the one way to its batches
        try:
            replies = self._replies(await parser.first(), parser.more())
        except (RedisError, OSError) as error:
            raise self._failed(error) from error
        # the server has nothing but messages to say to one that asked for nothing
        return self._messages(replies) if self._pending else replies

    def _replies(self, reply: Any, more: Callable[[], Any]) -> Iterator[Any]:
        """All replies at hand, each decoded only when its turn comes: a whole batch would leave the cache."""
        try:
            while reply is not NOT_ENOUGH_DATA:
                yield reply
                reply = more()
        except RedisError as error:
            # what came before it was heard, and must be concluded from, before the session ends
            self._broken = self._failed(error)

    def _messages(self, replies: Iterator[Any]) -> list[Any]:
        found = []
        for reply in replies:
            if reply[0] == b"message":
                found.append(reply)
            else:
                self._pending -= 1
        return found

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
