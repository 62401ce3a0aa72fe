"""Heartbeats of an agent: sent at a fixed interval, and only while its work makes progress.

A beat that the bus does not take is counted and logged; the next one is sent on time all the same. The module
`marketswarm.beat` makes and parses the payload of a beat.
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
    """The time of the work loop's last progress, in monotonic seconds, and whether the loop rests now.

    Joining the swarm counts as progress, and so does resting.
    """

    def __init__(self, now: float) -> None:
        self.at = now
        self._resting = 0
        self._made = asyncio.Event()
        self._made.set()

    @property
    def resting(self) -> bool:
        """Return True while the work loop waits on purpose."""
        return self._resting > 0

    def make(self, now: float) -> None:
        """Record that the work loop made progress at `now`."""
        self.at = now
        self._made.set()

    def rest(self, now: float) -> None:
        """Record that the work loop begins to wait on purpose, until `resume`. Such waits may be nested."""
        self._resting += 1
        self.make(now)

    def resume(self, now: float) -> None:
        """Record that the work loop ended a wait that `rest` began."""
        self._resting -= 1
        self.make(now)

    async def since_last_beat(self) -> None:
        """Wait until the work loop made progress after this method last returned.

        While it rests, return at once.
        """
        await self._made.wait()
        if not self.resting:
            self._made.clear()

    def silent_sec(self, now: float) -> float:
        """Return the seconds since the last progress; 0 while the work loop rests."""
        return 0.0 if self.resting else now - self.at


JITTER: Final = 0.02  # part of the interval: spreads beats of many agents; a gap stays below 1.02 intervals


class BeatSchedule:
    """The times at which beats are due, at one interval, after a first beat at `now`.

    `phase`, in [0, 1), sets the first gap to between a half and a whole interval, so that agents that start
    together beat at different times. All times are in the seconds of one clock.
    """

    def __init__(self, interval_sec: float, now: float, phase: float) -> None:
        self.interval_sec = interval_sec
        self._slot = now - interval_sec * (1 - phase) / 2  # the first gap is a half to a whole interval

    def next_due(self, now: float, chance: float) -> float:
        """Return the time at which the beat after the one at `now` is due; slots in the past are skipped.

        `chance`, in [0, 1), makes it up to 2 % of an interval earlier.
        """
        passed = max(0, int((now - self._slot) // self.interval_sec))
        self._slot += (passed + 1) * self.interval_sec
        return self._slot - JITTER * self.interval_sec * chance


LOG_EVERY_SEC: Final = 30.0
GOODBYE_SEC: Final = 1.0
INTRODUCED_BY: Final = 3  # the first beats name the sender: a listener may miss one of them
INTRODUCED_AGAIN: Final = 360  # then every 360th beat, for later listeners: each hour at 10 s a beat


@dataclass(frozen=True, slots=True)
class BeatTarget:
    """Where an agent's beats go, how often, the agent's timeout, and the truth's revision that says so."""

    bus: Bus
    channel: str
    interval_sec: float
    timeout_sec: float
    revision: int | None


