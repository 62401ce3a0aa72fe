"""`marketswarm exec`: run a command, beat for it while it runs, and record how it ended.

The command comes first: it is started before any bus is asked, and a bus that is away neither stops nor
delays it. So the beats are sent by a thread of their own, and the wait for the last one is bounded.
"""

import asyncio
import secrets
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import typer

from marketswarm.bus import BusError
from marketswarm.cli import event_loop
from marketswarm.cli.beat import print_unknown_service
from marketswarm.cli.beat_sender import BeatSender
from marketswarm.cli.child_process import ChildProcess, exit_code_of_start_error
from marketswarm.cli.last_run import KEPT_SEC, CommandRun, make_run
from marketswarm.cli.options import DATA, Data, parse_duration, require_service_name
from marketswarm.exit import Exit

GOODBYE_SEC: Final = 1.0
SHORT_GOODBYE_SEC: Final = 0.25  # when the bus did not take the last beat either
SUCCESS_BEAT_SEC: Final = 10.0  # worth some waiting: without the one beat of a success there will be a miss
_RETRY_SEC: Final = 0.5
_NO_ANSWER: Final = "no answer in time"


def execute(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="The command and its arguments, after --.")
    ],
    *,
    svc: Annotated[
        str,
        typer.Option("--svc", metavar="SVC", help="The service, as truth.json names it.", show_default=False),
    ],
    on_success_only: Annotated[
        bool,
        typer.Option("--on-success-only", help="No beats while it runs; one if it ends with 0. For cron."),
    ] = False,
    limit: Annotated[
        float | None,
        typer.Option(
            "--limit",
            parser=parse_duration,
            metavar="2h",
            help="End it after that time; the exit code is 124.",
        ),
    ] = None,
    data: Data = DATA,
) -> None:
    """Run a command, beat for it while it runs, end with its exit code.

    A bus that is away neither stops nor delays it. `marketswarm status` shows how the last run ended.
    """
    require_service_name(svc, "--svc")
    if limit is not None and limit <= 0:
        raise typer.BadParameter("--limit: above 0")
    sender = BeatSender(svc, data, None if on_success_only else secrets.token_hex(6))
    reporter: _SuccessReporter | _BeatReporter = (
        _SuccessReporter(sender) if on_success_only else _BeatReporter(sender)
    )
    run = _run_command(command, limit, reporter.begin)
    trouble = reporter.end(run)
    if trouble:
        typer.echo(f"marketswarm: the end of {svc} could not be told ({trouble})", err=True)
    elif not sender.destination.known:
        print_unknown_service(svc)
    raise Exit(run.code, f"{command[0]}: {run.why}" if run.why else "")


def _run_command(command: list[str], limit_sec: float | None, started: Callable[[], None]) -> CommandRun:
    """Run a command to its end; call `started` once it runs."""
    begun = time.monotonic()
    try:
        child = ChildProcess(command, limit_sec)
    except OSError as error:
        why = error.strerror or "it can't be started"
        return CommandRun(exit_code_of_start_error(error), 0.0, time.time(), why=why)
    started()
    status = child.wait()
    took_sec = time.monotonic() - begun
    return make_run(status, took_sec, time.time(), limit_sec if child.limit_is_over else None)


class _BeatReporter:
    """Beats from `begin` to `end`, then says goodbye with the command's outcome."""

    def __init__(self, sender: BeatSender) -> None:
        self._sender = sender
        self._ended = threading.Event()
        self._trouble: str | None = None
        self._run: CommandRun | None = None
        self._started = False  # stays False for a command that could not be started: it never beats
        self._thread = _thread(self._report)

    def begin(self) -> None:
        """Begin to beat: the command runs."""
        self._started = True
        self._thread.start()

    def end(self, run: CommandRun) -> str | None:
        """Report the outcome of the command. Return why that failed, or None."""
        self._run = run
        self._ended.set()
        if not self._started:
            self._thread.start()
        self._thread.join(GOODBYE_SEC if self._trouble is None else SHORT_GOODBYE_SEC)
        return self._trouble or (_NO_ANSWER if self._thread.is_alive() else None)

    async def _report(self) -> None:
        due = time.monotonic()
        while self._started:
            self._trouble = await _trouble_of(self._beat(), self._sender)
            interval_sec = self._sender.destination.interval_sec
            due = max(due + interval_sec, time.monotonic())
            if await asyncio.to_thread(self._ended.wait, due - time.monotonic()):
                break
        self._sender.forget_failures()
        self._trouble = await _trouble_of(self._report_end(), self._sender)

    async def _beat(self) -> None:
        await self._sender.refresh_truth()
        await self._sender.publish(every_sec=self._sender.destination.interval_sec)

    async def _report_end(self) -> None:
        assert self._run is not None  # noqa: S101 - `end` sets it first
        if self._started:
            await self._sender.publish("stopping", self._run.said)
        else:
            await self._sender.refresh_truth()
        await _store_run(self._sender, self._run)


class _SuccessReporter:
    """Sends one beat if the command ends well, and none otherwise."""

    def __init__(self, sender: BeatSender) -> None:
        self._sender = sender
        self._trouble: str | None = None

    def begin(self) -> None:
        """Do nothing: there are no beats while the command runs."""

    def end(self, run: CommandRun) -> str | None:
        """Report the outcome of the command. Return why that failed, or None."""
        thread = _thread(lambda: self._report(run))
        thread.start()
        thread.join(SUCCESS_BEAT_SEC)
        return self._trouble or (_NO_ANSWER if thread.is_alive() else None)

    async def _report(self, run: CommandRun) -> None:
        until = time.monotonic() + SUCCESS_BEAT_SEC - _RETRY_SEC
        while True:
            self._trouble = await _trouble_of(self._report_once(run), self._sender)
            if self._trouble is None or time.monotonic() > until:
                return
            await asyncio.sleep(_RETRY_SEC)

    async def _report_once(self, run: CommandRun) -> None:
        await self._sender.refresh_truth()
        if run.ok:
            await self._sender.publish(detail=run.said)
        await _store_run(self._sender, run)


async def _store_run(sender: BeatSender, run: CommandRun) -> None:
    life_sec = max(KEPT_SEC, 2 * sender.destination.timeout_sec)
    await sender.store(f"run:{sender.svc}", run.encode(sender.svc), life_sec)


async def _trouble_of(work: Awaitable[None], sender: BeatSender) -> str | None:
    """Await `work`. Return why it failed, or None."""
    try:
        await work
    except BusError as error:
        return sender.describe(error)
    except Exit as error:
        return error.message
    return None


def _thread(work: Callable[[], Awaitable[None]]) -> threading.Thread:
    """Return a daemon thread that runs a coroutine; signals stay with the main thread."""

    async def run() -> None:
        await work()

    def target() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        event_loop.run(run())

    return threading.Thread(target=target, name="beats", daemon=True)
