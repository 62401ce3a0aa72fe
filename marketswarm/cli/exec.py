"""Implement `marketswarm exec`: run a command, send its beats while it runs, record how it ended.

The command comes first; it is started before any bus is asked, and a bus that does not answer, or a variable
that is wrong, neither stops nor delays it. So the beats are sent by a thread of their own, and the wait for
the last one is limited.

The command is started as a shell would start it: with the same files, and signals are passed on to it. With a
terminal, the child stays in the terminal's process group, so that Ctrl-C and Ctrl-Z reach it as they reach
us. Without one (cron, systemd, a container) it leads a process group of its own, and each signal that we get
is sent to all of that group.

The outcome of the last run is kept under `run:<svc>`:

    {"svc":"backup","ok":false,"code":3,"took_sec":12.4,"ts":1762433458.125,
     "detail":"exit 3 after 12.4 s: disk full on /backup","said":"exit 3 after 12.4 s"}

`ts` is when it ended, in epoch seconds; `signal` is there if a signal ended it, `limit_sec` if its time limit
did. The `detail` of a failure ends with the last line that the command wrote, without secrets. The command
line is left out, because its arguments may hold a secret.

Each run is also added to `pings:<svc>`, with the end of what it wrote (`cli/output_copier.py`), from which
secrets are removed here.
"""

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson
import typer

from marketswarm.beat import MAX_DETAIL_CHARS, RunReport
from marketswarm.bus import WITHIN_SEC, BusError
from marketswarm.cli import event_loop, output
from marketswarm.cli.beat import TRUTH_AT_END_SEC, BeatSender, print_unknown_service
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.options import Data, argument, flag, require_service_name, service_option, time_option
from marketswarm.cli.output_copier import KeptOutput, OutputCopier
from marketswarm.exit import Exit
from marketswarm.fleet.child import format_signal
from marketswarm.keys import last_run_key
from marketswarm.pings import JobPing, PingForm, PingKind, compute_kept_sec
from marketswarm.text import format_duration

LIMIT_CODE: Final = 124
"""The exit code when the time limit was over, whatever the command's own code was; as `timeout` has it."""
_GOODBYE_SEC: Final = 1.0  # the longest wait for the last beat
_SHORT_GOODBYE_SEC: Final = 0.25  # when the bus did not take the beat before it either
_SUCCESS_BEAT_SEC: Final = 10.0  # longer, because without the one beat of a success there will be a miss
_KEEP_SEC: Final = 5.0  # the longest wait for the output to be kept, once the outcome is
_CLEAN_SEC: Final = 2.0  # how long secrets are looked for in it; what was not searched is left out
_RETRY_SEC: Final = 0.5
_START_RETRY_SEC: Final = 10.0  # from one attempt to report the start of a job's run to the next
_NO_ANSWER: Final = "no answer in time"
_FORWARDED_SIGNALS: Final = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH")
_TERMINAL_SIGNALS: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH)  # to the child and to us
_SCRIPT_BYTES: Final = 256  # of a file, in which a script has no NUL
_KILL_AFTER_SEC: Final = 10.0  # from SIGTERM to SIGKILL, once the time limit has passed


def execute(
    command: Annotated[list[str], argument("COMMAND", "The command and its arguments, after --.")],
    *,
    svc: Annotated[str, service_option("--svc", "The service, as truth.json names it.")],
    on_success_only: Annotated[
        bool, flag("--on-success-only", "No beats while it runs; one if it ends with 0. For cron.")
    ] = False,
    limit: Annotated[
        float | None, time_option("--limit", "2h", "End it after that time; the exit code is 124.")
    ] = None,
    no_output: Annotated[
        bool, flag("--no-output", "Keep nothing of what it writes, and do not copy it.")
    ] = False,
    data: Data = DATA,
) -> None:
    """Run a command, beat for it while it runs, end with its exit code.

    A bus that is away neither stops nor delays it. `marketswarm status` shows how the last run ended. The end
    of what it writes is kept, without secrets, unless it writes to a terminal.
    """
    require_service_name(svc, "--svc")
    if limit is not None and limit <= 0:
        raise typer.BadParameter("--limit: above 0")
    try:
        sender = BeatSender(svc, data, None if on_success_only else secrets.token_hex(6))
    except Exit as error:  # a variable or a URL is wrong, which is no reason to leave out a backup
        reporter, wrong = None, error.message
    else:
        reporter, wrong = _Reporter(sender, on_success_only=on_success_only), ""
    copier = None if no_output else OutputCopier.start()
    run = _run_command(command, limit, copier, reporter.begin if reporter else lambda: None)
    kept = KeptOutput() if copier is None else copier.finish()
    trouble = reporter.end(run, kept) if reporter else wrong
    if trouble:
        output.print_error(f"the end of {svc} could not be told ({trouble})")
    elif reporter and reporter.ping_trouble:
        output.print_error(f"what {svc} wrote could not be kept ({reporter.ping_trouble})")
    elif reporter and not sender.is_known:
        print_unknown_service(svc, sender.truth)
    raise Exit(run.code, f"{command[0]}: {run.why}" if run.why else "")


