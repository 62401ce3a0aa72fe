"""The life of an agent, from waiting for the truth to the goodbye, and the end of its process.

    async def main() -> int:
        async with agent("rss_agg") as me:
            while True:
                await work(me.section, me.bus("market-redis"))
                await me.rest(60)
        return me.exit_code

    if __name__ == "__main__":
        run(main)

The body is the work. Beside it, in one task group, run its heartbeat, its truth source and the watchdog's
ticks. SIGTERM or SIGINT cancels the body and nothing else. The goodbye and the closing of connections that
follow are not cancelled; each has a time limit, and the watchdog limits the whole stop to 4.5 s. That is also
how long the service's own threads have; those that are still there then end with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, overload

from marketswarm import __version__, log
from marketswarm.agent.heartbeat import HeartbeatSender
from marketswarm.agent.member import Agent, MakeHeartbeat, OpenBus, S
from marketswarm.agent.metrics import serve_metrics
from marketswarm.agent.status import NEVER, AliveFile, StatusReporter
from marketswarm.agent.systemd import find_systemd
from marketswarm.agent.tasks import CancelScope
from marketswarm.agent.truth_source import (
    FoundTruth,
    TruthFollower,
    TruthRefused,
    create_bus,
    find_truth_buses,
    load_truth,
)
from marketswarm.agent.watchdog import MIN_LIMIT_SEC, STOP_WITHIN_SEC, Watchdog
from marketswarm.beat import Sender
from marketswarm.exit import Code, Exit, find_error
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.standard_streams import open_closed_streams

THREAD_PREFIX = "marketswarm-io"
"""The name prefix of the threads that wait for the system: DNS look-ups, files."""
THREADS_END_WITHIN_SEC = 0.5
"""How long threads have to end after `main`, also if the stop took all of its time."""
_LOG_WITHIN_SEC = 0.25  # a log pipe without a reader must not keep the process


@dataclass(slots=True)
class _StopLimit:
    """The `time.monotonic()` by which the stop of this process must be done; None if no agent began one."""

    by: float | None = None

    def compute_left_sec(self, now: float) -> float:
        """Return how long the service's own threads may still run."""
        return STOP_WITHIN_SEC if self.by is None else max(THREADS_END_WITHIN_SEC, self.by - now)


_stop_limit = _StopLimit()


class StopRequest:
    """A request to stop the body, which runs in the task that creates this object.

    `signal` is the name of the signal that requested it, None before any request. `on_request` is called at
    the first request.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self.signal: str | None = None
        self._on_request = on_request
        self._scope = CancelScope()

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Request a stop on SIGTERM or SIGINT inside this block; outside the main thread, do nothing."""
        loop = asyncio.get_running_loop()
        handled: list[signal.Signals] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                loop.add_signal_handler(number, self.request, number.name)
                handled.append(number)
        try:
            yield
        finally:
            self.end_body()
            for number in handled:
                loop.remove_signal_handler(number)

    def request(self, name: str = "stop") -> None:
        """Request a stop in the name of the signal `name`. A second request changes nothing."""
        if self.signal is None:
            self.signal = name
            self._on_request()
            self._scope.cancel()

    def end_body(self) -> None:
        """End the cancel scope of the body: a later request cancels nothing."""
        self._scope.end()


