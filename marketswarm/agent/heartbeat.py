"""Heartbeats of an agent: sent at a fixed interval, and only while its work makes progress.

A beat that the bus does not take is counted and logged; the next one is sent on time all the same. The module
`marketswarm.beat` makes and parses the payload of a beat.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from marketswarm import beat, log
from marketswarm.beat import Sender, Status
from marketswarm.bus import Bus, BusError
from marketswarm.bus.outage import Outage
from marketswarm.keys import last_beat_key

JITTER: Final = 0.02  # part of the interval: spreads beats of many agents; a gap stays below 1.02 intervals
GOODBYE_WITHIN_SEC: Final = 1.0
SENDER_IN_FIRST_BEATS: Final = 3  # the first beats name the sender, because a listener may miss one of them
SENDER_EVERY_BEATS: Final = 30  # then every 30th beat, for later listeners: each five minutes at 10 s a beat

_MUTE_SEC: Final = 0.5  # how often one that is mute looks whether it still is


class Progress:
    """The time of the work loop's last progress, in monotonic seconds, and whether the loop rests now.

    Joining the swarm and resting count as progress.
    """

    def __init__(self, now: float) -> None:
        self.last_at = now
        self._rest_count = 0
        self._has_progress = asyncio.Event()
        self._has_progress.set()

    @property
    def is_resting(self) -> bool:
        return self._rest_count > 0

    def record(self, now: float) -> None:
        self.last_at = now
        self._has_progress.set()

    @contextlib.contextmanager
    def resting(self, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
        """The work loop waits on purpose inside this block. Such blocks may be nested."""
        self._rest_count += 1
        self.record(clock())
        try:
            yield
        finally:
            self._rest_count -= 1
            self.record(clock())

    async def wait_for_progress(self) -> None:
        """Wait for progress since this method last returned; while the loop rests, return at once."""
        await self._has_progress.wait()
        if not self.is_resting:
            self._has_progress.clear()

    def silent_sec(self, now: float) -> float:
        """Return the seconds since the last progress; 0 while the work loop rests."""
        return 0.0 if self.is_resting else now - self.last_at


class BeatSchedule:
    """The times at which beats are due, at one interval, after a first beat at `now`.

    `phase`, in [0, 1), sets the first gap to between a half and a whole interval, so that agents that start
    together beat at different times. All times are in the seconds of one clock.
    """

    def __init__(self, interval_sec: float, now: float, phase: float) -> None:
        self.interval_sec = interval_sec
        self._slot = now - interval_sec * (1 - phase) / 2  # the first gap is a half to a whole interval

    def advance(self, now: float, chance: float) -> float:
        """Return the time at which the beat after the one at `now` is due; slots in the past are skipped.

        `chance`, in [0, 1), makes it up to 2 % of an interval earlier.
        """
        missed_slots = max(0, int((now - self._slot) // self.interval_sec))
        self._slot += (missed_slots + 1) * self.interval_sec
        return self._slot - JITTER * self.interval_sec * chance


@dataclass(frozen=True, slots=True)
class BeatTarget:
    """Where the beats of an agent go, how often, and the revision of the truth that says so."""

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
        progress: the work loop's progress; without progress no beat is sent.
        get_trouble: returns why the agent is degraded, or None.
        get_detail: returns the detail of beats that are not degraded, or None.
        on_beat: called after each beat that `run` sends, accepted or not; while mute, in its place.
        is_mute: returns True if no beat is to be sent, and no goodbye.
    """

    def __init__(
        self,
        svc: str,
        boot: str,
        target: BeatTarget,
        progress: Progress,
        *,
        get_trouble: Callable[[], str | None],
        get_detail: Callable[[], str | None],
        sender: Sender,
        on_beat: Callable[[], None],
        is_mute: Callable[[], bool] = lambda: False,
    ) -> None:
        self.svc, self.boot, self.target = svc, boot, target
        self.i = self.sent = self.failed = 0
        self.sent_at: float | None = None
        self._life_sec: float | None = None  # of the last-beat key
        self._progress, self._get_trouble, self._get_detail = progress, get_trouble, get_detail
        self._sender, self._on_beat, self._is_mute = sender, on_beat, is_mute
        self._target_changed = asyncio.Event()
        self._outage = Outage(
            log.get(svc), "beat.failed", "beat.resumed", where=lambda: self.target.bus.where, i=lambda: self.i
        )

    def set_target(self, target: BeatTarget) -> None:
        self.target = target
        self._target_changed.set()

    async def run(self) -> None:
        """Send a beat at each interval, the first at once, but none while there is no progress."""
        clock = asyncio.get_running_loop().time
        schedule = BeatSchedule(self.target.interval_sec, clock(), random.random())
        while True:
            await self._progress.wait_for_progress()
            if self._target_changed.is_set():
                self._target_changed.clear()
                schedule = BeatSchedule(self.target.interval_sec, clock(), random.random())
            if self._is_mute():
                self._on_beat()
                await self._sleep_until(clock() + min(_MUTE_SEC, self.target.interval_sec))
                continue
            trouble, every_sec = self._get_trouble(), self.target.interval_sec
            # a beat that the bus does not accept within the interval (0.5 to 2 s) is dropped
            await self._send(
                "degraded" if trouble else "ok",
                trouble or self._get_detail(),
                every_sec,
                min(2.0, max(0.5, every_sec)),
            )
            self._on_beat()
            await self._sleep_until(schedule.advance(clock(), random.random()))

    @property
    def status(self) -> str:
        trouble = self._get_trouble()
        text = f"degraded: {trouble}" if trouble else self._get_detail() or "ok"
        if self._outage.reason is not None:
            text = f"{self.target.bus.name} takes no beats ({self._outage.reason}); {text}"
        revision = self.target.revision
        return text if revision is None else f"{text}; truth revision {revision}"

    @property
    def is_taken(self) -> bool:
        """Whether a bus has taken a beat, or none is to be sent."""
        return self.sent > 0 or self._is_mute()

    @property
    def is_degraded(self) -> bool:
        return self._get_trouble() is not None

    async def send_goodbye(self) -> None:
        """Send a last beat, `stopping`. The last-beat key keeps its remaining time to live."""
        if self._is_mute():
            return
        within_sec = GOODBYE_WITHIN_SEC if self._outage.error is None else GOODBYE_WITHIN_SEC / 4
        await self._send("stopping", None, None, within_sec)

    async def _send(
        self, status: Status, detail: str | None, every_sec: float | None, within_sec: float
    ) -> None:
        """Publish one beat and store it under `beat:<svc>`; a last beat only replaces one that is there.

        `every_sec` is the interval that the beat announces, or None for a last beat.
        """
        self.i += 1  # counts attempts: a beat that timed out may have arrived, and no `i` is sent twice
        target = self.target
        # not in each beat, because the healer hears up to 100,000 senders
        is_with_sender = self.i <= SENDER_IN_FIRST_BEATS or self.i % SENDER_EVERY_BEATS == 0
        is_goodbye = status == "stopping"
        life_sec = self._life_sec if is_goodbye else beat.compute_life_sec(target.timeout_sec)
        sent = beat.Beat(
            self.svc,
            self.i,
            time.time(),
            boot=self.boot,
            rev=target.revision,
            status=status,
            detail=detail,
            every=every_sec,
            life=life_sec,
        )
        payload = beat.encode_beat(sent, self._sender if is_with_sender else None)
        pipe = target.bus.pipeline()
        pipe.publish(target.channel, payload)
        if life_sec is None or is_goodbye:
            pipe.set(last_beat_key(self.svc), payload, xx=True, keepttl=True)
        else:
            pipe.set(last_beat_key(self.svc), payload, px=max(1, round(1000 * life_sec)))
        try:
            await target.bus.ask(pipe.execute(), within_sec)
        except BusError as error:
            self.failed += 1
            self._outage.record(error)
        else:
            self.sent += 1
            self._life_sec = life_sec
            self.sent_at = time.time()
            self._outage.end()

    async def _sleep_until(self, due: float) -> None:
        try:
            async with asyncio.timeout_at(due):
                await self._target_changed.wait()
        except TimeoutError:
            return
