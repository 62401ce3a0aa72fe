"""Sends what waits for one channel, again and again until it is accepted, refused for good, or too old.

Each channel has its own queue and its own pauses, so that one that hangs holds no other. Not here: which
message is next (`marketswarm/channels/backlog.py`), and what follows from an attempt (`desk.py`).
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from marketswarm import log as logs
from marketswarm.channels import Channel, Failure, Message, Receipt, SendError, What
from marketswarm.channels.backlog import NEVER, Backlog, Entry
from marketswarm.channels.defect import refusal_of_defect
from marketswarm.channels.wording import as_late, seconds

MARGIN_SEC: Final = 10.0
"""So much longer than the channel itself allows may an attempt take: a limit that only a defect reaches."""
OVERFLOW: Final = "overflow"

log = logs.get("deliver")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt at `at`, epoch seconds: a receipt, or an error, for good when it is `over`.

    `broken` says that the channel is. After `failures` in a row it is left alone for `pause_sec`.
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
        retry_for_sec: how long a message is tried after its first attempt failed.
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
        retry_for_sec: Callable[[], float],
        failures: int = 0,
        pause_sec: float = 0.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.channel = channel
        self._anchor, self._outcome, self._chance = anchor, outcome, chance
        self._retry_for_sec = retry_for_sec
        free_at = self._now() + pause_sec if pause_sec > 0 else float("-inf")
        self._backlog = Backlog(failures, free_at)
        self._changed, self._stopped = asyncio.Event(), False

    def __len__(self) -> int:
        return len(self._backlog)

    @property
    def trouble(self) -> str | None:
        """What failed and is not over, in words for a beat's `detail`; None while all is well."""
        reason = self._backlog.trouble
        return f"{self.channel.name}: {reason}" if reason else None

    @property
    def broken(self) -> bool:
        """Whether the channel takes nothing until somebody repairs it."""
        return self._backlog.broken

    @property
    def pause_left_sec(self) -> float:
        """How long until any message may be tried."""
        return max(0.0, self._backlog.free_at - self._now())

    def put(self, message: Message, failing_sec: float | None = None) -> None:
        """Add a message, whose first attempt failed so long ago if there was one; never block."""
        for oldest in self._backlog.put(message, self._now(), failing_sec):
            self._tell(oldest, error=SendError(OVERFLOW, Failure.REJECTED))
        self.look()

    def look(self) -> None:
        """Look again at what is to be done: something changed."""
        self._changed.set()

    def stop(self) -> None:
        """Have `run` return once nothing is on the wire."""
        self._stopped = True
        self.look()

    async def run(self) -> None:
        """Send until cancelled or stopped."""
        while not self._stopped:
            self._give_up()
            now = self._now()
            entry, again_at = self._backlog.next(now)
            if entry is None:
                await self._wait(min(again_at, self._backlog.expires_at(self._retry_for_sec())) - now)
            else:
                await self._send(entry)

    def _give_up(self) -> None:
        """Refuse what has been tried for too long."""
        limit = self._retry_for_sec()
        for entry in self._backlog.expired(self._now(), limit):
            reason = f"gave up after {seconds(limit)}: {entry.reason}"
            self._tell(entry.message, error=SendError(reason, Failure.REJECTED))

    async def _wait(self, longest_sec: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if longest_sec == NEVER else max(0.0, longest_sec)):
                await self._changed.wait()

    async def _send(self, entry: Entry) -> None:
        """Try a message once, take it off the backlog if that settled it, and report the outcome."""
        message = entry.message
        entry.on_wire = True
        error, receipt = await self._attempt(message)
        entry.on_wire = False
        over = error is None or error.permanent or message.what is What.TEST
        broken = self._count(entry, error)
        if over:
            self._backlog.drop(entry)
        again_sec = max(self.pause_left_sec, entry.free_at - self._now())
        self._tell(message, receipt=receipt, error=error, over=over, broken=broken, again_sec=again_sec)

    async def _attempt(self, message: Message) -> tuple[SendError | None, Receipt | None]:
        anchor = self._anchor(message, self.channel.name)
        try:
            async with asyncio.timeout(self.channel.within_sec + MARGIN_SEC):
                return None, await self.channel.send(as_late(message, time.time()), anchor)
        except SendError as refusal:
            return refusal, None
        except TimeoutError:
            return SendError("timeout"), None
        except Exception as defect:  # noqa: BLE001 - a channel's own mistake must not end the others
            return refusal_of_defect(log, self.channel, message, defect), None

    def _count(self, entry: Entry, error: SendError | None) -> bool:
        """Take note of what came of an attempt; return whether it shows that the channel is broken."""
        now, chance = self._now(), self._chance()
        if error is None:
            self._backlog.accepted(entry, now, chance)
        elif error.failure is Failure.TEMPORARY:
            self._backlog.failed(entry, now, error.reason, error.retry_after_sec, chance)
        elif error.failure is Failure.BROKEN:
            self._backlog.breaks(error.reason, now, chance)
            return True
        else:
            return self._backlog.refused(entry, error.reason, now, chance)
        return False

    def _tell(
        self,
        message: Message,
        *,
        receipt: Receipt | None = None,
        error: SendError | None = None,
        over: bool = True,
        broken: bool = False,
        again_sec: float = 0.0,
    ) -> None:
        name, where, kind = self.channel.name, self.channel.where, message.what
        about = {"channel": name, "where": where, "id": message.id, "what": kind, "waiting": len(self)}
        if receipt is not None:
            log.info("message.sent", answer=receipt.answer, events=len(message.events), **about)
        elif error is not None and over:
            log.error("message.refused", reason=error.reason, **about)
        elif error is not None:
            log.warning("message.failed", reason=error.reason, again_in_sec=round(again_sec, 1), **about)
        paused = self._backlog.failures, self.pause_left_sec
        self._outcome(Outcome(name, where, message, time.time(), receipt, error, over, broken, *paused))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
