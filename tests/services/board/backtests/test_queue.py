"""The queue of backtests and the folder that keeps them, which ends and begins again."""

import asyncio
import contextlib
import gzip
import os
from dataclasses import dataclass, field
from itertools import count
from threading import Event

import pytest

from marketswarm.tasks import end_tasks
from marketswarm.web.limits import RefusedError
from services.board.backtests import queue as queue_module
from services.board.backtests.jobs import (
    BacktestJob,
    JobFailure,
    JobState,
    encode_job,
    find_job_id,
    parse_job,
)
from services.board.backtests.queue import (
    AT_ONCE,
    MAX_WAITING,
    BacktestQueue,
    FinishedRun,
    RunFailedError,
)
from services.board.backtests.store import MAX_ASIDE, BacktestStore
from services.signals.report import BacktestRequest
from support.waiting import auntil

DIGEST = "ab" * 32
REPORT = b'{"a": "report"}'


def ask(number=0, **more):
    days = {"from": "2026-01-05", "to": "2026-02-05"}
    fields = {"strategy": "breakout", "symbols": ["SPY"], "parameters": {"entry": number}, **days, **more}
    return BacktestRequest.from_document(fields)


@dataclass
class Player:
    """Plays when it is told to: what it answers is decided by the test."""

    began: list[BacktestRequest] = field(default_factory=list)
    kept: list[str | None] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    answer: FinishedRun | RunFailedError = field(default_factory=lambda: FinishedRun(DIGEST, REPORT))
    ended: int = 0

    async def __call__(self, request, kept, on_progress):
        self.began.append(request)
        self.kept.append(kept)
        on_progress(0.25)
        try:
            await self.may_end.wait()
        finally:
            self.ended += 1
        if isinstance(self.answer, RunFailedError):
            raise self.answer
        return self.answer


@contextlib.asynccontextmanager
async def play(folder, player):
    queue = BacktestQueue(BacktestStore(folder), player)
    running = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        await end_tasks(running)


times = count(1_700_000_000)


async def submit(queue, request):
    return await queue.submit(request, "kim", next(times))


async def finish(queue, ident):
    await auntil(lambda: queue.find_job(ident).has_ended, what="the end of a backtest")
    return queue.find_job(ident)


async def test_a_backtest_is_played_and_its_report_survives_the_board(tmp_path):
    player = Player()
    async with play(tmp_path, player) as queue:
        job = await submit(queue, ask())
        assert (job.state, job.by, queue.find_place(job.id)) == (JobState.QUEUED, "kim", 1)
        await auntil(lambda: queue.find_progress(job.id) == 0.25)
        assert queue.find_job(job.id).state is JobState.RUNNING
        player.may_end.set()
        done = await finish(queue, job.id)
        assert (done.state, done.digest, done.is_kept) == (JobState.DONE, DIGEST, False)
        assert await queue.read_report(done) == REPORT
        assert queue.finished == {"done": 1}
        await auntil(lambda: queue.running == 0)
    async with play(tmp_path, player) as queue:
        await auntil(queue.list_jobs)
        assert queue.list_jobs() == [done]
        assert await queue.read_report(done) == REPORT
    assert len(player.began) == 1


async def test_the_same_request_is_one_job_and_is_told_which_report_is_kept(tmp_path):
    player = Player()
    async with play(tmp_path, player) as queue:
        job = await submit(queue, ask())
        assert (await submit(queue, ask())).id == job.id
        player.may_end.set()
        await finish(queue, job.id)
        player.answer = FinishedRun(DIGEST, None)
        again = await submit(queue, ask())
        assert (again.id, again.state) == (job.id, JobState.QUEUED)
        kept = await finish(queue, job.id)
        assert (kept.is_kept, kept.state, await queue.read_report(kept)) == (True, JobState.DONE, REPORT)
        player.answer = FinishedRun("cd" * 32, b"another")
        await submit(queue, ask())
        changed = await finish(queue, job.id)
        assert (changed.is_kept, await queue.read_report(changed)) == (False, b"another")
        assert [each.name for each in tmp_path.glob("*.report")] == [f"{'cd' * 32}.report"]
    assert player.kept == [None, DIGEST, DIGEST]
    assert len(player.began) == 3


