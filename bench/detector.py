"""Measure the detector alone at 100,000 services: a beat, a look, a gap, a mass death, and memory.

There are no sockets, no server and no log, and time is simulated. What is measured is the processor time of
the detector, of the notes on restarts, and of the keys `health:<svc>`, with their commands packed. A service
beats every 10 s and is missed after 30 s. Each measurement is a process of its own, which prints one line of
JSON for `main`.
"""

import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, Final

import hiredis

from bench.beats import name_services
from bench.programs import answer, read_result
from marketswarm.beat import Beat, encode_beat
from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.bus.transaction import TRANSACTION
from marketswarm.detector import CANARY_EVERY_SEC, Detector, Moment, restore_services
from marketswarm.event import Kind
from marketswarm.monitor import health
from marketswarm.monitor.leadership import UNFENCED
from marketswarm.monitor.store import StateStore
from marketswarm.truth import JobRule, Schedule, Watch

SERVICES: Final = 100_000
JOBS: Final = 10_000
INTERVAL_SEC: Final = 10.0
TIMEOUT_SEC: Final = 30.0
BATCH: Final = 25
"""The beats that arrive together."""
STEADY_SEC: Final = 40.0
GAP_SEC: Final = 5.0
BUS: Final = "bus"
WALL: Final = 1_762_433_458.0


class PackingBus(Bus):
    """A bus that packs the commands of scripts, and sends them nowhere."""

    async def script(
        self,
        script: Script,
        keys: Sequence[str | bytes],
        args: Sequence[str | bytes | float],
        within_sec: float | None = None,
    ) -> Any:
        """Return that one transaction was written; the number of keys of any other script."""
        del within_sec
        hiredis.pack_command(("FCALL", script.function, len(keys), *keys, *args))  # type: ignore[arg-type]  # its types know one argument
        return [1] if script is TRANSACTION else len(keys)


class SimulatedHealer:
    """A detector that hears one bus in simulated time; `spent` is the processor time of each part of it."""

    def __init__(self, watches: Iterable[Watch]) -> None:
        self._steps = 0
        self.spent = {"beats": 0.0, "looks": 0.0, "notes": 0.0, "health": 0.0}
        self._bus = PackingBus(BUS, "redis://nowhere")
        self._loop = asyncio.new_event_loop()
        self.longest_look_sec = 0.0
        self.heard = self.missed = 0
        self.detector = Detector(self.now)
        self.restarts = self.detector.observer
        clock = SimpleNamespace(monotonic=lambda: self.now.mono, time=lambda: self.now.wall)
        vars(health)["time"] = clock
        self.health = health.HealthKeys(self.detector, kind=Kind.HEARTBEAT_OK, by="healer")
        self._store = StateStore(self._bus, "healer")
        self.detector.set_roster(watches, {BUS: 10.0}, self.now)
        self.clock = self.detector.buses[BUS].clock
        self.clock.note_session_opened()
        self.services = [each.svc for each in self.detector.services.values()]
        self._i = 1000
        list(restore_services(self.detector, {}, {}, self.now))

    @property
    def now(self) -> Moment:
        return Moment(1000.0 + self._steps * CANARY_EVERY_SEC, WALL + self._steps * CANARY_EVERY_SEC)

    def reset(self) -> None:
        """Begin to measure anew."""
        self.spent = dict.fromkeys(self.spent, 0.0)
        self.longest_look_sec, self.heard, self.missed = 0.0, 0, 0

    def run(self, sec: float, *, beats: bool = True, at_once: bool = False) -> None:
        """Let time pass; each service beats once in an interval, or all in the same moment."""
        for _ in range(round(sec / CANARY_EVERY_SEC)):
            self._steps += 1
            if beats:
                self._beat(at_once=at_once)
            self.clock.note_canary_sent(self._steps, self.now.mono)
            self.clock.note_canary_accepted(self.now)
            self.detector.take_canary(BUS, self._steps, self.now)
            self._look()
            if self._steps % round(1 / CANARY_EVERY_SEC) == 0:
                self._note()
                self._refresh()

    def lose(self) -> None:
        """Lose the bus for some seconds."""
        self.clock.note_session_lost("refused")
        self._steps += round(GAP_SEC / CANARY_EVERY_SEC)
        self.detector.note_awake(self.now)
        self.clock.note_session_opened()

    def _beat(self, *, at_once: bool) -> None:
        of = round(INTERVAL_SEC / CANARY_EVERY_SEC)
        i, part = self._i + self._steps // of, self._steps % of
        chosen = self.services[part::of] if not at_once else self.services if part == 0 else []
        for batch in _batches(chosen):
            messages = [
                (
                    b"message",
                    f"{svc}:heartbeat".encode(),
                    encode_beat(
                        Beat(svc, i, self.now.wall, boot=f"{svc}{1:024x}", rev=3, every=INTERVAL_SEC)
                    ),
                )
                for svc in batch
            ]
            begun = time.process_time()
            verdicts = self.detector.take_messages(BUS, messages, self.now).verdicts
            self.spent["beats"] += time.process_time() - begun
            for verdict in verdicts:
                self.health.note_published(verdict, b"")
            self.heard += len(messages)

    def _look(self) -> None:
        """Evaluate until nothing more is due; no service has a beat elsewhere."""
        wake_in_sec = 0.0
        while wake_in_sec == 0:
            begun = time.process_time()
            tick = self.detector.tick(self.now)
            sec = time.process_time() - begun
            self.longest_look_sec = max(self.longest_look_sec, sec)
            self.spent["looks"] += sec
            for suspect in tick.suspects:
                self.missed += self.detector.evaluate_suspect(suspect.svc, None, self.now) is not None
            wake_in_sec = tick.wake_in_sec

    def _note(self) -> None:
        begun = time.process_time()
        self.detector.silences.take()
        beats = self.restarts.take_unsaved(self.now.mono)
        self._loop.run_until_complete(self._store.save_beats(UNFENCED, beats))
        self.spent["notes"] += time.process_time() - begun

    def _refresh(self) -> None:
        begun = time.process_time()
        self._loop.run_until_complete(self.health.refresh(self._bus, "healer:lease", UNFENCED))
        self.spent["health"] += time.process_time() - begun


