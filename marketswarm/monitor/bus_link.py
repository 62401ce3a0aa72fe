"""The listener and the publisher of one bus, and their tasks."""

import asyncio

from marketswarm.bus import Bus
from marketswarm.bus.listener import Listener
from marketswarm.monitor.publisher import Publisher


class BusLink:
    """Both parts of one bus, and their tasks."""

    def __init__(self, bus: Bus, listener: Listener | None, outbox: Publisher | None) -> None:
        self.bus = bus
        self.listener = listener
        self.outbox = outbox
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, group: asyncio.TaskGroup) -> None:
        """Lets both run, in the group of whoever answers for them."""
        for part in (self.listener, self.outbox):
            if part is not None:
                name = f"{type(part).__name__}:{self.bus.name}"
                self._tasks.append(group.create_task(part.run(), name=name))

    def stop(self) -> None:
        """Ends both."""
        for task in self._tasks:
            task.cancel()

    def urge(self) -> None:
        """Asks the listener, if there is one, for a canary now."""
        if self.listener is not None:
            self.listener.urge()

    def rebuild(self) -> None:
        """Has the listener, if there is one, begin anew."""
        if self.listener is not None:
            self.listener.rebuild()

    def wake(self) -> None:
        """Says to the outbox, if there is one, that who leads has changed."""
        if self.outbox is not None:
            self.outbox.wake()

    def check_after_gap(self, gap: float) -> None:
        """Says to the outbox, if there is one, that the bus is back after a gap that began at `gap`."""
        if self.outbox is not None:
            self.outbox.check_after_gap(gap)

    def replaced_by(self, other: "BusLink") -> None:
        """Ends both, and leaves what is still to be told to the new post of the same bus."""
        self.stop()
        if self.outbox is not None and other.outbox is not None:
            other.outbox.inherit(self.outbox)
