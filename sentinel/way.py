"""One way out: what is to be sent over one channel, in order, again and again until it is accepted.

Each way has its own queue and its own pauses, so that one that hangs holds no other. Not here: what is owed.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace

from marketswarm import log as logs
from marketswarm.channels import Channel, Message, SendError, message_of
from marketswarm.channels.defect import refusal_of_defect
from marketswarm.channels.pausing import pause_sec
from sentinel.owed import OWED_AT_MOST, Debt

log = logs.get("direct")


def message_for(debt: Debt, now: float) -> Message:
    """The message that pays a debt, at `now` (epoch seconds); an end goes into the thread of its start."""
    message = message_of(debt.event, debt.raw, now)
    return message if debt.ends is None else replace(message, thread=debt.ends, closes=(debt.ends,))


class Way:
    """A channel and what waits for it.

    Args:
        channel: where to.
        wanted: asked before each attempt, whether the debt is still ours to tell.
        accepted: called when the channel took it.
        over: called when this way will not try it any more, whether accepted or not.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        wanted: Callable[[Debt], Awaitable[bool]],
        accepted: Callable[[Debt, str], Awaitable[None]],
        over: Callable[[Debt], None],
    ) -> None:
        self.channel = channel
        self.trouble: str | None = None
        """What the last attempt came to, in words for a beat's `detail`; None while all is well."""
        self._wanted, self._accepted, self._over = wanted, accepted, over
        self._waiting: deque[Debt] = deque()
        self._filled = asyncio.Event()

    def put(self, debt: Debt) -> None:
        """Adds a debt; never blocks. When there are too many, the oldest goes."""
        while len(self._waiting) >= OWED_AT_MOST:
            self._over(self._waiting.popleft())
        self._waiting.append(debt)
        self._filled.set()

    async def run(self) -> None:
        """Sends until cancelled."""
        failures = 0
        while True:
            await self._filled.wait()
            debt = self._waiting[0]
            error = await self._send(debt) if await self._wanted(debt) else None
            if error is None or error.permanent:
                failures = 0
                self._finish(debt)
            else:
                failures += 1
                await asyncio.sleep(pause_sec(failures, error.retry_after_sec, random.random()))

    def _finish(self, debt: Debt) -> None:
        if self._waiting and self._waiting[0] is debt:
            self._waiting.popleft()
            self._over(debt)
        if not self._waiting:
            self._filled.clear()

    async def _send(self, debt: Debt) -> SendError | None:
        name, where = self.channel.name, self.channel.where
        message = message_for(debt, time.time())
        try:
            await self.channel.send(message)
        except SendError as refusal:
            error = refusal
        except Exception as defect:  # noqa: BLE001 - a channel's own mistake must not end who watches
            error = refusal_of_defect(log, self.channel, message, defect)
        else:
            self.trouble = None
            log.info("direct.sent", channel=name, where=where, id=debt.event.id)
            await self._accepted(debt, name)
            return None
        self.trouble = f"{name}: {error.reason}"
        say = log.error if error.permanent else log.warning
        say(
            "direct.refused" if error.permanent else "direct.failed",
            channel=name,
            where=where,
            reason=error.reason,
            id=debt.event.id,
            waiting=len(self._waiting),
        )
        return error
