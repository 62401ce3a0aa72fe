"""Probe each target on a schedule of its own, beside all the others.

What is slow waits for what is slow, and delays nothing else. There are two lanes: a target whose last probe
took long uses the slow one, and so does the look-up of a name that took long, in threads of its own, since a
look-up that hangs holds its thread. How a kind of target is probed is in `probers/`.
"""

import asyncio
import importlib
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from marketswarm import log as logs
from services.massive.probes.probers.context import ProbeContext, SystemLookUp
from services.massive.probes.result import CONFIG, Finding, Result
from services.massive.probes.targets import Target

JITTER: Final = 0.1
SPREAD_SEC: Final = 0.02
"""So long for each target is the time over which the first probes of all are spread."""


def first_wait_sec(every_sec: float, targets: int, chance: float) -> float:
    """Return for how long a new target waits for its first probe; `chance` is from 0 to 1."""
    return chance * min(every_sec, SPREAD_SEC * targets)


def next_due(due: float, now: float, every_sec: float, chance: float) -> float:
    """Return when a target is due after a probe that was due at `due` and is over at `now`.

    On the average that is `every_sec` later, up to a tenth off. Missed probes are not made up for.
    """
    following = due + every_sec * (1 - JITTER + 2 * JITTER * chance)
    return max(following, now)


AT_ONCE: Final = 64
THREADS: Final = 16
SLOW_MS: Final = 500.0


class Lane:
    """A limit for probes at the same time, and threads for their look-ups."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(AT_ONCE)
        self.look_up = SystemLookUp(THREADS)


class Lanes:
    """The quick and the slow lane."""

    def __init__(self) -> None:
        self.quick, self.slow = Lane(), Lane()

    def gate(self, last: Finding | None) -> asyncio.Semaphore:
        """Return the limit that a target's next probe is under, by its last result."""
        return self._lane(last, "total").gate

    def look_up(self, last: Finding | None) -> SystemLookUp:
        """Return what looks up a target's host, by its last result."""
        return self._lane(last, "dns").look_up

    def close(self) -> None:
        """End the threads, without waiting for look-ups that hang."""
        for lane in (self.quick, self.slow):
            lane.look_up.close()

    def _lane(self, last: Finding | None, step: str) -> Lane:
        slow = last is not None and last.result.ms.get(step, 0.0) > SLOW_MS
        return self.slow if slow else self.quick


LATE_ROUNDS: Final = 3
LATE_SEC: Final = 5.0
OVER_SEC: Final = 1.0
"""What a probe may take beyond its limit, to hang up."""

BROKEN: Final = "broken"

log = logs.get("massive")


@dataclass(frozen=True, slots=True)
class Plan:
    """A target and how it is probed, in seconds; two plans that are equal are the same plan."""

    target: Target
    every_sec: float
    within_sec: float


@dataclass(slots=True)
class ScheduledTarget:
    """The state of one target's schedule.

    Its task, its last result, and when that came, by the loop's clock.
    """

    plan: Plan
    task: asyncio.Task[Any]
    since: float
    last: Finding | None = None
    at: float = field(default=float("-inf"))


class Start(Protocol):
    """Run a side task of the agent."""

    def __call__(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """See `Agent.task`."""
        ...


class ProbeScheduler:
    """The schedules of all targets.

    Args:
        start: runs a side task.
        means: returns the context of one probe, from its plan and its last result.
        placed: returns the target as it can be probed, or a failed Result if it can't.
        deliver: takes each result.
    """

    def __init__(
        self,
        start: Start,
        lanes: Lanes,
        *,
        means: Callable[[Plan, Finding | None], ProbeContext],
        placed: Callable[[Target], Target | Result],
        deliver: Callable[[Plan, Finding], None],
    ) -> None:
        self._start, self._lanes = start, lanes
        self._means, self._placed, self._deliver = means, placed, deliver
        self.standing: dict[str, ScheduledTarget] = {}
        self._modules: dict[str, Any] = {}
        self._loading = asyncio.Lock()

    def follow(self, plans: Sequence[Plan]) -> None:
        """Probe by these plans from now on; a target whose plan has not changed keeps its schedule."""
        wanted = {plan.target.name: plan for plan in plans}
        for name, standing in list(self.standing.items()):
            if wanted.get(name) != standing.plan:
                standing.task.cancel()
                del self.standing[name]
        now = asyncio.get_running_loop().time()
        for name, plan in wanted.items():
            if name not in self.standing:
                wait_sec = first_wait_sec(plan.every_sec, len(wanted), random.random())
                task = self._start(self._watch(plan, now + wait_sec), name=f"probe of {name}")
                self.standing[name] = ScheduledTarget(plan, task, now)

    def late(self) -> int:
        """Return how many targets should have had a result by now and have none."""
        now = asyncio.get_running_loop().time()
        waits = ((now - max(each.since, each.at), each.plan) for each in self.standing.values())
        return sum(waited_sec > _patience_sec(plan) for waited_sec, plan in waits)

    def latest(self) -> Mapping[str, Finding]:
        """Return the last result of each target; another thread may call this."""
        return {name: each.last for name, each in self.standing.copy().items() if each.last is not None}

    async def _watch(self, plan: Plan, due: float) -> None:
        clock = asyncio.get_running_loop().time
        await self._load(plan.target.kind)
        while True:
            await asyncio.sleep(max(0.0, due - clock()))
            standing = self.standing[plan.target.name]
            async with self._lanes.gate(standing.last):
                finding = await self._probed(plan, standing.last)
            standing.last, standing.at = finding, clock()
            self._deliver(plan, finding)
            due = next_due(due, clock(), plan.every_sec, random.random())

    async def _probed(self, plan: Plan, last: Finding | None) -> Finding:
        ts, name = time.time(), plan.target.name
        try:
            async with asyncio.timeout(plan.within_sec + OVER_SEC):
                return Finding(name, ts, await self._look(plan, last))
        except Exception:
            # a probe raises nothing: this one is broken, and that is no reason to stop all others
            log.exception("probe.broken", target=name, kind=plan.target.kind)
            return Finding(name, ts, Result(plan.target.kind, "", CONFIG, BROKEN))

    async def _look(self, plan: Plan, last: Finding | None) -> Result:
        placed = self._placed(plan.target)
        if isinstance(placed, Result):
            return placed
        return cast("Result", await self._modules[placed.kind].probe(placed, self._means(plan, last)))

    async def _load(self, kind: str) -> None:
        """Import the module of a kind in a thread: some take a second, and must not delay other probes."""
        async with self._loading:
            if kind not in self._modules:
                name = f"services.massive.probes.probers.{kind}"
                self._modules[kind] = await asyncio.to_thread(importlib.import_module, name)


def _patience_sec(plan: Plan) -> float:
    return LATE_ROUNDS * plan.every_sec + plan.within_sec + LATE_SEC
