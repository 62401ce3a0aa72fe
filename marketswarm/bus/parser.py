"""The client library's parser of replies, with a limit on their length.

A server, or someone in its place, can announce an endless reply and keep sending it. A request has a time
limit, which does not bound how much arrives meanwhile; a subscription has no time limit at all.
"""

import re
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser
from redis.exceptions import ConnectionError as HungUp
from redis.exceptions import InvalidResponse

MIB: Final = 1024 * 1024
MAX_MESSAGE_BYTES: Final = MIB // 4
"""A longer message to a subscriber is skipped. Beats have 4 KiB at most."""
SAMPLE_BYTES: Final = 8192
"""Bytes of a skipped message that are returned in its place: enough to be recognised as too long."""
MAX_TRACED_BYTES: Final = MIB
"""Bytes that are stored since the last place where a message provably began."""

_HEAD: Final = re.compile(rb"\*(?:3\r\n\$7\r\nmessage|4\r\n\$8\r\n(p)message)\r\n\$(\d{1,10})\r\n")
_SIZE: Final = re.compile(rb"\r\n\$(\d{1,10})\r\n")


class UnfinishedMessage(NamedTuple):
    """A message that has begun: its channel, the length of its payload, and where in the data that begins.

    `pattern` is the one that it comes by; None where its channel is subscribed by name.
    """

    channel: bytes
    size: int
    at: int
    pattern: bytes | None = None


def find_unfinished(data: bytes) -> UnfinishedMessage | None:
    """Return the incomplete message at the end of `data`, or None if it can't be told.

    `data` begins where a message begins. Payloads are jumped over unread, since they may imitate a message.
    """
    at = 0
    while head := _HEAD.match(data, at):
        pattern, begins, ends = None, head.end(), head.end() + int(head[2])
        if head[1]:
            length = _SIZE.match(data, ends)
            if length is None:
                return None
            pattern = data[begins:ends]
            begins, ends = length.end(), length.end() + int(length[1])
        size = _SIZE.match(data, ends)
        if size is None:
            return None
        at = size.end() + int(size[1]) + 2
        if at > len(data):
            return UnfinishedMessage(data[begins:ends], int(size[1]), size.end(), pattern)
    return None


reply_limit: ContextVar[int | None] = ContextVar("reply_limit", default=None)
"""The most bytes of a reply for the request that is awaited in this context; None: the parser's own limit."""


class ReplyTooLong(InvalidResponse):
    """A reply is longer than its limit; the connection is of no more use."""


class BoundedParser(_AsyncHiredisParser):
    """Raises InvalidResponse, and so ends the connection, at a reply that is longer than `longest` bytes."""

    longest: int = 256 * MIB
    """Room for the history of truths of a hundred thousand services each."""

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size)
        self._taken = 0
        self._chunk = b""  # what arrived last

    async def read_response(self, disable_decoding: bool = False, push_request: bool = False) -> Any:
        """See the library."""
        self._taken = 0
        return await super().read_response(disable_decoding, push_request)

    def on_disconnect(self) -> None:
        """Release the bytes that were not parsed: an error may refer to its connection for a while."""
        super().on_disconnect()  # type: ignore[no-untyped-call]  # the library's
        self._reader = None

    async def read_from_socket(self) -> bool:
        """Wait for bytes from the server and feed them to the reader."""
        # no name for the reader here or in whatever calls this: an error keeps its frames, and all that has
        # a name in them
        longest = reply_limit.get() or self.longest
        if self._taken > longest:
            raise ReplyTooLong(f"a reply of more than {longest} bytes")
        stream: Any = self._stream
        some: bytes = await stream.read(self._read_size)
        if not some:
            raise HungUp("the server closed the connection")
        self._taken += len(some)
        self._feed(some)
        return True

    def _feed(self, some: bytes) -> None:
        self._chunk = some
        reader: Any = self._reader
        reader.feed(some)


