"""One way out: what is to be sent over one channel, again and again until it is accepted.

Each way has its own queue and its own pauses, so that one that hangs holds no other. What is about the same
service keeps its order; a message that a receiver never accepts holds up nothing else. Not here: what is
owed, and which message is tried next (`channels/queue.py`).
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from marketswarm import log as logs
from marketswarm.channels import Channel, Message, SendError, message_for_event
from marketswarm.channels.channel import report_channel_defect
from marketswarm.channels.queue import NEVER, ChannelQueue, QueuedMessage
from sentinel.pending import PENDING_AT_MOST, PendingAlert

log = logs.get("direct")


def message_for(debt: PendingAlert, now: float, fleet: str = "") -> Message:
    """The message that pays a debt, at `now` (epoch seconds); an end goes into the thread of its start."""
    message = message_for_event(debt.event, debt.raw, now, fleet)
    return message if debt.ends is None else replace(message, thread=debt.ends, closes=(debt.ends,))


class ChannelSender:
    """A channel and what waits for it.

    Args:
        channel: where to.
        wanted: asked before each attempt, whether the debt is still ours to tell.
        accepted: called when the channel took it.
        over: called when this way will not try it any more, whether accepted or not.
        fleet: returns the name of the fleet in the truth, which may be empty.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        wanted: Callable[[PendingAlert], Awaitable[bool]],
        accepted: Callable[[PendingAlert, str], Awaitable[None]],
        over: Callable[[PendingAlert], None],
        fleet: Callable[[], str] = str,
    ) -> None:
        self.channel = channel
        self.trouble: str | None = None
        """What the last attempt came to, in words for a beat's `detail`; None while all is well."""
        self._wanted, self._accepted, self._over, self._fleet = wanted, accepted, over, fleet
        self._queue = ChannelQueue(at_most=PENDING_AT_MOST)
        self._debts: dict[str, PendingAlert] = {}  # by the id of their message, which is that of their event
        self._poked = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, debt: PendingAlert) -> None:
        """Adds a debt; never blocks. When there are too many, the oldest goes."""
        self._debts[debt.event.id] = debt
        message = replace(message_for(debt, time.time(), self._fleet()), about=(debt.key,))
        for given_up in self._queue.put(message, time.monotonic()):
            self._over(self._debts.pop(given_up.id))
        self._poked.set()

    async def run(self) -> None:
        """Sends until cancelled."""
        while True:
            self._poked.clear()
            entry, again_at = self._queue.next_attempt(time.monotonic())
            if entry is None:
                await self._rest(again_at)
                continue
            entry.on_wire = True
            try:
                await self._try(entry)
            finally:
                entry.on_wire = False

    async def _rest(self, until: float) -> None:
        """Wait for another message, or until then."""
        try:
            async with asyncio.timeout(None if until == NEVER else until - time.monotonic()):
                await self._poked.wait()
        except TimeoutError:
            pass

    async def _try(self, entry: QueuedMessage) -> None:
        debt = self._debts[entry.message.id]
        if not await self._wanted(debt):
            self._finish(entry)
            return
        error = await self._send(debt)
        if error is None:
            self._queue.record_accepted(entry, time.monotonic(), random.random())
            self.trouble = f"{self.channel.name}: {self._queue.trouble}" if self._queue.trouble else None
            await self._accepted(debt, self.channel.name)
        if error is None or error.permanent:
            self._finish(entry)
        else:
            self._queue.record_failure(
                entry, time.monotonic(), error.reason, error.retry_after_sec, random.random()
            )

    def _finish(self, entry: QueuedMessage) -> None:
        self._queue.drop(entry)
        self._over(self._debts.pop(entry.message.id))

    async def _send(self, debt: PendingAlert) -> SendError | None:
        name, where = self.channel.name, self.channel.where
        message = message_for(debt, time.time(), self._fleet())
        try:
            await self.channel.send(message)
        except SendError as refusal:
            error = refusal
        except Exception as defect:  # noqa: BLE001 - a channel's own mistake must not end who watches
            error = report_channel_defect(log, self.channel, message, defect)
        else:
            log.info("direct.sent", channel=name, where=where, id=debt.event.id)
            return None
        self.trouble = f"{name}: {error.reason}"
        say = log.error if error.permanent else log.warning
        say(
            "direct.refused" if error.permanent else "direct.failed",
            channel=name,
            where=where,
            reason=error.reason,
            id=debt.event.id,
            waiting=len(self),
        )
        return error
