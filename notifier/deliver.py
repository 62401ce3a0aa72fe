"""Sends what waits for one channel, in order, again and again until it is accepted or refused for good.

Each channel has its own queue and its own pauses, so that one that hangs holds no other. One that refuses for
good is broken: what waits for it gets one attempt each after a pause. Not here: what follows (`desk.py`).
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from marketswarm import log as logs
from marketswarm.channels import Channel, Message, Receipt, SendError, What
from marketswarm.channels.pausing import pause_sec
from marketswarm.channels.wording import as_late

QUEUE: Final = 1000
"""What waits for one channel; beyond that the oldest is given up."""
ATTEMPT_SEC: Final = 60.0
"""Longer than any channel gives itself."""
OVERFLOW: Final = "overflow"

log = logs.get("deliver")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt at `at`, epoch seconds: a receipt, or an error, for good when it is `over`.

    After `failures` in a row the channel is left alone for `pause_sec`.
    """

    channel: str
    where: str
    message: Message
    at: float
    receipt: Receipt | None = None
    error: SendError | None = None
    over: bool = True
    broken: bool = False
    failures: int = 0
    pause_sec: float = 0.0


class Delivery:
    """One channel and what waits for it.

    Args:
        channel: where to.
        anchor: what the channel wants back with a message.
        outcome: told what came of each attempt.
        failures: in a row, before this run.
        pause_sec: what is left of the pause after the last of them.
        chance: for the pauses; from 0 to 1.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        anchor: Callable[[Message, str], str | None],
        outcome: Callable[[Outcome], None],
        failures: int = 0,
        pause_sec: float = 0.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.channel = channel
        self.trouble: str | None = None
        """What the last attempt came to, in words for a beat's `detail`; None while all is well."""
        self.broken = False
        self._anchor, self._outcome, self._chance = anchor, outcome, chance
        self._waiting: deque[Message] = deque()
        self._filled, self._over = asyncio.Event(), asyncio.Event()
        self._failures = failures
        self._free_at = asyncio.get_running_loop().time() + pause_sec if pause_sec > 0 else 0.0
        self._round = 0  # how many are to be tried without a pause between them
        self._sending: Message | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def pause_left_sec(self) -> float:
        """How long until it may be tried again."""
        return max(0.0, self._free_at - asyncio.get_running_loop().time())

    def put(self, message: Message) -> None:
        """Adds a message; never blocks."""
        if any(each.id == message.id for each in self._waiting):
            return
        while len(self._waiting) >= QUEUE:
            oldest = self._waiting[1] if self._waiting[0] is self._sending else self._waiting[0]
            self._waiting.remove(oldest)
            self._tell(oldest, error=SendError(OVERFLOW, permanent=True))
        self._waiting.append(message)
        self._filled.set()

    def stop(self) -> None:
        """Has `run` return once nothing is on the wire."""
        self._over.set()
        self._filled.set()

    async def run(self) -> None:
        """Sends until cancelled or stopped."""
        while True:
            await self._filled.wait()
            await self._pause()
            if self._over.is_set():
                return
            message = self._waiting[0]
            self._sending = message
            error, receipt = await self._attempt(message)
            self._sending = None
            over = error is None or error.permanent or message.what is What.TEST
            if over:
                self._waiting.remove(message)
                if not self._waiting and not self._over.is_set():
                    self._filled.clear()
            self._count(error)
            self._tell(message, receipt=receipt, error=error, over=over)

    async def _pause(self) -> None:
        if self._round:
            return
        if (left := self.pause_left_sec) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._over.wait()
        if self.broken:
            self._round = len(self._waiting)

    async def _attempt(self, message: Message) -> tuple[SendError | None, Receipt | None]:
        anchor = self._anchor(message, self.channel.name)
        try:
            async with asyncio.timeout(ATTEMPT_SEC):
                return None, await self.channel.send(as_late(message, time.time()), anchor)
        except SendError as refusal:
            return refusal, None
        except TimeoutError:
            return SendError("timeout"), None
        except Exception as defect:  # noqa: BLE001 - a channel's own mistake must not end the others
            return SendError(type(defect).__name__, permanent=True), None

    def _count(self, error: SendError | None) -> None:
        self._round = max(0, self._round - 1)
        if error is None:
            self.trouble, self.broken, self._failures, self._free_at = None, False, 0, 0.0
            return
        self.trouble = f"{self.channel.name}: {error.reason}"
        self.broken = error.permanent
        if not error.permanent or not self._round:
            self._round = 0
            self._failures += 1
            pause = pause_sec(self._failures, error.retry_after_sec, self._chance())
            self._free_at = asyncio.get_running_loop().time() + pause

    def _tell(
        self,
        message: Message,
        *,
        receipt: Receipt | None = None,
        error: SendError | None = None,
        over: bool = True,
    ) -> None:
        name, where, kind = self.channel.name, self.channel.where, message.what
        about = {"channel": name, "where": where, "id": message.id, "what": kind, "waiting": len(self)}
        if receipt is not None:
            log.info("message.sent", answer=receipt.answer, events=len(message.events), **about)
        elif error is not None and over:
            log.error("message.refused", reason=error.reason, **about)
        elif error is not None:
            in_sec = round(self.pause_left_sec, 1)
            log.warning("message.failed", reason=error.reason, again_in_sec=in_sec, **about)
        paused = self._failures, self.pause_left_sec
        self._outcome(Outcome(name, where, message, time.time(), receipt, error, over, self.broken, *paused))