async def test_two_run_at_once_twenty_wait_and_one_more_is_refused(tmp_path):
    player = Player()
    async with play(tmp_path, player) as queue:
        jobs = [await submit(queue, ask(number)) for number in range(AT_ONCE)]
        await auntil(lambda: queue.running == AT_ONCE)
        jobs += [await submit(queue, ask(number)) for number in range(AT_ONCE, AT_ONCE + MAX_WAITING)]
        assert (queue.running, queue.waiting) == (2, 20)
        with pytest.raises(RefusedError) as refused:
            await submit(queue, ask(99))
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "30")
        assert queue.find_job(find_job_id(ask(99))) is None
        assert len(player.began) == 2
        player.may_end.set()
        for job in jobs:
            assert (await finish(queue, job.id)).state is JobState.DONE
    assert queue.finished["done"] == 22


async def test_one_that_fails_says_why_and_the_others_go_on(tmp_path):
    player = Player(answer=RunFailedError(JobFailure.MEMORY, "it took too much memory\x1b[31m"))
    player.may_end.set()
    async with play(tmp_path, player) as queue:
        failed = await finish(queue, (await submit(queue, ask(1))).id)
        assert (failed.state, failed.failure, failed.digest) == (JobState.FAILED, JobFailure.MEMORY, None)
        assert "too much memory" in failed.detail
        assert failed.detail.isprintable()
        assert await queue.read_report(failed) is None
        player.answer = FinishedRun(DIGEST, REPORT)
        assert (await finish(queue, (await submit(queue, ask(2))).id)).state is JobState.DONE
    assert queue.finished == {"memory": 1, "done": 1}


async def test_what_waits_or_runs_when_the_board_ends_has_failed_and_says_so(tmp_path):
    async with play(tmp_path, Player()) as queue:
        jobs = [await submit(queue, ask(number)) for number in range(3)]
        await auntil(lambda: queue.running == AT_ONCE)
    async with play(tmp_path, Player()) as queue:
        await auntil(lambda: len(queue.list_jobs()) == 3)
        for job in jobs:
            found = await finish(queue, job.id)
            assert (found.state, found.failure) == (JobState.FAILED, JobFailure.RESTARTED)
            assert "ask for it again" in found.detail
        assert queue.finished == {"restarted": 3}
    async with play(tmp_path, Player()) as queue:
        await auntil(lambda: len(queue.list_jobs()) == 3)
        assert not queue.finished, "it is said once"


async def test_one_that_is_deleted_is_ended_and_gone_for_good(tmp_path):
    player = Player()
    async with play(tmp_path, player) as queue:
        jobs = [await submit(queue, ask(number)) for number in range(4)]
        await auntil(lambda: queue.running == AT_ONCE)
        running, waiting = jobs[0], jobs[3]
        await queue.delete(running.id)
        assert player.ended == 1
        await queue.delete(waiting.id)
        assert queue.find_job(running.id) is queue.find_job(waiting.id) is None
        assert await queue.delete(running.id) is None
        await auntil(lambda: len(player.began) == 3, what="the next one to begin")
        player.may_end.set()
        for job in jobs[1:3]:
            await finish(queue, job.id)
        assert {each.stem for each in tmp_path.glob("*.job")} == {job.id for job in jobs[1:3]}
        assert queue.finished == {"deleted": 2, "done": 2}
        await queue.delete(jobs[1].id)
        assert queue.finished["deleted"] == 2, "one that had ended was not ended again"


async def test_a_report_that_two_jobs_have_goes_with_the_last_of_them(tmp_path):
    player = Player()
    player.may_end.set()
    async with play(tmp_path, player) as queue:
        jobs = [await finish(queue, (await submit(queue, ask(number))).id) for number in range(3)]
        assert {job.digest for job in jobs} == {DIGEST}
        player.answer = FinishedRun("cd" * 32, b"another")
        await submit(queue, ask(0))
        await finish(queue, jobs[0].id)
        assert await queue.read_report(jobs[1]) == REPORT, "the first one has another report now"
        await queue.delete(jobs[1].id)
        assert await queue.read_report(jobs[2]) == REPORT
        await queue.delete(jobs[2].id)
        assert [each.name for each in tmp_path.glob("*.report")] == [f"{'cd' * 32}.report"]


