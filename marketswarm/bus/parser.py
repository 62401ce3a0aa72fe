"""Parse replies with the client library's parser, and limit their length.

A server, or an attacker in its place, can announce an endless reply and keep sending it. The time limit of a
request does not limit how many bytes arrive in that time, and a subscription has no time limit at all.
"""

import re
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser
from redis.exceptions import ConnectionError as HungUp
from redis.exceptions import InvalidResponse

MIB: Final = 1024 * 1024
MAX_MESSAGE_BYTES: Final = MIB // 4
"""The longest message that a subscriber receives; a longer one is skipped. Beats have 4 KiB at most."""
SAMPLE_BYTES: Final = 8192
"""How many bytes of a skipped message are returned in its place: more than any valid message has."""
MAX_TRACED_BYTES: Final = MIB
"""How many bytes are kept since the last known beginning of a message, to find out what is incomplete."""

_HEAD: Final = re.compile(rb"\*(?:3\r\n\$7\r\nmessage|4\r\n\$8\r\n(p)message)\r\n\$(\d{1,10})\r\n")
_SIZE: Final = re.compile(rb"\r\n\$(\d{1,10})\r\n")


class UnfinishedMessage(NamedTuple):
    """A message that has not arrived completely.

    `channel` is its channel, `payload_bytes` the length of its payload, `payload_at` the payload's offset in
    the data. `pattern` is the pattern that received it; None where its channel is subscribed by name.
    """

    channel: bytes
    payload_bytes: int
    payload_at: int
    pattern: bytes | None = None


def find_unfinished(data: bytes) -> UnfinishedMessage | None:
    """Return the incomplete message at the end of `data`, or None if there is none or it has no size yet.

    `data` begins where a message begins. Payloads are skipped unread, since they may imitate a message.
    """
    at = 0
    while head := _HEAD.match(data, at):
        pattern, start, end = None, head.end(), head.end() + int(head[2])
        if head[1]:
            channel_size = _SIZE.match(data, end)
            if channel_size is None:
                return None
            pattern = data[start:end]
            start, end = channel_size.end(), channel_size.end() + int(channel_size[1])
        payload_size = _SIZE.match(data, end)
        if payload_size is None:
            return None
        at = payload_size.end() + int(payload_size[1]) + 2
        if at > len(data):
            return UnfinishedMessage(data[start:end], int(payload_size[1]), payload_size.end(), pattern)
    return None


reply_limit: ContextVar[int | None] = ContextVar("reply_limit", default=None)
"""The most bytes of a reply to the request that is awaited in this context; None: the parser's own limit."""


class ReplyTooLong(InvalidResponse):
    """A reply is longer than its limit; the connection can't be used any more."""


class BoundedParser(_AsyncHiredisParser):
    """A parser that ends the connection, by InvalidResponse, at a reply of over `max_reply_bytes`."""

    max_reply_bytes: int = 256 * MIB
    """The most bytes of a reply: enough for the history of truths of a hundred thousand services each."""

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size)
        self._reply_bytes = 0
        self._chunk = b""  # the bytes that arrived last

    async def read_response(self, disable_decoding: bool = False, push_request: bool = False) -> Any:
        self._reply_bytes = 0
        return await super().read_response(disable_decoding, push_request)

    def was_status(self, reply: bytes) -> bool:
        """Return whether this reply, the last one that was read, came as a status: `+OK`, and not a text."""
        return self._chunk == b"+%s\r\n" % reply

    def on_disconnect(self) -> None:
        """Release the bytes that were not parsed: an error may refer to its connection for a while."""
        super().on_disconnect()  # type: ignore[no-untyped-call]  # the library's
        self._reader = None

    async def read_from_socket(self) -> bool:
        """Feed the bytes that arrive next to the reader.

        Raises ReplyTooLong, or HungUp if the server closed the connection.
        """
        # no local variable for the reader here or in a caller, because an error keeps its frames, and with
        # them the values of all their variables
        max_reply_bytes = reply_limit.get() or self.max_reply_bytes
        if self._reply_bytes > max_reply_bytes:
            raise ReplyTooLong(f"a reply of more than {max_reply_bytes} bytes")
        stream: Any = self._stream
        received: bytes = await stream.read(self._read_size)
        if not received:
            raise HungUp("the server closed the connection")
        self._reply_bytes += len(received)
        self._feed(received)
        return True

    def _feed(self, received: bytes) -> None:
        self._chunk = received
        reader: Any = self._reader
        reader.feed(received)


