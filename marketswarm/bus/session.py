"""Subscribe to channels over one connection, from connecting to its end.

`listener.py` makes a new session after each end. The session reads replies in batches from the client
library's parser, since the library's own `get_message` costs several times as much for each beat. It
subscribes to channels by name, never by pattern, and can add and remove channels while it runs.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.exceptions import InvalidResponse, RedisError

from marketswarm.bus.bus import Bus
from marketswarm.bus.errors import BusError, find_bus_reason, make_bus_error
from marketswarm.bus.parser import BatchParser
from marketswarm.pages import split_pages

READ_BYTES: Final = 64 * 1024
"""The most bytes of one read from the socket."""
CHANNELS_AT_ONCE: Final = 1000
"""The most channels of one SUBSCRIBE. The acknowledgements of more could fill the buffers of both sides."""


def find_transport(connection: Any) -> Any:
    """Return the transport of a client library's connection; None for a bus in memory."""
    return getattr(connection._writer, "transport", None)  # noqa: SLF001 - the one way to it


class Gather:
    """The pauses between the reads of one connection, in which messages gather.

    Messages of many senders come one by one, and to be woken costs a program more than to handle a message.
    `end` may be called from any task of the event loop.
    """

    def __init__(self) -> None:
        self._pause: asyncio.Future[None] | None = None

    async def wait(self, connection: Any, sec: float) -> None:
        """Leave what arrives to the system's buffer for so long; a server that fills it keeps the rest."""
        loop, transport = asyncio.get_running_loop(), find_transport(connection)
        self._pause = loop.create_future()
        timer = loop.call_later(sec, self.end)
        if transport is not None:
            transport.pause_reading()
        try:
            await self._pause
        finally:
            timer.cancel()
            if transport is not None:
                transport.resume_reading()

    def end(self) -> None:
        """Have what has arrived read now."""
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)


@dataclass(slots=True)
class _PendingCommand:
    """A SUBSCRIBE or UNSUBSCRIBE that was sent, and the number of acknowledgements still `missing`.

    `kind` is the first word of each acknowledgement.
    """

    command: str
    kind: bytes
    channels: list[str]
    missing: int


