"""`agent()`: the life of an agent, from waiting for the truth to the goodbye.

    async def main() -> int:
        async with agent("rss_agg") as me:
            while True:
                await work(me.section, me.bus("market-redis"))
                await me.rest(60)
        return me.exit_code

The body is the work. What keeps it honest runs beside it in one task group: `beating.py`, `following.py`,
and the ticks of `watchdog.py`.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator
from typing import Any, Final, overload

from marketswarm import __version__, log
from marketswarm.agent.beating import Beating
from marketswarm.agent.finding import Found, load_truth, truth_places, usable_bus
from marketswarm.agent.following import Following, Refused
from marketswarm.agent.member import Agent, MakeHeartbeat, OpenBus, S
from marketswarm.agent.metrics import measure, measured
from marketswarm.agent.signs import AliveFile, Outlet, Signs
from marketswarm.agent.stopping import Stop
from marketswarm.agent.systemd import manager
from marketswarm.agent.watchdog import LEAST_SEC, Watchdog
from marketswarm.beat import Sender
from marketswarm.exit import Code, Exit, exit_in
from marketswarm.settings import Common, read

NEVER: Final = float("inf")


@overload
def agent(name: str, *, version: str = ...) -> contextlib.AbstractAsyncContextManager[Agent[Common]]: ...
@overload
def agent(
    name: str,
    settings: type[S] | S,
    *,
    heartbeat: MakeHeartbeat[S] | None = None,
    open_bus: OpenBus = usable_bus,
    version: str = __version__,
) -> contextlib.AbstractAsyncContextManager[Agent[S]]: ...
def agent(
    name: str,
    settings: Any = Common,
    *,
    heartbeat: MakeHeartbeat[Any] | None = None,
    open_bus: OpenBus = usable_bus,
    version: str = __version__,
) -> contextlib.AbstractAsyncContextManager[Agent[Any]]:
    """A member of the swarm for as long as the block lasts.

    Args:
        name: what the truth calls it.
        settings: the class of its settings, read from the environment (or such settings, in a test).
        heartbeat: makes its heartbeat from its settings and its section (`None`: the truth has none), for an
            agent that can do without a section.
        open_bus: makes a bus from its name and URL; tests pass one in memory.
        version: what its beats say of it, 32 characters at most; this package's without.

    Raises:
        Exit: 2 for a configuration that won't do, 3 or 4 when there is no truth in time, 5 when a side task
            died, 0 when it was stopped before it had joined. What the body raises, it raises.
    """
    return _life(name, settings, heartbeat, open_bus, Sender(socket.gethostname(), version, time.time()))


@contextlib.asynccontextmanager
async def _life(
    name: str, settings: Any, heartbeat: MakeHeartbeat[Any] | None, open_bus: OpenBus, sender: Sender
) -> AsyncIterator[Agent[Any]]:
    if isinstance(settings, type):
        settings = read(settings)
    log.configure(name, settings)
    me = Agent(name, settings, heartbeat, open_bus)
    watchdog = Watchdog(asyncio.get_running_loop(), me.work)
    signs = Signs(watchdog, _outlets(me), settings.truth_wait_sec + LEAST_SEC)

    def hurry() -> None:
        watchdog.hurry()
        signs.now()

    stop = Stop(hurry)
    with watchdog, signs, stop.armed(), measured(me) as own:
        try:
            beating, following = await _join(me, watchdog, signs, stop, sender)
            async with _beside(me, watchdog, stop, beating, following):
                signs.now()
                if own is not None:
                    measure(me, own, beating)
                yield me
            me.log.info("agent.stopping", signal=stop.signal)
            await beating.goodbye()
        finally:
            stop.body_is_over()
            hurry()
            await me.close()
    me.log.info("agent.stopped", beats=beating.i)


async def _join(
    me: Agent[Any], watchdog: Watchdog, signs: Signs, stop: Stop, sender: Sender
) -> tuple[Beating, Following]:
    """Wait for the truth and take one's place in it."""
    settings = me.settings
    try:
        found = await load_truth(settings, _truth_buses(me), settings.truth_wait_sec)
    except asyncio.CancelledError:
        if stop.signal is None:
            raise
        stop.body_is_over()
        raise Exit(Code.DONE, f"stopped by {stop.signal} while waiting for the truth") from None
    try:
        pulse = me.learn(found)
    except Refused as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None

    def apply(found: Found) -> None:
        beating.change(me.learn(found))
        watchdog.limit_sec = _limit_sec(me)
        me.log.info("truth.applied", revision=found.revision, truth_from=found.bus.name)
        me.tell_reseed()

    def beaten() -> None:
        following.beaten()
        signs.beaten(beating.status, taken=beating.sent > 0)

    following = Following(_truth_buses(me, found), settings.truth_redis_key, found, apply)
    beating = Beating(
        me.name,
        me.boot,
        pulse,
        me.work,
        trouble=lambda: _all_of(me.trouble(), following.trouble),
        remark=lambda: me.remark,
        sender=sender,
        beaten=beaten,
    )
    if found.passed:
        me.log.warning("truth.fallback", truth_from=found.bus.name, passed=found.passed)
    me.log.info(
        "agent.joined",
        boot=me.boot,
        revision=me.revision,
        truth_from=found.bus.name,
        beats_to=pulse.bus.where,
    )
    return beating, following


@contextlib.asynccontextmanager
async def _beside(
    me: Agent[Any], watchdog: Watchdog, stop: Stop, beating: Beating, following: Following
) -> AsyncIterator[None]:
    """Run the body with what keeps it honest beside it; settle how they ended."""
    try:
        async with asyncio.TaskGroup() as group:
            me.beside.live_in(group)
            me.progress()
            watchdog.begin(_limit_sec(me))
            me.task(watchdog.tick(), name="ticks")
            me.task(beating.run(), name="beats")
            me.task(following.run(), name="truth")
            try:
                yield
            finally:
                stop.body_is_over()
                watchdog.hurry()
                watchdog.limit_sec = NEVER
                me.beside.end()
    except asyncio.CancelledError:
        if stop.signal is None:
            raise
    except BaseExceptionGroup as errors:
        if stop.signal is None or exit_in(errors) is not None:
            raise _cause(me, errors) from None
        me.log.exception("agent.stop_disturbed")  # a stop was asked for, and it is done all the same


def _cause(me: Agent[Any], errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended the body and the tasks beside it, as one error."""
    asked = exit_in(errors)
    if asked is not None:
        return asked
    if me.beside.died is not None:
        return Exit(Code.DIED, f"the task {me.beside.died} died")
    return errors.exceptions[0] if len(errors.exceptions) == 1 else errors


def _truth_buses(me: Agent[Any], found: Found | None = None) -> list[Any]:
    places = truth_places(me.settings, os.environ, found.loaded.truth if found else None)
    return [me.bus_at(name, url) for url, name in places.items()]


def _outlets(me: Agent[Any]) -> list[Outlet]:
    """Who outside wants to see that it lives."""
    path = me.settings.marketswarm_alive_file
    found = (path and AliveFile(me.name, path), manager(os.environ))
    return [outlet for outlet in found if outlet]


def _limit_sec(me: Agent[Any]) -> float:
    return me.settings.watchdog_sec or max(LEAST_SEC, me.timeout_sec)


def _all_of(*troubles: str | None) -> str | None:
    return "; ".join(filter(None, troubles)) or None