class BatchParser(BoundedParser):
    """A parser that can also return all replies that have arrived, and that skips messages that are too long.

    An error reply is returned as an exception, not raised.
    """

    max_reply_bytes = 64 * MIB
    """The limit where a message can't be skipped: twice a server's default output buffer of a subscriber."""

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size)
        self._connection: Any = None
        self._trace: list[bytes] = []  # the bytes that arrived since a known beginning of a message
        self._trace_bytes = 0
        self._bytes_to_skip = 0  # bytes of a message that is skipped, still to come

    def on_connect(self, connection: Any) -> None:
        self._connection = connection
        self._reset_reader()

    def on_disconnect(self) -> None:
        super().on_disconnect()
        self._connection, self._trace = None, []

    def _reset_reader(self) -> None:
        super().on_connect(self._connection)  # type: ignore[no-untyped-call]  # the library's
        self._trace, self._trace_bytes = [], 0

    async def read_from_socket(self) -> bool:
        """Feed no bytes of a skipped message to the reader."""
        if not self._reader.has_data():  # type: ignore[attr-defined]  # None at first
            self._trace, self._trace_bytes = [], 0
        if self._bytes_to_skip:
            await self._skip_rest()
        else:
            await super().read_from_socket()
        self._trace_bytes += len(self._chunk)
        if self._trace_bytes > MAX_TRACED_BYTES:
            self._trace.clear()  # the next message's beginning is unknown until the reader is empty again
        else:
            self._trace.append(self._chunk)
        return True

    async def _skip_rest(self) -> None:
        """Read and drop the rest of the skipped message, and feed the bytes after it to the reader."""
        stream: Any = self._stream
        received = b""
        while self._bytes_to_skip:
            received = await stream.read(self._read_size)
            if not received:
                raise HungUp("the server closed the connection")
            skipped = min(len(received), self._bytes_to_skip)
            received = received[skipped:]
            self._bytes_to_skip -= skipped
        self._feed(received)

    def _skip_long_message(self) -> list[bytes] | None:
        """If the incomplete message is longer than 256 KiB, skip the rest of it and return its beginning.

        The beginning has the form of a message, with the first SAMPLE_BYTES of the payload. Return None if
        the message is not that long, or can't be found in the bytes that were kept.
        """
        data = b"".join(self._trace)
        found = find_unfinished(data)
        if found is None or found.payload_bytes <= MAX_MESSAGE_BYTES:
            return None
        self._bytes_to_skip = found.payload_at + found.payload_bytes + 2 - len(data)
        self._reset_reader()
        sample = data[found.payload_at : found.payload_at + SAMPLE_BYTES]
        if found.pattern is None:
            return [b"message", found.channel, sample]
        return [b"pmessage", found.pattern, found.channel, sample]

    @property
    def is_drained(self) -> bool:
        """Whether the last read took all bytes that had arrived."""
        return len(self._chunk) < self._read_size

    async def wait_for_reply(self) -> Any:
        """Return the next reply.

        Raises RedisError if it is too long or the server closed the connection, and whatever the reader
        raises for bytes that are not a reply.
        """
        self._reply_bytes = 0
        # no name for the reader here, see `read_from_socket`
        while (reply := self._reader.gets()) is NOT_ENOUGH_DATA:  # type: ignore[attr-defined]  # None at first
            if (
                MAX_MESSAGE_BYTES < self._reply_bytes <= MAX_TRACED_BYTES
                and (beginning := self._skip_long_message()) is not None
            ):
                return beginning
            await self.read_from_socket()
        return reply

    def get_reply_reader(self) -> Any:
        """Return a function that returns the next reply that has arrived, or NOT_ENOUGH_DATA for none."""
        reader: Any = self._reader
        return reader.gets


class SkippedMessage(bytes):
    """The first bytes of the payload of a message that was skipped."""

    __slots__ = ()


class SkippingParser(BatchParser):
    """A parser that returns one reply at a time, as the library's own subscriptions need it.

    The payload of a message that was skipped is a `SkippedMessage`.
    """

    async def read_response(self, disable_decoding: bool = False, push_request: bool = False) -> Any:  # noqa: ARG002 - the library's
        """Return one reply, an error reply as an exception. Raises HungUp if the connection is closed."""
        if not self._connected:
            raise HungUp("the connection is closed")
        reply = await self.wait_for_reply()
        if isinstance(reply, HungUp):
            raise reply
        return reply

    def _skip_long_message(self) -> list[bytes] | None:
        found = super()._skip_long_message()
        return found and [*found[:-1], SkippedMessage(found[-1])]
