"""The link to one bus: its listener, its publisher, and the tasks that run them."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from marketswarm.bus import Bus
from marketswarm.bus.listener import Listener
from marketswarm.monitor.publisher import Publisher


class BusLink:
    """A bus with its listener and its publisher; one that is not needed is None."""

    def __init__(self, bus: Bus, listener: Listener | None, publisher: Publisher | None) -> None:
        self.bus = bus
        self.listener = listener
        self.publisher = publisher
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a coroutine of this bus in a task of `group`, until `stop`."""
        self._tasks.append(group.create_task(work, name=f"{name}:{self.bus.name}"))

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def request_canary(self) -> None:
        """Do nothing without a listener."""
        if self.listener is not None:
            self.listener.request_canary()

    def note_proven(self, services: int) -> None:
        """Note of how many services one canary proved the silence. Do nothing without a listener."""
        if self.listener is not None:
            self.listener.note_proven(services)
