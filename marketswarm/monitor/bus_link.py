"""The parts of one bus: its listener, its publisher, and their tasks."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from marketswarm.bus import Bus
from marketswarm.bus.listener import Listener
from marketswarm.monitor.publisher import Publisher


class BusLink:
    """A bus with its listener and its publisher, either of which is None if it is not needed."""

    def __init__(self, bus: Bus, listener: Listener | None, publisher: Publisher | None) -> None:
        self.bus = bus
        self.listener = listener
        self.publisher = publisher
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run work of this bus in a task of `group`, until `stop`."""
        self._tasks.append(group.create_task(work, name=f"{name}:{self.bus.name}"))

    def stop(self) -> None:
        """Cancel the tasks of this bus."""
        for task in self._tasks:
            task.cancel()

    def request_canary(self) -> None:
        """Have the listener, if there is one, send a canary now."""
        if self.listener is not None:
            self.listener.request_canary()

    def reopen_session(self) -> None:
        """Have the listener, if there is one, close its session and open another."""
        if self.listener is not None:
            self.listener.rebuild()

    def wake_publisher(self) -> None:
        """Tell the publisher, if there is one, that the leadership has changed."""
        if self.publisher is not None:
            self.publisher.wake()

    def check_after_gap(self, gap_began_at: float) -> None:
        """Tell the publisher, if there is one, that the bus was away since `gap_began_at` (monotonic)."""
        if self.publisher is not None:
            self.publisher.check_after_gap(gap_began_at)

    def hand_over(self, successor: "BusLink") -> None:
        """Stop, and leave what is still to be published to the new link of the same bus."""
        self.stop()
        if self.publisher is not None and successor.publisher is not None:
            successor.publisher.take_over_queue(self.publisher)
