"""A healer of the world of `jobs.py`, and what it lives in: buses, what is stored there, a lease, and time.

The detector, the restore, the takeover, the queue of verdicts, the saved state and what is read from `beat:`
and `run:` are the product's own. Time jumps from one event to the next.
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any, TypeVar, cast

import orjson

from marketswarm import bus as product
from marketswarm.detector import (
    CANARY_EVERY_SEC,
    Detector,
    LastBeat,
    Moment,
    Publication,
    SavedService,
    State,
    Subject,
    Verdict,
    adopt_state,
    is_miss_overruled,
    restore_services,
)
from marketswarm.event import encode_event
from marketswarm.monitor.encoder import VerdictEncoder
from marketswarm.monitor.job_entry import encode_job_entry, parse_job_entry
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.monitor.store import (
    SavedSilence,
    encode_saved_beat,
    encode_silence,
    parse_saved_beat,
    parse_saved_silence,
)
from marketswarm.monitor.verdict_queue import (
    LEADER_HAD_TIME_SEC,
    PendingVerdict,
    VerdictQueue,
    find_unpublished,
)
from marketswarm.monitor.witness import read_last_beats, read_last_runs
from marketswarm.truth import Watch
from support.simulation.job_oracle import Hearing, JobInWorld, Oracle
from support.simulation.manual_detector import stored
from support.simulation.saved_state import combine_saved_state

BUS_TIMEOUT_SEC = 10.0

T = TypeVar("T")


class Bus:
    """One server, and what is stored there: each key's value, and until when it lives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers = True
        self.t = 0.0
        self.stored: dict[str, tuple[bytes, float]] = {}

    async def script(self, _script: object, keys: Sequence[str], _args: object) -> list[bytes | int]:
        """Answer what last_beats.lua does."""
        found: list[bytes | int] = []
        for key in keys:
            value, until = self.stored.get(key, (b"", -inf))
            found += [value, round(1000 * (until - self.t))] if until > self.t else [b"", -2]
        return found


def collect(answers: AsyncIterator[T]) -> list[T]:
    """Return all answers of a bus that lets nobody wait."""

    async def wait() -> list[T]:
        return [each async for each in answers]

    try:
        wait().send(None)
    except StopIteration as ended:
        return cast("list[T]", ended.value)
    raise AssertionError("it waits for something else")


class Surroundings:
    """What healers live in.

    Args:
        seed: of the world, as a failure names it.
        dice: all that is by chance.
        wall: what a right clock shows when the world begins, in epoch seconds.
    """

    def __init__(self, seed: int, dice: random.Random, wall: float) -> None:
        self.random, self.wall, self.t = dice, wall, 0.0
        self.numbers = count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.buses = {name: Bus(name) for name in "xy"}
        self.walls = {"A": 0.0, "B": 0.0}
        self.jobs: dict[str, JobInWorld] = {}
        self.oracle = Oracle(seed, wall, self.buses, self.walls)
        self.encoder = VerdictEncoder(family="heartbeat", by="healer", channel="alerts")
        self.roster: dict[str, dict[str, Any]] = {}
        self.jobs_saved: dict[str, bytes] = {}
        self.silences_saved: dict[str, SavedSilence] = {}
        self.clocks_saved: dict[str, tuple[float, float]] = {}
        self.beats_saved: dict[str, bytes] = {}
        self.healers: dict[str, Healer] = {}
        self.leader: Healer | None = None
        self.leader_seen_at = 0.0
        self.alerts = 0
        self.found_failures = 0  # that a healer did not hear

    def watches(self) -> list[Watch]:
        return [job.watch for job in self.jobs.values()]

    def tell(self, story: str) -> None:
        self.oracle.tell(self.t, story)

    def at(self, t: float, do: Callable[[], None]) -> None:
        heappush(self.events, (max(t, self.t), next(self.numbers), do))

    def run(self, sec: float) -> None:
        until = self.t + sec
        while True:
            awake = [each for each in self.healers.values() if not each.asleep]
            healer = min(awake, key=lambda each: each.wake_at, default=None)
            wake_at = inf if healer is None else healer.wake_at
            if min(wake_at, self.events[0][0]) > until:
                break
            if wake_at < self.events[0][0]:
                assert healer is not None
                self.t = max(self.t, wake_at)
                healer.advance()
                healer.look()
            else:
                at, _, do = heappop(self.events)
                self.t = max(self.t, at)
                do()
        self.t = until

    def ask(self, name: str) -> product.Bus | None:
        """Return a bus to be read, or None if it does not answer."""
        bus = self.buses[name]
        bus.t = self.t
        return cast("product.Bus", bus) if bus.answers else None

    def read_beats(self, timeouts_by_bus: Mapping[str, Mapping[str, float]]) -> dict[str, LastBeat]:
        """Return the last beats of services whose buses answer."""
        found: dict[str, LastBeat] = {}
        for name, timeouts in timeouts_by_bus.items():
            if timeouts and (bus := self.ask(name)) is not None:
                for answer in collect(read_last_beats(bus, timeouts)):
                    found |= answer.found
        return found

    def entry(self, svc: str) -> RosterEntry | None:
        found = self.roster.get(svc)
        return None if found is None else stored(**found)

    def publish(self, verdict: Verdict, at: float) -> None:
        """What publish.lua does: a verdict that is stored already is not told again.

        `at` is when a healer concluded it.
        """
        before = self.roster.get(verdict.svc, {}).get("verdict", "unknown")
        if before == verdict.state:
            return
        if verdict.state is State.UNWATCHED:
            self.roster.pop(verdict.svc, None)
            return
        entry = {"verdict": str(verdict.state), "since": verdict.since, "ts": round(verdict.ts, 3)}
        entry |= {"boot": verdict.boot, "i": verdict.i}
        if verdict.state is State.DOWN and (event := self.encoder.build_event(verdict)) is not None:
            entry["event"] = orjson.loads(encode_event(event))
        if verdict.state is State.UP:
            entry["down_since"] = verdict.down_since
        self.roster[verdict.svc] = {name: value for name, value in entry.items() if value is not None}
        # a first report is on the log alone, unless it ends an outage that the leader before has published
        if verdict.publication is Publication.ALERT or before == State.DOWN:
            self.alerts += 1
            self.tell(f"told: {verdict.svc} {verdict.state} {verdict.reason}")
            self.oracle.hold(self.jobs[verdict.svc], verdict, at, self.t)
        for healer in list(self.healers.values()):
            if healer is not self.leader:
                self.at(self.t + 0.5, healer.compare)


