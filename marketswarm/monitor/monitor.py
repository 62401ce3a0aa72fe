"""The monitor: it listens to buses, detects silent services, and publishes the verdicts.

Listeners report beats and canaries to `feed`, which passes them to the detector. The `Evaluator` asks the
detector which services are due, and reads `beat:<svc>` of each before it is declared missing. Each verdict is
logged and goes to the publisher of each bus that is to have it. `state` restores the state of an earlier run.
"""

import asyncio
import contextlib
import functools
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.listener import Listener, read_clocks
from marketswarm.bus.outage import PAUSES
from marketswarm.detector import (
    OVERDUE_SEC,
    EndedRun,
    FailedRun,
    RosterChange,
    State,
    Subject,
    UnheardBeat,
    Verdict,
    plan_change,
)
from marketswarm.keys import monitor_lease_key
from marketswarm.monitor.bus_link import BusLink
from marketswarm.monitor.encoder import REACH_FIELD, VerdictEncoder
from marketswarm.monitor.feed import DetectorFeed
from marketswarm.monitor.health import HealthKeys
from marketswarm.monitor.leadership import CallNumbers, Fence, Leadership, SoleLeader
from marketswarm.monitor.metrics import MonitorMetrics
from marketswarm.monitor.publication_step import record_publication
from marketswarm.monitor.publisher import LogLength, Publisher
from marketswarm.monitor.state import SaveFailures, StateKeeper
from marketswarm.monitor.verdict_log import VerdictLog
from marketswarm.monitor.verdict_queue import VerdictQueue
from marketswarm.monitor.witness import StoredBeats, read_last_beats, read_last_runs
from marketswarm.time_slice import TimeSlice, wait_until_due
from marketswarm.tracing import Tracer
from marketswarm.truth import HEALER, Watch

MAINTAIN_EVERY_SEC: Final = 1.0

IN_FLIGHT_SEC: Final = 0.25
"""A stored beat that is younger may still be on its way to us, so it does not call for a new session."""

REACH_GAP_FIELD: Final = REACH_FIELD + HEALER
"""The roster's field for the last time in which a healer reached no bus."""

# before Python 3.12 an attribute of an enum takes as long as a call, and these are read for each verdict
_SERVICE, _WATCH, _REACH = Subject.SERVICE, Subject.WATCH, Subject.REACH

log = logs.get("monitor")

SOLE_LEADER: Final = SoleLeader()


@contextlib.contextmanager
def _tolerating_refusal(bus: str) -> Iterator[None]:
    """Log that the bus refuses to show `run:<svc>`, which an old user may not read; continue without it."""
    try:
        yield
    except BusError as error:
        if error.reason != "auth":
            raise
        log.warning("monitor.runs_refused", bus=bus, reason=error.reason, detail=error.detail)


class Owner(Protocol):
    """The agent that runs a monitor, as far as the monitor needs it."""

    name: str
    boot: str

    def bus(self, name: str) -> Bus:
        """Return a bus by its name; the agent closes it. Raise BusError if it has no URL."""

    def progress(self) -> None:
        """Note that the detector was evaluated: the agent beats only while it is."""

    def set_degraded(self, detail: str | None) -> None:
        """Set, about once a second, the reason why the monitor can't do its work; None if it can."""


