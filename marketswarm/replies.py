"""What a server may answer: the client library's parser, held to a length.

A server, or whoever speaks in its place, can announce a reply without end and go on sending it. A request
is bounded in time, but not in what arrives meanwhile; a subscription is bounded in neither. What a reply
means is not decided here.
"""

from contextvars import ContextVar
from typing import Any, Final

from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser
from redis.exceptions import ConnectionError as HungUp
from redis.exceptions import InvalidResponse

MIB: Final = 1024 * 1024

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

    async def read_response(self, disable_decoding: bool = False, push_request: bool = False) -> Any:
        """See the library."""
        self._taken = 0
        return await super().read_response(disable_decoding, push_request)

    def on_disconnect(self) -> None:
        """Lets go of what was not read: errors hold on to their connection for a while."""
        super().on_disconnect()  # type: ignore[no-untyped-call]  # the library's
        self._reader = None

    async def read_from_socket(self) -> bool:
        """Takes what has arrived; waits for it."""
        longest = reply_limit.get() or self.longest
        if self._taken > longest:
            raise ReplyTooLong(f"a reply of more than {longest} bytes")
        stream: Any = self._stream
        reader: Any = self._reader
        some: bytes = await stream.read(self._read_size)
        if not some:
            raise HungUp("the server closed the connection")
        self._taken += len(some)
        reader.feed(some)
        return True


class BatchParser(BoundedParser):
    """Hands out all the replies at hand, too; an error reply is an exception that is handed out."""

    longest = 64 * MIB
    """Twice what a server by its own default piles up for a subscriber."""

    async def first(self) -> Any:
        """Waits for a reply.

        Raises RedisError when it is too long or the server hangs up, and whatever the reader pleases at
        what is no reply.
        """
        self._taken = 0
        # no name for the reader here: an error keeps this frame, and all that has a name in it
        while (reply := self._reader.gets()) is NOT_ENOUGH_DATA:  # type: ignore[attr-defined]  # None at first
            await self.read_from_socket()
        return reply

    def more(self) -> Any:
        """Gives what gives the next reply at hand, or NOT_ENOUGH_DATA."""
        reader: Any = self._reader
        return reader.gets