def _batches(services: list[str]) -> Iterator[list[str]]:
    return (services[start : start + BATCH] for start in range(0, len(services), BATCH))


def build_watches(services: int) -> list[Watch]:
    names = name_services(services)
    return [Watch(svc, BUS, f"{svc}:heartbeat", INTERVAL_SEC, TIMEOUT_SEC) for svc in names]


def make_schedule(n: int) -> str:
    """Return the schedule of a job, as cron has it; those of the first 10,080 jobs differ."""
    return f"{n % 60} {n // 60 % 24} * * {n // 1440 % 7}"


def build_jobs(jobs: int) -> list[Watch]:
    """Return jobs with a different schedule each; this takes some milliseconds a job."""
    rules = [JobRule(Schedule(make_schedule(n)), 600.0, None) for n in range(jobs)]
    for rule in rules:
        rule.longest_silence_sec()  # which is measured where a truth is parsed
    return [
        Watch(svc, BUS, f"{svc}:heartbeat", 86_400.0, 90_000.0, job=rule)
        for svc, rule in zip(name_services(jobs), rules, strict=True)
    ]


def measure_time(services: int) -> dict[str, float]:
    """Return microseconds a beat and a service, and milliseconds of the longest evaluation."""
    healer = SimulatedHealer(build_watches(services))
    healer.run(3 * INTERVAL_SEC)
    healer.reset()
    healer.run(STEADY_SEC)
    rounds = services * STEADY_SEC / INTERVAL_SEC
    found = {
        "beat": 1e6 * healer.spent["beats"] / healer.heard,
        "look": 1e6 * healer.spent["looks"] / rounds,
        "note": 1e6 * healer.spent["notes"] / rounds,
        "health": 1e6 * healer.spent["health"] / rounds,
        "longest": 1e3 * healer.longest_look_sec,
    }
    healer.lose()
    healer.reset()
    healer.run(STEADY_SEC)
    steady = sum(found[each] for each in ("beat", "look", "note", "health")) * rounds
    found["gap"] = (1e6 * sum(healer.spent.values()) - steady) / services
    return found


