"""Send the messages queued for one channel until each is accepted, refused or too old.

Each channel has its own worker with its own queue and pauses, so that a channel that hangs delays no
other. Not here: which message is next (`queue.py`), and what follows from an outcome.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.channels.channel import Channel, Failure, Receipt, SendError, report_channel_defect
from marketswarm.channels.message import Message, MessageKind, mark_late
from marketswarm.channels.queue import NEVER, QUEUE_LIMIT, ChannelQueue, QueuedMessage
from marketswarm.event_text import format_seconds

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
    seconds, and this message for `again_sec`; `waiting` messages are still queued.

    `attempt` counts the attempts of this run, and is 0 for a message that was given up; the attempt began at
    `started_at` (epoch seconds). `is_first` is True if no earlier run made an attempt, either.
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
    waiting: int = 0
    again_sec: float = 0.0
    attempt: int = 0
    started_at: float = 0.0
    is_first: bool = False


class ChannelWorker:
    """The worker of one channel, with its queue.

    Args:
        outcome: called after each attempt, and for each message that is given up.
        prepare: returns a message as it is sent.
        is_wanted: returns, before each attempt, whether a message is still to be sent; otherwise it is
            dropped, without an outcome.
        anchor: returns the anchor of a message's thread on a channel, such as Slack's `ts`, or None.
        retry_for_sec: returns how long a message is retried after its first attempt failed.
        pause_broken: let a channel that refuses all messages be for a while, between two of them.
        at_most: how many messages may wait.
        chance: returns a random number from 0 to 1, which varies the pauses.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        outcome: Callable[[Outcome], None],
        prepare: Callable[[Message], Message] = lambda message: message,
        is_wanted: Callable[[Message], Awaitable[bool]] | None = None,
        anchor: Callable[[Message, str], str | None] = lambda *_: None,
        retry_for_sec: Callable[[], float] = lambda: NEVER,
        failures: int = 0,
        pause_sec: float = 0.0,
        pause_broken: bool = True,
        at_most: int = QUEUE_LIMIT,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.channel = channel
        self._outcome, self._prepare, self._is_wanted = outcome, prepare, is_wanted
        self._anchor, self._retry_for_sec, self._chance = anchor, retry_for_sec, chance
        self._pause_broken = pause_broken
        free_at = self._now() + pause_sec if pause_sec > 0 else float("-inf")
        self._queue = ChannelQueue(failures, free_at, at_most=at_most)
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
            self._report(oldest, error=SendError(OVERFLOW, Failure.REJECTED))
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
            self._report(entry.message, error=SendError(reason, Failure.REJECTED))

    async def _wait(self, longest_sec: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if longest_sec == NEVER else max(0.0, longest_sec)):
                await self._changed.wait()

    async def _send(self, entry: QueuedMessage) -> None:
        message, entry.on_wire = entry.message, True
        if self._is_wanted is not None and not await self._is_wanted(message):
            self._queue.drop(entry)
            return
        entry.attempts, started_at = entry.attempts + 1, time.time()
        is_first = entry.attempts == 1 and entry.since is None
        error, receipt = await self._attempt(message)
        entry.on_wire = False
        is_final = error is None or error.is_permanent or message.kind is MessageKind.TEST
        broken = self._count(entry, error)
        if is_final:
            self._queue.drop(entry)
        self._report(
            message,
            receipt=receipt,
            error=error,
            final=is_final,
            broken=broken,
            again_sec=max(self.pause_left_sec, entry.free_at - self._now()),
            attempt=entry.attempts,
            started_at=started_at,
            is_first=is_first,
        )

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
        elif not self._pause_broken:
            return False
        elif error.failure is Failure.BROKEN:
            self._queue.mark_broken(error.reason, now, chance)
            return True
        else:
            return self._queue.record_rejection(entry, error.reason, now, chance)
        return False

    def _report(self, message: Message, **facts: Any) -> None:
        self._outcome(
            Outcome(
                self.channel.name,
                self.channel.where,
                message,
                time.time(),
                failures=self._queue.failures,
                pause_sec=self.pause_left_sec,
                waiting=len(self),
                **facts,
            )
        )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