def run(main: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    """Run `main` in an event loop of its own and end the process with its exit code.

    An `Exit` is logged in one line and gives its own code; any other exception is logged with its stack, code
    5. Ctrl-C before the agent handles signals gives code 0.

    Threads that are not daemons, and worker processes of multiprocessing, may run on until 4.5 s after the
    agent began to stop (without an agent, after the end of `main`), and 0.5 s in any case. Then the process
    ends with that code and kills its threads, wherever they are; processes that it started are left alone.
    """
    open_closed_streams()
    # where this is inherited as ignored, the kernel keeps no exit code of a child: each would seem to fail
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _configure_logs()
    pool = ThreadPoolExecutor(4, thread_name_prefix=THREAD_PREFIX)
    runner = asyncio.Runner()
    runner.get_loop().set_default_executor(pool)
    try:
        code = runner.run(main())
    except KeyboardInterrupt:
        code = Code.DONE
    except BaseException as error:  # noqa: BLE001 - the outermost frame
        code = _log_exit(error)
    _end_process(runner, pool, int(code))


def _log_exit(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else Code.DIED
    requested = find_error(error, Exit)
    if requested is None:
        log.get().critical("program.died", exc_info=error)
        return Code.DIED
    level = "info" if requested.code == Code.DONE else "error"
    getattr(log.get(), level)("program.exit", code=requested.code, message=requested.message)
    return requested.code


def _end_process(runner: asyncio.Runner, pool: ThreadPoolExecutor, code: int) -> NoReturn:
    """End the process, and wait at most 0.5 s for threads that hang in a look-up.

    Closing the event loop first would wait for them without limit. So would the interpreter for the service's
    own threads, executors and worker processes: it is ended when their time is over.
    """
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)  # it is ending already
    limit = threading.Timer(_stop_limit.compute_left_sec(time.monotonic()), _end_at_once, (code,))
    limit.daemon = True
    try:
        limit.start()
    except RuntimeError:  # no thread is to be had any more, which may be why it ends: hung ones have them all
        signal.signal(signal.SIGALRM, lambda *_: os._exit(code))
        signal.setitimer(signal.ITIMER_REAL, limit.interval)
    pool.shutdown(wait=False, cancel_futures=True)
    deadline = time.monotonic() + THREADS_END_WITHIN_SEC
    while any(thread.name.startswith(THREAD_PREFIX) for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        threading.Event().wait(0.01)
    with contextlib.suppress(RuntimeError):  # as above: the event loop closes its executor by a thread
        runner.close()
    sys.exit(code)


def _end_at_once(code: int) -> NoReturn:
    """Log which threads are still there, and end the process and them."""

    def log_threads() -> None:
        others = {threading.main_thread(), threading.current_thread()}
        names = [each.name for each in threading.enumerate() if not each.daemon and each not in others]
        log.get().warning("program.end_hung", threads=names, code=code)
        sys.stdout.flush()
        sys.stderr.flush()

    try:
        log_thread = threading.Thread(target=log_threads, daemon=True)
        log_thread.start()
        log_thread.join(_LOG_WITHIN_SEC)
    finally:
        os._exit(code)


def _configure_logs() -> None:
    """Configure logs under the main module's package name, until `agent` does so with the settings."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = spec.parent.rpartition(".")[2] if spec is not None and spec.parent else ""
    log.configure(name or "marketswarm")


@overload
def agent(
    name: str, *, version: str = ...
) -> contextlib.AbstractAsyncContextManager[Agent[CommonSettings]]: ...
@overload
def agent(
    name: str,
    settings: type[S] | S,
    *,
    heartbeat: MakeHeartbeat[S] | None = None,
    begins_mute: Callable[[S], bool] | None = None,
    open_bus: OpenBus = create_bus,
    version: str = __version__,
) -> contextlib.AbstractAsyncContextManager[Agent[S]]: ...
@contextlib.asynccontextmanager
async def agent(
    name: str,
    settings: Any = CommonSettings,
    *,
    heartbeat: MakeHeartbeat[Any] | None = None,
    begins_mute: Callable[[Any], bool] | None = None,
    open_bus: OpenBus = create_bus,
    version: str = __version__,
) -> AsyncIterator[Agent[Any]]:
    """Make this process a member of the swarm inside the block.

    Args:
        settings: the class of its settings, read from the environment (or such settings, in a test).
        heartbeat: makes its heartbeat from its settings and its section (`None`: the truth has none), for an
            agent that can do without a section.
        begins_mute: returns, from its settings, whether it sends no beat until it sets `is_mute` to False.
        open_bus: makes a bus from its name and URL; tests pass one in memory.
        version: the version in its beats, 32 characters at most; by default this package's.

    Raises:
        Exit: 2 for a configuration that can't be used, 3 or 4 if there is no truth in time, 5 if a side
            task failed, 0 if it was stopped before it had joined. The body's exceptions are raised unchanged.
    """
    sender = Sender(socket.gethostname(), version, time.time())
    if isinstance(settings, type):
        settings = read_settings(settings)
    log.configure(name, settings)
    me = Agent(name, settings, heartbeat, open_bus)
    me.is_mute = begins_mute is not None and begins_mute(settings)
    watchdog = Watchdog(asyncio.get_running_loop(), me.work_progress)
    path = settings.marketswarm_alive_file
    outlets = [each for each in (path and AliveFile(name, path), find_systemd(os.environ)) if each]
    reporter = StatusReporter(watchdog, outlets, settings.truth_wait_sec + MIN_LIMIT_SEC)

    def begin_stop() -> None:
        watchdog.begin_stop()
        _stop_limit.by = watchdog.stop_by
        reporter.report_now()

    stop = StopRequest(begin_stop)
    with watchdog, reporter, stop.handle_signals(), serve_metrics(me) as metrics:
        try:
            heartbeat_sender, follower = await _join_swarm(me, watchdog, reporter, stop, sender)
            async with _run_side_tasks(me, watchdog, stop, heartbeat_sender, follower):
                reporter.report_now()
                if metrics is not None:
                    metrics.sender = heartbeat_sender
                    me.task(metrics.lag.run(), name="loop lag")
                yield me
            me.log.info("agent.stopping", signal=stop.signal)
            await heartbeat_sender.send_goodbye()
        finally:
            stop.end_body()
            begin_stop()
            await me.close()
    me.log.info("agent.stopped", beats=heartbeat_sender.i)


async def _join_swarm(
    me: Agent[Any], watchdog: Watchdog, reporter: StatusReporter, stop: StopRequest, sender: Sender
) -> tuple[HeartbeatSender, TruthFollower]:
    """Wait for the truth, put it in force, and return the agent's heartbeat sender and truth follower.

    Raise Exit: 0 if stopped meanwhile, 2 if the agent can't work by this truth, 3 or 4 if none came in time.
    """
    settings = me.settings
    try:
        found = await load_truth(settings, _open_truth_buses(me), settings.truth_wait_sec)
    except asyncio.CancelledError:
        if stop.signal is None:
            raise
        stop.end_body()
        raise Exit(Code.DONE, f"stopped by {stop.signal} while waiting for the truth") from None
    try:
        target = me.put_in_force(found)
    except TruthRefused as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None

    def apply(found: FoundTruth) -> None:
        heartbeat_sender.set_target(me.put_in_force(found))
        watchdog.limit_sec = _watchdog_limit_sec(me)
        me.log.info("truth.applied", revision=found.revision, truth_from=found.bus.name)
        me.call_reseed_callbacks()

    def on_beat() -> None:
        follower.poll()
        reporter.record_beat(heartbeat_sender.status, taken=heartbeat_sender.is_taken)

    follower = TruthFollower(_open_truth_buses(me, found), settings.truth_redis_key, found, apply)
    heartbeat_sender = HeartbeatSender(
        me.name,
        me.boot,
        target,
        me.work_progress,
        get_trouble=lambda: "; ".join(filter(None, (me.trouble(), follower.trouble))) or None,
        get_detail=lambda: me.detail,
        sender=sender,
        on_beat=on_beat,
        is_mute=lambda: me.is_mute,
    )
    if found.skip_reasons:
        me.log.warning("truth.fallback", truth_from=found.bus.name, passed=found.skip_reasons)
    me.log.info(
        "agent.joined",
        boot=me.boot,
        revision=me.revision,
        truth_from=found.bus.name,
        beats_to=target.bus.where,
    )
    return heartbeat_sender, follower


@contextlib.asynccontextmanager
async def _run_side_tasks(
    me: Agent[Any],
    watchdog: Watchdog,
    stop: StopRequest,
    heartbeat_sender: HeartbeatSender,
    follower: TruthFollower,
) -> AsyncIterator[None]:
    """Run the body with heartbeat, truth follower and watchdog ticks beside it, and raise why they failed.

    The cancellation by a requested stop is not raised; other errors during such a stop are only logged.
    """
    try:
        async with asyncio.TaskGroup() as group:
            me.side_tasks.begin_in(group)
            me.progress()
            watchdog.start(_watchdog_limit_sec(me))
            me.task(watchdog.run_ticks(), name="ticks")
            me.task(heartbeat_sender.run(), name="beats")
            me.task(follower.run(), name="truth")
            try:
                yield
            finally:
                stop.end_body()
                watchdog.begin_stop()
                watchdog.limit_sec = NEVER
                me.side_tasks.end()
    except asyncio.CancelledError:
        if stop.signal is None:
            raise
    except BaseExceptionGroup as errors:
        if stop.signal is None or find_error(errors, Exit) is not None:
            raise _choose_cause(me, errors) from None
        me.log.exception("agent.stop_disturbed")  # a stop was asked for, and it is done all the same


def _choose_cause(me: Agent[Any], errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return one exception for all that ended the body and its side tasks: an `Exit` before any other."""
    requested = find_error(errors, Exit)
    if requested is not None:
        return requested
    if me.side_tasks.first_failed is not None:
        return Exit(Code.DIED, f"the task {me.side_tasks.first_failed} died")
    return errors.exceptions[0] if len(errors.exceptions) == 1 else errors


def _open_truth_buses(me: Agent[Any], found: FoundTruth | None = None) -> list[Any]:
    """Return the buses that may hold the truth, best first; `found` is the truth in force."""
    urls = find_truth_buses(me.settings, os.environ, found.loaded.truth if found else None)
    return [me.bus_at(name, url) for url, name in urls.items()]


def _watchdog_limit_sec(me: Agent[Any]) -> float:
    """Return the setting, otherwise the timeout of the agent, at least 3 s."""
    return me.settings.watchdog_sec or max(MIN_LIMIT_SEC, me.timeout_sec)