async def test_a_report_that_is_being_written_is_not_deleted_with_another_job(tmp_path, monkeypatch):
    """Another job that had the same report is being deleted when the run ends that has it, too."""
    player = Player()
    player.may_end.set()
    async with play(tmp_path, player) as queue:
        first = await finish(queue, (await submit(queue, ask(0))).id)
        player.may_end.clear()
        second = await submit(queue, ask(1))
        await auntil(lambda: len(player.began) == 2, what="the second one to begin")
        delete_job, is_deleting, may_delete = queue.store.delete_job, Event(), Event()

        def delete_slowly(job):
            is_deleting.set()
            assert may_delete.wait(10)
            delete_job(job)

        monkeypatch.setattr(queue.store, "delete_job", delete_slowly)
        deleting = asyncio.create_task(queue.delete(first.id))
        assert await asyncio.to_thread(is_deleting.wait, 10)
        player.may_end.set()
        await auntil(lambda: player.ended == 2)
        may_delete.set()
        await deleting
        assert await queue.read_report(await finish(queue, second.id)) == REPORT


@pytest.mark.parametrize("is_shared", [False, True])
async def test_a_job_deleted_while_its_report_is_written_leaves_none(tmp_path, monkeypatch, is_shared):
    """Unless another job has the same report."""
    player = Player()
    player.may_end.set()
    async with play(tmp_path, player) as queue:
        if is_shared:
            other = await finish(queue, (await submit(queue, ask(0))).id)
        write_report, is_writing, may_write = queue.store.write_report, Event(), Event()

        def write_slowly(digest, report):
            is_writing.set()
            assert may_write.wait(10)
            write_report(digest, report)

        monkeypatch.setattr(queue.store, "write_report", write_slowly)
        job = await submit(queue, ask(1))
        assert await asyncio.to_thread(is_writing.wait, 10)
        deleting = asyncio.create_task(queue.delete(job.id))
        await auntil(lambda: queue.find_job(job.id) is None)
        may_write.set()
        await deleting
        left = {f"{other.id}.job", f"{DIGEST}.report"} if is_shared else set()
        assert {each.name for each in tmp_path.iterdir()} == left
        assert queue.store.sizes.keys() == ({DIGEST} if is_shared else set())


async def test_a_job_whose_own_report_is_too_large_is_deleted_with_it(tmp_path, monkeypatch):
    """It is deleted by the task that played it."""
    monkeypatch.setattr(queue_module, "MAX_BYTES", 500)
    player = Player(answer=FinishedRun(DIGEST, os.urandom(1000)))
    player.may_end.set()
    async with play(tmp_path, player) as queue:
        await submit(queue, ask())
        await auntil(lambda: queue.finished["done"] == 1 and not queue.list_jobs() and queue.running == 0)
        assert [each.name for each in tmp_path.iterdir()] == []


async def test_only_so_many_and_so_large_reports_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(queue_module, "MAX_JOBS", 3)
    player = Player()
    player.may_end.set()
    async with play(tmp_path, player) as queue:
        jobs = []
        for number in range(5):
            player.answer = FinishedRun(f"{number:064x}", os.urandom(1000))
            jobs.append(await finish(queue, (await submit(queue, ask(number))).id))
        await auntil(lambda: len(list(tmp_path.iterdir())) == 6)
        assert {job.id for job in queue.list_jobs()} == {job.id for job in jobs[2:]}
        monkeypatch.setattr(queue_module, "MAX_BYTES", 2500)
        player.answer = FinishedRun("ef" * 32, os.urandom(1000))
        last = await finish(queue, (await submit(queue, ask(9))).id)
        await auntil(lambda: len(queue.list_jobs()) == 2)
        assert last.id in {job.id for job in queue.list_jobs()}
        await auntil(lambda: sum(queue.store.sizes.values()) <= 2500)
        assert len(queue.list_jobs()) == 2, "no more are deleted than need be"


@pytest.mark.parametrize("spoil", [b"", b"\x1f\x8b broken", gzip.compress(REPORT, mtime=0)[:-4], None])
async def test_a_report_that_cant_be_read_is_set_aside_and_its_job_says_so(tmp_path, spoil):
    player = Player()
    player.may_end.set()
    async with play(tmp_path, player) as queue:
        job = await finish(queue, (await submit(queue, ask())).id)
        file = tmp_path / f"{DIGEST}.report"
        file.unlink() if spoil is None else file.write_bytes(spoil)
        assert await queue.read_report(job) is None
        found = queue.find_job(job.id)
        assert (found.state, found.failure, found.digest) == (JobState.FAILED, JobFailure.UNREADABLE, None)
        assert not file.exists()
        again = await finish(queue, (await submit(queue, ask())).id)
        assert await queue.read_report(again) == REPORT


