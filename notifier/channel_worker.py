"""Send the messages queued for one channel until each is accepted, refused or too old.

Each channel has its own worker with its own queue and pauses, so that a channel that hangs delays no
other. Not here: which message is next (`marketswarm/channels/queue.py`), and what follows from an outcome
(`dispatcher.py`).
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from marketswarm import log as logs
from marketswarm.channels import Channel, Failure, Message, MessageKind, Receipt, SendError
from marketswarm.channels.channel import report_channel_defect
from marketswarm.channels.message import mark_late
from marketswarm.channels.queue import NEVER, ChannelQueue, QueuedMessage
from marketswarm.event_text import format_seconds
from marketswarm.tracing import Tracer
from notifier.approval_links import keep_message
from notifier.delivery_step import make_delivery_step, make_wait_step

MARGIN_SEC: Final = 10.0
"""How much longer than the channel's own limit an attempt may take; only one with a defect does."""
OVERFLOW: Final = "overflow"
"""The reason for giving up a message because its channel's queue is full."""

log = logs.get("deliver")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an attempt at `at` (epoch seconds): a receipt or an error.

    `where` is the channel's host. `final` means that this channel will not try the message again, `broken`
    that the channel refuses all messages. After `failures` in a row the channel is paused for `pause_sec`
    seconds.
    """

    channel: str
    where: str
    message: Message
    at: float
    receipt: Receipt | None = None
    error: SendError | None = None
    final: bool = True
    broken: bool = False
    failures: int = 0
    pause_sec: float = 0.0


class ChannelWorker:
    """The worker of one channel, with its queue.

    Args:
        anchor: returns the anchor of a message's thread on a channel, such as Slack's `ts`, or None.
        retry_for_sec: returns how long a message is retried after its first attempt failed.
        chance: returns a random number from 0 to 1, which varies the pauses.
        prepare: returns a message as it is sent.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        anchor: Callable[[Message, str], str | None],
        outcome: Callable[[Outcome], None],
        retry_for_sec: Callable[[], float],
        failures: int = 0,
        pause_sec: float = 0.0,
        chance: Callable[[], float] = random.random,
        tracer: Tracer | None = None,
        prepare: Callable[[Message], Message] = keep_message,
    ) -> None:
        self.channel = channel
        self._tracer, self._prepare = tracer, prepare
        self._anchor, self._outcome, self._chance = anchor, outcome, chance
        self._retry_for_sec = retry_for_sec
        free_at = self._now() + pause_sec if pause_sec > 0 else float("-inf")
        self._queue = ChannelQueue(failures, free_at)
        self._changed, self._stopped = asyncio.Event(), False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def trouble(self) -> str | None:
        """A failure that is not over, in words for a beat's `detail`; None without one."""
        reason = self._queue.trouble
        return f"{self.channel.name}: {reason}" if reason else None

    @property
    def broken(self) -> bool:
        return self._queue.broken

    @property
    def pause_left_sec(self) -> float:
        return max(0.0, self._queue.free_at - self._now())

    def put(self, message: Message, failing_sec: float | None = None) -> None:
        """Queue a message without waiting; `failing_sec` is how many seconds ago its first attempt failed.

        If the queue is full, its oldest messages are reported as refused.
        """
        for oldest in self._queue.put(message, self._now(), failing_sec):
            self._report_outcome(oldest, error=SendError(OVERFLOW, Failure.REJECTED))
        self.wake()

    def wake(self) -> None:
        self._changed.set()

    def stop(self) -> None:
        """Have `run` return as soon as no attempt is under way."""
        self._stopped = True
        self.wake()

    async def run(self) -> None:
        while not self._stopped:
            self._give_up()
            now = self._now()
            entry, again_at = self._queue.next_attempt(now)
            if entry is None:
                await self._wait(min(again_at, self._queue.expires_at(self._retry_for_sec())) - now)
            else:
                await self._send(entry)

    def _give_up(self) -> None:
        limit = self._retry_for_sec()
        for entry in self._queue.take_expired(self._now(), limit):
            reason = f"gave up after {format_seconds(limit)}: {entry.reason}"
            self._report_outcome(entry.message, error=SendError(reason, Failure.REJECTED))

    async def _wait(self, longest_sec: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if longest_sec == NEVER else max(0.0, longest_sec)):
                await self._changed.wait()

    async def _send(self, entry: QueuedMessage) -> None:
        message = entry.message
        entry.on_wire, entry.attempts, started_at = True, entry.attempts + 1, time.time()
        error, receipt = await self._attempt(message)
        entry.on_wire = False
        outcome = error or receipt
        if self._tracer is not None and outcome is not None:
            self._trace_attempt(self._tracer, entry, outcome, started_at)
        is_final = error is None or error.is_permanent or message.kind is MessageKind.TEST
        broken = self._count(entry, error)
        if is_final:
            self._queue.drop(entry)
        again_sec = max(self.pause_left_sec, entry.free_at - self._now())
        self._report_outcome(
            message, receipt=receipt, error=error, is_final=is_final, broken=broken, again_sec=again_sec
        )

    def _trace_attempt(
        self, tracer: Tracer, entry: QueuedMessage, outcome: Receipt | SendError, started_at: float
    ) -> None:
        if entry.attempts == 1 and entry.since is None:
            tracer.record(make_wait_step(self.channel, entry.message, started_at))
        step = make_delivery_step(
            self.channel,
            entry.message,
            attempt=entry.attempts,
            outcome=outcome,
            started_at=started_at,
            ended_at=time.time(),
        )
        tracer.record(step)

    async def _attempt(self, message: Message) -> tuple[SendError | None, Receipt | None]:
        anchor = self._anchor(message, self.channel.name)
        try:
            async with asyncio.timeout(self.channel.within_sec + MARGIN_SEC):
                prepared = self._prepare(mark_late(message, time.time()))
                return None, await self.channel.send(prepared, anchor)
        except SendError as refusal:
            return refusal, None
        except TimeoutError:
            return SendError("timeout"), None
        except Exception as defect:  # noqa: BLE001 - a defect of one channel must not end the others
            return report_channel_defect(log, self.channel, message, defect), None

    def _count(self, entry: QueuedMessage, error: SendError | None) -> bool:
        """Record an outcome in the queue; return True if it shows that the channel is broken."""
        now, chance = self._now(), self._chance()
        if error is None:
            self._queue.record_accepted(entry, now, chance)
        elif error.failure is Failure.TEMPORARY:
            self._queue.record_failure(entry, now, error.reason, error.retry_after_sec, chance)
        elif error.failure is Failure.BROKEN:
            self._queue.mark_broken(error.reason, now, chance)
            return True
        else:
            return self._queue.record_rejection(entry, error.reason, now, chance)
        return False

    def _report_outcome(
        self,
        message: Message,
        *,
        receipt: Receipt | None = None,
        error: SendError | None = None,
        is_final: bool = True,
        broken: bool = False,
        again_sec: float = 0.0,
    ) -> None:
        name, where, kind = self.channel.name, self.channel.where, message.kind
        about = {"channel": name, "where": where, "id": message.id, "what": kind, "waiting": len(self)}
        if receipt is not None:
            log.info("message.sent", answer=receipt.answer, events=len(message.events), **about)
        elif error is not None and is_final:
            log.error("message.refused", reason=error.reason, **about)
        elif error is not None:
            log.warning("message.failed", reason=error.reason, again_in_sec=round(again_sec, 1), **about)
        paused = self._queue.failures, self.pause_left_sec
        self._outcome(Outcome(name, where, message, time.time(), receipt, error, is_final, broken, *paused))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
