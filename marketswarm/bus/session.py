"""One subscriber connection, from connecting to its end.

Replies are taken in batches straight from the reader of the client library's connection: its own
`get_message` costs several times as much a beat. Channels are subscribed by name, never by pattern, and
added and dropped while it runs. What to do when it ends is the business of `listener.py`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.exceptions import InvalidResponse, RedisError

from marketswarm.bus.bus import Bus
from marketswarm.bus.errors import BusError, first_line, reason_of
from marketswarm.bus.parser import BatchParser

READ_BYTES: Final = 64 * 1024
AT_ONCE: Final = 1000
"""Channels in one SUBSCRIBE: the answers to more could fill both sides' buffers before we read."""


@dataclass(slots=True)
class _Asked:
    """A SUBSCRIBE or UNSUBSCRIBE, and how many of its acknowledgements are still to come."""

    command: str
    channels: list[str]
    left: int


class Session:
    """A connection that subscribes. Every failure of it is a BusError.

    Use `connect`, then `batch` from one task; `subscribe` and `unsubscribe` from any.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        kwargs = dict(bus.pool.connection_kwargs)
        kwargs["parser_class"] = BatchParser
        kwargs["socket_read_size"] = READ_BYTES
        self._connection = bus.pool.connection_class(**kwargs)
        self._broken: BusError | None = None  # what ended it in the midst of a batch
        self._pending: deque[_Asked] = deque()  # what the server has not answered yet, in order
        self._again: list[list[str]] = []  # halves of what was refused, still to be asked for
        self.refused: set[str] = set()
        """Channels that the server does not let us hear; all others of the same SUBSCRIBE are heard."""

    @property
    def settled(self) -> bool:
        """True when the server answered all that was asked."""
        return not self._pending and not self._again

    async def connect(self) -> None:
        """Connects and authenticates."""
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]  # the library's
        except Exception as error:  # the handshake raises whatever it pleases at what is no reply
            raise self._failed(error) from error

    async def subscribe(self, channels: Collection[str]) -> None:
        """Asks for channels, all by name; `batch` sees the acknowledgements.

        A server refuses the whole of a SUBSCRIBE for one channel in it. `batch` then asks for its halves.
        """
        await self._send("SUBSCRIBE", channels)

    async def ask_again(self) -> None:
        """Asks for each channel that was refused; perhaps it is allowed by now."""
        for channel in sorted(self.refused)[:AT_ONCE]:
            await self._send("SUBSCRIBE", [channel])

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """Drops channels."""
        self.refused.difference_update(channels)
        await self._send("UNSUBSCRIBE", channels)

    async def _send(self, command: str, channels: Collection[str]) -> None:
        for some in _chunks(list(channels)):
            self._pending.append(_Asked(command, some, len(some)))
            packed = self._connection.pack_command(command, *some)
            try:
                await self._connection.send_packed_command(packed, check_health=False)
            except (RedisError, OSError) as error:
                raise self._failed(error) from error

    async def batch(self) -> Iterable[Any]:
        """The next messages, `[b"message", channel, payload]` each, as many as are at hand; may be none.

        To be used up before the next call. Acknowledgements are counted and left out; an error reply, if it
        does not refuse a SUBSCRIBE, ends the session.
        """
        if self._broken is not None:
            raise self._broken
        while self._again:
            await self._send("SUBSCRIBE", self._again.pop())
        parser: Any = self._connection._parser  # noqa: SLF001 - the one way to its batches
        try:
            first = await parser.first()
        except Exception as error:  # as above
            raise self._failed(error) from error
        # the server has nothing but messages to say to one that asked for nothing
        found = self._answers if self._pending else self._messages
        return found(first, parser.more())

    def _messages(self, reply: Any, more: Callable[[], Any]) -> Iterator[Any]:
        """All replies at hand, each decoded only when its turn comes: a whole batch would leave the cache."""
        try:
            while reply is not NOT_ENOUGH_DATA:
                _, channel, payload = reply
                if type(payload) is not bytes or type(channel) is not bytes:
                    raise InvalidResponse("not a message")  # noqa: TRY301 - ends the batch like any other
                yield reply
                reply = more()
        except Exception as error:  # noqa: BLE001 - the reader's own, whatever they are; none of who takes them
            # what came before it was heard, and must be concluded from, before the session ends
            self._broken = self._failed(reply if isinstance(reply, RedisError) else error)

    def _answers(self, reply: Any, more: Callable[[], Any]) -> list[Any]:
        """The same while answers to SUBSCRIBE come in between: those are counted and left out."""
        found = []
        try:
            while reply is not NOT_ENOUGH_DATA:
                if isinstance(reply, RedisError):
                    self._refuse(reply)
                else:
                    kind, channel, payload = reply
                    if kind == b"message" and type(channel) is type(payload) is bytes:
                        found.append(reply)
                    else:
                        self._acknowledge(kind, channel)
                reply = more()
        except Exception as error:  # noqa: BLE001 - as above
            self._broken = self._failed(error)
        return found

    def _acknowledge(self, kind: Any, channel: Any) -> None:
        if not self._pending or kind != self._pending[0].command.lower().encode():
            raise InvalidResponse("neither a message nor an answer")
        if self.refused and kind == b"subscribe":
            self.refused.discard(channel.decode("utf-8", "replace"))
        self._pending[0].left -= 1
        if not self._pending[0].left:
            self._pending.popleft()

    def _refuse(self, error: RedisError) -> None:
        """Halves a SUBSCRIBE that was refused, down to the channels that are. Raises any other error."""
        asked = self._pending[0] if self._pending else None
        if asked is None or asked.command != "SUBSCRIBE" or reason_of(error) != "auth":
            raise error
        self._pending.popleft()
        middle = len(asked.channels) // 2
        if middle:
            self._again += [asked.channels[:middle], asked.channels[middle:]]
        else:
            self.refused.update(asked.channels)

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