def test_files_that_cant_be_read_are_set_aside_and_the_others_are_loaded(tmp_path):
    store = BacktestStore(tmp_path)
    good = BacktestJob(find_job_id(ask()), ask(), "kim", JobState.DONE, 5.0, digest=DIGEST)
    store.write_job(good)
    store.write_report(DIGEST, REPORT)
    other = encode_job(good).replace(b'"SPY"', b'"QQQ"')
    bad = {
        "0" * 32: b"",
        "1" * 32: b"{}",
        "2" * 32: encode_job(good),  # that of another request
        "3" * 32: other,
        "4" * 32: b"[" * 100_000,
        "5" * 32: b"x" * 300_000,
    }
    for name, content in bad.items():
        (tmp_path / f"{name}.job").write_bytes(content)
    (tmp_path / f"{'9' * 64}.report").write_bytes(b"of no job")
    (tmp_path / f"{'8' * 32}.job.new").write_bytes(b"half written")
    (tmp_path / "a note of the operator").write_bytes(b"stays")
    fresh = BacktestStore(tmp_path)
    assert fresh.load() == [good]
    assert fresh.set_aside == len(bad)
    assert fresh.read_report(DIGEST) == REPORT
    names = {each.name for each in tmp_path.iterdir()}
    assert {f"{name}.job.bad" for name in bad} <= names
    assert "a note of the operator" in names
    assert not {f"{'9' * 64}.report", f"{'8' * 32}.job.new"} & names


def test_only_so_many_files_are_left_aside(tmp_path):
    store = BacktestStore(tmp_path)
    for number in range(MAX_ASIDE + 5):
        (tmp_path / f"{number:032x}.job").write_bytes(b"")
    assert store.load() == []
    assert len(list(tmp_path.iterdir())) == MAX_ASIDE


async def test_a_folder_that_takes_nothing_refuses_and_does_not_end_the_board(tmp_path):
    folder = tmp_path / "file"
    folder.write_bytes(b"")
    player = Player()
    async with play(folder, player) as queue:
        with pytest.raises(RefusedError) as refused:
            await submit(queue, ask())
        assert refused.value.status == 503
        assert queue.list_jobs() == []
        assert queue.waiting == 0
        folder.unlink()
        folder.mkdir()
        job = await submit(queue, ask())
        player.may_end.set()
        assert (await finish(queue, job.id)).state is JobState.DONE
        assert queue.problem is None


async def test_a_report_that_the_disk_does_not_take_is_a_failure(tmp_path):
    player = Player()
    async with play(tmp_path, player) as queue:
        job = await submit(queue, ask())
        await auntil(lambda: queue.running == 1)
        (tmp_path / f"{DIGEST}.report.new").mkdir()  # in the place of its draft
        player.may_end.set()
        failed = await finish(queue, job.id)
        assert (failed.state, failed.failure) == (JobState.FAILED, JobFailure.NOT_KEPT)


def test_without_a_folder_they_are_kept_while_the_board_runs():
    store = BacktestStore(None)
    job = BacktestJob(find_job_id(ask()), ask(), "kim", JobState.DONE, 5.0, digest=DIGEST)
    store.load()
    store.write_job(job)
    store.write_report(DIGEST, REPORT)
    assert (store.load(), store.read_report(DIGEST), store.is_lasting) == ([job], REPORT, False)
    store.close()
    assert store.read_report(DIGEST) is None


def test_a_job_keeps_its_id_when_the_form_of_reports_changes():
    assert find_job_id(ask(20)) == "ce31da8e8dfed994c3cfd382f273909d"


def test_a_job_is_parsed_strictly():
    job = BacktestJob(find_job_id(ask()), ask(), "kim", JobState.FAILED, 5.0, failure=JobFailure.LATE)
    assert parse_job(encode_job(job)) == job
    for old, new in (
        (b'"failed"', b'"lost"'),
        (b'"late"', b'"bored"'),
        (b"5.0", b"NaN"),
        (b"5.0", b"-1"),
        (b'"kim"', b"7"),
        (b'{"id"', b'{"more":1,"id"'),
    ):
        assert old in encode_job(job)
        with pytest.raises(ValueError, match="BacktestJob"):
            parse_job(encode_job(job).replace(old, new, 1))
