"""The saved state of a monitor: restore the state of an earlier run, then save it for a later run.

State that is not saved is lost with the process. A `health:` key that is not refreshed expires, and its
readers conclude that the service is not monitored. So each save that a bus refuses is counted
(`SaveFailures`), and state that can't be saved now is reported as trouble.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.listener import read_clocks
from marketswarm.bus.outage import PAUSES, Outage, retrying
from marketswarm.detector import (
    Detector,
    LastBeat,
    SavedService,
    State,
    Verdict,
    adopt_state,
    is_miss_overruled,
    restore_lost_bus,
    restore_service,
    restore_services,
)
from marketswarm.detector.job import Job
from marketswarm.monitor.encoder import BUS_FIELD, WATCH_FIELD
from marketswarm.monitor.health import HealthKeys
from marketswarm.monitor.leadership import Fence, Leadership
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.monitor.store import SavedState, StateStore, combine_service
from marketswarm.monitor.verdict_queue import LEADER_HAD_TIME_SEC, VerdictQueue
from marketswarm.monitor.witness import read_last_beats
from marketswarm.time_slice import SLICE_SEC, TimeSlice, wait_until_due

SAVE_EVERY_SEC: Final = 1.0
SAVE_SOON_SEC: Final = 0.05
"""The shortest time between two saves: a run that is killed must not leave an ended silence on the bus."""
OPENING_SLICE_SEC: Final = 0.0002
"""The time between two pauses of what is not urgent, while a session on a bus is opened in many steps."""

Save = Callable[[str, Fence], Awaitable[None]]

log = logs.get("monitor")


class SaveFailures:
    """Counts failed saves, and keeps those that fail now.

    `counts` has the failed attempts by kind of state: `silences`, `notes`, `health`.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._failing: dict[str, BusError] = {}
        self._affected: set[str] = set()  # what failed since everything was saved last
        self._outage = Outage(
            log,
            "monitor.not_saved",
            "monitor.saved_again",
            what=lambda: ", ".join(sorted(self._affected)),
            total=self.counts.total,
        )

    def record_failure(self, what: str, error: BusError) -> None:
        """Count a failed save of `what`, and keep its error for `describe` until a save of it succeeds."""
        self.counts[what] += 1
        self._failing[what] = error
        self._affected.add(what)
        self._outage.record(error)

    def record_success(self, what: str) -> None:
        """Record that a save of `what` succeeded, which ends the outage if now everything is saved."""
        if self._failing.pop(what, None) is not None and not self._failing:
            self._outage.end()
            self._affected.clear()

    def describe(self) -> str | None:
        """Return which state is not saved now, as text for a beat's `detail`; None if all is saved."""
        found = [f"{what} not saved on {error.bus} ({error.reason})" for what, error in self._failing.items()]
        return ", ".join(found) or None