class Healer:
    """One run of a healer. It leads if the world says so."""

    def __init__(self, world: Surroundings, name: str) -> None:
        self.world, self.name = world, name
        self.wall = world.walls[name]
        self.detector = Detector(self.now)
        self.restarts = self.detector.observer
        self.queue = VerdictQueue()
        self.compared: dict[str, float] = {}
        self.sessions: dict[str, int] = {}
        self.asleep = False
        self.inbox: list[Callable[[], None]] = []
        self.number = 0
        self.wake_at = inf
        self.is_saving = False
        self.is_gone = False
        self.hearing = world.oracle.hearings[name] = Hearing(world.buses, world.t)
        self.rewatch()
        for bus in world.buses:
            self.open(bus)
        world.at(world.t + world.random.uniform(0.05, 1.5), self.restore)

    @property
    def now(self) -> Moment:
        return Moment(self.world.t, self.world.wall + self.world.t + self.wall)

    # -- time

    def advance(self) -> None:
        """Lets the time until now pass: it was awake, and its canaries came back."""
        world = self.world
        # a call for each time that it woke meanwhile would be a third of the time of a test
        was_awake = self.detector._awake_at  # noqa: SLF001
        self.detector._awake_at = max(was_awake, world.t - CANARY_EVERY_SEC)  # noqa: SLF001
        self.detector.note_awake(self.now)
        self.number += 1
        for name, bus in self.detector.buses.items():
            if name in self.sessions and world.buses[name].answers:
                bus.clock.note_canary_sent(self.number, world.t)
                bus.clock.note_canary_accepted(self.now)
                was = bus.clock.is_listening
                self.conclude(*self.detector.take_canary(name, self.number, self.now))
                if bus.clock.is_listening and not was:
                    self.hearing.end_gap(name, world.t)

    def do(self, what: Callable[[], None]) -> None:
        """Does something now, or when it wakes; then it evaluates."""
        if self.is_gone:
            return
        if self.asleep:
            self.inbox.append(what)
            return
        self.advance()
        what()
        self.look()

    def look(self) -> None:
        tick = self.detector.tick(self.now)
        assert tick.mended == ()
        self.conclude(*tick.verdicts)
        for suspect in tick.suspects:
            after = self.world.random.choice((0.003, 0.003, 0.003, 0.7))
            self.world.at(self.world.t + after, partial(self.do, partial(self.ask, suspect.bus, suspect.svc)))
        self.plan(0.02 if tick.canary_buses else None)
        self.save_soon()

    def plan(self, within_sec: float | None) -> None:
        """Finds when to evaluate next."""
        dues = [
            0.0 if bus.postponed else bus.next_due() - bus.clock.read(self.world.t)
            for bus in self.detector.buses.values()
            if bus.clock.is_listening and not self.detector.is_restoring
        ]
        wait_sec = min(dues, default=inf)
        if within_sec is not None:
            wait_sec = min(wait_sec, within_sec)
        self.wake_at = self.world.t + max(wait_sec, 0.001)

    # -- what it hears

    def open(self, name: str) -> None:
        """Begins a session, if the bus answers; else tries again."""
        world = self.world
        if self.is_gone:
            return
        if not world.buses[name].answers:
            self.try_open(name)
            return
        self.sessions[name] = next(world.numbers)
        self.detector.buses[name].clock.note_session_opened()
        for after in (0.25, 0.5):
            world.at(world.t + after, partial(self.do, lambda: None))
        self.read_unheard(name)

    def try_open(self, name: str) -> None:
        """Begins a session once the bus answers; no look at all jobs for each try."""
        if self.world.buses[name].answers:
            self.do(partial(self.open, name))
        elif not self.is_gone:
            self.world.at(self.world.t + 0.5, partial(self.try_open, name))

    def cut(self, name: str, sec: float) -> None:
        """Its session on a bus ends; the next one begins after so long."""
        if self.sessions.pop(name, None) is not None:
            self.detector.buses[name].clock.note_session_lost("refused")
            self.hearing.begin_gap(name, self.world.t)
            self.world.at(self.world.t + sec, partial(self.do, partial(self.open, name)))

    def hear(self, name: str, session: int, channel: str, payload: bytes) -> None:
        if self.sessions.get(name) == session:
            message = [b"message", channel.encode(), payload]
            self.conclude(*self.detector.take_messages(name, [message], self.now).verdicts)

    def ask(self, name: str, svc: str) -> None:
        """Reads `beat:<svc>` of a suspect."""
        service = self.detector.services.get(svc)
        if service is None or not self.world.buses[name].answers:
            self.detector.retry_suspect(svc)
            self.world.at(self.world.t + 0.5, partial(self.do, lambda: None))
            return
        beat = self.world.read_beats({name: {svc: service.rule.timeout_sec}}).get(svc)
        found = self.detector.evaluate_suspect(svc, beat, self.now)
        if isinstance(found, Verdict):
            self.conclude(found)
        elif found is not None:
            self.cut(name, 0.05)

    def read_unheard(self, name: str) -> None:
        """Reads what was reported while it did not listen: jobs that are up again, and those that failed."""
        bus = self.world.ask(name)
        if self.is_gone or bus is None or self.detector.is_restoring:
            return
        for svc, beat in self.world.read_beats({name: self.detector.find_down(name)}).items():
            if (verdict := self.detector.end_outage(svc, beat, self.now)) is not None:
                self.conclude(verdict)
        for svc, failed in collect(read_last_runs(bus, self.detector.find_jobs_not_down(name))):
            if (verdict := self.detector.take_failed_run(svc, failed, self.now, self.now)) is not None:
                self.world.found_failures += 1
                self.conclude(verdict)

    # -- what it concludes and saves

    def conclude(self, *verdicts: Verdict) -> None:
        for verdict in verdicts:
            if verdict.subject is Subject.SERVICE and verdict.gap_sec is None:
                self.queue.add(PendingVerdict(verdict, self.world.t))
                self.world.tell(f"{self.name} concludes: {verdict.svc} {verdict.state} {verdict.reason}")
                if self.world.leader is not self:
                    for after in (0.5, 2.5):
                        self.world.at(self.world.t + after, self.compare)
        if self.world.leader is self:
            self.publish()

    def publish(self) -> None:
        while len(self.queue):
            at = next(iter(self.queue)).at
            self.world.publish(*self.queue.pop_oldest(1), at)

    def compare(self) -> None:
        """Drops what the leader has published, as a standby does."""
        if self.is_gone or self.asleep or self.world.leader is self:
            return
        pending: dict[str, list[PendingVerdict]] = {}
        for one in self.queue:
            pending.setdefault(one.verdict.svc, []).append(one)
        before, self.compared = self.compared, {}
        for svc, some in pending.items():
            entry = self.world.entry(svc)
            leads = self.world.leader
            is_alive = leads is not None and not leads.asleep and not leads.is_gone
            seen_at = self.world.t if is_alive else self.world.leader_seen_at
            left = find_unpublished(some, entry, compared_ts=before.get(svc), leader_seen_at=seen_at)
            still = {id(one) for one in left}
            self.queue.remove([one for one in some if id(one) not in still])
            if entry is not None and left:
                self.compared[svc] = entry.ts

    def save_soon(self) -> None:
        if self.world.leader is self and not self.is_saving:
            self.is_saving = True
            self.world.at(self.world.t + self.world.random.uniform(0.05, 1.0), self.save)

    def save(self) -> None:
        self.is_saving = False
        world = self.world
        if self.is_gone or world.leader is not self or self.detector.is_restoring or self.asleep:
            return
        for svc, service in self.detector.jobs.items():
            if service.job is not None and service.job.is_unsaved:
                world.jobs_saved[svc] = encode_job_entry(service.job.take_unsaved())
        for svc in world.jobs_saved.keys() - self.detector.jobs.keys():
            del world.jobs_saved[svc]
        for name, bus in self.detector.buses.items():
            world.clocks_saved[name] = round(bus.clock.proven, 3), round(self.now.wall, 3)
        for svc, silent in self.detector.silences.take().items():
            world.silences_saved.pop(svc, None)
            if silent is not None:
                found = parse_saved_silence(encode_silence(silent).encode())
                assert found is not None
                world.silences_saved[svc] = found
        for svc, beat in self.restarts.take_unsaved(world.t).items():
            world.beats_saved.pop(svc, None)
            if beat is not None:
                world.beats_saved[svc] = encode_saved_beat(beat)

    # -- restore and takeover

    def saved(self) -> dict[str, SavedService]:
        world = self.world
        read = {svc: parse_saved_beat(raw) for svc, raw in world.beats_saved.items()}
        beats = {svc: beat for svc, beat in read.items() if beat is not None}
        roster = {svc: entry for svc in world.roster if (entry := world.entry(svc)) is not None}
        buses = {each.svc: each.bus for each in world.watches()}
        return combine_saved_state(roster, world.silences_saved, world.clocks_saved, buses, beats)

    def restore(self) -> None:
        if self.is_gone:
            return
        if self.asleep:
            self.inbox.append(self.restore)
            return
        self.advance()
        world, saved = self.world, self.saved()
        for svc, raw in world.jobs_saved.items():
            if svc in self.detector.jobs and (job := parse_job_entry(raw)) is not None:
                saved[svc] = replace(saved.get(svc, SavedService(State.UNKNOWN, seen=False)), job=job)
        timeouts = {
            name: {each.svc: each.timeout_sec for each in world.watches() if each.bus == name}
            for name in world.buses
        }
        for found in restore_services(self.detector, saved, world.read_beats(timeouts), self.now):
            if found is not None:
                self.conclude(found)
        for name in self.sessions:
            self.read_unheard(name)
        self.look()

    def set_leader(self) -> None:
        self.world.leader, self.world.oracle.leader = self, self.hearing

    def take_over(self) -> None:
        """Leads from now on."""
        if self.detector.is_restoring:  # it restores what the leader left, and publishes then
            self.set_leader()
            return
        self.compare()
        self.set_leader()
        had_until = self.world.leader_seen_at - LEADER_HAD_TIME_SEC
        for svc, published in self.saved().items():
            raw = self.world.jobs_saved.get(svc)
            known = replace(published, silent_sec=None, job=None if raw is None else parse_job_entry(raw))
            silent = {"is_silent": svc in self.world.silences_saved, "had_until": had_until}
            if svc in self.queue.fields and not (
                is_miss_overruled(self.detector, svc, known, self.now, **silent)
                and self.queue.withdraw_miss(svc)
            ):
                continue
            if (verdict := adopt_state(self.detector, svc, known, self.now)) is not None:
                self.conclude(verdict)
        for service in self.detector.jobs.values():
            if service.job is not None:
                service.job.is_unsaved = True
        self.detector.silences.delete(*self.world.silences_saved)
        self.detector.save_all_silences()
        for name in self.sessions:
            self.read_unheard(name)
        self.publish()

    def rewatch(self) -> None:
        self.conclude(
            *self.detector.set_roster(
                self.world.watches(), dict.fromkeys(self.world.buses, BUS_TIMEOUT_SEC), self.now
            )
        )
