"""Play backtests one after the other, a few at once, and keep what became of each.

A job waits in memory. If the board ends before the job does, the next board says so: it failed, `restarted`.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from marketswarm import log as logs
from marketswarm.text import escape_text
from marketswarm.web.limits import RefusedError
from services.board.backtests.jobs import MAX_DETAIL, BacktestJob, JobFailure, JobState, find_job_id
from services.board.backtests.store import BacktestStore
from services.signals.report import BacktestRequest

AT_ONCE: Final = 2
"""How many backtests run at the same time."""
MAX_WAITING: Final = 20
RETRY_SEC: Final = 30.0
"""In how many seconds a client may try again that found the queue full."""
MAX_JOBS: Final = 200
"""How many jobs are kept; one more deletes the one that was asked for longest ago and has ended."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""How many bytes all reports may have on disk; more delete the oldest ones with their jobs."""
_RESTARTED: Final = "the board ended before this did: ask for it again"
log = logs.get("board")

OnProgress = Callable[[float], None]
"""Called with the share that was played."""


class RunFailedError(Exception):
    """A run has no report; `failure` says why, and `str()` in words."""

    def __init__(self, failure: JobFailure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """Hold what came of a run: the digest of all inputs, and the report.

    Without a report, the one that was kept under this digest is still right.
    """

    digest: str
    report: bytes | None


class PlayBacktest(Protocol):
    """Plays a request in another process. Raises RunFailedError.

    `kept` is the digest of the report that is kept of this request, if one is.
    """

    def __call__(
        self, request: BacktestRequest, kept: str | None, on_progress: OnProgress
    ) -> Awaitable[FinishedRun]: ...


class BacktestQueue:
    """Takes requests, has them played by `play`, and keeps jobs and reports in `store`.

    Attributes:
        finished: how many runs ended, by `done`, `kept`, `deleted` or the failure.
        took_sec: how long all runs took together, in seconds.
        problem: why the folder does not take a job; None while it does.
    """

    def __init__(self, store: BacktestStore, play: PlayBacktest) -> None:
        self.store, self._play = store, play
        self._jobs: dict[str, BacktestJob] = {}
        self._waiting: deque[str] = deque()
        self._arriving = 0  # that will wait once they are saved
        self._running: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, float] = {}
        self._keeping: dict[str, str] = {}  # the digest of the report that is being written, by its job
        self._has_work = asyncio.Event()
        self._disk = asyncio.Lock()  # one at a time: two writes of one job keep their order
        self._is_loaded = asyncio.Event()
        self.finished: Counter[str] = Counter()
        self.took_sec = 0.0
        self.problem: str | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def list_jobs(self) -> list[BacktestJob]:
        """Return all jobs, the one that was asked for last first."""
        return sorted(self._jobs.values(), key=lambda job: -job.queued_at)

    def find_job(self, ident: str) -> BacktestJob | None:
        return self._jobs.get(ident)

    def find_progress(self, ident: str) -> float | None:
        return self._progress.get(ident)

    def find_place(self, ident: str) -> int | None:
        """Return how many jobs are before this one, and 1; None if it does not wait."""
        return self._waiting.index(ident) + 1 if ident in self._waiting else None

    async def run(self) -> None:
        """Play what waits until cancelled. First of all, say of what the last board left that it failed."""
        try:
            await self._load()
            async with asyncio.TaskGroup() as group:
                for number in range(AT_ONCE):
                    group.create_task(self._work(), name=f"backtests {number}")
        finally:
            self.store.close()

    async def _load(self) -> None:
        try:
            found = await asyncio.to_thread(self.store.load)
        except OSError as error:
            self._note_problem(error)
            found = []
        for job in found:
            left = not job.has_ended
            if left:
                job = replace(  # noqa: PLW2901 - what it is from now on
                    job,
                    state=JobState.FAILED,
                    ended_at=time.time(),
                    failure=JobFailure.RESTARTED,
                    detail=_RESTARTED,
                )
                self.finished[JobFailure.RESTARTED] += 1
            self._jobs[job.id] = job
            if left:
                await self._save(job)
        await self._trim()
        self._is_loaded.set()

    async def submit(self, request: BacktestRequest, by: str, now: float) -> BacktestJob:
        """Queue a request of the token named `by`, at `now` (epoch seconds), and return its job.

        One that waits or runs already is returned as it is. Raises RefusedError if too many wait, or the
        folder does not take it.
        """
        await self._is_loaded.wait()
        ident = find_job_id(request)
        known = self._jobs.get(ident)
        if known is not None and not known.has_ended:
            return known
        if len(self._waiting) + self._arriving >= MAX_WAITING:
            raise RefusedError(429, f"{MAX_WAITING} backtests wait already", RETRY_SEC)
        digest = None if known is None else known.digest
        job = BacktestJob(ident, request, by[:200], JobState.QUEUED, now, digest=digest)
        self._jobs[ident] = job
        self._arriving += 1
        try:
            is_saved = await self._save(job)
        except asyncio.CancelledError:  # nobody will hear that it was taken
            self._forget(ident)
            if known is not None:
                self._jobs[ident] = known
            raise
        finally:
            self._arriving -= 1
        if self._jobs.get(ident) is not job:
            return job  # it was deleted meanwhile
        if not is_saved:
            self._forget(ident)
            if known is not None:
                self._jobs[ident] = known
            raise RefusedError(503, f"the folder of backtests does not take it: {self.problem}", RETRY_SEC)
        self._waiting.append(ident)
        self._has_work.set()
        await self._trim()
        return job

    async def delete(self, ident: str) -> BacktestJob | None:
        """Delete a job, and return it; end it if it waits or runs. None if it is not there.

        Deletes its report, too, and the one that is being written, unless another job has the same one.
        """
        job = self._jobs.get(ident)
        if job is None:
            return None
        task = self._running.get(ident)
        writing = self._keeping.get(ident)
        self._forget(ident)
        if task is not None and not job.has_ended:  # one that has ended trims, and may delete its own job
            task.cancel()
            await asyncio.wait({task})
        if not job.has_ended:
            self.finished["deleted"] += 1
        await self._write(self.store.delete_job, job)
        await self._delete_report(job, job.digest)
        await self._delete_report(job, writing)
        return job

    async def read_report(self, job: BacktestJob) -> bytes | None:
        """Return the report of a job; None if it has none. One that can't be read is said of its job."""
        if job.state is not JobState.DONE or job.digest is None:
            return None
        report = await asyncio.to_thread(self.store.read_report, job.digest)
        if report is None:
            await self.note_unreadable(job)
        return report

    async def note_unreadable(self, job: BacktestJob) -> None:
        """Set the report of a job aside: it is not one, or is gone."""
        if self._jobs.get(job.id) is job and job.digest is not None:
            detail = "the report that was kept can't be read any more: ask for it again"
            failed = replace(
                job, state=JobState.FAILED, failure=JobFailure.UNREADABLE, detail=detail, digest=None
            )
            self._jobs[job.id] = failed
            await self._save(failed)

    # -- runs

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._has_work.clear()
                await self._has_work.wait()
            job = self._jobs[self._waiting.popleft()]
            task = asyncio.create_task(self._run_job(job), name=f"backtest {job.id}")
            self._running[job.id] = task
            try:
                await asyncio.wait({task})
            finally:
                task.cancel()
                await asyncio.wait({task})
                if self._running.get(job.id) is task:
                    del self._running[job.id]
            if not task.cancelled():
                task.result()  # a defect of ours ends the board

    async def _run_job(self, job: BacktestJob) -> None:
        began = time.monotonic()
        job = replace(job, state=JobState.RUNNING, began_at=time.time())
        self._jobs[job.id] = job

        def note_progress(share: float) -> None:
            self._progress[job.id] = share

        try:
            run = await self._play(job.request, job.digest, note_progress)
            ended = await self._keep(job, run)
        except RunFailedError as error:
            detail = escape_text(str(error))[:MAX_DETAIL]
            ended = replace(job, state=JobState.FAILED, failure=error.failure, detail=detail)
        finally:
            self._progress.pop(job.id, None)
            self._keeping.pop(job.id, None)
            took_sec = time.monotonic() - began
            self.took_sec += took_sec
        ended = replace(ended, ended_at=time.time())
        self._jobs[job.id] = ended
        outcome = ended.failure or ("kept" if ended.is_kept else ended.state)
        self.finished[str(outcome)] += 1
        log.info("backtests.ended", job=job.id, outcome=str(outcome), took_sec=round(took_sec, 1))
        await self._save(ended)
        await self._trim()

    async def _keep(self, job: BacktestJob, run: FinishedRun) -> BacktestJob:
        """Write the report of a run, delete the one before, and return the job. Raises RunFailedError.

        The one before stays if another job has the same one.
        """
        self._keeping[job.id] = run.digest
        if run.report is not None:
            try:
                await self._write(self.store.write_report, run.digest, run.report)
            except OSError as error:
                self._note_problem(error)
                raise RunFailedError(JobFailure.NOT_KEPT, f"it can't be kept: {self.problem}") from None
        if job.digest != run.digest:
            await self._delete_report(job, job.digest)
        return replace(job, state=JobState.DONE, digest=run.digest, is_kept=run.report is None)

    async def _delete_report(self, job: BacktestJob, digest: str | None) -> None:
        """Delete a report of a job, unless another one has it: requests may differ in defaults alone."""
        others = {each.digest for each in self._jobs.values() if each is not job}
        others.update(self._keeping.values())
        if digest is not None and digest not in others:
            await self._write(self.store.delete_report, digest)

    async def _save(self, job: BacktestJob) -> bool:
        """Write a job, and return whether the folder took it."""
        try:
            await self._write(self.store.write_job, job)
        except OSError as error:
            self._note_problem(error)
            return False
        self.problem = None
        return True

    async def _write(self, function: Callable[..., None], *arguments: object) -> None:
        """Change the folder in a thread, and wait for its end even if this is cancelled."""
        async with self._disk:
            writing = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait({writing})
                raise

    def _note_problem(self, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        if self.problem is None:
            log.warning("backtests.not_kept", reason=reason)
        self.problem = reason

    async def _trim(self) -> None:
        """Delete the oldest jobs that have ended, while there are too many or reports are too large."""
        ended = deque(job for job in reversed(self.list_jobs()) if job.has_ended)
        while ended and (len(self._jobs) > MAX_JOBS or self._count_bytes() > MAX_BYTES):
            await self.delete(ended.popleft().id)

    def _count_bytes(self) -> int:
        """Return the size of the reports that jobs have; those that are being deleted are of none."""
        return sum(
            self.store.sizes.get(digest or "", 0) for digest in {job.digest for job in self._jobs.values()}
        )

    def _forget(self, ident: str) -> None:
        self._jobs.pop(ident, None)
        self._progress.pop(ident, None)
        if ident in self._waiting:
            self._waiting.remove(ident)
