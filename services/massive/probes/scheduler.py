"""When a target is probed: every so often, each a little off, never all at the same time. Pure.

Who may be probed at the same time, so that what is slow waits for what is slow, and nothing else does.

There are two lanes. A target whose last probe took long goes by the slow one; so does the look-up of a name
that took long, by threads of its own, since one that hangs holds its thread. Not here: when one is probed.

Every target on a schedule of its own: who is due is probed, beside all the others.

Not here: how a kind is probed (`probes/`), what follows from a result (`outlook.py`), where it goes.
"""

import asyncio
import importlib
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from marketswarm import log as logs
from services.massive.probes.probers.context import Means, SystemLookUp
from services.massive.probes.result import CONFIG, Finding, Result
from services.massive.probes.targets import Target

JITTER: Final = 0.1
SPREAD_SEC: Final = 0.02
"""So long for each target is the time over which the first probes of all are spread."""


def first_wait_sec(every_sec: float, targets: int, chance: float) -> float:
    """How long a new target waits for its first probe; `chance` is from 0 to 1."""
    return chance * min(every_sec, SPREAD_SEC * targets)


def next_due(due: float, now: float, every_sec: float, chance: float) -> float:
    """When it is due again, after a probe that was due at `due` and is over `now`.

    On the average every `every_sec`, up to a tenth off; what was missed meanwhile is not made up for.
    """
    following = due + every_sec * (1 - JITTER + 2 * JITTER * chance)
    return max(following, now)


AT_ONCE: Final = 64
THREADS: Final = 16
SLOW_MS: Final = 500.0


class Lane:
    """So many at once, and threads for their look-ups, which are started as they are needed."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(AT_ONCE)
        self.look_up = SystemLookUp(THREADS)


class Lanes:
    """Both lanes."""

    def __init__(self) -> None:
        self.quick, self.slow = Lane(), Lane()

    def gate(self, last: Finding | None) -> asyncio.Semaphore:
        """Where a target has to pass, by its last result."""
        return self._lane(last, "total").gate

    def look_up(self, last: Finding | None) -> SystemLookUp:
        """Who looks its host up, by its last result."""
        return self._lane(last, "dns").look_up

    def close(self) -> None:
        """Ends the threads, without waiting for those that hang."""
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
    """A target and how it is probed; two that are equal are the same plan. Seconds."""

    target: Target
    every_sec: float
    within_sec: float


@dataclass(slots=True)
class Standing:
    """One target under watch: its task, its last result, and when that came, by the loop's clock."""

    plan: Plan
    task: asyncio.Task[Any]
    since: float
    last: Finding | None = None
    at: float = field(default=float("-inf"))


class Start(Protocol):
    """Runs a side task of the agent."""

    def __call__(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """See `Agent.task`."""
        ...


class Rounds:
    """All targets under watch.

    Args:
        start: runs a side task.
        means: makes the means of one probe, from its plan and its last result.
        placed: gives the target as it can be probed, a bus as host and port; a Result says why it can't.
        deliver: takes each result.
    """

    def __init__(
        self,
        start: Start,
        lanes: Lanes,
        *,
        means: Callable[[Plan, Finding | None], Means],
        placed: Callable[[Target], Target | Result],
        deliver: Callable[[Plan, Finding], None],
    ) -> None:
        self._start, self._lanes = start, lanes
        self._means, self._placed, self._deliver = means, placed, deliver
        self.standing: dict[str, Standing] = {}
        self._modules: dict[str, Any] = {}
        self._loading = asyncio.Lock()

    def follow(self, plans: Sequence[Plan]) -> None:
        """Goes by these from now on; one that stays as it was keeps its schedule."""
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
                self.standing[name] = Standing(plan, task, now)

    def late(self) -> int:
        """Of how many targets there should have been a result by now, and is none."""
        now = asyncio.get_running_loop().time()
        waits = ((now - max(each.since, each.at), each.plan) for each in self.standing.values())
        return sum(waited_sec > _patience_sec(plan) for waited_sec, plan in waits)

    def latest(self) -> Mapping[str, Finding]:
        """The last result of each target; another thread may ask."""
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
        """Some take a second to load, in which nobody else is to stand still."""
        async with self._loading:
            if kind not in self._modules:
                name = f"services.massive.probes.probers.{kind}"
                self._modules[kind] = await asyncio.to_thread(importlib.import_module, name)


def _patience_sec(plan: Plan) -> float:
    return LATE_ROUNDS * plan.every_sec + plan.within_sec + LATE_SEC
