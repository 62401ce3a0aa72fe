"""The channels that are open, a delivery each: opened, changed and closed while messages are on their way."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Final

from marketswarm.channels import Channel, Message
from notifier.deliver import Delivery, Outcome
from notifier.outbox import Outbox
from notifier.router.policy import RETRY_FOR_SEC

CLOSE_WITHIN_SEC: Final = 1.0


class Post:
    """All deliveries, in the order of their channels.

    Args:
        outbox: what waits for each channel.
        outcome: told what came of each attempt.
        group: where the deliveries run.
        paused: by a channel's name, its failures in a row and what is left of its pause, in seconds, from an
            earlier run.
    """

    def __init__(
        self,
        outbox: Outbox,
        outcome: Callable[[Outcome], None],
        group: asyncio.TaskGroup,
        paused: Callable[[str], tuple[int, float]],
    ) -> None:
        self.deliveries: dict[str, Delivery] = {}
        self._outbox, self._outcome, self._group, self._paused = outbox, outcome, group, paused
        self._tasks: dict[Delivery, asyncio.Task[None]] = {}
        self._retry_for_sec = RETRY_FOR_SEC

    def open(self, channels: Mapping[str, Channel]) -> None:
        """Has exactly these open; one that is the same as before goes on as it was."""
        for name, delivery in list(self.deliveries.items()):
            if channels.get(name) is not delivery.channel:
                del self.deliveries[name]
                delivery.stop()
        before, self.deliveries = self.deliveries, {}
        for name, channel in channels.items():
            self.deliveries[name] = before.get(name) or self._begin(channel)

    def retry_for(self, retry_for_sec: float) -> None:
        """Give a message up that a channel has not accepted after so long."""
        self._retry_for_sec = retry_for_sec
        for delivery in self.deliveries.values():
            delivery.look()

    def channels(self) -> dict[str, Channel]:
        """Those that are open."""
        return {name: each.channel for name, each in self.deliveries.items()}

    def hand_over(self, channel: str, message: Message) -> None:
        """Gives a message to a channel; to one that was closed meanwhile, nothing."""
        if channel in self.deliveries:
            self.deliveries[channel].put(message, self._failing_sec(message, channel))

    def trouble(self) -> str | None:
        """What is wrong with channels, in words for a beat's `detail`."""
        return "; ".join(each.trouble for each in self.deliveries.values() if each.trouble) or None

    def waiting(self) -> dict[str, int]:
        """By channel, how many messages wait."""
        return {name: len(each) for name, each in list(self.deliveries.items())}

    def broken(self) -> dict[str, bool]:
        """By channel, whether it refuses messages for good."""
        return {name: each.broken for name, each in list(self.deliveries.items())}

    async def finish(self, within_sec: float) -> None:
        """Lets what is on the wire come to its end, for so long at most."""
        for delivery in self._tasks:
            delivery.stop()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=within_sec)

    def _begin(self, channel: Channel) -> Delivery:
        failures, pause_sec = self._paused(channel.name)
        delivery = Delivery(
            channel,
            anchor=self._outbox.anchor,
            outcome=self._outcome,
            retry_for_sec=lambda: self._retry_for_sec,
            failures=failures,
            pause_sec=pause_sec,
        )
        for message in self._outbox.waiting(channel.name):
            delivery.put(message, self._failing_sec(message, channel.name))
        self._tasks[delivery] = self._group.create_task(self._run(delivery), name=f"deliver:{channel.name}")
        return delivery

    def _failing_sec(self, message: Message, channel: str) -> float | None:
        return self._outbox.failing_sec(message, channel, time.time())

    async def _run(self, delivery: Delivery) -> None:
        try:
            await delivery.run()
        finally:
            self._tasks.pop(delivery, None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_SEC):
                    await delivery.channel.aclose()