class SubscriberConnection:
    """A subscriber connection. Each of its methods raises BusError when the connection fails.

    Call `connect`, then `read_batch` from one task; `subscribe` and `unsubscribe` from any task.
    """

    def __init__(self, bus: Bus, connection: Any = None) -> None:
        """Use `connection`, whose parser must be a `BatchParser`, or make one by the settings of the bus."""
        self._bus = bus
        kwargs = {"parser_class": BatchParser, "socket_read_size": READ_BYTES}
        self._connection = connection or bus.pool.connection_class(**bus.pool.connection_kwargs | kwargs)
        self._batch_error: BusError | None = None  # the error in a batch that the next `read_batch` raises
        # sent commands that the server has not answered yet, in order
        self._pending: deque[_PendingCommand] = deque()
        self._oldest_since = 0.0  # when the oldest of them became the oldest, in monotonic seconds
        self._unsent_halves: list[list[str]] = []  # halves of refused SUBSCRIBEs that were not sent yet
        self.refused: set[str] = set()
        """The channels that the server forbids to this user; the others of the same SUBSCRIBE work."""

    @property
    def is_settled(self) -> bool:
        """Return True if the server has acknowledged or refused every channel that was requested."""
        return not self._pending and not self._unsent_halves

    def measure_unanswered_sec(self, now: float) -> float:
        """Return for how long the server has owed the answer to the oldest command; 0 if it owes none.

        The time before an earlier command was answered does not count. `now` is monotonic.
        """
        return now - self._oldest_since if self._pending else 0.0

    async def connect(self) -> None:
        try:
            await self._connection.connect()
        except Exception as error:  # the handshake raises errors of any type for malformed replies
            raise make_bus_error(self._bus.name, error) from error
        transport = find_transport(self._connection)
        if transport is not None:
            # asyncio allocates so much for each read, however little has arrived: otherwise 256 KiB
            transport.max_size = READ_BYTES

    async def subscribe(self, channels: Collection[str]) -> None:
        """`read_batch` reads the acknowledgements.

        A server refuses a whole SUBSCRIBE for one forbidden channel in it. `read_batch` then subscribes to
        each half of its channels.
        """
        await self._send("SUBSCRIBE", channels)

    async def retry_refused(self) -> None:
        """Subscribe again to refused channels, 1000 at most, because the user's rights may have changed."""
        for channel in sorted(self.refused)[:CHANNELS_AT_ONCE]:
            await self._send("SUBSCRIBE", [channel])

    async def unsubscribe(self, channels: Collection[str]) -> None:
        self.refused.difference_update(channels)
        await self._send("UNSUBSCRIBE", channels)

    async def _send(self, command: str, channels: Collection[str]) -> None:
        """Send `command` for all channels, 1000 at a time, and record each as pending."""
        for chunk in split_pages(channels, CHANNELS_AT_ONCE):
            if not self._pending:
                self._oldest_since = time.monotonic()
            self._pending.append(_PendingCommand(command, command.lower().encode(), chunk, len(chunk)))
            packed = self._connection.pack_command(command, *chunk)
            try:
                await self._connection.send_packed_command(packed, check_health=False)
            except (RedisError, OSError) as error:
                raise make_bus_error(self._bus.name, error) from error

    async def let_gather(self, gather: Gather, sec: float) -> None:
        """Let messages gather for so long, or until `gather` ends that, before they are read.

        If more have arrived than one read takes, or the time is up, only let other tasks run.
        """
        parser: Any = self._connection._parser  # noqa: SLF001 - as below
        if sec > 0 and parser.is_drained:
            await gather.wait(self._connection, sec)
        else:
            await asyncio.sleep(0)

    async def read_batch(self) -> Iterable[Any]:
        """Wait for messages and return all that have arrived, `[b"message", channel, payload]` each.

        The batch may be empty, and must be consumed before the next call. Acknowledgements are counted and
        left out. An error reply ends the session, unless it refuses a SUBSCRIBE.
        """
        if self._batch_error is not None:
            raise self._batch_error
        while self._unsent_halves:
            await self._send("SUBSCRIBE", self._unsent_halves.pop())
        parser: Any = self._connection._parser  # noqa: SLF001 - the one way to its batches
        try:
            first = await parser.wait_for_reply()
        except Exception as error:  # as above
            raise make_bus_error(self._bus.name, error) from error
        # while no command is pending, the server sends nothing but messages
        read_messages = self._collect_messages if self._pending else self._iterate_messages
        return read_messages(first, parser.get_reply_reader())

    def _iterate_messages(self, reply: Any, read_reply: Callable[[], Any]) -> Iterator[Any]:
        """Yield `reply` and all replies that `read_reply` returns: messages only, parsed one by one.

        To parse a whole batch at once would exceed the processor's cache. An error ends the batch, and the
        next `read_batch` raises it.
        """
        try:
            while reply is not NOT_ENOUGH_DATA:
                _, channel, payload = reply
                if type(payload) is not bytes or type(channel) is not bytes:
                    raise InvalidResponse("not a message")  # noqa: TRY301 - ends the batch like any other
                yield reply
                reply = read_reply()
        except Exception as error:  # noqa: BLE001 - the reader raises any type; the caller's errors don't reach this
            # the caller must handle the messages before the error first, and then the session ends
            self._batch_error = make_bus_error(
                self._bus.name, reply if isinstance(reply, RedisError) else error
            )

    def _collect_messages(self, reply: Any, read_reply: Callable[[], Any]) -> list[Any]:
        """Return the messages among `reply` and all replies that `read_reply` returns.

        Acknowledgements are counted and refusals handled. An error ends the batch, and the next `read_batch`
        raises it.
        """
        found = []
        try:
            while reply is not NOT_ENOUGH_DATA:
                if isinstance(reply, RedisError):
                    self._handle_refusal(reply)
                else:
                    kind, channel, payload = reply
                    if kind == b"message" and type(channel) is type(payload) is bytes:
                        found.append(reply)
                    else:
                        self._acknowledge(kind, channel)
                reply = read_reply()
        except Exception as error:  # noqa: BLE001 - as above
            self._batch_error = make_bus_error(self._bus.name, error)
        return found

    def _acknowledge(self, kind: Any, channel: Any) -> None:
        """Raises InvalidResponse if `kind` is not that of the oldest pending command."""
        if not self._pending or kind != self._pending[0].kind:
            raise InvalidResponse("neither a message nor an answer")
        if self.refused and kind == b"subscribe":
            self.refused.discard(channel.decode("utf-8", "replace"))
        self._pending[0].missing -= 1
        if not self._pending[0].missing:
            self._pop_answered()

    def _handle_refusal(self, error: RedisError) -> None:
        """Handle a refused SUBSCRIBE: put its halves into the queue, or record its only channel as refused.

        Raise `error` if it is not a refusal of the oldest pending command.
        """
        command = self._pending[0] if self._pending else None
        if command is None or command.command != "SUBSCRIBE" or find_bus_reason(error) != "auth":
            raise error
        self._pop_answered()
        middle = len(command.channels) // 2
        if middle:
            self._unsent_halves += [command.channels[:middle], command.channels[middle:]]
        else:
            self.refused.update(command.channels)

    def _pop_answered(self) -> None:
        self._pending.popleft()
        self._oldest_since = time.monotonic()

    async def close(self) -> None:
        """Close the connection without waiting for the server, within one second."""
        try:
            async with asyncio.timeout(1.0):
                await self._connection.disconnect(nowait=True)
        except (RedisError, OSError):
            return
