"""A vigil: buses listened to, liveness fed, verdicts told, silences remembered.

The healer keeps one over all services and the sentinel one over the healer; they share this code, but no
process, no connection and no key. It does what `liveness` concludes and concludes nothing itself.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.beat import Malformed
from marketswarm.bus import Bus, BusError
from marketswarm.health import Health
from marketswarm.listen import Listener, moment
from marketswarm.liveness import (
    NO_TIMEOUT,
    Acquitted,
    Liveness,
    Moment,
    State,
    Suspect,
    Testimony,
    Verdict,
    recall,
    recall_bus,
)
from marketswarm.notices import Notices, health_sec
from marketswarm.remember import BUS_FIELD, Entry, Memory, remembered
from marketswarm.tell import Notice, Outbox
from marketswarm.testify import testify
from marketswarm.truth import Watch

SAVE_EVERY_SEC: Final = 1.0
RETRY_SEC: Final = 0.5
NOTE_EVERY_SEC: Final = 1.0

NEVER: Final = NO_TIMEOUT
"""For `listen`: the loss of that bus is for others to tell."""

log = logs.get("vigil")


class Post:
    """What is kept for one bus: a listener where it is listened to, an outbox where verdicts are told."""

    def __init__(self, bus: Bus, listener: Listener | None, outbox: Outbox | None) -> None:
        self.bus = bus
        self.listener = listener
        self.outbox = outbox
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, group: asyncio.TaskGroup) -> None:
        """Lets both run, in the group of whoever answers for them."""
        for part in (self.listener, self.outbox):
            if part is not None:
                self._tasks.append(
                    group.create_task(part.run(), name=f"{type(part).__name__}:{self.bus.name}")
                )

    def stop(self) -> None:
        """Ends both."""
        for task in self._tasks:
            task.cancel()


class Vigil:
    """Call `watch` first, then `run`. It is the `Ear` of its own listeners.

    Args:
        notices: how its verdicts are written.
        listener: who listens: prefixes the keys of its memory.
        boot: the listener's own instance.
        home: the bus that holds its memory, and to which verdicts on services go.
        stream: the durable log's key.
        open_bus: gives a bus by its name; its owner closes it.
        progress: called whenever the clocks were looked at, and so only while detection works.
        everywhere: whether verdicts on services go to every bus, as those on buses do.
    """

    def __init__(
        self,
        notices: Notices,
        *,
        listener: str,
        boot: str,
        home: str,
        stream: str,
        open_bus: Callable[[str], Bus],
        progress: Callable[[], None],
        everywhere: bool = False,
    ) -> None:
        self.life = Liveness(moment(), on_malformed=self._note_malformed)
        self._health = Health(self.life, kind=notices.ok, by=notices.by)
        self._notices = notices
        self._listener, self._boot, self._home, self._stream = listener, boot, home, stream
        self._everywhere = everywhere
        self._open_bus = open_bus
        self._progress = progress
        self._posts: dict[str, Post] = {}
        self._group: asyncio.TaskGroup | None = None
        self._poked = asyncio.Event()
        self._recalled_buses: set[str] = set()
        self._malformed: tuple[str, str] | None = None
        self._malformed_noted = (0, 0.0)

    # -- who is watched

    def watch(self, watches: Sequence[Watch], listen: Mapping[str, float], tell: Collection[str]) -> None:
        """Puts a roster in force, at the start or while running.

        `listen` names the buses to be heard with the seconds after which each counts as lost, `tell` those
        that verdicts go to. Raises BusError when a URL can't be had; nothing has changed then.
        """
        opened = {name: self._open_bus(name) for name in {*listen, *tell, self._home}}
        for name in self._posts.keys() - opened.keys():
            self._posts.pop(name).stop()
        for name, bus in opened.items():
            self._take_post(name, bus, listened=name in listen, told=name in {*tell, self._home})
        for verdict in self.life.rewatch(watches, listen, moment()):
            self._conclude(verdict)
        for name, watched in self.life.buses.items():
            listener = self._posts[name].listener
            if listener is not None:
                listener.listen_to(frozenset(channel.decode() for channel in watched.channels))
        self._poked.set()
        log.info("vigil.monitoring", services=len(self.life.records), buses=sorted(listen))

    def _take_post(self, name: str, bus: Bus, *, listened: bool, told: bool) -> None:
        before = self._posts.get(name)
        if before is not None and before.bus is bus and (before.listener is not None) == listened:
            return
        listener = Listener(bus, self, listener=self._listener, boot=self._boot) if listened else None
        outbox = None
        if told:
            outbox = Outbox(bus, roster=f"{self._listener}:roster", stream=self._stream, told=self._told)
        if before is not None:
            before.stop()
            if outbox is not None and before.outbox is not None:
                outbox.inherit(before.outbox)
        post = self._posts[name] = Post(bus, listener, outbox)
        if self._group is not None:
            post.start(self._group)

    async def run(self) -> None:
        """Watches until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for post in self._posts.values():
                post.start(group)
            group.create_task(self._remember(), name="remember")
            group.create_task(self._refresh(), name="refresh")
            await self._judge(group)

    # -- judging: the loop that all this is for

    async def _judge(self, group: asyncio.TaskGroup) -> None:
        while True:
            tick = self.life.tick(moment())
            self._progress()
            for verdict in tick.verdicts:
                self._conclude(verdict)
            for name in tick.urge:
                self._urge(name)
            for bus, services in _by_bus(tick.suspects).items():
                group.create_task(self._ask_witness(bus, services), name=f"witness:{bus}")
            self._complain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(tick.wake_in):
                    await self._poked.wait()
            self._poked.clear()

    def _urge(self, name: str) -> None:
        post = self._posts.get(name)
        if post is not None and post.listener is not None:
            post.listener.urge()

    async def _ask_witness(self, name: str, services: list[str]) -> None:
        """Asks `beat:<svc>` of each suspect before it is declared down."""
        try:
            found = await testify(self._posts[name].bus, self._timeouts(services))
        except (BusError, KeyError):
            for svc in services:
                self.life.unasked(svc)
            return
        acquitted = None
        for svc in services:
            verdict = self.life.witness(svc, found.get(svc), moment())
            if isinstance(verdict, Verdict):
                self._conclude(verdict)
            elif verdict is not None:
                acquitted = verdict
        self._poked.set()
        if acquitted is not None:
            self._mistrust(name, acquitted)

    def _mistrust(self, name: str, acquitted: Acquitted) -> None:
        """A service beats and is not heard: the fault is ours."""
        log.error("vigil.deaf", svc=acquitted.svc, bus=name, age_sec=round(acquitted.age_sec, 3))
        post = self._posts.get(name)
        if post is not None and post.listener is not None:
            post.listener.rebuild()

    def _timeouts(self, services: Collection[str]) -> dict[str, float]:
        records = self.life.records
        return {svc: records[svc].watch.timeout_sec for svc in services if svc in records}

    def _conclude(self, verdict: Verdict) -> None:
        """Sends a verdict on its way to every bus that is to have it."""
        record = self.life.records.get(verdict.svc)
        notice = self._notices.notice(verdict, health_sec(record.watch.timeout_sec if record else 0.0))
        for name, post in self._posts.items():
            if post.outbox is not None and (name == self._home or verdict.of_bus or self._everywhere):
                post.outbox.put(notice)
        _announce(verdict)

    def _told(self, notice: Notice) -> None:
        if not notice.field.startswith(BUS_FIELD):
            self._health.told(notice)

    # -- memory

    async def _remember(self) -> None:
        """Recalls what an earlier run knew, then keeps saving what a later one must know."""
        home = self._posts[self._home].bus
        memory = Memory(home, self._listener)
        while self.life.held:
            try:
                await self._recall(memory)
            except BusError as error:
                log.warning("vigil.memory_away", bus=error.bus, reason=error.reason)
                await asyncio.sleep(RETRY_SEC)
        log.info("vigil.recalled", services=len(self.life.records))
        unsaved: dict[str, Any] = {}
        while True:
            unsaved |= self.life.dirty
            self.life.dirty = {}
            try:
                await memory.save(unsaved, self.life, moment())
                unsaved = {}
            except BusError as error:
                log.debug("vigil.not_saved", bus=error.bus, reason=error.reason)
            await asyncio.sleep(SAVE_EVERY_SEC)

    async def _recall(self, memory: Memory) -> None:
        roster = await memory.roster()
        silences, clocks = await memory.silences()
        buses = {svc: record.watch.bus for svc, record in self.life.records.items()}
        testimonies: dict[str, Testimony] = {}
        for name in self.life.buses:
            services = [svc for svc, bus in buses.items() if bus == name]
            # a bus that is away has no witnesses; its services get their warm-up when it is back
            with contextlib.suppress(BusError):
                testimonies |= await testify(self._posts[name].bus, self._timeouts(services))
        known = remembered(roster, silences, clocks, buses)
        for verdict in recall(self.life, known, testimonies, moment()):
            self._conclude(verdict)
        self._recall_buses(roster)
        for svc, entry in roster.items():
            if svc in self.life.records:
                self._health.recall(svc, entry.get("event"))
        self.life.dirty |= {svc: None for svc in silences if svc not in self.life.records}
        self._poked.set()

    async def _recall_elsewhere(self, name: str) -> None:
        """A lost bus may be remembered on the other one alone: on the first session, looks there too."""
        post = self._posts.get(name)
        if post is None or post.outbox is None or name in self._recalled_buses:
            return
        with contextlib.suppress(BusError):
            self._recall_buses(await Memory(post.bus, self._listener).roster(f"{BUS_FIELD}*"))
            self._recalled_buses.add(name)

    def _recall_buses(self, roster: Mapping[str, Entry]) -> None:
        for field, entry in roster.items():
            if field.startswith(BUS_FIELD) and entry["verdict"] == "down":
                since = entry.get("since")
                verdict = recall_bus(
                    self.life,
                    field.removeprefix(BUS_FIELD),
                    since if type(since) is float else None,
                    moment(),
                )
                if verdict is not None:
                    self._conclude(verdict)

    async def _refresh(self) -> None:
        while True:
            with contextlib.suppress(BusError):
                await self._health.refresh(self._posts[self._home].bus)
            await asyncio.sleep(SAVE_EVERY_SEC)

    # -- the ear

    def opened(self, bus: str) -> None:
        """See `Ear`."""
        if bus in self.life.buses:
            self.life.buses[bus].clock.opened()
            log.info("vigil.listening", bus=bus, channels=len(self.life.buses[bus].channels))
        if self._group is not None:
            self._group.create_task(self._recall_elsewhere(bus), name=f"recall:{bus}")

    def lost(self, bus: str, reason: str) -> None:
        """See `Ear`."""
        if bus in self.life.buses:
            clock = self.life.buses[bus].clock
            if clock.listening:
                log.warning("vigil.lost", bus=bus, reason=reason)
            clock.lost(reason)

    def heard(self, bus: str, messages: Sequence[Sequence[Any]], now: Moment) -> Sequence[Sequence[Any]]:
        """See `Ear`."""
        hearing = self.life.hear(bus, messages, now)
        for verdict in hearing.verdicts:
            self._conclude(verdict)
        return hearing.others

    def canary_sent(self, bus: str, number: int, now: Moment) -> None:
        """See `Ear`."""
        if bus in self.life.buses:
            self.life.buses[bus].clock.sent(number, now.mono)

    def canary_accepted(self, bus: str) -> None:
        """See `Ear`."""
        if bus in self.life.buses:
            self.life.buses[bus].clock.accepted()

    def canary_refused(self, bus: str, reason: str) -> None:
        """See `Ear`."""
        if bus in self.life.buses:
            self.life.buses[bus].clock.refused(reason)

    def canary_heard(self, bus: str, number: int, now: Moment) -> None:
        """See `Ear`."""
        verdict = self.life.canary(bus, number, now)
        if verdict is not None:
            self._conclude(verdict)
        if bus in self.life.buses and self.life.buses[bus].waiting:
            self._poked.set()

    def deaf_for(self, bus: str, now: float) -> float:
        """See `Ear`."""
        return self.life.buses[bus].clock.deaf_for(now) if bus in self.life.buses else 0.0

    def deafness(self, now: Moment) -> str | None:
        """What can't be heard for longer than a hiccup, in words for a beat's `detail`; None when all is."""
        lost = [
            f"{bus.name} ({bus.clock.reason})"
            for bus in self.life.buses.values()
            if not bus.clock.listening and now.mono - bus.clock.proof.mono > 2.0
        ]
        return f"not hearing {', '.join(lost)}" if lost else None

    # -- what is worth a line

    def _note_malformed(self, svc: str, found: Malformed) -> None:
        self._malformed = svc, found.reason

    def _complain(self) -> None:
        """One line a second at most, with the count, however much rubbish comes."""
        count, noted_at = self._malformed_noted
        now = time.monotonic()
        if self._malformed is None or now - noted_at < NOTE_EVERY_SEC:
            return
        svc, reason = self._malformed
        total = self.life.counts.malformed
        log.warning("beat.malformed", last_svc=svc, last_reason=reason, count=total - count, total=total)
        self._malformed, self._malformed_noted = None, (total, now)


def _by_bus(suspects: Sequence[Suspect]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for suspect in suspects:
        found.setdefault(suspect.bus, []).append(suspect.svc)
    return found


_EVENTS: Final = {
    (False, State.UP): "service.up",
    (False, State.DOWN): "service.down",
    (False, State.UNWATCHED): "service.unwatched",
    (True, State.UP): "bus.up",
    (True, State.DOWN): "bus.down",
}


def _announce(verdict: Verdict) -> None:
    known = {
        "reason": verdict.reason,
        "late_sec": verdict.late_sec,
        "timeout_sec": verdict.timeout_sec,
        "down_sec": verdict.down_sec,
    }
    said = {key: round(v, 3) if isinstance(v, float) else v for key, v in known.items() if v is not None}
    log.info(_EVENTS[verdict.of_bus, verdict.state], svc=verdict.svc, **said)
