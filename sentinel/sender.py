"""The sender of one channel: it sends the pending messages, each again until the channel accepts it.

Each channel has its own queue and its own pauses, so that a channel that hangs delays no other. Messages
about the same service keep their order; a message that is never accepted delays no other service.
`marketswarm/channels/queue.py` decides which message is tried next.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from marketswarm import log as logs
from marketswarm.channels import Channel, Message, SendError, make_event_message
from marketswarm.channels.channel import report_channel_defect
from marketswarm.channels.queue import NEVER, ChannelQueue, QueuedMessage
from sentinel.pending import MAX_PENDING, PendingAlert

log = logs.get("direct")


def build_message(alert: PendingAlert, now: float, fleet: str = "") -> Message:
    """`now` is in epoch seconds; an ok joins the thread of its miss."""
    message = make_event_message(alert.event, alert.raw, now, fleet)
    return message if alert.closes is None else replace(message, thread=alert.closes, closes=(alert.closes,))


class ChannelSender:
    """A channel and the messages that are pending for it.

    Args:
        channel: the channel to send over; the caller closes it.
        is_wanted: returns, before each attempt, whether the alert is still to be sent.
        on_finished: called when this sender will not try the alert any more, whether accepted or not.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        is_wanted: Callable[[PendingAlert], Awaitable[bool]],
        on_accepted: Callable[[PendingAlert, str], Awaitable[None]],
        on_finished: Callable[[PendingAlert], None],
        get_fleet: Callable[[], str] = str,
    ) -> None:
        self.channel = channel
        self.trouble: str | None = None
        """Why the last attempt failed, as text for a beat's `detail`; None if it did not."""
        self._is_wanted, self._on_accepted, self._on_finished = is_wanted, on_accepted, on_finished
        self._get_fleet = get_fleet
        self._queue = ChannelQueue(at_most=MAX_PENDING)
        self._alerts: dict[str, PendingAlert] = {}  # by the id of their message, which is that of their event
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def enqueue(self, alert: PendingAlert) -> None:
        """Add an alert, which never blocks; if there are too many, drop the oldest."""
        self._alerts[alert.event.id] = alert
        message = replace(build_message(alert, time.time(), self._get_fleet()), about=(alert.key,))
        for given_up in self._queue.put(message, time.monotonic()):
            self._on_finished(self._alerts.pop(given_up.id))
        self._wake.set()

    async def run(self) -> None:
        """Send the messages that are due, one after the other, until cancelled."""
        while True:
            self._wake.clear()
            entry, again_at = self._queue.next_attempt(time.monotonic())
            if entry is None:
                await self._wait_until(again_at)
                continue
            entry.on_wire = True
            try:
                await self._try_message(entry)
            finally:
                entry.on_wire = False

    async def _wait_until(self, until: float) -> None:
        """Wait for another message, or until `until` (monotonic seconds)."""
        try:
            async with asyncio.timeout(None if until == NEVER else until - time.monotonic()):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _try_message(self, entry: QueuedMessage) -> None:
        """Send a message once, if it is still wanted; finish it, or try again later after a passing error."""
        alert = self._alerts[entry.message.id]
        if not await self._is_wanted(alert):
            self._finish(entry)
            return
        error = await self._send(alert)
        if error is None:
            self._queue.record_accepted(entry, time.monotonic(), random.random())
            self.trouble = f"{self.channel.name}: {self._queue.trouble}" if self._queue.trouble else None
            await self._on_accepted(alert, self.channel.name)
        if error is None or error.is_permanent:
            self._finish(entry)
        else:
            self._queue.record_failure(
                entry, time.monotonic(), error.reason, error.retry_after_sec, random.random()
            )

    def _finish(self, entry: QueuedMessage) -> None:
        self._queue.drop(entry)
        self._on_finished(self._alerts.pop(entry.message.id))

    async def _send(self, alert: PendingAlert) -> SendError | None:
        """Send an alert over the channel once and log the result; return the error, or None for success."""
        name, where = self.channel.name, self.channel.where
        message = build_message(alert, time.time(), self._get_fleet())
        try:
            await self.channel.send(message)
        except SendError as refusal:
            error = refusal
        except Exception as defect:  # noqa: BLE001 - a defect of a channel must not end the sentinel
            error = report_channel_defect(log, self.channel, message, defect)
        else:
            log.info("direct.sent", channel=name, where=where, id=alert.event.id)
            return None
        self.trouble = f"{name}: {error.reason}"
        write = log.error if error.is_permanent else log.warning
        write(
            "direct.refused" if error.is_permanent else "direct.failed",
            channel=name,
            where=where,
            reason=error.reason,
            id=alert.event.id,
            waiting=len(self),
        )
        return error