@dataclass(eq=False)
class Evaluator:
    """The loop that evaluates the detector, and the reads of `beat:<svc>` before a miss.

    Args:
        links: a live view of the bus links by the names of the buses.
        wake: set when a canary has proven a silence, and when the roster has changed.
    """

    feed: DetectorFeed
    links: Mapping[str, BusLink]
    wake: asyncio.Event
    progress: Callable[[], None]
    publish: Callable[[Verdict], None]
    evaluations: int = 0
    """The number of evaluations of the detector: while it grows, detection works."""
    _suspects: dict[str, deque[str]] = field(default_factory=dict)
    """By bus, the suspects that wait for the task that evaluates those of that bus, oldest first."""

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Evaluate until cancelled; `beat:<svc>` keys are read in tasks of `group`."""
        while True:
            tick = self.feed.detector.tick(read_clocks())
            self.evaluations += 1
            self.progress()
            for mended in tick.mended:
                log.error("monitor.mended", svc=mended.svc, copies=mended.copies)
            await self._publish_all(tick.verdicts)
            for bus in self._find_allowed(tick.verdicts):
                group.create_task(self.read_unheard(bus), name=f"read_unheard:{bus}")
            # a new truth may have dropped a bus while the verdicts were published
            for bus in tick.canary_buses:
                if (link := self.links.get(bus)) is not None:
                    link.request_canary()
            for bus, services in Counter(suspect.bus for suspect in tick.suspects).items():
                if (link := self.links.get(bus)) is not None:
                    link.note_proven(services)
            for suspect in tick.suspects:
                if suspect.bus not in self._suspects:
                    self._suspects[suspect.bus] = deque()
                    group.create_task(self._evaluate_waiting(suspect.bus), name=f"witness:{suspect.bus}")
                self._suspects[suspect.bus].append(suspect.svc)
            self.feed.log_rejected()
            await wait_until_due(self.wake, tick.wake_in_sec)

    def _find_allowed(self, verdicts: Sequence[Verdict]) -> set[str]:
        """Return the buses of services that can be watched again, of whose payloads some were not parsed."""
        services = self.feed.detector.services
        return {
            services[verdict.svc].rule.bus
            for verdict in verdicts
            if verdict.subject is Subject.WATCH and verdict.state is State.UP and verdict.svc in services
        }

    async def _publish_all(self, verdicts: Sequence[Verdict]) -> None:
        """Publish the verdicts, letting other tasks run between gaps, because every service may have one."""
        time_slice = TimeSlice()
        for verdict in verdicts:
            self.publish(verdict)
            if verdict.gap_sec is not None:  # there may be one of each service
                await time_slice.pause()

    async def _evaluate_waiting(self, bus: str) -> None:
        """Evaluate the suspects of a bus until none is left.

        One task does so for a bus, because many would hold the event loop for a slice each, one after the
        other, and their verdicts would not come in the order of the deadlines.
        """
        while waiting := self._suspects[bus]:
            self._suspects[bus] = deque()
            await self._evaluate_suspects(bus, waiting)
        del self._suspects[bus]

    async def _evaluate_suspects(self, bus: str, services: Collection[str]) -> None:
        """Read `beat:<svc>` of each suspect on a bus, and publish the misses that these beats confirm.

        A suspect whose key could not be read is evaluated again. A service that beats and is not heard makes
        us open a new session on its bus.
        """
        watched = self.feed.detector.services
        timeouts = {svc: watched[svc].rule.timeout_sec for svc in services if svc in watched}
        time_slice, unheard = TimeSlice(), None
        unanswered = dict.fromkeys(services)
        with contextlib.suppress(BusError, KeyError):
            is_known = self.feed.detector.is_last_payload
            async for answer in read_last_beats(self.links[bus].bus, timeouts, is_known):
                self._log_unreadable(bus, answer)
                now = read_clocks()
                for svc in answer.services:
                    if time_slice.is_over:
                        await time_slice.pause()
                        now = read_clocks()
                    del unanswered[svc]
                    found = self.feed.detector.evaluate_suspect(svc, answer.found.get(svc), now)
                    if isinstance(found, Verdict):
                        self.publish(found)
                    elif found is not None:
                        unheard = found
        if unanswered:  # those that fell due meanwhile must not overtake them
            waiting = self._suspects[bus]
            for svc in (*unanswered, *waiting):
                self.feed.detector.retry_suspect(svc)
            waiting.clear()
        if len(unanswered) < len(services):
            self.wake.set()
        if unheard is not None:
            self.reopen_deaf_session(unheard)

    async def read_unheard(self, bus: str) -> None:
        """Read what was reported while this process did not hear a bus, and publish what follows from it.

        That is `run:<svc>` of those with an open failure, which may be over, `beat:<svc>` of the services
        that are down, which may be up again, and `run:<svc>` of the jobs that are not, which may have failed.
        Call this when a session has begun, or a channel is allowed again. Try until the bus answers, or a
        later session has begun.
        """
        watched = self.feed.detector.buses.get(bus)
        session = watched and watched.clock.sessions
        while watched and watched is self.feed.detector.buses.get(bus) and watched.clock.sessions == session:
            if not self.feed.detector.is_restoring:  # the restore may have read them before the session
                with contextlib.suppress(BusError, KeyError):
                    await self._end_failures(bus)
                    await self._end_outages(bus)
                    await self._find_failures(bus)
                    return
            await asyncio.sleep(PAUSES.longest_sec)

    async def _end_failures(self, bus: str) -> None:
        """Read `run:<svc>` of the services of a bus with an open failure, and close those that have ended.

        Raise BusError.
        """
        with _tolerating_refusal(bus):
            services = self.feed.detector.find_open_failures(bus)
            async for svc, found in read_last_runs(self.links[bus].bus, services):
                if isinstance(found, EndedRun):
                    self.feed.detector.end_open_failure(svc, found)

    async def _end_outages(self, bus: str) -> None:
        """Read `beat:<svc>` of the services of a bus that are down; publish that those which beat are up.

        Raise BusError.
        """
        time_slice = TimeSlice()
        async for answer in read_last_beats(self.links[bus].bus, self.feed.detector.find_down(bus)):
            for svc, stored in answer.found.items():
                await time_slice.pause()
                if (verdict := self.feed.detector.end_outage(svc, stored, read_clocks())) is not None:
                    self.publish(verdict)

    async def _find_failures(self, bus: str) -> None:
        """Read `run:<svc>` of the jobs of a bus that are not down. Raise BusError."""
        time_slice, asked = TimeSlice(), read_clocks()
        with _tolerating_refusal(bus):
            jobs = self.feed.detector.find_jobs_not_down(bus)
            async for svc, found in read_last_runs(self.links[bus].bus, jobs):
                await time_slice.pause()
                if isinstance(found, FailedRun):
                    verdict = self.feed.detector.take_failed_run(svc, found, asked, read_clocks())
                    if verdict is not None:
                        self.publish(verdict)

    def _log_unreadable(self, bus: str, answer: StoredBeats) -> None:
        """Count and log, in one line for an answer, the last beats that can't be read."""
        if not answer.unreadable:
            return
        self.feed.detector.counts.unreadable += len(answer.unreadable)
        svc, found = next(iter(answer.unreadable.items()))
        log.warning(
            "monitor.last_beat_unreadable",
            bus=bus,
            svc=svc,
            reason=found.reason,
            count=len(answer.unreadable),
            total=self.feed.detector.counts.unreadable,
        )

    def reopen_deaf_session(self, unheard: UnheardBeat) -> None:
        """Open a new session on the bus of a service that beats and is not heard.

        Do nothing if the beat is younger than 0.25 s and this happens for the first time, because it may
        still be on its way.
        """
        if unheard.age_sec < IN_FLIGHT_SEC and not unheard.is_repeated:
            return
        log.error(
            "monitor.beats_not_received", svc=unheard.svc, bus=unheard.bus, age_sec=round(unheard.age_sec, 3)
        )
        link = self.links.get(unheard.bus)
        if link is not None and link.listener is not None:
            link.listener.rebuild_session()


