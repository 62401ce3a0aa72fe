"""A soak from beginning to end: the schedule is played, the account is kept, the rest is settled."""

import contextlib
import heapq
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import redis

from soak.account import judge
from soak.fault_injection import Breaker
from soak.fleet import SoakFleet
from soak.ledger import Ledger
from soak.memory import Memory
from soak.oracle import SEEDING_SEC, Account, Finding
from soak.schedule import LONGEST_BOUND_SEC, Act, Cast, cast, faults, outages

LAG_SEC = 1.0
MEMORY_EVERY_SEC = 10.0
SETTLED_SEC = LONGEST_BOUND_SEC + SEEDING_SEC + 10.0


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    minutes: float = 10.0
    seed: int = 1
    services: int = 40
    healers: int = 2
    lease_sec: float = 1.0
    spare: frozenset[str] = frozenset()
    code: str = ""
    every_sec: float = 60.0


@dataclass
class Soak:
    """One run in `folder`; `say` is given lines for people. `run` may be ended early by KeyboardInterrupt."""

    plan: Plan
    folder: Path
    say: Callable[[str], None]
    account: Account = field(default_factory=Account)

    def __post_init__(self) -> None:
        chance = random.Random(self.plan.seed)
        self.cast: list[Cast] = cast(chance, self.plan.services)
        self.faults = faults(chance, self.plan.minutes, self.plan.healers, set(self.plan.spare))
        self.outages = outages(chance, self.plan.minutes, self.cast)
        self.ledger = Ledger(healers=self.plan.healers, lease_sec=self.plan.lease_sec)
        self.seen: set[Finding] = set()
        self.memory = Memory()
        self.done: dict[str, int] = {}
        self.beats = 0
        self.takeovers: list[tuple[float, float]] = []
        self.interrupted = False

    def run(self) -> None:
        _save(self.folder / "schedule.jsonl", sorted([*self.faults, *self.outages], key=lambda act: act.at))
        with SoakFleet(self.folder, self.cast, self.ledger, self.plan.code) as fleet:
            self.fleet = fleet
            self.say(f"all {len(fleet.in_force)} services are up; {self.plan.minutes:g} minutes begin")
            closing = threading.Event()
            troubles = threading.Thread(target=self._play_outages, args=(closing,), daemon=True)
            troubles.start()
            try:
                with contextlib.suppress(KeyboardInterrupt):
                    self._play_faults(fleet)
                    self.interrupted = False
            finally:
                closing.set()
                troubles.join(10)
            self._settle(fleet)
            self.beats, self.takeovers = fleet.company.count(), list(fleet.witness.takeovers)
            _save(self.folder / "told.jsonl", [told._asdict() for told in fleet.witness.told])
            _save(self.folder / "faults.jsonl", self.ledger.spells)

    # -- playing

    def _play_faults(self, fleet: SoakFleet) -> None:
        self.interrupted = True
        self.breaker = Breaker(fleet, random.Random(self.plan.seed))
        self.done = self.breaker.done
        self.ends: list[tuple[float, int, Callable[[], None]]] = []
        begun, report_at, sample_at, count = time.monotonic(), self.plan.every_sec, 0.0, 0
        todo = list(self.faults)
        postponed: list[Act] = []
        while (now := time.monotonic() - begun) < self.plan.minutes * 60:
            while self.ends and self.ends[0][0] <= now:
                heapq.heappop(self.ends)[2]()
            while todo and todo[0].at <= now:
                act = todo.pop(0)
                if act.lane == "reseed":
                    postponed.append(act)
                    continue
                end = self._do(act)
                if end is not None:
                    count += 1
                    heapq.heappush(self.ends, (time.monotonic() - begun + act.sec, count, end))
            if postponed and self.breaker.may_seed():
                self._do(postponed.pop(0))
            if now >= sample_at:
                sample_at += MEMORY_EVERY_SEC
                self.memory.sample(fleet.healers(), time.time())
            if now >= report_at:
                report_at += self.plan.every_sec
                self.look(time.time() - LAG_SEC, progress=True)
            time.sleep(0.02)

    def _do(self, act: Act) -> Callable[[], None] | None:
        try:
            return self.breaker.do(act)
        except redis.RedisError as error:  # a server that is too busy: the fault was not made
            self.say(f"left out: {act.kind} {act.target}: {error!r}")
            return None

    def _play_outages(self, closing: threading.Event) -> None:
        begun, company = time.monotonic(), self.fleet.company
        acts = [(act.at, n, act, True) for n, act in enumerate(self.outages)]
        heapq.heapify(acts)
        while acts and not closing.wait(max(0.0, acts[0][0] - (time.monotonic() - begun))):
            _, n, act, begins = heapq.heappop(acts)
            if begins:
                company.silence(act.target)
                heapq.heappush(acts, (time.monotonic() - begun + act.sec, n, act, False))
            else:
                company.revive(act.target, act.more["boot"])

    def _settle(self, fleet: SoakFleet) -> None:
        """Ends every fault, leaves the fleet alone until all that is owed has fallen due, and looks."""
        self.say("every fault is ended; the rest is settled")
        for _, _, end in sorted(self.ends, key=lambda each: each[:2]):
            end()
        for svc in list(fleet.company.silent)[::2]:
            fleet.company.revive(svc, "same")
        time.sleep(SETTLED_SEC)
        fleet.witness.read_logs()
        self.look(time.time() - LAG_SEC, progress=True)

    # -- looking

    def look(self, until: float, *, progress: bool) -> None:
        self.memory.sample(self.fleet.healers(), time.time())
        self.account = judge(self.ledger, list(self.fleet.witness.told), until)
        for finding in self.account.findings:
            key = finding._replace(event=None)
            if key not in self.seen:
                self.seen.add(key)
                self.say(f"FOUND {finding.kind}: {finding.svc} at {finding.at:.3f}: {finding.text}")
                self.say(f"      {orjson.dumps(finding.event).decode() if finding.event else ''}")
        if progress:
            counts = self.account.counts
            self.say(
                f"{until - self.ledger.began:6.0f} s: "
                f"outages {counts['outages made']} made, {counts['outages owed']} owed, "
                f"{counts['outages told']} told; bus losses {counts['bus losses made']} made, "
                f"{counts['bus losses told']} told; faults {sum(self.done.values())}; "
                f"findings {len(self.account.findings)}"
            )


def _save(path: Path, rows: list[Any]) -> None:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
