"""One child, for real: small programs that end, hang on or multiply."""

import asyncio
import os
import signal
import sys
import time

import pytest

from marketswarm.fleet import child as module
from marketswarm.fleet.child import Child, Program, RestartBackoff, explain_exit_code
from marketswarm.fleet_control import ProcessState, RestartAnswer
from marketswarm.tasks import end_tasks
from support.rig.process import alive
from support.waiting import PATIENT_SEC, auntil

pytestmark = pytest.mark.live

SLEEPS = "import time; print('here', flush=True); time.sleep(60)"
DEAF = "import signal; signal.signal(15, signal.SIG_IGN); " + SLEEPS
ENDS = "raise SystemExit(3)"


class SupervisedChild:
    """A child with what it told and said."""

    def __init__(self, script: str, grace_sec: float, start_first=None) -> None:
        self.told: list[dict] = []
        self.lines: list[bytes] = []
        program = Program("it", [sys.executable, "-c", script], os.environ)
        self.child = Child(program, self.tell, self.lines.append, grace_sec, start_first)

    def tell(self, event, level="info", **facts):
        self.told.append({"event": event, "level": level, **facts})

    async def ready(self, times: int = 1) -> None:
        await auntil(lambda: self.lines.count(b"here") >= times, what="it to run")


@pytest.fixture
async def make():
    scenes: list[tuple[SupervisedChild, asyncio.Task]] = []

    def _make(script: str, grace_sec: float = 5.0, start_first=None) -> SupervisedChild:
        scene = SupervisedChild(script, grace_sec, start_first)
        scene.child.start()
        scenes.append((scene, asyncio.create_task(scene.child.supervise())))
        return scene

    yield _make
    hurry = asyncio.Event()
    hurry.set()
    for scene, task in scenes:
        await scene.child.end(hurry)
        await asyncio.wait_for(task, PATIENT_SEC)
        assert scene.child.pid is None


async def test_a_killed_child_comes_back_as_another_process(make):
    scene = make(SLEEPS)
    await scene.ready()
    pid = scene.child.pid
    assert "killed" in scene.child.kill()
    await scene.ready(2)
    assert scene.child.pid not in (None, pid)
    assert scene.told[0]["why"] == "it was ended by SIGKILL"
    assert scene.child.restarts == 1


@pytest.fixture
def watcher():
    """Reap children in the event loop, as Python does from 3.12 on, and not in a thread of its own."""
    if sys.version_info >= (3, 12):
        yield
        return
    policy = asyncio.get_event_loop_policy()
    policy.set_child_watcher(asyncio.PidfdChildWatcher())
    yield
    policy.set_child_watcher(asyncio.ThreadedChildWatcher())


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="looks at a process that nobody has waited for")
@pytest.mark.usefixtures("watcher")
async def test_a_child_that_ended_as_it_was_stopped_has_its_own_exit_code(make, caplog):
    scene = make(SLEEPS)
    await scene.ready()
    os.kill(scene.child.pid, signal.SIGKILL)
    # it has ended, and the loop was not told yet
    os.waitid(os.P_PID, scene.child.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - it must not be told
    await scene.child.stop()
    assert caplog.messages == []  # asyncio's: "Unknown child process pid …, will report returncode 255"


async def test_a_child_that_ends_is_started_again_and_again_with_pauses(make):
    scene = make(ENDS)
    await auntil(lambda: len(scene.told) == 2)
    assert [(told["code"], told["again_in_sec"]) for told in scene.told] == [(3, 0.5), (3, 1.0)]


async def test_a_stopped_child_stays_stopped_until_started(make):
    scene = make(SLEEPS)
    await scene.ready()
    assert "stopped in" in await scene.child.stop()
    assert scene.child.state is ProcessState.STOPPED
    assert "already" in await scene.child.stop()
    assert "does not run" in scene.child.kill()
    assert scene.told == []
    scene.child.start()
    await scene.ready(2)
    assert "runs already" in scene.child.start()


async def test_a_start_cuts_a_pause_short_and_a_stop_ends_it(make, monkeypatch):
    monkeypatch.setattr(module.RestartBackoff, "next_pause_sec", lambda *_: 60.0)
    scene = make(ENDS)
    await auntil(lambda: scene.child.state is ProcessState.WAITING)
    assert "not after its pause" in scene.child.start()
    await auntil(lambda: len(scene.told) == 2)
    assert "was not running" in await scene.child.stop()
    await auntil(lambda: scene.child.state is ProcessState.STOPPED)


async def test_a_child_deaf_to_sigterm_is_killed_after_its_grace(make):
    scene = make(DEAF, grace_sec=0.2)
    await scene.ready()
    assert "did not stop and was killed" in await scene.child.stop()
    assert scene.child.pid is None


async def test_a_frozen_child_can_be_stopped(make):
    scene = make(SLEEPS, grace_sec=10.0)
    await scene.ready()
    os.kill(scene.child.pid, 19)
    assert "stopped in" in await scene.child.stop()


async def test_who_is_in_a_hurry_does_not_wait_for_the_grace(make):
    scene = make(DEAF, grace_sec=30.0)
    await scene.ready()
    hurry = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, hurry.set)
    async with asyncio.timeout(10):
        await scene.child.stop(hurry)


@pytest.mark.parametrize("script", [SLEEPS, DEAF])
async def test_a_child_that_is_ended_while_it_is_being_started_does_not_stay(make, script):
    is_starting, may_start = asyncio.Event(), asyncio.Event()

    async def start_late(*_):
        is_starting.set()
        await may_start.wait()

    scene = make(script, 0.1, start_late)
    await is_starting.wait()
    ending = asyncio.create_task(scene.child.end(asyncio.Event()))
    await asyncio.wait([ending], timeout=0.2)
    may_start.set()
    await asyncio.wait_for(ending, PATIENT_SEC)
    assert scene.child.pid is None


