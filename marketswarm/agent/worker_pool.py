"""Run a worker on each bus whose streams the truth names, each as one consumer of a group.

Each bus has a worker of its own, so a bus that is down stops no other. A key that is not a stream any more
is left out until it is one again, so it stops no other stream of its bus.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from marketswarm.agent.member import Agent
from marketswarm.agent.service_config import InputStream
from marketswarm.bus import Bus, BusError
from marketswarm.bus.backlog import Backlog
from marketswarm.bus.consumer import Consumer
from marketswarm.bus.outage import Outage, retrying
from marketswarm.bus.stream import TYPES_EVERY_SEC, StreamTypes

BUS_SEC: Final = 20.0
"""Longer than any step of a consumer may take: waiting for a bus must not count as hanging."""


class StreamWorker(Protocol):
    """Process the streams of one bus."""

    @property
    def backlogs(self) -> Mapping[str, Backlog]:
        """The last backlog that was read, by stream key."""

    async def process_next(self, consumer: Consumer, streams: Mapping[str, InputStream]) -> None:
        """Process the next entries of the streams, by their keys. May raise BusError or TimeoutError.

        It is called again at once, after an error with a new consumer.
        """


Worker = TypeVar("Worker", bound=StreamWorker)


@dataclass(eq=False)
class WorkerPool(Generic[Worker]):
    """Run one worker for each bus that has streams; one whose bus fails tries again after a pause.

    Args:
        me: the agent; its `boot` is the name of the consumers.
    """

    me: Agent[Any]
    streams_now: Callable[[], Iterable[InputStream]]
    group_now: Callable[[], str]
    make_worker: Callable[[], Worker]
    make_outage: Callable[[], Outage]
    make_consumer: Callable[[Bus, Iterable[str], str, str], Consumer] = Consumer
    _workers: dict[str, Worker] = field(default_factory=dict)
    _types: dict[str, StreamTypes] = field(default_factory=dict)  # by bus
    # by the bus of the worker; the bus that fails may be another
    _outages: dict[str, Outage] = field(default_factory=dict)

    @property
    def workers(self) -> list[Worker]:
        return list(self._workers.values())

    @property
    def backlogs(self) -> dict[str, Backlog]:
        """The last backlog that was read, by stream key."""
        return {stream: backlog for worker in self.workers for stream, backlog in worker.backlogs.items()}

    def problem(self) -> str | None:
        """Return each failing bus with its reason, and each key that is not a stream; None without any."""
        wrong = [types.problem for types in self._types.values() if types.problem]
        outages = [outage for _, outage in sorted(self._outages.items())]
        failing = (outage.problem for outage in outages if outage.problem)
        return "; ".join(dict.fromkeys([*failing, *wrong])) or None

    def start_workers(self) -> None:
        for bus in {stream.bus for stream in self.streams_now()} - self._workers.keys():
            self._workers[bus] = worker = self.make_worker()
            self.me.task(self._run(bus, worker), name=f"work {bus}")

    async def _run(self, bus: str, worker: Worker) -> None:
        """Have entries processed until the truth names no stream on the bus; then leave the groups."""
        consumer: Consumer | None = None
        outage = self._outages[bus] = self.make_outage()
        types = self._types[bus] = StreamTypes()
        try:
            async for attempt in retrying(outage, self.me.rest):
                named = {each.key: each for each in self.streams_now() if each.bus == bus}
                if not named:
                    break
                with attempt:
                    try:
                        async with self.me.waiting(BUS_SEC):
                            usable = await types.find_streams(self.me.bus(bus), named)
                        if streams := {key: named[key] for key in usable}:
                            consumer = await self._open_consumer(consumer, bus, streams)
                            await worker.process_next(consumer, streams)
                        else:
                            await self.me.rest(TYPES_EVERY_SEC)
                    except TimeoutError:
                        # several requests together took longer than BUS_SEC, each less than its own limit
                        raise BusError(bus, "timeout") from None
                if outage.error is not None:
                    consumer = None  # the streams may have changed meanwhile
                    types.record(outage.error)
        finally:
            try:
                await self._close_consumer(consumer)
            finally:
                del self._outages[bus], self._types[bus]
                del self._workers[bus]  # now another worker of the same consumer may begin

    async def _open_consumer(self, current: Consumer | None, bus: str, streams: Iterable[str]) -> Consumer:
        """Return the current consumer if its bus, streams and group are the same, otherwise a new one."""
        consumer = self.make_consumer(self.me.bus(bus), streams, self.group_now(), self.me.boot)
        if current is not None and (
            (current.bus, current.streams, current.group) == (consumer.bus, consumer.streams, consumer.group)
        ):
            return current
        await self._close_consumer(current)
        async with self.me.waiting(BUS_SEC):
            await consumer.open()
        return consumer

    async def _close_consumer(self, consumer: Consumer | None) -> None:
        """Leave the groups; give the consumer up if that takes too long."""
        if consumer is not None:
            with contextlib.suppress(TimeoutError):
                async with self.me.waiting(BUS_SEC):
                    await consumer.close()
