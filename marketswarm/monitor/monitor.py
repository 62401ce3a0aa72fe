"""The vigil itself: who is watched, the loop that judges, and where verdicts go.

What a vigil keeps for one bus: a listener where it is listened to, an outbox where verdicts go.

The log line of each verdict, by one name for each thing that can happen.
"""

import asyncio
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.listener import Listener, moment
from marketswarm.detector import OVERDUE_SEC, State, Subject, Verdict
from marketswarm.keys import ALERT_LOG, monitor_lease_key
from marketswarm.monitor.bus_link import BusLink
from marketswarm.monitor.encoder import VerdictEncoder
from marketswarm.monitor.evaluation import DetectorFeed, Evaluator
from marketswarm.monitor.health import Health
from marketswarm.monitor.leadership import Fence, Leadership, SoleLeader
from marketswarm.monitor.metrics import MonitorMetrics
from marketswarm.monitor.publisher import LogLength, Publisher
from marketswarm.monitor.state import SaveFailures, StateKeeper
from marketswarm.truth import Watch

KEEP_UP_EVERY_SEC: Final = 1.0

log = logs.get("vigil")


ALONE: Final = SoleLeader()
_SAID: Final = {
    (Subject.SERVICE, State.UP): "service.up",
    (Subject.SERVICE, State.DOWN): "service.down",
    (Subject.SERVICE, State.UNWATCHED): "service.unwatched",
    (Subject.WATCH, State.UP): "service.watchable",
    (Subject.WATCH, State.DOWN): "service.unwatchable",
    (Subject.WATCH, State.UNWATCHED): "service.unwatched",
    (Subject.BUS, State.UP): "bus.up",
    (Subject.BUS, State.DOWN): "bus.down",
    (Subject.TRUTH, State.UP): "truth.agrees",
    (Subject.TRUTH, State.DOWN): "truth.drifted",
}


class Owner(Protocol):
    """Whose vigil it is: an agent, as far as a vigil needs one."""

    name: str
    boot: str

    def bus(self, name: str) -> Bus:
        """A bus by its name, closed by its owner. Raises BusError when its URL can't be had."""

    def progress(self) -> None:
        """Called whenever the clocks were looked at, and so only while detection works."""

    def set_degraded(self, detail: str | None) -> None:
        """Publication, once a second, what keeps the vigil from its work, or None."""


