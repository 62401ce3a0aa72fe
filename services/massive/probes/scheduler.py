"""Probe each target on a schedule of its own; a slow target delays no other.

Targets whose last probe was slow have a concurrency limit of their own, apart from the quick ones. The same
holds for the look-up of a host name, since a look-up that hangs holds its thread. `probers/` has the code for
each kind of target.
"""

import asyncio
import importlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from marketswarm import log as logs
from services.massive.probes.probers.context import ProbeContext, SystemLookUp
from services.massive.probes.result import CONFIG, NOT_MADE, ProbeFinding, ProbeResult
from services.massive.targets import Target

JITTER: Final = 0.1
SPREAD_SEC: Final = 0.02
"""The seconds per target over which the first probes of all targets are spread."""
MAX_CONCURRENT: Final = 64
THREADS: Final = 16
SLOW_MS: Final = 500.0
LATE_INTERVALS: Final = 3
LATE_SEC: Final = 5.0
CLOSE_SEC: Final = 1.0
"""The seconds that a probe may take beyond its limit, to close its connection."""
BROKEN: Final = "broken"


def first_delay_sec(every_sec: float, targets: int, chance: float) -> float:
    """Return how many seconds a new target waits for its first probe; `chance` is from 0 to 1."""
    return chance * min(every_sec, SPREAD_SEC * targets)


def next_due(due: float, now: float, every_sec: float, chance: float) -> float:
    """Return when a target is due after a probe that was due at `due` and is over at `now`.

    On average that is `every_sec` after `due`, with a jitter of a tenth. Missed probes are not made up for.
    """
    following = due + every_sec * (1 - JITTER + 2 * JITTER * chance)
    return max(following, now)


class ConcurrencyLimits:
    """Limit how many probes run at the same time, and hold the threads for their look-ups.

    Slow targets have a limit and threads of their own.
    """

    def __init__(self) -> None:
        self._semaphores = {is_slow: asyncio.Semaphore(MAX_CONCURRENT) for is_slow in (False, True)}
        self._look_ups = {is_slow: SystemLookUp(THREADS) for is_slow in (False, True)}

    def semaphore_for(self, last: ProbeFinding | None) -> asyncio.Semaphore:
        """Choose by how long the target's last probe took."""
        return self._semaphores[last is not None and last.result.ms.get("total", 0.0) > SLOW_MS]

    def look_up_for(self, last: ProbeFinding | None) -> SystemLookUp:
        """Choose by how long the target's last look-up took."""
        return self._look_ups[last is not None and last.result.ms.get("dns", 0.0) > SLOW_MS]

    def close(self) -> None:
        for look_up in self._look_ups.values():
            look_up.close()


log = logs.get("massive")


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """Hold a target, the seconds between two of its probes, and the time limit of one probe in seconds."""

    target: Target
    every_sec: float
    timeout_sec: float


@dataclass(slots=True)
class ScheduledTarget:
    """Hold a target on schedule: its task, when that was started, its last result and the time of that.

    Times are by the event loop's clock.
    """

    plan: ProbePlan
    task: asyncio.Task[Any]
    started_at: float
    last: ProbeFinding | None = None
    last_at: float = field(default=float("-inf"))


