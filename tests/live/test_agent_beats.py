"""The beats of an agent on real buses: on time, tied to progress, whatever the bus does."""

import socket
import time
from itertools import groupby, pairwise

import pytest

from marketswarm import __version__
from support.fixtures import opened
from support.scenes.agent import Scene, Tail, seed, truth
from support.waiting import until

scene = opened(lambda tmp_path: Scene(tmp_path))


def failed(agent, reason):
    """Its log lines on beats that failed for this reason; a busy machine lets some time out besides."""
    return [line for line in agent.logs("beat.failed") if line["reason"] == reason]


def reasons(agent):
    """Why beats failed, time-outs apart, in the order of the log."""
    return [line["reason"] for line in agent.logs("beat.failed") if line["reason"] != "timeout"]


def test_the_first_beat_is_prompt_and_is_both_published_and_kept(scene):
    seed(scene.buses, truth(interval_sec=30, timeout_sec=90), 3)
    with Tail(scene.system.url, "probe:heartbeat") as tail:
        agent = scene.agent()
        agent.wait_log("agent.joined")
        said = tail.next(within=10)  # the second is due after 15 s or more
    assert list(said) == ["svc", "i", "ts", "boot", "rev", "every", "life", "host", "version", "started"]
    assert (said["svc"], said["i"], said["rev"], said["every"], said["life"]) == ("probe", 1, 3, 30.0, 180.0)
    assert abs(said["ts"] - time.time()) < 5
    assert (said["host"], said["version"]) == (socket.gethostname(), __version__)
    assert 0 <= said["ts"] - said["started"] < 10
    assert scene.beat() == said
    assert 175_000 < scene.system.cmd("PTTL", "beat:probe") <= 180_000


def test_after_a_few_beats_it_is_known_who_it_is(scene):
    seed(scene.buses, truth(interval_sec=0.1), 1)
    with Tail(scene.system.url, "probe:heartbeat") as tail:
        scene.agent()
        said = [tail.next(within=20) for _ in range(5)]
    assert ["host" in one for one in said] == [True, True, True, False, False]


def test_beats_do_not_drift(scene):
    seed(scene.buses, truth(interval_sec=0.2), 1)
    scene.agent("""
        while True:
            time.sleep(0.01)  # so each beat is late by some 10 ms, which must not add up
            await asyncio.sleep(0)
            me.progress()
""")
    at: list[float] = []

    def steady() -> bool:
        """Whether fifteen in a row kept time: one that a busy machine held up is no drift."""
        return len(at) > 15 and abs(at[-1] - at[-16] - 15 * 0.2) < 0.075

    with Tail(scene.system.url, "probe:heartbeat") as tail:
        tail.next(within=20)
        while not steady():
            assert len(at) < 300, [later - earlier for earlier, later in pairwise(at)]
            at.append(tail.next(within=10)["ts"])


@pytest.mark.parametrize("how", ["freeze", pytest.param("stop", marks=pytest.mark.nightly("[freeze]"))])
def test_a_bus_that_goes_away_is_logged_once_and_the_count_goes_on(scene, how):
    seed(scene.buses, truth(interval_sec=0.2), 1)
    agent = scene.agent()
    before = scene.wait_beat(rev=1)
    getattr(scene.system, how)()
    until(lambda: failed(agent, "refused" if how == "stop" else "timeout"))
    assert set(reasons(agent)) == ({"refused"} if how == "stop" else set())
    resumed = len(agent.logs("beat.resumed"))
    until(lambda: time.time() - before["ts"] > 3)  # several beats' time
    if how == "stop":
        scene.system.start()
    else:
        scene.system.thaw()
    until(lambda: len(agent.logs("beat.resumed")) > resumed)
    after = scene.wait_beat(boot=before["boot"])
    assert after["i"] > before["i"] + 2
    assert len(agent.logs("beat.failed")) <= 3
    assert agent.running
    assert "Traceback" not in agent.text()


def test_a_bus_that_refuses_for_two_reasons_in_turn_is_logged_once_for_each(scene):
    def refused(code: str) -> int:
        counts = scene.system.cmd("INFO", "errorstats")
        return counts.get(f"errorstat_{code}", {}).get("count", 0)

    seed(scene.buses, truth(interval_sec=0.1), 1)
    agent = scene.agent()
    scene.wait_beat(rev=1)
    scene.system.cmd("CONFIG", "SET", "replica-ignore-maxmemory", "no")
    scene.system.cmd("REPLICAOF", "127.0.0.1", 1)
    until(lambda: failed(agent, "readonly"))
    for code, most in 3 * [("OOM", 1), ("READONLY", 0)]:
        before = refused(code)
        scene.system.cmd("CONFIG", "SET", "maxmemory", most)
        until(lambda code=code, before=before: refused(code) > before + 1, what=f"beats refused by {code}")
    assert reasons(agent) == ["readonly", "oom"]


def test_its_own_word_of_trouble_and_of_note_goes_with_the_beats(scene):
    seed(scene.buses, truth(interval_sec=0.2), 1)
    body = """
        me.set_detail("slow today")
        await me.rest(1)
        me.set_degraded("x" * 300)
        await me.rest(1)
        me.set_degraded(None)
        me.set_detail(None)
        await me.rest(60)
"""
    of_note, of_trouble, none = ("ok", "slow today"), ("degraded", "x" * 200), (None, None)
    heard = []
    with Tail(scene.system.url, "probe:heartbeat") as tail:
        scene.agent(body)
        while of_trouble not in heard or heard[-1] != none:
            assert len(heard) < 100, heard
            beat = tail.next(within=20)
            heard.append((beat.get("status"), beat.get("detail")))
    assert [word for word, _ in groupby(heard)][-3:] == [of_note, of_trouble, none]


def test_a_bus_that_refuses_to_store_still_hears_the_beats(scene):
    seed(scene.buses, truth(interval_sec=0.2), 1)
    agent = scene.agent()
    scene.wait_beat(rev=1)
    scene.system.cmd("CONFIG", "SET", "maxmemory", "1")
    with Tail(scene.system.url, "probe:heartbeat") as tail:
        assert tail.next()
        assert tail.next()
    until(lambda: failed(agent, "oom"))
    assert set(reasons(agent)) == {"oom"}
