"""Publishers for tests: of a sole listener, or with a leadership that the test gives and takes; verdicts."""

import itertools
from collections.abc import Awaitable, Callable

import orjson

from marketswarm.bus import Bus
from marketswarm.detector import Publication, State, Verdict
from marketswarm.monitor import VerdictEncoder
from marketswarm.monitor.leadership import CallNumbers, Fence, Leadership, SoleLeader
from marketswarm.monitor.publisher import BATCH_SIZE, LogLength, Publisher
from marketswarm.monitor.verdict_queue import VerdictQueue

NOTICES = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")
LOG = "healer:alerts:log"
_RUNS = itertools.count(1)


def down(svc: str = "a", ts: float = 1.0) -> Verdict:
    return Verdict(svc, State.DOWN, Publication.ALERT, ts, reason="silent", late_sec=31.0, timeout_sec=30.0)


def up(svc: str = "a", ts: float = 2.0, publication: Publication = Publication.ALERT) -> Verdict:
    return Verdict(svc, State.UP, publication, ts, timeout_sec=30.0, age_sec=0.0)


def gone(svc: str = "a", ts: float = 3.0, publication: Publication = Publication.ALERT) -> Verdict:
    return Verdict(svc, State.UNWATCHED, publication, ts, timeout_sec=30.0)


async def logged(bus: Bus) -> list[tuple[str, str]]:
    """Return the kind and the service of each event on the log."""
    events = [orjson.loads(fields[b"event"]) for _, fields in await bus.client.xrange(LOG)]
    return [(event["type"], event["svc"]) for event in events]


class HeldLeadership:
    """A leadership that is given and taken at will."""

    def __init__(self, fence: Fence | None = None) -> None:
        self.now = fence
        self.seen = self.hears = float("-inf")
        self.turned = 0

    def fence(self, _bus: str) -> Fence | None:
        return self.now

    def deny_leadership(self, _bus: str) -> None:
        self.turned += 1
        self.now = None

    def leader_seen_at(self, _bus: str) -> float:
        return self.seen

    def leader_heard_bus_at(self, _bus: str) -> float:
        return self.hears


class RecordingPublisher(Publisher):
    """A publisher that records what the bus has."""

    published: list[Verdict]

    def next_batch(self) -> list[Verdict]:
        """Return what would be offered next."""
        return self.queue.next_batch(BATCH_SIZE)

    async def record(self) -> None:
        """Publish until cancelled."""
        async for batch in self.run():
            self.published += [verdict for verdict, _ in batch]

    async def work_off(self) -> None:
        """Take one step; with a fence of its own, the first one takes over, and the next one publishes."""
        async for batch in self.publish_queued():
            self.published += [verdict for verdict, _ in batch]


def recording_publisher(
    bus: Bus,
    encoder: VerdictEncoder,
    published: list[Verdict],
    leadership: Leadership | None = None,
    take_over: Callable[[Fence, VerdictQueue], Awaitable[None]] | None = None,
) -> RecordingPublisher:
    """Return a publisher of a healer of its own on a bus, which adds what the bus has to `published`."""

    async def adopt_nothing(*_: object) -> None:
        return

    publisher = RecordingPublisher(
        bus,
        listener="healer",
        log_length=LogLength(),
        calls=CallNumbers(f"{next(_RUNS)}"),
        encode=encoder.encode,
        leadership=leadership or SoleLeader(),
        take_over=take_over or adopt_nothing,
        adopt_reach_gap=adopt_nothing,
    )
    publisher.published = published
    return publisher
