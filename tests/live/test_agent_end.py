"""How an agent ends: as asked within 5 s, or by its watchdog (FAILURES 35 and 36, the agent's part)."""

import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest

from support.fixtures import opened
from support.scenes.agent import RESTING, Scene, Tail, seed, truth
from support.waiting import fault_lasts, until

scene = opened(lambda tmp_path: Scene(tmp_path))


def ended(agent):
    """Return its exit code. One that takes more than 5 s ends itself, with 5."""
    return agent.wait(15)


def stopped(scene, agent):
    """Return its exit code after a SIGTERM, which comes once it has beaten."""
    scene.wait_beat(rev=1)
    agent.signal(signal.SIGTERM)
    return ended(agent)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.nightly("SIGTERM"))]
)
def test_a_stop_is_a_goodbye_that_does_not_extend_life(scene, number):
    seed(scene.buses, truth(interval_sec=20, timeout_sec=60), 1)
    agent = scene.agent()
    before = scene.wait_beat(rev=1)
    left = scene.system.cmd("PTTL", "beat:probe")
    with Tail(scene.system.url, "probe:heartbeat") as tail:
        agent.signal(number)
        said = tail.next()
    assert ended(agent) == 0
    assert (said["status"], said["boot"], said["i"]) == ("stopping", before["boot"], before["i"] + 1)
    assert scene.beat() == said
    assert 0 < scene.system.cmd("PTTL", "beat:probe") <= left
    assert "Traceback" not in agent.text()


def test_a_goodbye_leaves_no_key_where_none_was(scene):
    seed(scene.buses, truth(interval_sec=20, timeout_sec=60), 1)
    agent = scene.agent()
    scene.wait_beat(rev=1)
    scene.system.cmd("DEL", "beat:probe")
    agent.signal(signal.SIGTERM)
    assert ended(agent) == 0
    assert scene.beat() == {}


