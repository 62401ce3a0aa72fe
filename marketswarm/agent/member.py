"""`Agent`: the object that an agent's body works with, and the truth that it works by.

The module `lifecycle` runs an agent from joining to goodbye. An agent that a new truth no longer names keeps
its last section, works on, and beats as degraded.
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from marketswarm import log
from marketswarm.agent.heartbeat import BeatTarget, Progress
from marketswarm.agent.lease import Lease, hold_lease
from marketswarm.agent.service_config import M, require_config
from marketswarm.agent.shards import Share, collect_shares
from marketswarm.agent.tasks import SideTasks
from marketswarm.agent.truth_source import FoundTruth, TruthRefused
from marketswarm.bus import Bus, BusError, find_bus_url
from marketswarm.exit import Code, Exit
from marketswarm.metrics import Source
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.settings.programs import TracingSettings
from marketswarm.tracing import Tracer, open_tracer
from marketswarm.truth import SYSTEM, Heartbeat, Service, Truth

CLOSE_WITHIN_SEC: Final = 0.5
S = TypeVar("S", bound=CommonSettings)


@dataclass(frozen=True, slots=True)
class ResolvedSection:
    """An agent's section of the truth, the name of its bus, and its timeout in seconds.

    `missing` says why the truth in force has no section that it can use, so that this is its last one;
    otherwise None.
    """

    section: Service
    bus: str
    timeout_sec: float
    missing: str | None = None


def resolve_section(
    truth: Truth,
    name: str,
    heartbeat: Callable[[Service | None], Heartbeat] | None = None,
    last: ResolvedSection | None = None,
) -> ResolvedSection:
    """Return the section of the agent `name` in a truth, with its bus and timeout.

    `heartbeat` makes its heartbeat from its section, or from None if the truth has no section for it. `last`
    is the result for the truth before; it stays if this truth has no section, or one with a schedule: an
    agent beats all the time, so each of its beats would count as the report of a run. Raises Exit, code 2, if
    the truth has no section for the agent or one with a schedule, and both `heartbeat` and `last` are None.
    """
    section = truth.services.get(name)
    if heartbeat is not None:
        beats = heartbeat(section)
    elif section is not None and section.heartbeat.schedule is None:
        beats = section.heartbeat
    elif last is not None:
        missing = "not in the truth" if section is None else "a job in the truth, and an agent is none"
        return replace(last, missing=missing)
    elif section is not None:
        raise Exit(
            Code.CONFIGURATION,
            f"the truth gives {name} a schedule, and an agent beats all the time: start it by "
            f"`marketswarm exec --svc {name} -- …`, or give it an interval_sec instead and run bootstrap",
        )
    else:
        raise Exit(
            Code.CONFIGURATION,
            f'the truth has no section for {name}: add "{name}": {{"heartbeat": {{"interval_sec": 10}}}} '
            "to its services and run bootstrap",
        )
    beats = beats.but(channel=beats.channel_for(name))
    found = Service(heartbeat=beats) if section is None else replace(section, heartbeat=beats)
    return ResolvedSection(found, SYSTEM if section is None else truth.bus_of(name), truth.timeout_of(name))


OpenBus = Callable[[str, str], Bus]
MakeHeartbeat = Callable[[S, Service | None], Heartbeat]


class Agent(Generic[S]):
    """One member of the swarm, created by `agent()`.

    `truth` and all that depends on it is set once it has joined. `revision` is None if the bus could not say
    which one it is; `boot` is this process's random id; `exit_code` is for `main` to return.
    """

    truth: Truth
    revision: int | None

    def __init__(self, name: str, settings: S, heartbeat: MakeHeartbeat[S] | None, open_bus: OpenBus) -> None:
        self.name, self.settings = name, settings
        self.boot = secrets.token_hex(6)
        self.exit_code: int = Code.DONE
        self.log = log.get(name)
        self.work_progress = Progress(time.monotonic())
        self.side_tasks = SideTasks(self.log)
        self.detail: str | None = None
        """The detail of the next beats while the agent is not degraded, or None."""
        self.is_mute = False
        """Whether no beat and no goodbye is sent: another process is the one to be heard as this agent."""
        self._make_heartbeat = (lambda section: heartbeat(settings, section)) if heartbeat else None
        self._open_bus = open_bus
        self._buses: dict[tuple[str, str], Bus] = {}
        self._resolved: ResolvedSection
        self._work_problem: str | None = None  # why the work loop is degraded
        self._part_problems: dict[str, str] = {}  # why a part is degraded, by the part's name
        self._woken = asyncio.Event()
        self._reseed_callbacks: list[Callable[[Truth], None]] = []
        self._reseed_checks: list[Callable[[Truth], object]] = []
        self._reseed_failure: str | None = None  # why a callback could not use the truth in force
        self._shares: dict[str, Share] = {}
        self.sources: list[Source] = []  # of metrics, besides those that every agent has
        self.tracer: Tracer | None = None
        """Records steps for traces; None while traces are off, or without `open_tracer`."""

    @property
    def section(self) -> Service:
        """Return this agent's section of the truth in force, or its last one if the truth dropped it."""
        return self._resolved.section

    @property
    def timeout_sec(self) -> float:
        """Return the seconds without a beat after which the healer declares this agent down."""
        return self._resolved.timeout_sec

    @property
    def beat_bus(self) -> str:
        return self._resolved.bus

    def bus(self, name: str, truth: Truth | None = None) -> Bus:
        """Return the bus of that name, opened once and closed with the agent.

        Its URL comes from `truth`, by default the truth in force. Raise BusError if it has no URL.
        """
        return self.bus_at(name, find_bus_url(name, os.environ, truth or getattr(self, "truth", None)))

    def bus_at(self, name: str, url: str) -> Bus:
        if (name, url) not in self._buses:
            self._buses[name, url] = self._open_bus(name, url)
        return self._buses[name, url]

    def progress(self) -> None:
        """Record that the work made progress.

        Without progress no beats are sent, and after the watchdog's limit the process ends.
        """
        self.work_progress.record(time.monotonic())

    def set_degraded(self, detail: str | None, *, part: str | None = None) -> None:
        """Set the status `degraded` and this detail for the next beats; with the detail None, end that.

        The parts are independent of each other: beats are degraded while any of them is. Their details are
        joined and cut at 200 characters.

        Args:
            part: the name of the side task that fails; None for the work loop itself.
        """
        if part is None:
            self._work_problem = detail
        elif detail is None:
            self._part_problems.pop(part, None)
        else:
            self._part_problems[part] = detail

    def set_detail(self, detail: str | None) -> None:
        self.detail = detail

    async def rest(self, seconds: float) -> bool:
        """Wait for `seconds`, which counts as progress; return True if woken earlier, otherwise False.

        A new truth, a change of a share's members and `wake` end the wait; one that happened since the last
        rest ends it at once. Call this in the work loop only: in a side task it would hide a work loop that
        hangs.
        """
        try:
            async with self.waiting(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def wake(self) -> None:
        """End the current rest of the work loop, or its next one."""
        self._woken.set()

    @contextlib.asynccontextmanager
    async def waiting(self, within_sec: float, *, bus: str | None = None) -> AsyncIterator[None]:
        """Count the block as progress and end it with TimeoutError after `within_sec` seconds.

        Use it to wait for others: the wait is bounded, so it can't hide a work loop that hangs. With `bus`,
        the name of the bus that is waited for, the error is a BusError (`timeout`), so an `Outage` records it
        like any other failure of that bus: this process itself may have got no processor for so long.
        """
        limit = asyncio.timeout(within_sec)
        with self.work_progress.resting():
            try:
                async with limit:
                    yield
            except TimeoutError as error:
                if bus is None or not limit.expired():
                    raise
                raise BusError(bus, "timeout") from error

    def config(self, model: type[M]) -> Callable[[], M]:
        """Return a function that returns this agent's section as `model`; after reseeds, the last valid one.

        What the model takes over from other sections of the truth is in it.

        Raise Exit, code 2, if the present section is not valid. A later section that is not valid makes the
        agent degraded.
        """
        current = require_config(model, self.name, self.section).complete(self.truth)

        def follow(truth: Truth) -> None:
            nonlocal current
            if self._resolved.missing is None:  # otherwise its last section stays, with what was taken over
                current = require_config(model, self.name, self.section).complete(truth)

        self.on_reseed(follow)
        return lambda: current

    def share(self, what: str = "work", *, bus: str | None = None) -> Share:
        """Return this instance's share of its service's keys: see `marketswarm.agent.shards`.

        Args:
            what: the name of the share, for a service that has several; the same name gives the same share.
            bus: the bus that holds the members; None for the bus of the agent's beats.

        Raises BusError if that bus has no URL.
        """
        if what not in self._shares:
            if not self._shares:
                self.expose(lambda: collect_shares(self._shares.values()))
            self._shares[what] = Share(self, what, bus)
            self.task(self._shares[what].run(), name=f"share {what}")
        return self._shares[what]

    def lease(
        self,
        name: str,
        *,
        life_sec: float = 10.0,
        wait_sec: float | None = None,
        bus: str = "system-redis",
        own: bool = False,
        former: str | None = None,
        on_other_holder: Callable[[bool], None] = lambda _: None,
    ) -> contextlib.AbstractAsyncContextManager[Lease]:
        """Return a context manager whose block runs in only one process of the fleet at a time.

        Args:
            name: the name that all processes request; 1 to 100 letters, digits and `_ . : / -`.
            life_sec: seconds until the lease of a dead process expires, 0.1 to 86,400.
            wait_sec: seconds to wait for it, counted as progress; None: for ever, 0: request it once.
            bus: the bus that decides who holds it.
            own: whether the name is one of this service alone. Then no other service can ask for this lease,
                and with users and passwords no other user may write its keys.
            former: with `own`, the name under which older processes of this service ask for it without `own`;
                they wait while this lease is held.
            on_other_holder: called whenever it is seen that another process holds the lease, with whether it
                has renewed the lease, and so works.

        Raises:
            ValueError: if the name or the life is not allowed.
            LeaseHeld: on entering, if `wait_sec` passed and another process holds the lease.
            LeaseLost: out of the block, which was cancelled because the lease was lost.
        """
        found = self.bus(bus)
        lease = Lease(
            name,
            life_sec,
            found,
            self.name,
            self.boot,
            own=own,
            former=former,
            on_other_holder=on_other_holder,
        )
        return hold_lease(self, lease, wait_sec)

    def expose(self, source: Source) -> None:
        """Add a source of metrics. It is called in another thread than the event loop's."""
        self.sources.append(source)

    def open_tracer(self) -> Tracer | None:
        """Open this process's tracer, which is closed with the agent; return None while traces are off.

        Raise Exit, code 2, if a variable of OpenTelemetry that we read has a wrong value.
        """
        self.tracer = open_tracer(self.name, self.boot, read_settings(TracingSettings))
        return self.tracer

    def on_reseed(
        self, callback: Callable[[Truth], None], *, check: Callable[[Truth], object] | None = None
    ) -> None:
        """Call `callback(truth)` in the event loop after each new truth is put in force.

        `check(truth)` is called before that, and must change nothing: if it raises, the agent refuses the
        whole truth, and the last one stays in force.
        """
        self._reseed_callbacks.append(callback)
        if check is not None:
            self._reseed_checks.append(check)

    def task(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Start a side task; it is cancelled when the body ends. If it fails, the agent ends with code 5."""
        return self.side_tasks.start(work, name)

    def trouble(self) -> str | None:
        problems = (
            self._work_problem,
            *self._part_problems.values(),
            self._resolved.missing,
            self._reseed_failure,
        )
        return "; ".join(filter(None, problems)) or None

    # --- for lifecycle.py ---

    def put_in_force(self, found: FoundTruth) -> BeatTarget:
        """Put a truth in force, all of it or nothing, and return the target of the beats by it.

        Raises:
            Exit: code 2, if the truth has no place for this agent, which never had one.
            TruthRefused: if the bus that it names has no URL, or a check of `on_reseed` raises.
        """
        truth = found.loaded.truth.with_default_timeout(self.settings.default_timeout_sec)
        last = getattr(self, "_resolved", None)
        resolved = resolve_section(truth, self.name, self._make_heartbeat, last)
        try:
            bus = self.bus_at(resolved.bus, find_bus_url(resolved.bus, os.environ, truth))
        except BusError as error:
            raise TruthRefused(str(error)) from None
        for check in self._reseed_checks:
            try:
                check(truth)
            except (BusError, Exit, ValueError) as error:
                raise TruthRefused(str(error)) from None
            except Exception as error:  # whatever it is, the agent works on by the last truth
                self.log.exception("truth.unchecked")
                raise TruthRefused(type(error).__name__) from None
        self.truth, self.revision, self._resolved = truth, found.revision, resolved
        beats = resolved.section.heartbeat
        return BeatTarget(
            bus, beats.channel_for(self.name), beats.interval_sec, resolved.timeout_sec, found.revision
        )

    def call_reseed_callbacks(self) -> None:
        """Give the truth in force to all callbacks; log an error, and keep it in `_reseed_failure`."""
        self._reseed_failure = None
        for callback in self._reseed_callbacks:
            try:
                callback(self.truth)
            except Exit as refusal:
                self.log.warning("truth.rejected", revision=self.revision, why=refusal.message)
                self._reseed_failure = f"can't go by revision {self.revision}: {refusal.message}"
            except Exception as error:  # whatever it is, the agent works on
                self.log.exception("truth.rejected", revision=self.revision)
                self._reseed_failure = f"can't go by revision {self.revision}: {type(error).__name__}"
        self._woken.set()

    async def close(self) -> None:
        """Close every bus, the last opened first, each within 0.5 s, then the tracer; errors are ignored."""
        for bus in reversed(self._buses.values()):
            with contextlib.suppress(TimeoutError, OSError, BusError):
                async with asyncio.timeout(CLOSE_WITHIN_SEC):
                    await bus.aclose()
        if self.tracer is not None:
            self.tracer.close()  # last, since it keeps the event loop for up to a second
