"""Send what happens to every browser that follows: one queue a browser, and a ring for those that come back.

Each event has an id, `<boot>-<number>`. A browser that lost its connection names the last id that it has
(`Last-Event-ID`) and gets what it missed and then `resumed`, if the ring still has that. If not, or after a
restart of this program, it gets one `reset` event, and reads the whole snapshot again. What is only told has
no id, and is not sent again: the `tick` that shows that the connection lives, and `resumed`.

No browser delays another one: a queue has a bound, and the stream of a browser that does not keep up ends.
It then connects again.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Final

from fastapi.sse import format_sse_event

from marketswarm.web.ring import Ring

RING_EVENTS: Final = 1000
RING_BYTES: Final = 8 * 1024 * 1024
QUEUE_BYTES: Final = 1024 * 1024  # the most bytes that wait for one browser
RESUMED: Final = format_sse_event(event="resumed", data_str="{}")
RETRY_MSEC: Final = 1000  # how long a browser waits before it connects again


class StreamsFull(Exception):  # noqa: N818 - an answer, not an accident
    """As many streams as are allowed are open."""


class _Follower:
    """The queue of one browser. `is_over` means that its stream ends once the queue is empty."""

    def __init__(self) -> None:
        self.is_over = False
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()

    def put(self, wire: bytes) -> bool:
        """Add bytes to the queue; return False, and end the stream at once, if they are too many."""
        if self._bytes + len(wire) > QUEUE_BYTES:
            self._chunks.clear()
            self.end()
            return False
        self._chunks.append(wire)
        self._bytes += len(wire)
        self._changed.set()
        return True

    def end(self) -> None:
        self.is_over = True
        self._changed.set()

    async def take(self) -> bytes:
        """Wait for bytes and return all that there are; empty bytes mean that the stream has ended."""
        while not self._chunks and not self.is_over:
            self._changed.clear()
            await self._changed.wait()
        found = b"".join(self._chunks)
        self._chunks.clear()
        self._bytes = 0
        return found


class StreamHub:
    """Numbers events, keeps the latest, and passes them on. Call all methods in the event loop.

    `boot` is the id of this process and a part of every event's id; `published` counts the events, `cut_off`
    the followers that did not keep up. A lower `max_streams_now` ends no stream.
    """

    def __init__(self, boot: str, max_streams_now: Callable[[], int] = lambda: 200) -> None:
        self.max_streams_now = max_streams_now
        self.published = self.cut_off = 0
        self._ring = Ring[bytes](boot, RING_EVENTS, RING_BYTES, len)  # of bytes on the wire
        self._followers: set[_Follower] = set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._followers)

    @property
    def position(self) -> str:
        return self._ring.position

    def publish(self, kind: str, data: bytes) -> str:
        """Send an event with this JSON to all followers; return its id."""
        self.published += 1
        self._ring.advance()
        wire = format_sse_event(event=kind, data_str=data.decode(), id=self.position)
        self._ring.keep(wire)
        self._pass_on(wire)
        return self.position

    def tell(self, kind: str, data: bytes) -> None:
        """Send an event with this JSON to all who follow now. It is not kept, and has no id."""
        self._pass_on(format_sse_event(event=kind, data_str=data.decode()))

    def _pass_on(self, wire: bytes) -> None:
        for one in [one for one in self._followers if not one.put(wire)]:
            self._followers.discard(one)
            self.cut_off += 1

    def follow(self, last_id: str | None) -> AsyncGenerator[bytes]:
        """Return the bytes of a stream that begins now.

        It begins with the events after `last_id` and `resumed`, or with `reset` alone if they are no longer
        known. Its follower counts until the stream is closed or collected, because a client may go before its
        answer begins. Raises StreamsFull if there are as many as are allowed, or the hub is closed.
        """
        if self._is_closed or len(self._followers) >= self.max_streams_now():
            raise StreamsFull
        follower = _Follower()
        follower.put(format_sse_event(retry=RETRY_MSEC))
        missed = self._ring.find_missed(last_id or "")
        if missed is None or not all(follower.put(wire) for wire in [*missed, RESUMED]):
            follower = _Follower()
            follower.put(format_sse_event(event="reset", data_str="{}", id=self.position, retry=RETRY_MSEC))
        self._followers.add(follower)
        stream = self._send(follower)
        weakref.finalize(stream, self._followers.discard, follower).atexit = False
        return stream

    def close(self) -> None:
        self._is_closed = True
        for one in self._followers:
            one.end()
        self._followers.clear()

    async def _send(self, follower: _Follower) -> AsyncGenerator[bytes]:
        try:
            while found := await follower.take():
                yield found
        finally:
            self._followers.discard(follower)
