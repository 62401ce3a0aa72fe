"""Run cases on fleets: up to three at once that touch one service each, and alone those that touch all."""

import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Final

from bench.background import Background
from bench.faultgym.case import Case, Expectation, HealerAction, Judgement, Trial, judge
from bench.faultgym.clock import FleetClock
from bench.faultgym.fleet import GRACE, ON_DEMAND, OUTSIDE, POLL_SEC, REAL, SECTIONS, GymFleet
from bench.faultgym.healers import Healer
from bench.faultgym.injection import Injection
from bench.faultgym.report import TrialResult
from bench.faultgym.requests import COUNTED_SEC, Requester
from marketswarm.operator.healing import EntryKind

AT_ONCE: Final = 3
STALL_SEC: Final = 0.6
"""A machine that stands still for so long makes outages of its own."""
WITHOUT_MEDIC_SEC: Final = COUNTED_SEC
"""The longest wait for a healer that has no remedy for what was injected."""
SURE_SEC: Final = 1.0
"""How long a service must be well before it counts as healed."""


class StallMonitor(Background):
    """Note when the machine stood still while a `with` block runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stalls: list[tuple[float, float]] = []

    def _run(self) -> None:
        before = time.time()
        while not self._is_over.wait(0.1):
            now = time.time()
            if now - before > STALL_SEC:
                self.stalls.append((before, now))
            before = now

    def has_stalled(self, since: float) -> bool:
        return any(end >= since for _, end in self.stalls)


class GymRun:
    """Run all cases of one seed on one fleet."""

    def __init__(self, fleet: GymFleet, seed: int, stalls: StallMonitor) -> None:
        self.fleet, self.seed, self.results = fleet, seed, list[TrialResult]()
        self.strays: list[HealerAction] = []
        """What was done to services while no case was about them."""
        self.excused = 0
        """How many trials were made anew, since they were not right while the machine stood still."""
        self.claims: list[tuple[float, float, frozenset[str]]] = []
        self._stalls = stalls
        self._began_at = time.time()
        self._lock = threading.Lock()

    def run(self, cases: Iterable[Case]) -> None:
        shuffled = list(cases)
        Random(self.seed).shuffle(shuffled)
        shuffled.sort(key=lambda case: -case.within_sec if not case.is_alone else 0)  # long ones first
        self._run_together([case for case in shuffled if not case.is_alone])
        for case in (case for case in shuffled if case.is_alone):
            self._run_case(case)

    def _run_together(self, cases: list[Case]) -> None:
        waiting, busy = deque(cases), set[str]()
        changed = threading.Condition()

        def work() -> None:
            while True:
                with changed:
                    while waiting:
                        case = next((each for each in waiting if not busy & {each.svc, *each.also}), None)
                        if case is not None:
                            break
                        changed.wait()
                    else:
                        return
                    waiting.remove(case)
                    names = {case.svc, *case.also}
                    busy.update(names)
                self._run_case(case)
                with changed:
                    busy.difference_update(names)
                    changed.notify_all()

        threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    def _run_case(self, case: Case) -> None:
        """Run a case; once more if the machine stood still meanwhile."""
        began = time.time()
        try:
            judgement = self._try_case(case)
            if not judgement.is_right and self._stalls.has_stalled(began):
                print_line(f"?? {judgement.why}: {case.name}, again, since the machine stood still")
                with self._lock:
                    self.excused += 1
                judgement = self._try_case(case)
            result = TrialResult(case, self.seed, judgement)
        except Exception as error:  # noqa: BLE001 - the other cases run all the same
            if not isinstance(error, AssertionError):
                traceback.print_exc()
            result = TrialResult(case, self.seed, None, f"{type(error).__name__}: {error}"[:200])
        with self._lock:
            self.results.append(result)
            names = frozenset({*SECTIONS, *OUTSIDE, "mesh"} if case.is_alone else {case.svc, *case.also})
            self.claims.append((began, time.time(), names))
        print_line(describe(result, time.time() - began))

    def _try_case(self, case: Case) -> Judgement:
        fleet, services = self.fleet, {case.svc, *case.also}
        fleet.wait_until_settled(set(fleet.services()) if case.is_alone else services)
        if case.expect is Expectation.HEAL and case.svc not in OUTSIDE:
            fleet.wait_until_old(case.svc, GRACE * fleet.timeout_sec)  # else its start has grace
        fault = Injection(fleet, case.svc, Random(f"{self.seed} {case.name}"))
        time.sleep(fault.pick(0, 0.5))
        asked = set(fleet.services()) if case.is_alone else services & set(fleet.services())
        asked -= REAL  # these take no requests of the gym
        with Requester(fleet.orders, asked) as users:
            try:
                case.inject(fault)
            except AssertionError:  # a healer did not do what it waited for
                self._mend_by_hand(services)
                raise
            up_at = self._watch(case, fault)
        trial = self._collect(case, fault, up_at, users)
        if case.mend is not None:
            case.mend(fault)
        judgement = judge(trial)
        if not judgement.is_right and not fleet.has_medic:
            self._mend_by_hand(services)
        self._settle(services if not case.is_alone else set(fleet.services()))
        return judgement

    def _settle(self, services: set[str]) -> None:
        """Wait until all is well again; what a healer left is mended by hand."""
        try:
            self.fleet.wait_until_settled(services)
        except AssertionError:
            self._mend_by_hand({each for each in services if not self.fleet.is_well(each)})
            self.fleet.wait_until_settled(services)

    def _mend_by_hand(self, services: set[str]) -> None:
        self.fleet.clear_caches(services)
        for svc in sorted(services - OUTSIDE.keys()):
            self.fleet.end_start_orders(svc)
            self.fleet.stop(svc)
            self.fleet.start(svc)

    def _watch(self, case: Case, fault: Injection) -> float | None:
        """Watch until the case is decided; return when its service was well again."""
        if case.expect in (Expectation.NOTHING, Expectation.REPORT):
            time.sleep(case.watch_sec)
            return None
        fleet, until = self.fleet, fault.injected_at + case.within_sec
        if not fleet.has_medic:
            patience = fleet.manager.patience_sec if fleet.manager is not None else WITHOUT_MEDIC_SEC
            until = min(until, time.time() + patience)
        has_been_bad, up_at = False, None
        while (now := time.time()) < until:
            time.sleep(POLL_SEC)
            if case.expect is Expectation.ESCALATE:
                if any(
                    each.what is EntryKind.ESCALATED and each.svc == case.svc
                    for each in fleet.read_entries(fault.injected_at)
                ) or any(svc == case.svc for _, svc in fleet.read_given_up(fault.injected_at)):
                    return None
                continue
            is_open = case.svc in fleet.read_open()
            if not fleet.is_well(case.svc):
                has_been_bad, up_at = True, None
                continue
            is_new = fleet.has_restarted(case.svc, fault.injected_at)
            has_been_bad = has_been_bad or is_open or is_new
            if not has_been_bad or (case.needs_restart and not is_new):  # one beat was late, say
                continue
            up_at = up_at or now
            if not is_open and now - up_at > SURE_SEC:
                return up_at
        return None

    def _collect(self, case: Case, fault: Injection, up_at: float | None, users: Requester) -> Trial:
        services, since = {case.svc, *case.also}, fault.injected_at
        fleet = self.fleet
        actions = fleet.read_actions(since)
        asked, failed = users.count(since)
        return Trial(
            case=case,
            injected_at=since,
            entries=tuple(each for each in fleet.read_entries(since) if each.svc in services),
            actions=tuple(each for each in actions if case.is_alone or each.svc in services),
            alerts=tuple(fleet.read_alerts(since)),
            given_up_at=min((ts for ts, svc in fleet.read_given_up(since) if svc in services), default=None),
            up_at=up_at,
            asked=asked,
            failed=failed,
            has_medic=fleet.has_medic,
        )

    def find_strays(self) -> list[HealerAction]:
        """Return what was done to services while no case was about them."""

        def is_claimed(action: HealerAction) -> bool:
            return any(begin <= action.ts <= end and action.svc in names for begin, end, names in self.claims)

        return [each for each in self.fleet.read_actions(self._began_at) if not is_claimed(each)]


def leave_out_missing(cases: Iterable[Case]) -> list[Case]:
    """Return the cases that can be run on this machine; print why the others can't."""
    found = []
    for case in cases:
        if missing := case.find_missing():
            print_line(f"skipped {case.name}: {missing}")
        else:
            found.append(case)
    return found