class ProbeScheduler:
    """Run the schedules of all targets.

    Args:
        start_task: runs a side task: `Agent.task`.
        make_context: returns the context of one probe, from its plan and its last result.
        resolve_target: returns the target as it can be probed, or a failed ProbeResult if it can't be.
        deliver: takes each result.
        load_prober: returns the module that probes a kind of target; called in a thread, since some imports
            take a second.

    Attributes:
        scheduled: the targets by name.
        not_made: the targets whose last probe could not be made, for want of a file descriptor or memory.
    """

    def __init__(
        self,
        start_task: Callable[..., asyncio.Task[Any]],
        limits: ConcurrencyLimits,
        *,
        make_context: Callable[[ProbePlan, ProbeFinding | None], ProbeContext],
        resolve_target: Callable[[Target], Target | ProbeResult],
        deliver: Callable[[ProbePlan, ProbeFinding], None],
        load_prober: Callable[[str], Any] = lambda kind: importlib.import_module(
            f"services.massive.probes.probers.{kind}"
        ),
    ) -> None:
        self._start_task, self._limits = start_task, limits
        self._make_context, self._resolve_target, self._deliver = make_context, resolve_target, deliver
        self.scheduled: dict[str, ScheduledTarget] = {}
        self.not_made = set[str]()
        self._load_prober = load_prober
        self._probers: dict[str, Any] = {}
        self._loading = asyncio.Lock()

    def follow(self, plans: Sequence[ProbePlan]) -> None:
        """Probe by these plans from now on; a target whose plan has not changed keeps its schedule."""
        wanted = {plan.target.name: plan for plan in plans}
        for name, scheduled in list(self.scheduled.items()):
            if wanted.get(name) != scheduled.plan:
                scheduled.task.cancel()
                del self.scheduled[name]
                self.not_made.discard(name)
        now = asyncio.get_running_loop().time()
        for name, plan in wanted.items():
            if name not in self.scheduled:
                delay_sec = first_delay_sec(plan.every_sec, len(wanted), random.random())
                task = self._start_task(
                    self._probe_repeatedly(plan, now + delay_sec), name=f"probe of {name}"
                )
                self.scheduled[name] = ScheduledTarget(plan, task, now)

    def count_late(self) -> int:
        """Return how many targets have had no result for longer than their plan allows, though they could."""
        now = asyncio.get_running_loop().time()
        able = (each for name, each in self.scheduled.items() if name not in self.not_made)
        waits = ((now - max(each.started_at, each.last_at), each.plan) for each in able)
        return sum(sec > LATE_INTERVALS * plan.every_sec + plan.timeout_sec + LATE_SEC for sec, plan in waits)

    def latest(self) -> Mapping[str, ProbeFinding]:
        """Return the last result of each target that has one; another thread may call this."""
        return {name: each.last for name, each in self.scheduled.copy().items() if each.last is not None}

    async def _probe_repeatedly(self, plan: ProbePlan, due: float) -> None:
        """Probe a target whenever it is due, and deliver each result, until cancelled."""
        clock = asyncio.get_running_loop().time
        kind = plan.target.kind
        async with self._loading:
            if kind not in self._probers:
                self._probers[kind] = await asyncio.to_thread(self._load_prober, kind)
        while True:
            await asyncio.sleep(max(0.0, due - clock()))
            scheduled = self.scheduled[plan.target.name]
            async with self._limits.semaphore_for(scheduled.last):
                finding = await self._probe_once(plan, scheduled.last)
            if finding.result.error != NOT_MADE:
                self.not_made.discard(finding.target)
                scheduled.last, scheduled.last_at = finding, clock()
                self._deliver(plan, finding)
            else:
                if not self.not_made:  # logged once if none can be made
                    log.warning("probe.not_made", target=finding.target, stage=finding.result.stage)
                self.not_made.add(finding.target)
            due = next_due(due, clock(), plan.every_sec, random.random())

    async def _probe_once(self, plan: ProbePlan, last: ProbeFinding | None) -> ProbeFinding:
        """Probe a target once, within its limit; return the finding.

        An exception of the prober is logged, and becomes the error `broken`.
        """
        ts, name = time.time(), plan.target.name
        try:
            async with asyncio.timeout(plan.timeout_sec + CLOSE_SEC):
                result = target = self._resolve_target(plan.target)
                if not isinstance(target, ProbeResult):
                    context = self._make_context(plan, last)
                    result = await self._probers[target.kind].probe(target, context)
                return ProbeFinding(name, ts, cast("ProbeResult", result))
        except Exception:
            # a prober raises nothing, so this one has a bug; the other targets are probed on
            log.exception("probe.broken", target=name, kind=plan.target.kind)
            return ProbeFinding(name, ts, ProbeResult(plan.target.kind, "", CONFIG, BROKEN))