class BatchParser(BoundedParser):
    """Can also return all replies that have arrived. An error reply is returned as an exception."""

    longest = 64 * MIB
    """Twice what a server by its own default piles up for a subscriber; where a message can't be skipped."""

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size)
        self._connection: Any = None
        self._since: list[bytes] = []  # what arrived since a message provably began
        self._since_bytes = 0
        self._skip = 0  # bytes of a message that is skipped, still to come

    def on_connect(self, connection: Any) -> None:
        """Make a reader for a new connection."""
        self._connection = connection
        self._renew()

    def on_disconnect(self) -> None:
        """Release the bytes that were not parsed."""
        super().on_disconnect()
        self._connection, self._since = None, []

    def _renew(self) -> None:
        super().on_connect(self._connection)  # type: ignore[no-untyped-call]  # the library's
        self._since, self._since_bytes = [], 0

    async def read_from_socket(self) -> bool:
        """Wait for bytes and feed them to the reader, without the rest of a message that is being skipped."""
        if not self._reader.has_data():  # type: ignore[attr-defined]  # None at first
            self._since, self._since_bytes = [], 0
        if self._skip:
            await self._skip_rest()
        else:
            await super().read_from_socket()
        self._since_bytes += len(self._chunk)
        if self._since_bytes > MAX_TRACED_BYTES:
            self._since.clear()  # where the next message begins is not known until all was read once more
        else:
            self._since.append(self._chunk)
        return True

    async def _skip_rest(self) -> None:
        stream: Any = self._stream
        some = b""
        while self._skip:
            some = await stream.read(self._read_size)
            if not some:
                raise HungUp("the server closed the connection")
            some, self._skip = some[self._skip :], max(0, self._skip - len(some))
        self._feed(some)

    def _cut_short(self) -> list[bytes] | None:
        """Begin to skip the current message if it is too long, and return its beginning, else None."""
        data = b"".join(self._since)
        found = find_unfinished(data)
        if found is None or found.size <= MAX_MESSAGE_BYTES:
            return None
        self._skip = found.at + found.size + 2 - len(data)
        self._renew()
        sample = data[found.at : found.at + SAMPLE_BYTES]
        if found.pattern is None:
            return [b"message", found.channel, sample]
        return [b"pmessage", found.pattern, found.channel, sample]

    async def wait_for_reply(self) -> Any:
        """Wait for a reply and return it.

        Raises:
            RedisError: the reply is too long, or the server closed the connection.
            Exception: whatever the reader raises for bytes that are no reply.
        """
        self._taken = 0
        # no name for the reader here, see `read_from_socket`
        while (reply := self._reader.gets()) is NOT_ENOUGH_DATA:  # type: ignore[attr-defined]  # None at first
            if (
                MAX_MESSAGE_BYTES < self._taken <= MAX_TRACED_BYTES
                and (beginning := self._cut_short()) is not None
            ):
                return beginning
            await self.read_from_socket()
        return reply

    def reply_reader(self) -> Any:
        """Return a function that returns the next reply that has arrived, or NOT_ENOUGH_DATA."""
        reader: Any = self._reader
        return reader.gets


class SkippedMessage(bytes):
    """The first bytes of a message that was skipped."""

    __slots__ = ()


class SkippingParser(BatchParser):
    """Returns one reply at a time, as the library's own subscriptions need it.

    In place of a skipped message it returns a `Beginning`.
    """

    async def read_response(self, disable_decoding: bool = False, push_request: bool = False) -> Any:  # noqa: ARG002 - the library's
        """See the library."""
        if not self._connected:
            raise HungUp("the connection is closed")
        reply = await self.wait_for_reply()
        if isinstance(reply, HungUp):
            raise reply
        return reply

    def _cut_short(self) -> list[bytes] | None:
        found = super()._cut_short()
        return found and [*found[:-1], SkippedMessage(found[-1])]
