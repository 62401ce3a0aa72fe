"""vexy_ai on real buses: every item has one note, whoever died with it in hand."""

import time

import pytest
from agent_scene import Scene, seed
from rig import until


@pytest.fixture
def scene(tmp_path):
    with Scene(tmp_path) as scene:
        yield scene


TRUTH = {
    "services": {
        "vexy_ai": {
            "heartbeat": {"interval_sec": 0.2, "timeout_sec": 3},
            "settings": {"group": "readers", "claim_sec": 0.5},
        }
    }
}


def notes(scene, key="vexy:notes"):
    found = [fields for _id, fields in scene.market.cmd("XRANGE", key, "-", "+")]
    return [
        one["id"] if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True))["id"]
        for one in found
    ]


def add(scene, *ids, key="rss:items"):
    for one in ids:
        scene.market.cmd("XADD", key, "*", "id", one, "title", f"about ${one.upper()}")


def pending(scene, key="rss:items"):
    summary = scene.market.cmd("XPENDING", key, "readers")
    return summary["pending"] if isinstance(summary, dict) else summary[0]


def test_items_from_before_and_after_its_start_are_noted_once_each(scene):
    add(scene, "a", "b")
    seed(scene.buses, TRUTH, 1)
    agent = scene.module("services.vexy_ai")
    until(lambda: notes(scene) == ["a", "b"], 20)
    add(scene, "c", "a")
    until(lambda: notes(scene) == ["a", "b", "c"] and not pending(scene), 20)
    assert agent.stop() == 0
    assert scene.market.cmd("XINFO", "CONSUMERS", "rss:items", "readers") == []
    assert "Traceback" not in agent.text()


def test_items_of_a_dead_worker_are_taken_over(scene):
    add(scene, "a", "b")
    scene.market.cmd("XGROUP", "CREATE", "rss:items", "readers", "0")
    scene.market.cmd("XREADGROUP", "GROUP", "readers", "the dead", "COUNT", 5, "STREAMS", "rss:items", ">")
    assert pending(scene) == 2
    seed(scene.buses, TRUTH, 1)
    scene.module("services.vexy_ai")
    until(lambda: notes(scene) == ["a", "b"] and not pending(scene), 20)


def test_a_worker_killed_at_any_moment_leaves_no_item_without_and_none_with_two(scene):
    seed(scene.buses, TRUTH, 1)
    agent = scene.module("services.vexy_ai")
    wanted = []
    for round_ in range(4):
        ids = [f"r{round_}n{n}" for n in range(60)]
        wanted += ids
        add(scene, *ids[:30])
        until(lambda: notes(scene), 20)
        agent.kill()
        add(scene, *ids[30:])
        agent.start()
    until(lambda: len(notes(scene)) >= len(wanted) and not pending(scene), 15)
    assert sorted(notes(scene)) == sorted(wanted)


def test_two_workers_share_the_items(scene):
    seed(scene.buses, TRUTH, 1)
    workers = [scene.module("services.vexy_ai") for _ in range(2)]
    for worker in workers:
        worker.wait_log("agent.joined")
    ids = [f"n{n}" for n in range(200)]
    add(scene, *ids)
    until(lambda: len(notes(scene)) == 200 and not pending(scene), 20)
    assert sorted(notes(scene)) == sorted(ids)


def test_hostile_items_are_noted_like_others(scene):
    scene.market.cmd("XADD", "rss:items", "*", b"\xff", b"\x00\xff")
    scene.market.cmd("XADD", "rss:items", "*", "title", "$A " * 200_000, "id", "x" * 5000)
    add(scene, "last")
    seed(scene.buses, TRUTH, 1)
    agent = scene.module("services.vexy_ai")
    until(lambda: "last" in notes(scene), 20)
    assert len(notes(scene)) == 3
    assert max(map(len, notes(scene))) <= 200
    assert agent.running


@pytest.mark.parametrize("damage", [("FLUSHALL",), ("DEL", "rss:items"), ("SET", "rss:items", "no stream")])
def test_a_stream_that_is_lost_under_it_is_found_again(scene, damage):
    seed(scene.buses, TRUTH, 1)
    agent = scene.module("services.vexy_ai")
    add(scene, "a")
    until(lambda: notes(scene), 20)
    scene.market.cmd(*damage)
    scene.wait_beat(svc="vexy_ai", status="degraded")
    if damage[0] == "SET":
        scene.market.cmd("DEL", "rss:items")
    add(scene, "z")
    until(lambda: "z" in notes(scene), 20)
    seed(scene.buses, TRUTH, 1)
    until(lambda: "status" not in scene.beat("vexy_ai"), 20)
    assert agent.running


def test_a_bus_that_is_away_is_a_trouble_and_it_goes_on_beating(scene):
    seed(scene.buses, TRUTH, 1)
    agent = scene.module("services.vexy_ai")
    scene.wait_beat(svc="vexy_ai", rev=1)
    scene.market.freeze()  # for long enough that it fails more than once
    scene.wait_beat(svc="vexy_ai", status="degraded", detail="market-redis timeout")
    frozen_for = time.monotonic() + 5
    before = scene.beat("vexy_ai")["i"]
    until(lambda: time.monotonic() > frozen_for)
    until(lambda: scene.beat("vexy_ai")["i"] > before + 3, 20)
    assert len(agent.logs("items.unread")) == 1
    scene.market.thaw()
    add(scene, "a")
    until(lambda: notes(scene) == ["a"], 20)
    assert agent.running


def test_notes_may_go_to_another_bus_than_the_items_come_from(scene):
    document = {
        "services": {
            "vexy_ai": {
                **TRUTH["services"]["vexy_ai"],
                "access_points": {
                    "subscribe_to": [{"bus": "market-redis", "key": "news"}],
                    "publish_to": [{"bus": "system-redis", "key": "notes"}],
                },
            }
        }
    }
    seed(scene.buses, document, 1)
    scene.module("services.vexy_ai")
    add(scene, "a", "b", key="news")
    until(lambda: scene.system.cmd("XLEN", "notes") == 2, 20)
    until(lambda: not pending(scene, "news"), 20)