@dataclass(frozen=True, slots=True)
class CommandRun:
    """Hold a command's run that has ended.

    `code` is what a shell would give: 128 plus its number for a signal, 124 for a time limit. `limit_sec` is
    the time limit if that ended the run, `why` the reason if it could not be started at all.
    """

    code: int
    took_sec: float
    ended_at: float
    signal: str | None = None
    limit_sec: float | None = None
    why: str | None = None

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def said(self) -> str:
        if self.why is not None:
            return f"not started: {self.why}"
        end = f"ended by {self.signal}" if self.signal else f"exit {self.code}"
        limit = f", its limit of {format_duration(self.limit_sec)} over" if self.limit_sec else ""
        return f"{end} after {format_duration(self.took_sec)}{limit}"

    def describe(self, last_line: str | None) -> str:
        """Return the outcome, of a failure with the last line of its output: the detail of its last beat.

        The text has MAX_DETAIL_CHARS at most.
        """
        text = self.said if self.ok or last_line is None else f"{self.said}: {last_line}"
        return text[:MAX_DETAIL_CHARS]

    def encode(self, svc: str, detail: str, *, is_quiet: bool = False) -> bytes:
        """Return the JSON object for `run:<svc>`.

        `detail` is what `describe` returned; `is_quiet` if a failure is not to be missed.
        """
        found = {"svc": svc, "ok": self.ok, "code": self.code}
        found |= {"took_sec": round(self.took_sec, 3), "ts": round(self.ended_at, 3)}
        optional = {"signal": self.signal, "limit_sec": self.limit_sec, "quiet": is_quiet}
        optional["detail"] = None if self.ok else detail
        given = {name: value for name, value in optional.items() if value}
        return orjson.dumps({**found, **given, "said": self.said})

    def make_ping(self, rid: str, body: bytes, size: int) -> JobPing:
        """Return the run as a ping, with the end of its output; `size` is how much there was of all of it."""
        kind = PingKind.SUCCESS if self.ok else PingKind.FAIL
        if self.why is not None:
            body = self.said.encode()
        return JobPing(
            kind=kind,
            ts=self.ended_at,
            form=PingForm.EXEC,
            rid=rid,
            exit_code=self.code,
            took_sec=self.took_sec,
            body=body,
            size=max(size, len(body)),
        )


def make_run(status: int, took_sec: float, ended_at: float, limit_sec: float | None = None) -> CommandRun:
    """Return the run of a process that ended with an exit status, or minus the number of a signal."""
    name = format_signal(-status) if status < 0 else None
    code = 128 - status if status < 0 else status
    return CommandRun(code if limit_sec is None else LIMIT_CODE, took_sec, ended_at, name, limit_sec)


class ChildProcess:
    """Run a command, from the constructor on; no shell takes part.

    Make one in the main thread and once per process, because it replaces the process's signal handlers. After
    `limit_sec` it gets SIGTERM, and SIGKILL ten seconds later. `stdout` and `stderr` are descriptors, None
    for our own. Raises OSError if it can't be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        limit_sec: float | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        self.limit_is_over = False
        self._leads_group = not _has_terminal()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_starting = False
        self._early_signals: list[int] = []  # those that arrived before there was a child
        for number in (signal.Signals[name] for name in _FORWARDED_SIGNALS):
            if signal.getsignal(number) != signal.SIG_IGN:  # under nohup it stays ignored
                signal.signal(number, self._forward_signal)
        self._is_starting = True
        self._process = _start_command(
            command, stdout, stderr, process_group=0 if self._leads_group else None
        )
        if limit_sec is not None:
            signal.signal(signal.SIGALRM, self._enforce_limit)
            signal.setitimer(signal.ITIMER_REAL, limit_sec)
        for early in self._early_signals:
            self._send(early)

    def wait(self) -> int:
        """Return the exit status of the command, or minus the number of the signal that ended it."""
        assert self._process is not None  # noqa: S101 - the constructor started it
        status = self._process.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return status

    def _forward_signal(self, number: int, _frame: Any) -> None:
        """Send a signal that this process got to the child, unless the terminal sends it there itself."""
        is_sent_to_both = not self._leads_group and number in _TERMINAL_SIGNALS
        if self._process is not None:
            if not is_sent_to_both:
                self._send(number)
        elif not (is_sent_to_both and self._is_starting):  # the child may be there already
            self._early_signals.append(number)

    def _enforce_limit(self, *_: Any) -> None:
        """Send SIGTERM when the time limit has passed, and SIGKILL when called again."""
        self._send(signal.SIGKILL if self.limit_is_over else signal.SIGTERM)
        self.limit_is_over = True
        signal.setitimer(signal.ITIMER_REAL, _KILL_AFTER_SEC)

    def _send(self, number: int) -> None:
        """Send a signal to the program, or to all that it started; nothing once it has ended."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            (os.killpg if self._leads_group else os.kill)(self._process.pid, number)


