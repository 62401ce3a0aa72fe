"""An agent's heartbeat: sent on time, only while its work makes progress, whatever the bus does.

What a beat looks like is `marketswarm.beat`.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from marketswarm import beat, log
from marketswarm.beat import Sender, Status
from marketswarm.bus import Bus, BusError
from marketswarm.keys import last_beat_key


class Progress:
    """The work loop's own word. Joining the swarm counts as progress; so does resting, all the while."""

    def __init__(self, now: float) -> None:
        self.at = now
        self._resting = 0
        self._made = asyncio.Event()
        self._made.set()

    @property
    def resting(self) -> bool:
        """Whether the work loop is waiting on purpose."""
        return self._resting > 0

    def make(self, now: float) -> None:
        """The work got somewhere."""
        self.at = now
        self._made.set()

    def rest(self, now: float) -> None:
        """The work begins to wait on purpose; ends with `resume`."""
        self._resting += 1
        self.make(now)

    def resume(self, now: float) -> None:
        """The work goes on after a rest."""
        self._resting -= 1
        self.make(now)

    async def since_last_beat(self) -> None:
        """Return once there was progress since this last returned."""
        await self._made.wait()
        if not self.resting:
            self._made.clear()

    def silent_sec(self, now: float) -> float:
        """How long there has been no progress."""
        return 0.0 if self.resting else now - self.at


JITTER: Final = 0.02  # of the interval: beats of many come apart, and a gap stays below 1.02 intervals


class Rhythm:
    """The grid of one interval, begun at `now` with a beat. `phase` keeps a fleet started at once apart."""

    def __init__(self, interval_sec: float, now: float, phase: float) -> None:
        self.interval_sec = interval_sec
        self._slot = now - interval_sec * (1 - phase) / 2  # the first gap is a half to a whole interval

    def next_due(self, now: float, chance: float) -> float:
        """When the beat after the one at `now` is due. Slots that passed are skipped, not made up for."""
        passed = max(0, int((now - self._slot) // self.interval_sec))
        self._slot += (passed + 1) * self.interval_sec
        return self._slot - JITTER * self.interval_sec * chance


LOG_EVERY_SEC: Final = 30.0
GOODBYE_SEC: Final = 1.0
INTRODUCED_BY: Final = 3  # beats: who listens from the beginning may miss one
INTRODUCED_AGAIN: Final = 360  # beats: an hour of ten seconds each, for who came later


@dataclass(frozen=True, slots=True)
class Pulse:
    """Where and how often to beat, by the truth in force."""

    bus: Bus
    channel: str
    interval_sec: float
    timeout_sec: float
    revision: int | None


class Beating:
    """The beats of one process. `i` counts those it tried to send; `trouble()` says why all is not well.

    `sent` are those that the bus took, `sent_at` when it last did, in epoch seconds; `failed` the others.
    """

    def __init__(
        self,
        svc: str,
        boot: str,
        pulse: Pulse,
        progress: Progress,
        *,
        trouble: Callable[[], str | None],
        remark: Callable[[], str | None],
        sender: Sender,
        beaten: Callable[[], None],
    ) -> None:
        self.svc, self.boot, self.pulse = svc, boot, pulse
        self.i = self.sent = self.failed = 0
        self.sent_at: float | None = None
        self._progress, self._trouble, self._remark = progress, trouble, remark
        self._sender, self._beaten = sender, beaten
        self._changed = asyncio.Event()
        self._failing: str | None = None
        self._logged: dict[str, float] = {}  # reason: when; a server that is going may give two in turn
        self._log = log.get(svc)

    def change(self, pulse: Pulse) -> None:
        """Beat by another truth from now on, and say so at once."""
        self.pulse = pulse
        self._changed.set()

    async def run(self) -> None:
        """Beat until cancelled, first at once."""
        clock = asyncio.get_running_loop().time
        rhythm = Rhythm(self.pulse.interval_sec, clock(), random.random())
        while True:
            await self._progress.since_last_beat()
            if self._changed.is_set():
                self._changed.clear()
                rhythm = Rhythm(self.pulse.interval_sec, clock(), random.random())
            await self.beat()
            self._beaten()
            await self._until(rhythm.next_due(clock(), random.random()))

    @property
    def status(self) -> str:
        """How it is, in a line for those who look from outside."""
        trouble = self._trouble()
        words = f"degraded: {trouble}" if trouble else self._remark() or "ok"
        if self._failing is not None:
            words = f"{self.pulse.bus.name} takes no beats ({self._failing}); {words}"
        revision = self.pulse.revision
        return words if revision is None else f"{words}; truth revision {revision}"

    @property
    def degraded(self) -> bool:
        """Whether a beat would now say that all is not well."""
        return self._trouble() is not None

    async def beat(self) -> None:
        """Send one beat. A bus that is away costs this beat, no more."""
        trouble, remark = self._trouble(), self._remark()
        every_sec = self.pulse.interval_sec
        status: Status = "degraded" if trouble else "ok"
        await self._send(status, trouble or remark, every_sec, min(2.0, max(0.5, every_sec)))

    async def goodbye(self) -> None:
        """Say that no more beats will come. The key's age stays that of the last living beat."""
        await self._send("stopping", None, None, GOODBYE_SEC if self._failing is None else GOODBYE_SEC / 4)

    async def _send(
        self, status: Status, detail: str | None, every_sec: float | None, within_sec: float
    ) -> None:
        self.i += 1  # tried counts: one that timed out may have arrived, and would else look like a replay
        to = self.pulse
        said = beat.make(
            self.svc,
            self.i,
            time.time(),
            boot=self.boot,
            rev=to.revision,
            status=status,
            detail=detail,
            every=every_sec,
            sender=self._sender if self._introduces() else None,
        )
        pipe = to.bus.pipeline()
        pipe.publish(to.channel, said)
        if status == "stopping":
            pipe.set(last_beat_key(self.svc), said, xx=True, keepttl=True)
        else:
            pipe.set(last_beat_key(self.svc), said, px=max(1, round(2000 * to.timeout_sec)))
        try:
            await to.bus.ask(pipe.execute(), within_sec)
        except BusError as error:
            self._failed(error)
        else:
            self._arrived()

    def _introduces(self) -> bool:
        """Whether this beat says who sends it; not all do: the healer hears a hundred thousand of us."""
        return self.i <= INTRODUCED_BY or self.i % INTRODUCED_AGAIN == 0

    async def _until(self, due: float) -> None:
        try:
            async with asyncio.timeout_at(due):
                await self._changed.wait()
        except TimeoutError:
            return

    def _failed(self, error: BusError) -> None:
        self.failed += 1
        now = time.monotonic()
        if now - self._logged.get(error.reason, float("-inf")) >= LOG_EVERY_SEC:
            self._logged[error.reason] = now
            self._log.warning(
                "beat.failed", bus=error.bus, where=self.pulse.bus.where, reason=error.reason, i=self.i
            )
        self._failing = error.reason

    def _arrived(self) -> None:
        self.sent += 1
        self.sent_at = time.time()
        if self._failing is not None:
            self._log.info("beat.resumed", bus=self.pulse.bus.name, after=self._failing, i=self.i)
        self._failing = None
        self._logged.clear()