class Monitor:
    """Call `watch` first, then `run`.

    Args:
        keeper: whose it is; its name prefixes the keys of the memory.
        notices: how its verdicts are written.
        home: the bus that holds its memory, and to which verdicts on services go.
        everywhere: whether verdicts on services go to every bus, as those on buses do.
        voice: whether it leads or stands by; without one it is the only one of its name.
    """

    def __init__(
        self,
        owner: Owner,
        notices: VerdictEncoder,
        *,
        home: str,
        everywhere: bool = False,
        leadership: Leadership = ALONE,
    ) -> None:
        poked = self._poked = asyncio.Event()
        self.ear = DetectorFeed(
            publish=self.publish,
            poke=poked.set,
            joined=self._joined,
            ended=self._silence_ended,
        )
        self.detector = self.ear.detector
        self._health = Health(self.detector, kind=notices.ok, by=notices.by)
        self._leadership = leadership
        self._failures = SaveFailures()
        self._memory = StateKeeper(
            self.detector,
            self.ear.restarts,
            self._health,
            listener=owner.name,
            bus=self._bus,
            publish=self.publish,
            leadership=leadership,
            failures=self._failures,
        )
        self._owner = owner
        self._notices = notices
        self._home = home
        self._everywhere = everywhere
        self._posts: dict[str, BusLink] = {}
        self.log_lengths: dict[str, LogLength] = {}
        """By bus, how long the log of alerts there is to be."""
        self.metrics = MonitorMetrics(self.detector, self._posts, leadership, self._failures.counts)
        self._judging = Evaluator(self.ear, self._posts, poked, progress=owner.progress, publish=self.publish)
        self._group: asyncio.TaskGroup | None = None

    # -- who is watched

    def watch(
        self,
        watches: Sequence[Watch],
        listen: Mapping[str, float],
        tell: Collection[str],
        services: int | None = None,
    ) -> None:
        """Puts a roster in force, at the start or while running.

        `listen` names the buses to be heard with the seconds after which each counts as lost, `tell` those
        that verdicts go to, `services` how many services the log of alerts is for (None: as many as are
        watched here). Raises BusError when a URL can't be had; nothing has changed then.
        """
        opened = {name: self._owner.bus(name) for name in {*listen, *tell, self._home}}
        for name in self._posts.keys() - opened.keys():
            self._posts.pop(name).stop()
        for name, bus in opened.items():
            self._open_link(name, bus, listened=name in listen, told=name in {*tell, self._home})
        for name, post in self._posts.items():
            if post.outbox is not None:
                post.outbox.keep_for(len(watches))
                self.log_lengths[name].services = len(watches) if services is None else services
        for verdict in self.detector.set_roster(watches, listen, moment()):
            self.publish(verdict)
        for name, watched in self.detector.buses.items():
            listener = self._posts[name].listener
            if listener is not None:
                listener.listen_to(frozenset(record.watch.channel for record in watched.channels.values()))
        self._poked.set()
        log.info("vigil.monitoring", services=len(self.detector.services), buses=sorted(listen))

    def _open_link(self, name: str, bus: Bus, *, listened: bool, told: bool) -> None:
        """Sees that a bus has a post with the parts that it needs."""
        before = self._posts.get(name)
        have = before and (before.bus, before.listener is not None, before.outbox is not None)
        if have == (bus, listened, told):
            return
        listener = (
            Listener(bus, self.ear, listener=self._owner.name, boot=self._owner.boot) if listened else None
        )
        outbox = None
        if told:
            outbox = Publisher(
                bus,
                listener=self._owner.name,
                stream=ALERT_LOG,
                log_length=self.log_lengths.setdefault(name, LogLength(ALERT_LOG)),
                write=self._notices.encode,
                told=self._told,
                leadership=self._leadership,
                take_over=functools.partial(self._take_over, name),
            )
        post = self._posts[name] = BusLink(bus, listener, outbox)
        if before is not None:
            before.replaced_by(post)
        if self._group is not None:
            post.start(self._group)

    def _bus(self, name: str) -> Bus:
        return self._posts[name].bus

    async def run(self) -> None:
        """Watches until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for post in self._posts.values():
                post.start(group)
            group.create_task(self._memory.run(self._home), name="memory")
            group.create_task(self._keep_up(), name="keep_up")
            await self._judging.run(group)

    def _trouble(self) -> str | None:
        """What keeps this vigil from hearing, judging or telling, in words for a beat's `detail`."""
        untold = [
            f"{len(post.outbox)} untold on {name} ({post.outbox.refusal})"
            + (f", {post.outbox.superseded} superseded" if post.outbox.superseded else "")
            for name, post in self._posts.items()
            if post.outbox is not None and post.outbox.refusal
        ]
        full = [
            f"unread events go from the log on {name}"
            for name, length in self.log_lengths.items()
            if length.overflows
        ]
        found = [
            self.ear.deafness(moment()),
            self.ear.refusals(),
            self._memory.trouble,
            *untold,
            *full,
            self._failures.trouble(),
        ]
        return "; ".join(filter(None, found)) or None

    # -- leading and standing by

    @property
    def evaluations(self) -> int:
        """How often the clocks were looked at: while it grows, detection works."""
        return self._judging.evaluations

    def unheard_buses(self) -> list[str]:
        """The buses that soon count as lost, and (`memory`) whether nothing can be concluded yet."""
        now = moment().mono
        deaf = [
            name
            for name, bus in self.detector.buses.items()
            if bus.is_poorly_heard
            or (
                not bus.clock.listening and bus.clock.unheard_for(now) > max(OVERDUE_SEC, bus.timeout_sec / 3)
            )
        ]
        return [*deaf, "memory"] if self.detector.is_restoring else deaf

    def leader_changed(self, name: str) -> None:
        """To be called when the leadership on a bus came or went."""
        post = self._posts.get(name)
        if post is not None:
            post.wake()

    async def _take_over(self, name: str, fence: Fence, untold: Collection[str]) -> None:
        if name == self._home:
            await self._memory.take_over(name, fence, untold)
        else:
            await self._memory.take_over_buses(name, untold)

    # -- telling

    def publish(self, verdict: Verdict) -> None:
        """Sends a verdict, ours or our keeper's, on its way to every bus that is to have it."""
        for name, post in self._posts.items():
            if post.outbox is not None and (
                name == self._home
                or verdict.subject not in (Subject.SERVICE, Subject.WATCH)
                or self._everywhere
            ):
                post.outbox.put(verdict)
        log_verdict(verdict, leads=self._leadership.fence(self._home) is not None)

    def _told(self, verdict: Verdict) -> None:
        self.metrics.told(verdict)
        if verdict.subject is Subject.SERVICE and verdict.gap_sec is None:
            self._health.told(verdict, self._notices.raw_event(verdict))
        elif verdict.subject is Subject.WATCH and verdict.state is State.UP:
            self._health.resume(verdict.svc)

    async def _keep_up(self) -> None:
        while True:
            try:
                await self._refresh()
            except BusError as error:
                self._failures.failed("health", error)
            else:
                if not self._health.unwritten:
                    self._failures.saved("health")
            self._owner.set_degraded(self._trouble())
            await asyncio.sleep(KEEP_UP_EVERY_SEC)

    async def _refresh(self) -> None:
        fence = self._leadership.fence(self._home)
        if fence is not None:
            lease = monitor_lease_key(self._owner.name)
            if not await self._health.refresh(self._bus(self._home), lease, fence):
                self._leadership.deny_leadership(self._home)

    def _silence_ended(self) -> None:
        self._memory.save_soon()

    def _joined(self, bus: str) -> None:
        self._posts[bus].check_after_gap(self.detector.buses[bus].clock.proof.mono)
        if self._group is not None:
            self._group.create_task(self._memory.restore_lost_buses(bus), name=f"restore_lost_buses:{bus}")


def log_verdict(verdict: Verdict, *, leads: bool) -> None:
    """Logs a verdict; `leads` tells whether it is this listener's to tell."""
    known: dict[str, Any] = {
        "reason": verdict.reason,
        "late_sec": verdict.late_sec,
        "timeout_sec": verdict.timeout_sec if verdict.state is State.DOWN else None,
        "down_sec": verdict.down_sec,
        "gap_sec": verdict.gap_sec,
        "restarted": verdict.restarted,
    }
    if not leads:
        known["standing_by"] = True
    said = {key: round(v, 3) if isinstance(v, float) else v for key, v in known.items() if v is not None}
    event = f"{verdict.subject}.gap" if verdict.gap_sec is not None else _SAID[verdict.subject, verdict.state]
    log.info(event, svc=verdict.svc, **said)