def test_a_body_that_returns_ends_it_with_its_code_and_a_goodbye(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.agent("        await me.rest(0.5)\n        me.exit_code = 7\n")
    assert agent.wait() == 7
    assert scene.beat()["status"] == "stopping"


def test_a_body_in_its_clean_up_is_not_disturbed_for_three_seconds(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.agent("""
        try:
            await me.rest(60)
        finally:
            begun = time.monotonic()
            try:
                await asyncio.sleep(3)
            except asyncio.CancelledError:
                pass  # the next one, due after 3.25 s: both may be over when a busy machine lets the loop run
            me.log.info("probe.cleaned", after_sec=time.monotonic() - begun)
""")
    assert stopped(scene, agent) == 0
    assert agent.logs("probe.cleaned")[0]["after_sec"] > 2.99


def test_a_body_that_will_not_stop_is_ended_with_5(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.agent("""
        while True:
            try:
                await me.rest(60)
            except asyncio.CancelledError:
                pass
""")
    scene.wait_beat(rev=1)
    asked_at = time.time()
    agent.signal(signal.SIGTERM)
    assert ended(agent) == 5
    hung = agent.logs("agent.hung")[0]
    assert hung["reason"] == "stop_hung"
    assert 4.4 < datetime.fromisoformat(hung["ts"]).timestamp() - asked_at < 15


def test_a_look_up_that_hangs_in_a_thread_does_not_hold_the_end_up(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.agent("""
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
        await me.rest(60)
""")
    assert stopped(scene, agent) == 0


ENDLESS = {
    "a thread": "threading.Thread(target=threading.Event().wait, name='feed_0').start()",
    "an executor": "ThreadPoolExecutor(1, thread_name_prefix='feed').submit(threading.Event().wait)",
}


@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize(("end", "code"), [("raise KeyError('of the body')", 5), ("await me.rest(60)", 0)])
def test_a_thread_of_its_own_does_not_hold_the_end_up(scene, endless, end, code):
    seed(scene.buses, truth(), 1)
    agent = scene.agent(f"""
        from concurrent.futures import ThreadPoolExecutor
        {endless}
        await me.rest(0.3)
        {end}
""")
    assert (ended(agent) if code else stopped(scene, agent)) == code
    killed = agent.logs("program.end_hung")[0]
    assert (killed["threads"], killed["code"]) == (["feed_0"], code)


def test_a_thread_that_ends_in_time_is_waited_for(scene, tmp_path):
    """In the time that a stop may take, which is longer than that for look-ups."""
    seed(scene.buses, truth(), 1)
    agent = scene.agent(f"""
        stops = threading.Event()
        def work():
            stops.wait()
            time.sleep(1.5)
            open({str(tmp_path / "done")!r}, "x").close()
        threading.Thread(target=work).start()
        try:
            await me.rest(60)
        finally:
            stops.set()
""")
    assert stopped(scene, agent) == 0
    assert (tmp_path / "done").exists()
    assert not agent.logs("program.end_hung")


@pytest.mark.parametrize("hung", ["pass", "threading.Thread(target=threading.Event().wait).start()"])
def test_an_agent_that_gets_no_more_threads_ends_with_its_code(scene, hung):
    seed(scene.buses, truth(), 1)
    agent = scene.agent(f"""
        {hung}
        def refuse(thread):
            raise RuntimeError("can't start new thread")
        await me.rest(0.3)
        threading.Thread.start = refuse
        raise KeyError('of the body')
""")
    assert ended(agent) == 5
    assert "RuntimeError" not in agent.text()


IGNORED = """
import asyncio, signal
from marketswarm.agent import run
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
async def main():
    child = await asyncio.create_subprocess_exec("true")
    return 7 + await child.wait()
run(main)
"""


def test_an_agent_knows_how_its_children_end_below_a_parent_that_ignores_that():
    """As below Perl with $SIG{CHLD} = 'IGNORE': the kernel would forget it."""
    assert subprocess.run([sys.executable, "-c", IGNORED], timeout=60, check=False).returncode == 7


def test_a_loop_that_hangs_is_ended_with_5_and_all_stacks(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.agent(
        """
        await me.rest(0.5)
        def stand_still():
            time.sleep(60)
        stand_still()
""",
        WATCHDOG_SEC="3",  # as below
    )
    assert agent.wait(30) == 5
    said = agent.logs("agent.hung")[0]
    assert said["reason"] == "loop_hung"
    assert "stand_still" in "".join(said["threads"].values())
    assert {"beats", "truth", "ticks"} <= set(said["tasks"])
    assert scene.beat().get("status") != "stopping"


def test_a_hung_agent_ends_though_nobody_reads_its_log(scene, tmp_path):
    seed(scene.buses, truth(), 1)
    scene.agent(RESTING).kill()
    (tmp_path / "probe.py").write_text(
        (tmp_path / "probe.py")
        .read_text()
        .replace(RESTING, "        while True:\n            os.write(2, b'x' * 4096)\n")
    )
    with subprocess.Popen(
        [sys.executable, "-m", "probe"],
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, **scene.env, "WATCHDOG_SEC": "1"},
    ) as child:
        try:
            assert child.wait(30) == 5
        finally:
            child.kill()


def test_a_process_that_was_stopped_for_longer_than_the_limit_did_not_hang(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.agent(
        """
        import signal

        def busy(*_):  # on waking there is work to end before the loop can tick
            until = time.process_time() + 0.15
            while time.process_time() < until:
                pass

        signal.signal(signal.SIGCONT, busy)
        await me.rest(600)
""",
        WATCHDOG_SEC="3",
    )
    before = scene.wait_beat(rev=1)
    agent.freeze()
    fault_lasts(4)  # longer than its watchdog waits
    agent.thaw()
    until(lambda: scene.beat().get("i", 0) > before["i"] + 5)
    assert agent.running
    assert not agent.logs("agent.hung")


def test_a_side_task_that_dies_takes_the_agent_down_with_5_in_one_line(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.agent("""
        async def side():
            await asyncio.sleep(0.3)
            raise ZeroDivisionError("of the side task")
        me.task(side(), name="the side task")
        await me.rest(60)
""")
    assert agent.wait() == 5
    died = agent.logs("task.died")[0]
    assert died["task"] == "the side task"
    assert "ZeroDivisionError: of the side task" in died["exception"]
    assert all(line.startswith("{") for line in agent.text().splitlines())
    assert scene.beat().get("status") != "stopping"


def test_a_body_that_dies_is_logged_whole_and_ends_with_5(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.agent("        await me.rest(0.3)\n        raise KeyError('of the body')\n")
    assert agent.wait() == 5
    assert "KeyError: 'of the body'" in agent.logs("program.died")[0]["exception"]
    assert scene.beat().get("status") != "stopping"


def test_a_body_may_end_it_with_a_code_and_a_word(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.agent("        await me.rest(0.3)\n        raise Exit(2, 'no targets')\n")
    assert agent.wait() == 2
    assert agent.logs("program.exit")[0]["message"] == "no targets"
    assert "Traceback" not in agent.text()