def find_services(cases: Sequence[Case]) -> set[str]:
    """Return the services that cases need: nearly all, if one of them is about the whole fleet."""
    is_whole = any(case.is_alone for case in cases)
    common = {*SECTIONS, *OUTSIDE} - ON_DEMAND if is_whole else {"alpha", "beta", "gamma"}
    return common.union(*({case.svc, *case.also} for case in cases))


def run_seed(
    cases: Sequence[Case], seed: int, timeout_sec: float, healer: Healer, keep: Path | None = None
) -> GymRun:
    """Run all cases of a seed on a fleet of their own."""
    folder = Path(tempfile.mkdtemp(prefix="faultgym-", dir=keep))
    clock = FleetClock(folder / "clock") if any(case.steps_clock for case in cases) else None
    try:
        with (
            StallMonitor() as stalls,
            GymFleet(folder, find_services(cases), timeout_sec, healer, clock) as fleet,
        ):
            run = GymRun(fleet, seed, stalls)
            run.run(cases)
            run.strays = run.find_strays()
            for each in run.strays:
                print_line(f"!! {each.remedy} of {each.svc} while no case was about it")
            return run
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def describe(result: TrialResult, took_sec: float) -> str:
    judgement, head = result.judgement, f"{result.case.name} (seed {result.seed})"
    if judgement is None:
        return f"!! {head}: {result.problem}"
    words = [
        f"{word} {sec:.1f} s"
        for word, sec in (
            ("detected", judgement.detected_sec),
            ("verified", judgement.verified_sec),
            ("up", judgement.up_sec),
        )
        if sec is not None
    ]
    mark = "ok" if judgement.is_right else f"!! {judgement.why}:"
    return f"{mark} {head} {', '.join(words)} [{took_sec:.0f} s]"


def print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