class HeartbeatSender:
    """Sends the beats of one process.

    `i` counts the beats that it tried to send, `sent` the beats that the bus accepted, `failed` those that it
    did not; `sent_at` is the time at which the bus last accepted one, in epoch seconds.

    Args:
        svc: the service's name.
        boot: this process's random id.
        target: the bus, channel and interval of the beats.
        progress: the work loop's progress; without progress no beat is sent.
        trouble: returns why the agent is degraded, or None.
        detail: returns the detail of beats that are not degraded, or None.
        sender: host, version and start time of the process.
        on_beat: called after each beat that `run` sends, accepted or not.
    """

    def __init__(
        self,
        svc: str,
        boot: str,
        target: BeatTarget,
        progress: Progress,
        *,
        trouble: Callable[[], str | None],
        detail: Callable[[], str | None],
        sender: Sender,
        on_beat: Callable[[], None],
    ) -> None:
        self.svc, self.boot, self.target = svc, boot, target
        self.i = self.sent = self.failed = 0
        self.sent_at: float | None = None
        self._progress, self._trouble, self._detail = progress, trouble, detail
        self._sender, self._on_beat = sender, on_beat
        self._changed = asyncio.Event()
        self._failing: str | None = None
        self._logged: dict[str, float] = {}  # by reason, when it was last logged: two reasons may alternate
        self._log = log.get(svc)

    def change(self, target: BeatTarget) -> None:
        """Send beats to another target from now on, the first at once."""
        self.target = target
        self._changed.set()

    async def run(self) -> None:
        """Send a beat at each interval until cancelled, the first at once.

        Wait while there is no progress.
        """
        clock = asyncio.get_running_loop().time
        schedule = BeatSchedule(self.target.interval_sec, clock(), random.random())
        while True:
            await self._progress.since_last_beat()
            if self._changed.is_set():
                self._changed.clear()
                schedule = BeatSchedule(self.target.interval_sec, clock(), random.random())
            await self.beat()
            self._on_beat()
            await self._until(schedule.next_due(clock(), random.random()))

    @property
    def status(self) -> str:
        """Return the agent's status as one line, for a health check or systemd."""
        trouble = self._trouble()
        words = f"degraded: {trouble}" if trouble else self._detail() or "ok"
        if self._failing is not None:
            words = f"{self.target.bus.name} takes no beats ({self._failing}); {words}"
        revision = self.target.revision
        return words if revision is None else f"{words}; truth revision {revision}"

    @property
    def degraded(self) -> bool:
        """Return True if a beat sent now would have the status `degraded`."""
        return self._trouble() is not None

    async def beat(self) -> None:
        """Send one beat. If the bus does not answer within the interval (0.5 to 2 s), drop this beat."""
        trouble, detail = self._trouble(), self._detail()
        every_sec = self.target.interval_sec
        status: Status = "degraded" if trouble else "ok"
        await self._send(status, trouble or detail, every_sec, min(2.0, max(0.5, every_sec)))

    async def goodbye(self) -> None:
        """Send a beat with status `stopping`, the last one.

        The last-beat key keeps its remaining time to live.
        """
        await self._send("stopping", None, None, GOODBYE_SEC if self._failing is None else GOODBYE_SEC / 4)

    async def _send(
        self, status: Status, detail: str | None, every_sec: float | None, within_sec: float
    ) -> None:
        """Publish a beat, store it under the last-beat key, and count whether the bus took it.

        `every_sec` is the interval that the beat announces, or None for a last beat; `within_sec` limits the
        wait for the bus's answer.
        """
        self.i += 1  # counts attempts: a beat that timed out may have arrived, and no `i` is sent twice
        to = self.target
        said = beat.encode_beat(
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
        """Return True if this beat carries the sender's host, version and start time.

        That is so for the first three beats and every 360th, since the healer hears up to 100,000 senders.
        """
        return self.i <= INTRODUCED_BY or self.i % INTRODUCED_AGAIN == 0

    async def _until(self, due: float) -> None:
        """Wait until the loop's clock reads `due`, or until the target changes."""
        try:
            async with asyncio.timeout_at(due):
                await self._changed.wait()
        except TimeoutError:
            return

    def _failed(self, error: BusError) -> None:
        """Count a beat that failed, and log each reason at most once in 30 s."""
        self.failed += 1
        now = time.monotonic()
        if now - self._logged.get(error.reason, float("-inf")) >= LOG_EVERY_SEC:
            self._logged[error.reason] = now
            self._log.warning(
                "beat.failed", bus=error.bus, where=self.target.bus.where, reason=error.reason, i=self.i
            )
        self._failing = error.reason

    def _arrived(self) -> None:
        """Count a beat that the bus accepted, and log the end of a series of failures."""
        self.sent += 1
        self.sent_at = time.time()
        if self._failing is not None:
            self._log.info("beat.resumed", bus=self.target.bus.name, after=self._failing, i=self.i)
        self._failing = None
        self._logged.clear()