@dataclass(eq=False)
class StateKeeper:
    """Restores and saves the state of one monitor.

    Args:
        listener: the program whose keys they are: `healer` or `sentinel`.
        find_bus: returns a bus in force by its name. Raises KeyError.
        leadership: the leadership on the bus; only a leader saves.
    """

    detector: Detector
    health: HealthKeys
    listener: str
    find_bus: Callable[[str], Bus]
    publish: Callable[[Verdict], None]
    leadership: Leadership
    failures: SaveFailures
    restored: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the state of an earlier run is restored."""
    _fence_at_restore: Fence | None = None
    _restored_buses: set[str] = field(default_factory=set)  # buses whose roster was read for lost buses
    _saved_jobs: set[str] = field(default_factory=set)  # the fields that `<listener>:jobs` may have
    # how early the jobs are that were logged as too early
    _early_jobs: dict[str, float] = field(default_factory=dict)
    _save_due: asyncio.Event = field(default_factory=asyncio.Event)
    _outage: Outage = field(
        default_factory=lambda: Outage(log, "monitor.state_unavailable", "monitor.state_available")
    )

    @property
    def trouble(self) -> str | None:
        """Why the state can't be restored, as text for a beat's `detail`; None without a failure."""
        error = self._outage.error
        return None if error is None else f"nothing is judged: memory on {error.bus} ({error.reason})"

    async def run(self, home: str) -> None:
        """Restore the state from the bus `home`, then save it there until cancelled."""
        await self._restore_from(home)
        while True:
            fence = self.leadership.fence(home)
            if fence is not None:  # a standby saves nothing, and loses nothing that is unsaved
                saves = {"silences": self._save_silences, "notes": self._save_beats, "jobs": self._save_jobs}
                done = [await self._try_to_save(home, fence, *each) for each in saves.items()]
                if not all(done):
                    await asyncio.sleep(PAUSES.longest_sec)
            await wait_until_due(self._save_due, SAVE_EVERY_SEC, least_sec=SAVE_SOON_SEC)

    def _open_store(self, bus: str) -> StateStore:
        """Return the store on a bus. Raise KeyError if the bus is not in force."""
        return StateStore(self.find_bus(bus), self.listener)

    def save_soon(self) -> None:
        """Save now rather than within a second; saves are at least 0.05 s apart."""
        self._save_due.set()

    # -- restore

    async def _restore_from(self, home: str) -> None:
        """Restore the state from the bus `home`; try again until it can be read."""
        async for attempt in retrying(self._outage):
            if self.restored.is_set():
                break
            with attempt:
                try:
                    self._fence_at_restore = self.leadership.fence(home)
                    await self.restore(self._open_store(home))
                except BusError as error:
                    if not await self._open_store(home).replace_unusable(error):
                        raise
        self._outage.end()
        log.info("monitor.state_loaded", services=len(self.detector.services))

    async def restore(self, store: StateStore) -> None:
        """Apply the state that an earlier run saved in `store`, and publish the verdicts that follow.

        Verdicts begin once all is restored that was not simply up: what was down or silent, jobs, buses. The
        others follow, each before its own first verdict. Silences of services that are not monitored any more
        are deleted. Raise BusError if the bus fails.
        """
        services = self.detector.services
        state = await store.load_state(services, has_jobs=bool(self.detector.jobs))
        self._saved_jobs = set(state.jobs)
        urgent = dict.fromkeys([*state.find_urgent(services), *self.detector.jobs])
        entries: dict[str, RosterEntry] = {}
        saved: dict[str, SavedService] = {}
        time_slice = TimeSlice()
        for name in urgent:
            await time_slice.pause()
            if (entry := state.take_entry(name)) is not None:
                entries[name] = entry
            if ":" not in name and (known := self._take_saved(state, name, entry)) is not None:
                saved[name] = known
        beats: dict[str, LastBeat] = {}
        async for _, found in self._read_last_beats(urgent):
            beats |= found
        later = dict.fromkeys(svc for svc in services if svc not in urgent)
        for verdict in restore_services(self.detector, saved, beats, read_clocks(), later=later):
            if verdict is not None:
                self.publish(verdict)
            await time_slice.pause()
        self._restore_lost_buses(entries)
        self._restore_refused_channels(entries)
        await self._restore_health(entries)
        self.detector.silences.delete(*(svc for svc in state.silences if svc not in services))
        await self._restore_later(state, later)
        for svc in state.heard.keys() - services.keys():
            self.detector.observer.save_soon(svc)
        self.restored.set()

    async def _restore_later(self, state: SavedState, later: Iterable[str]) -> None:
        """Restore the services that were up, and those without a saved state."""
        async for batch, beats in self._read_last_beats(later):
            now = read_clocks()
            is_heard = all(bus.clock.is_in_session for bus in self.detector.buses.values())
            time_slice = TimeSlice(SLICE_SEC if is_heard else OPENING_SLICE_SEC)
            for svc in batch:
                await time_slice.pause()
                entry = state.take_entry(svc)
                saved = self._take_saved(state, svc, entry)
                for verdict in restore_service(self.detector, svc, saved, beats.get(svc), now):
                    self.publish(verdict)
                if entry is not None and svc in self.detector.services:
                    self.health.restore(svc, entry)

    def _take_saved(self, state: SavedState, svc: str, entry: RosterEntry | None) -> SavedService | None:
        service = self.detector.services.get(svc)
        saved = state.take(svc, "" if service is None else service.rule.bus, entry)
        if svc in self.detector.jobs and (job := state.jobs.get(svc)) is not None:
            saved = replace(saved or SavedService(State.UNKNOWN, seen=False), job=job)
        return saved

    async def _read_last_beats(
        self, services: Iterable[str]
    ) -> AsyncIterator[tuple[Collection[str], Mapping[str, LastBeat]]]:
        """Read the last beats under `beat:<svc>` of watched services; yield each once, in batches.

        One whose bus does not answer gets its warm-up when that is back.
        """
        watched = self.detector.services
        timeouts: dict[str, dict[str, float]] = {}
        for svc in services:
            if (service := watched.get(svc)) is not None:
                timeouts.setdefault(service.rule.bus, {})[svc] = service.rule.timeout_sec
        for name, left in timeouts.items():
            with contextlib.suppress(BusError, KeyError):  # a reseed may drop a bus meanwhile
                async for answer in read_last_beats(self.find_bus(name), left.copy()):
                    for svc in answer.services:
                        del left[svc]
                    yield answer.services, answer.found
            yield left, {}

    async def _restore_health(self, roster: Mapping[str, RosterEntry], *, replace: bool = False) -> None:
        """Restore the health keys of the services in the roster.

        With `replace`, the roster counts even for services on which we have published a verdict.
        """
        time_slice = TimeSlice()
        for svc, entry in roster.items():
            await time_slice.pause()
            if svc in self.detector.services:
                self.health.restore(svc, entry, replace=replace)

    def _restore_refused_channels(self, roster: Mapping[str, RosterEntry]) -> None:
        """Have the detector take over which services are published as not watchable; publish what is news."""
        for key, entry in roster.items():
            if key.startswith(WATCH_FIELD) and entry.verdict is State.DOWN:
                svc, since = key.removeprefix(WATCH_FIELD), entry.ts or read_clocks().wall
                verdict = self.detector.restore_refused_channel(svc, since, read_clocks())
                if verdict is not None:
                    self.publish(verdict)

    def _restore_lost_buses(self, roster: Mapping[str, RosterEntry]) -> None:
        """Have the detector take over the buses that are published as lost; publish those that are found."""
        for key, entry in roster.items():
            if key.startswith(BUS_FIELD) and entry.verdict is State.DOWN:
                name, as_deaf = key.removeprefix(BUS_FIELD), entry.reason() == "deaf"
                verdict = restore_lost_bus(self.detector, name, entry.since, read_clocks(), as_deaf=as_deaf)
                if verdict is not None:
                    self.publish(verdict)

    async def restore_lost_buses(self, name: str) -> None:
        """Restore, once, the losses of buses that the bus `name` holds: perhaps no other bus took them.

        If that bus fails, the next call tries again.
        """
        if name in self._restored_buses:
            return
        with contextlib.suppress(BusError, KeyError):
            roster = await self._open_store(name).load_roster(f"{BUS_FIELD}*")
            self._restored_buses.add(name)
            self._restore_lost_buses(roster)

    # -- take over as leader

    async def take_over(self, home: str, fence: Fence, queue: VerdictQueue) -> None:
        """Adopt the roster that the leader before us wrote, except for the fields of our own queued verdicts.

        A queued miss of a service that this leader heard until its end is withdrawn, and the silences that it
        saved are deleted in favour of ours. Raise BusError.

        Args:
            fence: the fence under which we lead now.
        """
        await self.restored.wait()
        if fence == self._fence_at_restore:
            return  # we led already when we restored it
        store = self._open_store(home)
        roster = await store.load_roster()
        silences, _ = await store.load_silences()
        saved_beats = await store.load_saved_beats()
        jobs = await store.load_jobs() if self.detector.jobs else {}
        buses = {svc: service.rule.bus for svc, service in self.detector.services.items()}
        lost = {
            name
            for name in buses.values()
            if (entry := roster.get(BUS_FIELD + name)) is not None and entry.verdict is State.DOWN
        }
        had_until = self.leadership.leader_seen_at(home) - LEADER_HAD_TIME_SEC
        time_slice = TimeSlice()
        for svc, entry in roster.items():
            if ":" in svc:  # an entry that is not of a service, such as of a bus
                continue
            await time_slice.pause()
            published = combine_service(entry, None, None, buses.get(svc, ""), saved_beats.get(svc))
            known, now = replace(published, job=jobs.get(svc)), read_clocks()
            # check at this moment, because a verdict on it may have been queued meanwhile
            if svc in queue.fields:
                is_silent = svc in silences or buses.get(svc) in lost
                if not is_miss_overruled(
                    self.detector, svc, known, now, is_silent=is_silent, had_until=had_until
                ) or not queue.withdraw_miss(svc):
                    continue
            if (verdict := adopt_state(self.detector, svc, known, now)) is not None:
                self.publish(verdict)
        others = {key: entry for key, entry in roster.items() if ":" in key and key not in queue.fields}
        self._adopt_buses(home, others)
        self._restore_refused_channels(others)
        await self._restore_health(roster, replace=True)
        # the saved silences are readings of the old leader's clocks: replace them by readings of ours
        self.detector.silences.delete(*silences)
        self.detector.save_all_silences()
        for service in self.detector.jobs.values():
            if service.job is not None:
                service.job.is_unsaved = True
        self._saved_jobs |= set(jobs)
        self._save_due.set()

    async def take_over_buses(self, name: str, queued_fields: Collection[str]) -> None:
        """Adopt the losses of buses in the roster of a bus other than `home`, except for our queued fields.

        A loss that it does not hold may be published elsewhere, because a bus that refuses writes took
        nothing. Raise BusError.
        """
        roster = await self._open_store(name).load_roster(f"{BUS_FIELD}*")
        self._restore_lost_buses({key: entry for key, entry in roster.items() if key not in queued_fields})

    def _adopt_buses(self, home: str, published: Mapping[str, RosterEntry]) -> None:
        """Adopt which buses the roster of `home` holds as lost or as found."""
        for name, bus in self.detector.buses.items():
            entry = published.get(BUS_FIELD + name)
            # a bus holds its own loss only if it took that afterwards, so `home` itself does not count here
            if name != home and entry is not None and entry.verdict is State.UP:
                bus.adopt_found()
        self._restore_lost_buses(published)

    # -- save

    async def _try_to_save(self, home: str, fence: Fence, what: str, save: Save) -> bool:
        """Call `save` once; record its success or failure as `what`, and return True if it succeeded."""
        try:
            await save(home, fence)
        except BusError as error:
            self.failures.record_failure(what, error)
            await self._open_store(home).replace_unusable(error)
            return False
        self.failures.record_success(what)
        return True

    async def _save_silences(self, home: str, fence: Fence) -> None:
        """Save the silences that changed; if that fails, keep them unsaved. Raise BusError."""
        unsaved = self.detector.silences.take()
        saved = False
        try:
            store = self._open_store(home)
            saved = await store.save_silences(fence, unsaved, self.detector, read_clocks())
            if not saved:
                self.leadership.deny_leadership(home)
        finally:
            if not saved:
                self.detector.silences.give_back(unsaved)

    async def _save_beats(self, home: str, fence: Fence) -> None:
        """Save the last beats that changed; if that fails, keep them unsaved. Raise BusError."""
        beats = self.detector.observer.take_unsaved(read_clocks().mono)
        saved = not beats
        try:
            saved = saved or await self._open_store(home).save_beats(fence, beats)
        finally:
            for svc in beats if not saved else ():
                self.detector.observer.save_soon(svc)

    async def _save_jobs(self, home: str, fence: Fence) -> None:
        """Save what is known about the runs of jobs; if that fails, keep it unsaved. Raise BusError."""
        jobs = {
            svc: service.job
            for svc, service in self.detector.jobs.items()
            if service.job is not None and service.job.is_unsaved
        }
        gone = self._saved_jobs - self.detector.jobs.keys()
        if not jobs and not gone:
            return
        taken = {svc: job.take_unsaved() for svc, job in jobs.items()}
        saved = False
        try:
            saved = await self._open_store(home).save_jobs(fence, {**taken, **dict.fromkeys(gone)})
        finally:
            for job in () if saved else jobs.values():
                job.is_unsaved = True
        if saved:
            self._saved_jobs = (self._saved_jobs - gone) | taken.keys()
            self._log_early(jobs)

    def _log_early(self, jobs: Mapping[str, Job]) -> None:
        """Log each job whose runs have become too early, in a row, for its schedule."""
        for svc, job in jobs.items():
            early_sec, schedule = job.early_sec, job.rule.schedule
            if early_sec is None or schedule is None:
                self._early_jobs.pop(svc, None)
            elif svc not in self._early_jobs:
                self._early_jobs[svc] = early_sec
                log.warning(
                    "job.early",
                    svc=svc,
                    early_sec=round(early_sec),
                    schedule=schedule.expression,
                    time_zone=schedule.time_zone,
                )
