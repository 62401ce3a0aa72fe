"""vexy_ai on real buses: every item has one note, whoever died with it in hand."""

import re

import orjson

from support.rig import free_port
from support.rig.metrics import key, samples
from support.scenes.agent import seed
from support.scenes.vexy_ai import add, entries, notes, odd_worker, pending, truth
from support.waiting import until


def test_hostile_items_are_noted_like_others(scene):
    scene.market.cmd("XADD", "rss:items", "*", b"\xff", b"\x00\xff")
    scene.market.cmd("XADD", "rss:items", "*", "title", "$A " * 200_000, "id", "x" * 5000)
    add(scene, "last")
    seed(scene.buses, truth(), 1)
    agent = scene.module("services.vexy_ai")
    until(lambda: "last" in notes(scene))
    assert len(notes(scene)) == 3
    assert max(map(len, notes(scene))) <= 200
    assert agent.running


def test_a_stream_that_is_lost_under_it_is_found_again(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.module("services.vexy_ai")
    add(scene, "a")
    until(lambda: notes(scene))
    scene.market.cmd("FLUSHALL")
    # beats need not tell: vexy_ai looks at its workers once a second, and a retry may be quicker
    until(lambda: "items.unread" in agent.text())
    add(scene, "z")
    until(lambda: "z" in notes(scene))
    seed(scene.buses, truth(), 1)
    until(lambda: scene.beat("vexy_ai").get("status") != "degraded")
    assert agent.running


def test_what_a_full_bus_does_not_take_is_noted_once_there_is_room(scene):
    seed(scene.buses, truth(claim_sec=0.1, tries=1, digest_sec=86_400), 1)
    agent = scene.module("services.vexy_ai")
    add(scene, "first")
    until(lambda: notes(scene) and not pending(scene))
    agent.freeze()
    ids = [f"n{n}" for n in range(5)]
    add(scene, *ids)
    scene.market.cmd("CONFIG", "SET", "maxmemory", 1)
    agent.thaw()
    scene.wait_beat(svc="vexy_ai", status="degraded", detail="market-redis oom")
    before = scene.beat("vexy_ai")["i"]
    until(lambda: scene.beat("vexy_ai")["i"] > before + 10)
    assert notes(scene) == ["first"]
    scene.market.cmd("CONFIG", "SET", "maxmemory", 0)
    until(lambda: notes(scene) == ["first", *ids] and not pending(scene))
    assert not scene.market.cmd("EXISTS", "vexy:dead")


def test_its_section_may_change_while_it_works(scene):
    seed(scene.buses, truth(symbols=["ACME"]), 1)
    agent = scene.module("services.vexy_ai")
    add(scene, "a", title="ACME and BETA rise")
    until(lambda: notes(scene) == ["a"])
    seed(scene.buses, truth(["rss:items", "more:items"], symbols=["ACME", "BETA"]), 2)
    scene.wait_beat(svc="vexy_ai", rev=2)
    add(scene, "b", title="ACME and BETA rise", key="more:items")
    until(lambda: notes(scene) == ["a", "b"])
    noted = [each for each in entries(scene.market) if each["kind"] == "note"]
    assert [orjson.loads(each["tickers"]) for each in noted] == [["ACME"], ["ACME", "BETA"]]
    seed(scene.buses, truth(symbols={"beta": []}), 3)  # no ticker: refused, and the last one stays
    scene.wait_beat(svc="vexy_ai", rev=3, status="degraded")
    add(scene, "c", title="BETA alone", key="more:items")
    assert agent.running


def test_a_worker_that_falls_behind_says_so_until_it_has_caught_up(scene):
    seed(scene.buses, truth(behind_sec=1, batch=1), 1)
    port = free_port()
    odd_worker(scene, METRICS_PORT=str(port))
    add(scene, "first")
    # that one may have waited for the worker to start
    until(lambda: "0 unread" in scene.beat("vexy_ai").get("detail", ""))
    scene.market.cmd(
        "EVAL", "for _ = 1, 25 do redis.call('XADD', KEYS[1], '*', 'id', 'slow') end", 1, "rss:items"
    )
    beat = scene.wait_beat(svc="vexy_ai", status="degraded")
    assert re.fullmatch(r"behind: \d+ unread in rss:items, the oldest for \d+ s", beat["detail"])
    scene.wait_beat(svc="vexy_ai", status="ok")

    def has_caught_up():
        return re.fullmatch(r"\d\.\d/s, 0 unread", scene.beat("vexy_ai").get("detail", ""))

    until(has_caught_up, what=lambda: str(scene.beat("vexy_ai")))
    assert scene.beat("vexy_ai")["status"] == "ok"
    done = {
        outcome: key("vexy_ai_entries_total", stream="rss:items", outcome=outcome)
        for outcome in ("new", "known")
    }
    until(lambda: samples(port)[done["known"]] == 24)
    told = samples(port)
    assert told[done["new"]] == len(notes(scene)) == 2
    assert told[key("vexy_ai_delay_seconds_count")] == 26
    for waiting in ("vexy_ai_unread", "vexy_ai_oldest_unread_seconds"):
        assert told[key(waiting, stream="rss:items")] == 0