def measure_deaths(services: int) -> dict[str, float]:
    """Return the longest evaluation where all services beat in the same moment, and where all die at once."""
    healer = SimulatedHealer(build_watches(services))
    healer.run(3 * INTERVAL_SEC, at_once=True)
    gc.collect()
    gc.freeze()  # as the healer does
    healer.reset()
    healer.run(STEADY_SEC, at_once=True)
    found = {"at_once": 1e3 * healer.longest_look_sec}
    healer.reset()
    healer.run(2 * TIMEOUT_SEC, beats=False)
    assert healer.missed == services
    return found | {"deaths": 1e3 * healer.longest_look_sec}


def measure_memory(services: int) -> dict[str, float]:
    """Return the bytes of a service, beyond its line in the truth, once it beats, and what a gap adds."""
    watches = build_watches(services)
    gc.collect()
    tracemalloc.start()
    healer = SimulatedHealer(watches)
    del healer.services[:]
    empty = tracemalloc.get_traced_memory()[0]
    healer.services = [each.svc for each in watches]
    healer.run(4 * INTERVAL_SEC)
    gc.collect()
    steady = tracemalloc.get_traced_memory()[0]
    healer.lose()
    healer.run(INTERVAL_SEC)
    gc.collect()
    gap = tracemalloc.get_traced_memory()[0]
    return {"unheard": empty / services, "bytes": steady / services, "gap_bytes": (gap - steady) / services}


def measure_jobs(jobs: int) -> dict[str, float]:
    """Return the longest evaluation of jobs, in milliseconds, at the start and after a gap."""
    healer = SimulatedHealer(build_jobs(jobs))
    healer.run(1.0, beats=False)
    found = {"start": 1e3 * healer.longest_look_sec, "all": 1e3 * healer.spent["looks"]}
    healer.reset()
    healer.lose()
    healer.run(60.0, beats=False)
    return found | {"gap": 1e3 * healer.longest_look_sec}


KINDS: Final = {
    "time": measure_time,
    "deaths": measure_deaths,
    "memory": measure_memory,
    "jobs": measure_jobs,
}


def main(services: int = SERVICES, jobs: int = JOBS) -> None:
    """Measure all, and print the figures."""
    took, deaths, memory = (
        read_result("bench.detector", kind, services) for kind in ("time", "deaths", "memory")
    )
    of_jobs = read_result("bench.detector", "jobs", jobs)
    share = (took["beat"] + took["look"] + took["note"] + took["health"]) * services / INTERVAL_SEC / 1e4
    print(f"the detector alone, {services:,} services that beat every {INTERVAL_SEC:.0f} s")
    rows = (
        ("a beat", f"{took['beat']:.2f} µs", ""),
        ("looks, a service and interval", f"{took['look']:.2f} µs", f"the longest {took['longest']:.1f} ms"),
        ("notes, a service and interval", f"{took['note']:.2f} µs", ""),
        ("health keys, a service and interval", f"{took['health']:.2f} µs", ""),
        ("together", f"{share:.1f} % of a core", ""),
        ("a gap, a service", f"{took['gap']:.1f} µs", ""),
        ("all beat at once", f"{deaths['at_once']:.1f} ms", "the longest evaluation"),
        ("all die at once", f"{deaths['deaths']:.1f} ms", "the longest evaluation"),
        ("memory of a service", f"{memory['bytes']:.0f} B", f"{memory['unheard']:.0f} B before it is heard"),
        ("after a gap", f"{memory['gap_bytes']:.0f} B more", ""),
        (f"{jobs:,} jobs, start", f"{of_jobs['start']:.1f} ms", f"the longest of {of_jobs['all']:.0f} ms"),
        (f"{jobs:,} jobs, a gap", f"{of_jobs['gap']:.1f} ms", "goal: 20 ms"),
    )
    for what, value, more in rows:
        print(f"{what:<36}{value:>16}   {more}".rstrip())


if __name__ == "__main__":
    if len(sys.argv) > 2:
        answer(KINDS[sys.argv[1]](int(sys.argv[2])))
    else:
        main()