async def test_what_a_child_started_goes_with_it(make):
    scene = make(
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(p.pid, flush=True); print('here', flush=True); p.wait()"
    )
    await scene.ready()
    grandchild = int(scene.lines[0])
    assert alive(grandchild)
    scene.child.kill()
    await auntil(lambda: not alive(grandchild))


async def test_a_child_whose_offspring_holds_its_output_is_started_again(make):
    scene = make(
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('here', flush=True)"
    )
    await scene.ready(2)


async def test_output_comes_line_by_line_and_an_endless_one_in_pieces(make):
    scene = make("print('a\\nb'); print('x' * 3_000_000); print('end', end='', flush=True); " + SLEEPS)
    await auntil(lambda: any(line.endswith(b"endhere") for line in scene.lines))
    assert scene.lines[:2] == [b"a", b"b"]
    assert sum(map(len, scene.lines[2:-1])) == 3_000_000
    assert max(map(len, scene.lines)) < 1_200_000


async def test_a_supervisor_that_is_cancelled_takes_its_child_along(make):
    scene = SupervisedChild(SLEEPS, 5.0)
    scene.child.start()
    task = asyncio.create_task(scene.child.supervise())
    await scene.ready()
    pid, process = scene.child.pid, scene.child._process  # noqa: SLF001 - the child forgets it
    await end_tasks(task)
    await auntil(lambda: not alive(pid))
    await auntil(lambda: process.get_returncode() is not None)  # else the next test has its warning


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (0, "by itself"),
        (2, "configuration"),
        (4, "seed"),
        (5, "hung"),
        (-11, "SIGSEGV"),
        (-35, "signal 35"),  # a real-time signal: Python has no name for it
        (77, "code 77"),
    ],
)
def test_every_exit_code_has_words(code, says):
    assert says in explain_exit_code(code)


def test_pauses_double_up_to_half_a_minute():
    pauses = RestartBackoff()
    assert [pauses.next_pause_sec(0.1, 1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_run_of_ten_seconds_begins_them_anew():
    pauses = RestartBackoff()
    pauses.next_pause_sec(1, 1)
    pauses.next_pause_sec(9.9, -9)
    assert pauses.next_pause_sec(10, -9) == 0.5
    assert pauses.next_pause_sec(1, -9) == 1


def test_a_wrong_configuration_waits_longest_at_once_and_counts_for_nothing():
    pauses = RestartBackoff()
    assert pauses.next_pause_sec(0.1, 2) == 30
    assert pauses.next_pause_sec(0.1, 1) == 0.5


def test_what_was_killed_stays_down_until_it_is_missed():
    pauses = RestartBackoff(pause_after_kill_sec=32)
    assert pauses.next_pause_sec(60, -9) == 32
    assert pauses.next_pause_sec(60, -11) == 0.5, "a crash is another matter"
    assert pauses.next_pause_sec(60, 5) == 0.5


async def test_a_restart_is_of_the_process_that_is_meant_and_has_no_pause(make):
    scene = make(SLEEPS)
    await scene.ready()
    before, pid = scene.child.describe(), scene.child.pid
    assert (before.state, before.is_wanted, before.restarts) == (ProcessState.RUNNING, True, 0)
    assert await scene.child.restart("another") == (RestartAnswer.CHANGED, "it was restarted meanwhile")
    assert scene.child.pid == pid
    answers = await asyncio.gather(*(scene.child.restart(before.identity) for _ in range(2)))
    assert [answer for answer, _ in answers] == [RestartAnswer.DONE, RestartAnswer.CHANGED]
    await scene.ready(2)
    assert scene.child.pid != pid
    assert scene.child.describe().restarts == 1
    assert scene.child.describe().identity != before.identity
    assert [each["event"] for each in scene.told] == ["agent.restarting"]


async def test_a_frozen_process_is_restarted_and_one_that_is_stopped_is_not(make):
    scene = make(DEAF, grace_sec=0.2)
    await scene.ready()
    os.kill(scene.child.pid, signal.SIGSTOP)
    answer, said = await scene.child.restart(scene.child.identity)
    assert answer is RestartAnswer.DONE, said
    await scene.ready(2)
    assert scene.child.describe().is_restarting is False
    restarting = asyncio.create_task(scene.child.restart(scene.child.identity))
    await asyncio.sleep(0)
    assert scene.child.describe().is_restarting
    stopped = await scene.child.stop()
    assert (await restarting)[0] is RestartAnswer.DONE
    await auntil(lambda: scene.child.pid is None, what=f"it to stay stopped: {stopped}")
    assert not scene.child.describe().is_wanted
    assert (await scene.child.restart(scene.child.identity))[0] is RestartAnswer.REFUSED


async def test_a_restart_ends_the_pause_before_the_next_start(make):
    scene = make("print('here', flush=True); raise SystemExit(2)")
    await auntil(lambda: scene.child.state is ProcessState.WAITING)
    identity = scene.child.identity
    assert scene.child.describe().identity == identity, "that of the process that ended"
    assert (await scene.child.restart(identity))[0] is RestartAnswer.DONE
    await scene.ready(2)


async def test_the_age_of_a_process_is_measured_by_a_clock_that_nobody_sets(make, monkeypatch):
    scene = make(SLEEPS)
    await scene.ready()
    real = time.time
    for step_sec in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda step_sec=step_sec: real() + step_sec)
        assert 0.0 < scene.child.describe().age_sec < 600.0
