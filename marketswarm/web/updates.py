"""Number what happens, and pass it on to each follower at a pace that the follower keeps.

Each update has a number, which grows by one, and a topic; a ring keeps the latest, so that a follower that
lost its connection continues where it was. A follower gets the updates of its topics in batches, at most one
an interval. Within a batch the latest update of a thing (a quote, one bar) replaces the ones before it;
`last` is the number up to which a follower has seen everything.

No follower delays another one. What waits for one is bounded; a follower that lets too much wait is dropped
with a reason.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketswarm.time_slice import wait_within
from marketswarm.web.limits import RateLimiter
from marketswarm.web.ring import Ring

RING_UPDATES: Final = 20_000
RING_BYTES: Final = 16 * 1024 * 1024
PENDING_UPDATES: Final = 5000
PENDING_BYTES: Final = 1024 * 1024  # the most that waits for one follower
TOPICS_AT_ONCE: Final = 10_000
TOPICS_PER_SEC: Final = 1000.0
"""How many topics the clients of one address may subscribe to at once, and a second after that: each costs a
snapshot."""
INTERVAL_SEC: Final = 0.1
"""The least time between two batches for one follower, unless it asks for a longer one."""
MAX_INTERVAL_SEC: Final = 60.0
MAX_TOPICS: Final = 1000


class DropReason(StrEnum):
    """Name why a follower was dropped."""

    TOO_SLOW = "too slow"
    CLOSED = "closed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Update:
    """Hold one update: its number, its topic, what it is about, and its data as JSON.

    A later update of the same `subject` replaces this one while it waits. `wider` is a topic that includes
    this one.
    """

    number: int
    topic: str
    subject: str
    data: bytes
    wider: str | None = None

    @property
    def wire(self) -> bytes:
        return b'{"n":%d,"topic":"%s","data":%s}' % (self.number, self.topic.encode(), self.data)


class FollowersFull(Exception):  # noqa: N818 - an answer, not an accident
    """As many followers as are allowed are there, or, with `is_of_address`, as many of this address."""

    def __init__(self, *, is_of_address: bool = False) -> None:
        super().__init__("too many clients of this address" if is_of_address else "too many clients")
        self.is_of_address = is_of_address


class Follower:
    """What waits for one client. `dropped` is the reason once it gets no more."""

    def __init__(self, address: str = "") -> None:
        self.address = address
        self.interval_sec = INTERVAL_SEC
        self.topics: set[str] = set()
        self.dropped: DropReason | None = None
        self._pending: dict[str, Update] = {}
        self._bytes = 0
        self._last = 0
        self._changed, self._dropped = asyncio.Event(), asyncio.Event()

    @property
    def first_pending(self) -> int | None:
        return min((update.number for update in self._pending.values()), default=None)

    def queue_update(self, update: Update) -> bool:
        """Add an update in place of the one before about the same; return False if too much waits."""
        before = self._pending.pop(update.subject, None)
        self._bytes += len(update.data) - (0 if before is None else len(before.data))
        self._pending[update.subject] = update
        self._last = update.number
        if len(self._pending) > PENDING_UPDATES or self._bytes > PENDING_BYTES:
            self.drop(DropReason.TOO_SLOW)
            return False
        self._changed.set()
        return True

    def queue_missed(self, updates: Iterable[Update]) -> bool:
        """Add updates that were missed; return False, and add none of them, if that is too much."""
        pending = dict(self._pending)
        for update in updates:
            pending.pop(update.subject, None)
            pending[update.subject] = update
        size = sum(len(update.data) for update in pending.values())
        if len(pending) > PENDING_UPDATES or size > PENDING_BYTES:
            return False
        self._pending, self._bytes = pending, size
        if pending:
            self._last = max(update.number for update in pending.values())
            self._changed.set()
        return True

    def drop(self, reason: DropReason) -> None:
        """Let nothing wait any more, and end `take`."""
        self.dropped = self.dropped or reason
        self._pending.clear()
        self._bytes = 0
        self._changed.set()
        self._dropped.set()

    async def pause(self) -> None:
        await wait_within(self._dropped, self.interval_sec)

    async def take(self) -> tuple[int, list[Update]]:
        """Wait for updates; return the number up to which all are seen, and those that are left of them.

        An empty list means that the follower was dropped.
        """
        while not self._pending and self.dropped is None:
            self._changed.clear()
            await self._changed.wait()
        found = list(self._pending.values())
        self._pending.clear()
        self._bytes = 0
        return self._last, found


class UpdateHub:
    """Numbers updates, keeps the latest, and passes them on. Call all methods in the event loop.

    `published` counts the updates, `dropped` the followers that did not keep up. A position is
    `<boot>-<number>`.
    """

    def __init__(
        self,
        boot: str,
        max_followers_now: Callable[[], int] = lambda: 200,
        max_per_address_now: Callable[[], int] = lambda: 50,
    ) -> None:
        self._ring = Ring[Update](boot, RING_UPDATES, RING_BYTES, lambda update: len(update.data))
        self.max_followers_now, self._max_per_address_now = max_followers_now, max_per_address_now
        self.topic_limiter = RateLimiter(TOPICS_AT_ONCE, TOPICS_PER_SEC)
        self._by_address: Counter[str] = Counter()
        self.published = self.dropped = 0
        self._followers: set[Follower] = set()
        self._by_topic: dict[str, set[Follower]] = {}
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._followers)

    @property
    def position(self) -> str:
        return self._ring.position

    def find_position(self, follower: Follower) -> str:
        """Return the position up to which a follower has everything of its topics: what waits comes after."""
        first = follower.first_pending
        return self.position if first is None else self._ring.format_position(first - 1)

    def publish(
        self,
        topic: str,
        data: bytes,
        *,
        subject: str | None = None,
        wider: str | None = None,
        is_kept: bool = True,
    ) -> int:
        """Pass an update (`data` is its JSON) on to the followers of its topic, and return its number.

        A follower for which too much waits is dropped. A later update of the same `subject`, by default the
        topic, replaces it; `wider` is a topic that includes this one.
        If it is not kept, it has no number of its own, and a follower that comes back does not get it.
        """
        self.published += 1
        number = self._ring.advance() if is_kept else self._ring.number
        update = Update(number, topic, subject or topic, data, wider)
        if is_kept:
            self._ring.keep(update)
        followers = self._by_topic.get(topic, ())
        wide = self._by_topic.get(wider, ()) if wider is not None else ()
        for one in list({*followers, *wide} if wide else followers):
            if not one.queue_update(update):
                self.leave(one)
                self.dropped += 1
        return update.number

    def is_followed(self, topic: str) -> bool:
        return topic in self._by_topic

    def join(self, address: str = "") -> Follower:
        """Return a new follower without topics, of a client's address. Raises FollowersFull."""
        if self._is_closed or len(self._followers) >= self.max_followers_now():
            raise FollowersFull
        if self._by_address[address] >= self._max_per_address_now():
            raise FollowersFull(is_of_address=True)
        follower = Follower(address)
        self._followers.add(follower)
        self._by_address[address] += 1
        return follower

    def subscribe(self, follower: Follower, topics: Iterable[str]) -> None:
        for topic in topics:
            follower.topics.add(topic)
            self._by_topic.setdefault(topic, set()).add(follower)

    def unsubscribe(self, follower: Follower, topics: Iterable[str]) -> None:
        for topic in list(topics):
            follower.topics.discard(topic)
            if followers := self._by_topic.get(topic):
                followers.discard(follower)
                if not followers:
                    del self._by_topic[topic]

    def leave(self, follower: Follower) -> None:
        self.unsubscribe(follower, follower.topics)
        if follower in self._followers:
            self._followers.remove(follower)
            self._by_address[follower.address] -= 1
            if not self._by_address[follower.address]:
                del self._by_address[follower.address]

    def resume(self, follower: Follower, after: str, topics: Collection[str]) -> bool:
        """Let the updates of `topics` after a position wait for a follower.

        Return False, and let none wait, if some of them are lost or they are more than may wait.
        """
        missed, wanted = self._ring.find_missed(after), set(topics)
        if missed is None:
            return False
        return follower.queue_missed(one for one in missed if one.topic in wanted or one.wider in wanted)

    def note_loss(self) -> None:
        """Drop all followers, because updates were lost before they came here; each gets a snapshot next."""
        self._ring.clear()
        self._drop_all(DropReason.LOST)

    def close(self) -> None:
        self._is_closed = True
        self._drop_all(DropReason.CLOSED)

    def _drop_all(self, reason: DropReason) -> None:
        """Drop all followers, each with this reason."""
        for one in list(self._followers):
            one.drop(reason)
            self.leave(one)
