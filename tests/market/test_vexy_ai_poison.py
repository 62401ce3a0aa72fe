"""What nobody can do: tried so many times, then put among the dead with the reason, and nothing else."""

import orjson

from support.scenes.agent import seed
from support.scenes.vexy_ai import add, entries, notes, odd_worker, pending, truth
from support.waiting import until


def dead(scene):
    return {orjson.loads(each["item"])["id"]: each for each in entries(scene.market, "vexy:dead")}


def test_what_fails_is_tried_again_and_then_buried_with_the_reason(scene):
    seed(scene.buses, truth(tries=3, claim_sec=0.2), 1)
    agent = odd_worker(scene)
    add(scene, "a", "bad", "b")
    until(lambda: dead(scene))
    assert notes(scene) == ["a", "b"]
    found = dead(scene)["bad"]
    assert (found["reason"], found["tries"], found["stream"]) == (
        "ValueError: can't be done",
        "3",
        "rss:items",
    )
    assert orjson.loads(found["item"])["title"] == "about $BAD"
    assert pending(scene) == 0
    assert len(agent.logs("entry.failed")) == 3
    until(lambda: "1 dead" in scene.beat("vexy_ai").get("detail", ""))


def test_what_fails_only_for_a_while_is_noted_in_the_end(scene):
    seed(scene.buses, truth(tries=100, claim_sec=0.1), 1)
    agent = odd_worker(scene)
    add(scene, "ill")
    until(lambda: len(agent.logs("entry.failed")) > 2)
    (scene.folder / "well").touch()
    until(lambda: notes(scene) == ["ill"] and not pending(scene))
    assert not dead(scene)


def test_an_item_that_kills_is_buried_and_its_neighbours_are_not(scene):
    seed(scene.buses, truth(tries=3, claim_sec=0.2), 1)
    agent = odd_worker(scene)
    agent.wait_log("agent.joined")
    ids = [f"n{n}" for n in range(20)]
    with_killer = [*ids[:10], "killer", *ids[10:]]
    flat = [word for one in with_killer for word in (one, "x")]
    script = (
        "for at = 1, #ARGV, 2 do redis.call('XADD', KEYS[1], '*', 'id', ARGV[at], 'title', ARGV[at + 1]) end"
    )
    scene.market.cmd("EVAL", script, 1, "rss:items", *flat)  # all in one batch
    deaths = 0
    while not dead(scene):
        until(lambda: dead(scene) or not agent.running)
        if not agent.running:
            deaths += 1
            agent.start()
    until(lambda: sorted(notes(scene)) == sorted(ids) and not pending(scene))
    assert deaths == 3
    assert list(dead(scene)) == ["killer"]
    assert dead(scene)["killer"]["reason"] == "taken 3 times and never settled: who had it ended, or hung"


def test_an_item_that_hangs_the_worker_counts_as_one_that_kills_it(scene):
    seed(scene.buses, truth(tries=1, claim_sec=0.2), 1)
    agent = odd_worker(scene, WATCHDOG_SEC="1")
    add(scene, "hangs")
    assert agent.wait(20) == 5
    agent.start()
    until(lambda: list(dead(scene)) == ["hangs"])
    add(scene, "a")
    until(lambda: notes(scene) == ["a"])


def test_no_more_is_taken_while_too_much_waits_to_be_tried_again(scene):
    document = truth(tries=100, claim_sec=5, pending=10, batch=4)
    seed(scene.buses, document, 1)
    odd_worker(scene)
    add(scene, "first")
    until(lambda: notes(scene))
    add(scene, *["bad"] * 30)
    until(lambda: pending(scene) >= 10)
    before = scene.beat("vexy_ai")["i"]
    until(lambda: scene.beat("vexy_ai")["i"] > before + 5)
    assert pending(scene) == 10
    assert "20 unread" in scene.beat("vexy_ai")["detail"]