def _start_command(
    command: Sequence[str], stdout: int | None, stderr: int | None, process_group: int | None
) -> "subprocess.Popen[bytes]":
    """Start a program. A script without a `#!` line is run by /bin/sh, as below `env` and the shell of cron.

    Raises OSError if it can't be started.
    """

    def start(words: list[str]) -> "subprocess.Popen[bytes]":
        # close_fds: the files that we were given beyond the usual three are the child's, too
        return subprocess.Popen(  # noqa: S603 - running what the user says is what this is for
            words, stdout=stdout, stderr=stderr, close_fds=False, process_group=process_group
        )

    try:
        return start(list(command))
    except OSError as error:
        path = shutil.which(command[0]) if error.errno == errno.ENOEXEC else None
        if path is None or _is_binary(path):
            raise
        return start(["/bin/sh", path, *command[1:]])


def _is_binary(path: str) -> bool:
    """Return True if a file is no script, such as a program for another processor. Raises OSError."""
    with open(path, "rb") as file:  # noqa: PTH123 - as subprocess found it
        return b"\0" in file.read(_SCRIPT_BYTES)


def _has_terminal() -> bool:
    """Return True if this process has a controlling terminal, which then sends us its signals."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _run_command(
    command: list[str], limit_sec: float | None, copier: OutputCopier | None, started: Callable[[], None]
) -> CommandRun:
    begun = time.monotonic()
    stdout, stderr = (None, None) if copier is None else (copier.stdout, copier.stderr)
    try:
        child = ChildProcess(command, limit_sec, stdout, stderr)
    except OSError as error:
        why = error.strerror or "it can't be started"
        code = 127 if isinstance(error, FileNotFoundError) else 126
        return CommandRun(code, 0.0, time.time(), why=why)
    finally:
        if copier is not None:
            copier.release()
    started()
    status = child.wait()
    took_sec = time.monotonic() - begun
    return make_run(status, took_sec, time.time(), limit_sec if child.limit_is_over else None)


class _Reporter:
    """Report a run from a thread of its own: by beats from `begin` to `end`, then by its outcome.

    At last the run is added to the pings of its service; `ping_trouble` is why that failed, or None.

    For a job, the start and the end of the run are reported instead; with a schedule, there are no other
    beats. With `on_success_only` a success has one beat, and there are no others.
    """

    def __init__(self, sender: BeatSender, *, on_success_only: bool) -> None:
        self._sender, self._on_success_only = sender, on_success_only
        self._ended = threading.Event()
        self._trouble: str | None = None
        self.ping_trouble: str | None = None
        self._run: CommandRun | None = None
        self._kept = KeptOutput()
        self._body: bytes | None = None  # the end of the output, once secrets are removed
        self._detail = ""
        self._rid = secrets.token_hex(8)
        self._start_is_reported = self._end_is_reported = self._run_is_stored = False
        self._sends_beats = False  # also False for a command that could not be started
        self._thread = threading.Thread(target=self._run_thread, name="beats", daemon=True)

    def begin(self) -> None:
        if not self._on_success_only:
            self._sends_beats = True
            self._thread.start()

    def end(self, run: CommandRun, kept: KeptOutput) -> str | None:
        """Report the outcome of the command, waiting for a limited time; return why that failed, or None."""
        self._run, self._kept = run, kept
        # what a failure said last belongs to its outcome; of a success the outcome does not wait for it
        last_line = None if run.ok else self._clean_output()
        self._detail = run.describe(last_line)
        self._ended.set()
        if not self._sends_beats:
            self._thread.start()
        if self._is_patient():
            self._thread.join(_SUCCESS_BEAT_SEC)
        else:
            self._thread.join(_GOODBYE_SEC if self._trouble is None else _SHORT_GOODBYE_SEC)
        if self._run_is_stored:
            self._thread.join(_KEEP_SEC)
            if self._thread.is_alive():
                self.ping_trouble = _NO_ANSWER
            return None
        return self._trouble or (_NO_ANSWER if self._thread.is_alive() else None)

    def _is_patient(self) -> bool:
        """Return True if a lost outcome would be a miss, because no beats came before it."""
        return self._on_success_only or self._sender.destination.job is not None

    def _run_thread(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the main thread's
        event_loop.run(self._report())

    async def _report(self) -> None:
        due = time.monotonic()
        while self._sends_beats:
            self._trouble = await _catch_trouble(self._beat(), self._sender)
            to = self._sender.destination
            awaits_start = to.job is not None and not self._start_is_reported
            pause_sec = min(_START_RETRY_SEC, to.interval_sec) if awaits_start else to.interval_sec
            due = max(due + pause_sec, time.monotonic())
            if await asyncio.to_thread(self._ended.wait, due - time.monotonic()):
                break
        until = time.monotonic() + _SUCCESS_BEAT_SEC - _RETRY_SEC
        while True:
            self._sender.forget_failures()
            self._trouble = await _catch_trouble(self._report_end(), self._sender)
            if self._trouble is None:
                self._run_is_stored = True
                self.ping_trouble = await _catch_trouble(self._add_ping(), self._sender)
                return
            if not self._is_patient() or time.monotonic() > until:
                return
            await asyncio.sleep(_RETRY_SEC)

    async def _beat(self) -> None:
        await self._sender.refresh_truth()
        to = self._sender.destination
        if to.job is not None and not self._start_is_reported:
            await self._sender.publish(run="started", rid=self._rid)
            self._start_is_reported = True
        if to.job is None or to.job.schedule is None:
            await self._sender.publish(every_sec=to.interval_sec)

    async def _report_end(self) -> None:
        """Publish the outcome, unless a bus took it already, and store the run."""
        run, sender = self._run, self._sender
        assert run is not None  # noqa: S101 - `end` sets it first
        # a reseed may have moved the job, or changed its timeout, while it ran
        await sender.refresh_truth_at_end(WITHIN_SEC if self._is_patient() else TRUTH_AT_END_SEC)
        to = sender.destination
        if not self._end_is_reported:
            if self._on_success_only and run.ok:
                await sender.publish(detail=self._detail)
            elif to.job is not None and not self._on_success_only:
                report: RunReport = "ended" if run.ok else "failed"
                await sender.publish(detail=self._detail, exit_code=run.code, run=report, rid=self._rid)
            elif self._sends_beats or to.alert_on_failure:
                await sender.publish("stopping", self._detail, exit_code=run.code)
            self._end_is_reported = True  # a second one would count as another run
        is_quiet = self._on_success_only and not run.ok and not to.alert_on_failure
        life_sec = compute_kept_sec(to.timeout_sec)
        stored = run.encode(sender.svc, self._detail, is_quiet=is_quiet)
        await sender.store(last_run_key(sender.svc), stored, life_sec)

    async def _add_ping(self) -> None:
        """Add the run to its service's pings, with the end of its output, without secrets."""
        assert self._run is not None  # noqa: S101 - it is reported
        if self._body is None:
            self._clean_output()
        await self._sender.add_ping(self._run.make_ping(self._rid, self._body or b"", self._kept.size))

    def _clean_output(self) -> str | None:
        """Remove secrets from the end of the output, those of our own environment too; return its last line.

        That takes _CLEAN_SEC at most.
        """
        if not self._kept.tail:
            return None
        # it takes long to import, and not every run writes something
        from marketswarm.redactor import Redactor, list_secrets  # noqa: PLC0415 - see above
        from marketswarm.run_output import clean_output, find_last_line  # noqa: PLC0415 - see above

        until = time.monotonic() + _CLEAN_SEC
        redactor = Redactor(list_secrets(os.environ))
        self._body = clean_output(
            self._kept.tail, self._kept.size, redactor, lambda: time.monotonic() >= until
        )
        return find_last_line(self._body)


async def _catch_trouble(work: Awaitable[None], sender: BeatSender) -> str | None:
    try:
        await work
    except BusError as error:
        return sender.describe(error)
    except Exit as error:
        return error.message
    return None
