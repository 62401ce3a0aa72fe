"""Hold what the dispatcher takes: events and requests of the buses, and outcomes of attempts to send.

The inbox knows an entry from when it is read until its acknowledgement is on its bus, so that no entry is
handled twice. Not here: reading the buses (`source.py`), and what follows from an event
(`dispatcher.py`).
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from marketswarm.channels.worker import Outcome
from marketswarm.event import Event
from marketswarm.operator.requests import OperatorRequest

CAPACITY: Final = 5000
"""How many events may wait before the readers pause; so many requests, too, and acknowledgements of a bus."""


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event, its JSON, and the id of its log entry on `bus`.

    `entry` is None for an outage that the very first run found by searching the log back. `redelivered` is
    True if an earlier run had read the entry already, and may have sent a message about it.
    """

    bus: str
    entry: bytes | None
    event: Event
    raw: bytes
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request of an operator and the id of its entry; `request` is None if it can't be parsed."""

    bus: str
    entry: bytes
    request: OperatorRequest | None


class Inbox:
    """The queues before the dispatcher; `malformed` counts by reason what can't be parsed."""

    def __init__(self, malformed: Counter[str] | None = None) -> None:
        self.last_read: dict[str, bytes] = {}
        """By bus, the id of the last log entry that was read, in this run or an earlier one."""
        self.malformed: Counter[str] = Counter() if malformed is None else malformed
        self._events: deque[ReceivedEvent] = deque()
        self._requests: asyncio.Queue[ReceivedRequest] = asyncio.Queue()
        self._malformed: dict[str, list[bytes]] = {}
        self._outcomes: list[Outcome] = []
        self._known: defaultdict[str, set[bytes]] = defaultdict(set)
        self._known_requests: defaultdict[str, set[bytes]] = defaultdict(set)
        self._woken = asyncio.Event()
        self._taken = asyncio.Event()
        self.added_count = 0
        """How many events were added."""
        self._taken_count = self._stored_count = 0

    # -- for readers

    def add_events(self, events: Iterable[ReceivedEvent]) -> None:
        for each in events:
            if each.entry is not None:
                known = self._known[each.bus]
                if each.entry in known:
                    continue
                known.add(each.entry)
            self._events.append(each)
            self.added_count += 1
        self._woken.set()

    def add_request(self, request: ReceivedRequest) -> None:
        known = self._known_requests[request.bus]  # entries of two streams may have one id
        if request.entry not in known:
            known.add(request.entry)
            self._requests.put_nowait(request)

    def add_malformed(self, bus: str, entry: bytes, reason: str) -> None:
        known = self._known[bus]
        if entry in known:
            return
        known.add(entry)
        self.malformed[reason] += 1
        self._malformed.setdefault(bus, []).append(entry)
        self._woken.set()

    def is_known(self, bus: str, entry: bytes, *, is_request: bool = False) -> bool:
        return entry in (self._known_requests if is_request else self._known)[bus]

    async def wait_for_room(self) -> None:
        """Wait while more than CAPACITY log entries wait for the dispatcher."""
        await self._wait_until(
            lambda: len(self._events) + sum(map(len, self._malformed.values())) <= CAPACITY
        )

    @property
    def has_request_room(self) -> bool:
        """Whether requests may be read; waiting requests must not keep the log from being read."""
        return self._requests.qsize() <= CAPACITY

    async def wait_for_request_room(self) -> None:
        await self._wait_until(lambda: self.has_request_room)

    async def wait_until_stored(self) -> None:
        """Wait until every event added so far is in the stored state."""
        added = self.added_count
        await self._wait_until(lambda: self.has_stored(added))

    async def _wait_until(self, is_met: Callable[[], bool]) -> None:
        while not is_met():
            self._taken.clear()
            await self._taken.wait()

    def has_stored(self, count: int) -> bool:
        """Return True if the first `count` events that were added are in the stored state."""
        return self._stored_count >= count

    # -- for the channels

    def add_outcome(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._woken.set()

    # -- for the dispatcher

    def wake(self) -> None:
        """End the current `wait`, or the next one."""
        self._woken.set()

    async def wait(self) -> None:
        """Wait until an event was added or `wake` was called since the last wait."""
        await self._woken.wait()
        self._woken.clear()

    def __bool__(self) -> bool:
        return bool(self._events or self._malformed or self._outcomes)

    def take_events(self, at_most: int) -> list[ReceivedEvent]:
        found = [self._events.popleft() for _ in range(min(at_most, len(self._events)))]
        self._taken_count += len(found)
        self._taken.set()
        return found

    def take_malformed(self) -> dict[str, list[bytes]]:
        found, self._malformed = self._malformed, {}
        self._taken.set()
        return found

    def take_outcomes(self) -> list[Outcome]:
        found, self._outcomes = self._outcomes, []
        return found

    async def next_request(self) -> ReceivedRequest:
        request = await self._requests.get()
        self._taken.set()
        return request

    def mark_stored(self) -> None:
        """Record that every event taken so far is in the stored state."""
        self._stored_count = self._taken_count
        self._taken.set()

    def forget_acknowledged(self, bus: str, entries: Iterable[bytes], requests: Iterable[bytes] = ()) -> None:
        self._known[bus].difference_update(entries)
        self._known_requests[bus].difference_update(requests)
