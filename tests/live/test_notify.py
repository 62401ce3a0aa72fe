"""A real agent, and what a service manager hears of it."""

import json

from support.fixtures import opened
from support.rig.notify_socket import NotifyEar
from support.scenes.agent import Scene, seed, truth
from support.waiting import until

RESTS = """
        while True:
            await me.rest(5)
"""
# the loop, the beats and all threads go on
WORK_HANGS = """
        while not os.path.exists("hang"):
            me.progress()
            await asyncio.sleep(0.02)
        me.log.info("probe.hangs")
        await asyncio.Event().wait()
"""


scene = opened(lambda tmp_path: Scene(tmp_path))
ear = opened(lambda tmp_path: NotifyEar(str(tmp_path / "notify")))


def hear(ear, wanted, times=1, within=30.0):
    """All lines, up to the one that is wanted for so many times, and what came along with it."""
    heard = []
    until(
        lambda: heard.extend(ear.lines()) or heard.count(wanted) >= times,
        within,
        f"{wanted} {times} times in {heard}",
    )
    return heard


def test_it_is_ready_once_it_has_joined_feeds_while_it_rests_and_says_when_it_stops(scene, ear):
    agent = scene.agent(RESTS, NOTIFY_SOCKET=ear.address, WATCHDOG_USEC="20000000", WATCHDOG_SEC="4")
    assert hear(ear, "STATUS=waits for the truth") == ["STATUS=waits for the truth"]
    seed(scene.buses, truth(), 7)
    first = hear(ear, "WATCHDOG=1", times=2)
    assert "READY=1" in first[:2]
    assert "STATUS=ok; truth revision 7" in first
    agent.signal(15)
    last = hear(ear, "STOPPING=1")
    assert agent.wait() == 0
    last += ear.lines()
    assert "WATCHDOG=1" not in last[last.index("STOPPING=1") :]


def test_work_that_hangs_feeds_nobody_though_everything_else_runs(scene, ear):
    seed(scene.buses, truth(timeout_sec=15.0), 1)
    agent = scene.agent(WORK_HANGS, NOTIFY_SOCKET=ear.address, WATCHDOG_USEC="20000000", WATCHDOG_SEC="3")
    hear(ear, "WATCHDOG=1")
    (scene.folder / "hang").touch()
    agent.wait_log("probe.hangs")
    ear.lines()  # those of the time before
    assert agent.wait(30) == 5
    assert ear.lines().count("WATCHDOG=1") <= 1, "one may have been due for the last progress, of three"


def test_bootstrap_has_nothing_to_say(scene, ear):
    path = scene.folder / "truth.json"
    path.write_text(json.dumps(truth()), encoding="utf-8")
    assert scene.module("bootstrap", TRUTH_PATH=str(path), NOTIFY_SOCKET=ear.address).wait(30) == 0
    assert ear.heard() == []
