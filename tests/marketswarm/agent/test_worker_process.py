"""Worker processes, and what hostile requests and answers cost: real processes."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import aclosing
from dataclasses import replace

import pytest

from marketswarm.agent.worker_process import (
    PROGRESS_SEC,
    WorkerError,
    WorkerFailure,
    WorkerLimits,
    WorkerProcess,
)
from support.rig.process import alive
from support.waiting import until

pytestmark = pytest.mark.live

LIMITS = WorkerLimits(request_sec=30, start_sec=60, answer_bytes=1000, cpu_sec=1, memory_bytes=1 << 30)

WORKER = f"""
import os, sys
from marketswarm.agent.worker_process import WorkerLimits, serve_with_progress

def answer(request, send_progress):
    word = request.decode()
    if word == "steps":
        for step in range(3):
            send_progress(str(step).encode())
    if word == "score":
        return open("/proc/self/oom_score_adj", "rb").read()
    while word == "chatter":
        send_progress(b"still here")
    if word == "long_step":
        os.write(1, bytes([3, 0, 0, 8, 0]) + bytes(2048))
    if word == "hang":
        sys.stdin.buffer.read()
    while word == "spin":
        pass
    if word == "memory":
        return bytes(2 << 30)
    if word == "deep":
        return answer(request, send_progress)
    if word == "die":
        os._exit(3)
    if word == "long":
        return bytes(2000)
    if word == "environ":
        return " ".join(sorted(os.environ)).encode()
    if word == "foreign":  # a document that took the worker over writes what it likes
        os.write(1, bytes([255]) * 100)
    print("what a library prints")
    return request

if __name__ == "__main__":
    serve_with_progress(answer, {LIMITS!r})
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "echo_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "echo_worker"


def parse(answer: bytes) -> str:
    return answer.decode("ascii")


async def test_requests_are_answered_by_one_process_that_ends_with_its_owner(module):
    async with aclosing(WorkerProcess(module, LIMITS)) as worker:
        words = ["a", "b", "", "c" * 900]
        assert await asyncio.gather(*(worker.ask(word.encode(), parse) for word in words)) == words
        pid = worker.pid
        assert pid is not None
        assert alive(pid)
        assert pid != os.getpid()
    assert not alive(pid)
    assert worker.pid is None


async def test_a_worker_says_how_far_it_is_before_it_answers(module):
    steps: list[bytes] = []
    async with aclosing(WorkerProcess(module, LIMITS)) as worker:
        assert await worker.ask(b"steps", parse, steps.append) == "steps"
        assert steps == [b"0", b"1", b"2"]
        assert await worker.ask(b"steps", parse) == "steps", "and one that did not ask may ignore it"


async def test_a_worker_that_only_reports_progress_is_late_and_costs_the_agent_little(module):
    steps: list[bytes] = []
    async with aclosing(WorkerProcess(module, replace(LIMITS, request_sec=1.5))) as worker:
        await worker.ask(b"a", parse)
        with pytest.raises(WorkerError) as raised:
            await worker.ask(b"chatter", parse, steps.append)
    assert raised.value.failure in {WorkerFailure.LATE, WorkerFailure.DEAD}
    assert 0 < len(steps) <= 1.5 / PROGRESS_SEC + 1


async def test_a_report_of_progress_that_is_wrong_kills_its_worker(module):
    async with aclosing(WorkerProcess(module, LIMITS)) as worker:
        with pytest.raises(WorkerError) as raised:
            await worker.ask(b"steps", parse, lambda step: str(bytes.fromhex(step.decode())))
        assert raised.value.failure is WorkerFailure.BAD_ANSWER
        with pytest.raises(WorkerError) as raised:
            await worker.ask(b"long_step", parse)
        assert (raised.value.failure, worker.pid) == (WorkerFailure.DEAD, None)


@pytest.mark.skipif(sys.platform != "linux", reason="no other system has it")
async def test_the_kernel_kills_a_worker_before_its_agent(module):
    async with aclosing(WorkerProcess(module, LIMITS)) as worker:
        assert await worker.ask(b"score", parse) == "1000\n"


async def test_it_holds_no_secret(module, monkeypatch):
    monkeypatch.setenv("SYSTEM_REDIS_PASSWORD", "hush")
    async with aclosing(WorkerProcess(module, LIMITS)) as worker:
        names = await worker.ask(b"environ", parse)
    assert "PYTHONPATH" in names
    assert "PASSWORD" not in names


@pytest.mark.parametrize(
    ("word", "failure", "is_killed"),
    [
        ("die", WorkerFailure.DEAD, True),
        ("spin", WorkerFailure.DEAD, True),  # by the limit of the processor's time
        ("long", WorkerFailure.DEAD, True),
        ("foreign", WorkerFailure.DEAD, True),
        ("é", WorkerFailure.BAD_ANSWER, True),
        ("memory", WorkerFailure.MEMORY, False),
        ("deep", WorkerFailure.RECURSION, False),
    ],
)
async def test_a_bad_request_costs_its_worker_at_most_and_no_other_request(module, word, failure, is_killed):
    async with aclosing(WorkerProcess(module, LIMITS)) as worker:
        assert await worker.ask(b"a", parse) == "a"
        pid = worker.pid
        with pytest.raises(WorkerError) as raised:
            await worker.ask(word.encode(), parse)
        assert raised.value.failure is failure
        assert (worker.pid is None) is is_killed is (not alive(pid))
        assert await worker.ask(b"b", parse) == "b"


async def test_one_that_takes_too_long_is_killed_and_so_is_one_whose_request_is_cancelled(module):
    limits = replace(LIMITS, request_sec=0.1)
    async with aclosing(WorkerProcess(module, limits)) as worker:
        await worker.ask(b"a", parse)
        with pytest.raises(WorkerError, match="more than 0 s") as raised:
            await worker.ask(b"hang", parse)
        assert (raised.value.failure, worker.pid) == (WorkerFailure.LATE, None)
        asked = asyncio.create_task(worker.ask(b"hang", parse))
        while worker.pid is None:  # noqa: ASYNC110 - the worker has no event
            await asyncio.sleep(0)
        pid = worker.pid
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert not alive(pid)


async def test_a_program_that_is_none_and_a_worker_that_died_meanwhile_are_failures_too(module):
    async with aclosing(WorkerProcess("no_such_module", LIMITS)) as worker:
        with pytest.raises(WorkerError):
            await worker.ask(b"a", parse)
    async with aclosing(WorkerProcess(module, LIMITS)) as worker:
        await worker.ask(b"a", parse)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerError):
            await worker.ask(b"a", parse)
        assert await worker.ask(b"b", parse) == "b"


AGENT = """
import asyncio
from contextlib import aclosing
from marketswarm.agent.worker_process import WorkerLimits, WorkerProcess
async def main():
    limits = WorkerLimits(request_sec=60, start_sec=60, answer_bytes=100, cpu_sec=60)
    async with aclosing(WorkerProcess("echo_worker", limits)) as worker:
        await worker.ask(b"a", bytes)
        print(worker.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.usefixtures("module")
def test_it_does_not_outlive_an_agent_that_was_killed():
    with subprocess.Popen([sys.executable, "-c", AGENT], stdout=subprocess.PIPE, text=True) as agent:
        try:
            assert agent.stdout is not None
            pid = int(agent.stdout.readline())
            assert alive(pid)
        finally:
            agent.kill()
    until(lambda: not alive(pid))