@dataclass(eq=False)
class Monitor:
    """Monitors services and buses. Call `set_roster` first, then `run`.

    Args:
        owner: the agent that runs the monitor; its name prefixes the keys of the saved state.
        home: the bus that holds the saved state, and that verdicts on services go to.
        everywhere: True if verdicts on services go to every bus, as those on buses do.
        leadership: the leadership on each bus; by default this process always leads.
        tracer: records each published event; None while traces are off.
    """

    owner: Owner
    encoder: VerdictEncoder
    home: str
    everywhere: bool = False
    leadership: Leadership = SOLE_LEADER
    tracer: Tracer | None = None
    links: dict[str, BusLink] = field(default_factory=dict)
    """The links to the buses in force, by the names of the buses."""
    log_lengths: dict[str, LogLength] = field(default_factory=dict)
    """The lengths of the logs of alerts, by the names of the buses."""
    _group: asyncio.TaskGroup | None = None
    _own_gaps: deque[str | None] = field(default_factory=lambda: deque(maxlen=8))
    """The ids of our last gaps of reach: a roster's entry with one of them is not by another healer."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.feed = DetectorFeed(
            publish=self.publish,
            wake=self._wake.set,
            notify_session_opened=self._restore_after_gap,
            notify_silence_ended=self._save_soon,
            notify_channel_allowed=self._read_unheard,
        )
        self.detector = self.feed.detector
        self._health = HealthKeys(self.detector, kind=self.encoder.ok_kind, by=self.encoder.by)
        self._failures = SaveFailures()
        self._verdict_log = VerdictLog()
        self._calls = CallNumbers(self.owner.boot)
        self.state = StateKeeper(
            self.detector,
            self._health,
            listener=self.owner.name,
            find_bus=lambda name: self.links[name].bus,
            publish=self.publish,
            leadership=self.leadership,
            failures=self._failures,
        )
        self.metrics = MonitorMetrics(self.detector, self.links, self.leadership, self._failures.counts)
        self.evaluator = Evaluator(self.feed, self.links, self._wake, self.owner.progress, self.publish)

    # -- the roster

    def set_roster(
        self,
        watches: Sequence[Watch],
        listen_to: Mapping[str, float],
        publish_to: Collection[str],
        services: int | None = None,
    ) -> None:
        """Put a roster in force at once, at the start or while running.

        Raise BusError if a bus has no URL; then nothing has changed.

        Args:
            listen_to: the buses to listen to, with the seconds after which each counts as lost.
            services: how many services the log of alerts is for; None for as many as `watches`.
        """
        change = plan_change(self.detector.services, watches, listen_to)
        for _ in self.change_roster(change, publish_to, services):
            pass

    def expect_starts(self, services: str | None, until: float | None) -> None:
        """Give services that are known to be starting the time for that: not missed for silence before.

        `services` has names, separated by commas; `until` is in epoch seconds. Call this after `set_roster`.
        """
        now = read_clocks()
        if services is not None and until is not None and until > now.wall:
            names = [name.strip() for name in services.split(",")]
            self.detector.expect_start(names, until - now.wall, now)

    def change_roster(
        self, change: RosterChange, publish_to: Collection[str], services: int | None = None
    ) -> Iterator[None]:
        """Put a planned roster in force; between two steps, the caller may let other tasks run.

        Raise BusError in the first step if a bus has no URL; then nothing has changed. The arguments are
        those of `set_roster`. Begin no other change before this one is done.
        """
        buses = {name: self.owner.bus(name) for name in {*change.buses, *publish_to, self.home}}
        for name, bus in buses.items():
            listens, publishes = name in change.buses, name in {*publish_to, self.home}
            link = self._open_link(name, bus, listens=listens, publishes=publishes)
            if link.listener is not None:  # a service must be heard from its own step on
                link.listener.add_channels(change.channels[name])
            if link.publisher is not None:
                link.publisher.set_service_count(change.services)
                self.log_lengths[name].services = change.services if services is None else services
        while not change.is_done:
            for verdict in self.detector.change_roster(change, read_clocks()):
                self.publish(verdict)
            yield
        for name in self.links.keys() - buses.keys():
            self.links.pop(name).stop()
        for name, channels in change.channels.items():
            listener = self.links[name].listener
            if listener is not None:
                listener.set_channels(channels)
        self._wake.set()
        log.info("monitor.monitoring", services=len(self.detector.services), buses=sorted(change.buses))

    def _open_link(self, name: str, bus: Bus, *, listens: bool, publishes: bool) -> BusLink:
        """Return the link to a bus, opened if there is none with this address and the parts it needs now."""
        before = self.links.get(name)
        have = before and (before.bus, before.listener is not None, before.publisher is not None)
        if before is not None and have == (bus, listens, publishes):
            return before
        listener = (
            Listener(bus, self.feed, listener=self.owner.name, boot=self.owner.boot) if listens else None
        )
        publisher = None
        if publishes:
            publisher = Publisher(
                bus,
                listener=self.owner.name,
                log_length=self.log_lengths.setdefault(name, LogLength()),
                calls=self._calls,
                encode=self.encoder.encode,
                leadership=self.leadership,
                take_over=functools.partial(self._take_over, name),
                adopt_reach_gap=functools.partial(self._adopt_reach_gap, name),
            )
        link = self.links[name] = BusLink(bus, listener, publisher)
        if before is not None:
            before.stop()
            if before.publisher is not None and publisher is not None:
                publisher.take_over_queue(before.publisher)
        if self._group is not None:
            self._start(link, self._group)
        return link

    # -- listen, evaluate, publish

    async def run(self) -> None:
        """Run the listeners, the publishers, the state keeper and the evaluator until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for link in self.links.values():
                self._start(link, group)
            group.create_task(self.state.run(self.home), name="state")
            group.create_task(self._maintain(), name="maintain")
            await self.evaluator.run(group)

    def _start(self, link: BusLink, group: asyncio.TaskGroup) -> None:
        if link.listener is not None:
            link.run(group, link.listener.run(), "listen")
        if link.publisher is not None:
            link.run(group, self.publish_queued(link.publisher), "publish")

    def publish(self, verdict: Verdict) -> None:
        """Log a verdict, of the detector or of the owner, and queue it for each bus that is to have it."""
        subject = verdict.subject
        if subject is _REACH:
            self._own_gaps.append(verdict.event_id)
        is_for_all = self.everywhere or (subject is not _SERVICE and subject is not _WATCH)
        for name, link in self.links.items():
            if link.publisher is not None and (is_for_all or name == self.home):
                link.publisher.enqueue(verdict)
        is_leader = self.leadership.fence(self.home) is not None
        if is_leader:  # before it is offered: it may wait behind a verdict that no bus takes
            self.encoder.report_event(verdict)
        self._verdict_log.record(verdict, is_leader=is_leader)

    async def publish_queued(self, publisher: Publisher) -> None:
        """Publish the verdicts queued for one bus, and note each that the bus has, until cancelled."""
        async for batch in publisher.run():
            name, is_home = publisher.bus.name, publisher.bus.name == self.home
            for verdict, event in batch:
                if verdict.overdue_sec is not None:
                    self._verdict_log.note_delay(self.metrics.observe_delay(verdict, verdict.overdue_sec))
                if verdict.subject is _SERVICE and verdict.gap_sec is None:
                    self._health.note_published(verdict, event)
                elif verdict.subject is _WATCH and verdict.state is State.UP:
                    self._health.refresh_soon(verdict.svc)
                if self.tracer is not None:
                    record_publication(self.tracer, self.owner.name, name, event, is_home=is_home)

    # -- health keys and trouble

    async def _maintain(self) -> None:
        """Once a second, refresh the health keys, drop old writes and set the owner's degraded status."""
        while True:
            try:
                fence = self.leadership.fence(self.home)
                if fence is not None:
                    lease = monitor_lease_key(self.owner.name)
                    if not await self._health.refresh(self.links[self.home].bus, lease, fence):
                        self.leadership.deny_leadership(self.home)
            except BusError as error:
                self._failures.record_failure("health", error)
            else:
                if not self._health.has_unwritten:
                    self._failures.record_success("health")
            for link in self.links.values():
                if link.publisher is not None:
                    link.publisher.recent.drop_old(time.monotonic())
            self._verdict_log.end_second()
            self.owner.set_degraded(self.describe_trouble())
            await asyncio.sleep(MAINTAIN_EVERY_SEC)

    def describe_trouble(self) -> str | None:
        """Return why the monitor can't do its work, as text for a beat's `detail`; None if it can."""
        refusing = [
            f"{len(link.publisher)} unpublished on {name} ({link.publisher.refusal})"
            + (f", {dropped} superseded" if (dropped := link.publisher.queue.superseded) else "")
            for name, link in self.links.items()
            if link.publisher is not None and link.publisher.refusal
        ]
        overflowing = [
            f"unread events go from the log on {name}"
            for name, length in self.log_lengths.items()
            if length.is_overflowing
        ]
        found = [
            self.feed.describe_lost_buses(read_clocks()),
            self.feed.describe_refused_channels(),
            self.state.trouble,
            *refusing,
            *overflowing,
            self._failures.describe(),
        ]
        return "; ".join(filter(None, found)) or None

    # -- leadership

    def list_unheard_buses(self) -> list[str]:
        """Return the buses that will soon count as lost, and `memory` while the state is not restored."""
        now = read_clocks().mono
        unheard = [
            name
            for name, bus in self.detector.buses.items()
            if bus.is_poorly_heard
            or (
                not bus.clock.is_listening
                and bus.clock.unheard_sec(now) > max(OVERDUE_SEC, bus.timeout_sec / 3)
            )
        ]
        return [*unheard, "memory"] if self.detector.is_restoring else unheard

    def leadership_changed(self, bus: str) -> None:
        """Have the publisher of a bus check whether this process leads there now."""
        link = self.links.get(bus)
        if link is not None and link.publisher is not None:
            link.publisher.wake()

    async def _take_over(self, bus: str, fence: Fence, queue: VerdictQueue) -> None:
        """Adopt what the leader of `bus` before us published, except for the fields of queued verdicts.

        Raise BusError.
        """
        if bus == self.home:
            await self.state.take_over(bus, fence, queue)
            for name in self.detector.buses:  # what we thought up may be published as down, and be up again
                self._read_unheard(name)
        else:
            await self.state.take_over_buses(bus, queue.fields)

    async def _adopt_reach_gap(self, bus: str, queue: VerdictQueue) -> None:
        """If another healer published the queued gap of reach, adopt its id and times. Raise BusError.

        A healer may have the lease of `bus` before it concludes the gap, and another one may lead elsewhere.
        Another bus that can't be read is left out, because a gap that is published twice is better than a gap
        that is lost.
        """
        for name, link in list(self.links.items()):
            if REACH_GAP_FIELD not in queue.fields or link.publisher is None:
                continue
            try:
                entry = (await link.publisher.load_entries([REACH_GAP_FIELD]))[REACH_GAP_FIELD]
            except BusError:
                if name == bus:
                    raise
                continue
            if entry is not None and entry.mark not in self._own_gaps:
                queue.adopt_reach_gap(entry)

    # -- what the feed reports

    def _save_soon(self) -> None:
        self.state.save_soon()

    def _restore_after_gap(self, bus: str) -> None:
        """After a session on `bus` began, have recent writes compared, and read what was not heard."""
        publisher = self.links[bus].publisher
        if publisher is not None:
            publisher.check_after_gap(self.detector.buses[bus].clock.proof.mono)
        if self._group is not None:
            self._group.create_task(self.state.restore_lost_buses(bus), name=f"restore_lost_buses:{bus}")
        self._read_unheard(bus)

    def _read_unheard(self, bus: str) -> None:
        """Begin to read what was reported while a bus was not heard: see `Evaluator.read_unheard`."""
        if self._group is not None:
            self._group.create_task(self.evaluator.read_unheard(bus), name=f"read_unheard:{bus}")
