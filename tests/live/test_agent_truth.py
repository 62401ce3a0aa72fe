"""How an agent comes to its truth and follows it, on real buses (its part of FAILURES 19 and 22)."""

import orjson
import pytest

from marketswarm.agent.truth_source import READ_EVERY_POLLS
from support.fixtures import opened
from support.rig import free_port
from support.scenes.agent import Scene, Tail, seed, truth
from support.waiting import until

scene = opened(lambda tmp_path: Scene(tmp_path))


def test_without_any_bus_it_ends_with_3_and_names_the_places_but_no_password(scene):
    here = f"127.0.0.1:{free_port()}"
    agent = scene.agent(
        SYSTEM_REDIS_URL=f"redis://me:hunter2@{here}",
        MARKET_REDIS_URL=f"redis://{here}/1",
        TRUTH_WAIT_SEC="1",
    )
    assert agent.wait() == 3
    said = agent.logs("program.exit")[0]["message"]
    assert here in said
    assert "refused" in said
    assert "hunter2" not in agent.text()
    assert "Traceback" not in agent.text()


def test_with_buses_but_no_truth_it_ends_with_4_and_says_to_run_bootstrap(scene):
    agent = scene.agent(TRUTH_WAIT_SEC="2")
    assert agent.wait() == 4
    assert "bootstrap" in agent.logs("program.exit")[0]["message"]


def test_a_frozen_bus_did_not_answer(scene):
    for server in scene.buses:
        server.freeze()
    agent = scene.agent(TRUTH_WAIT_SEC="1")
    assert agent.wait() == 3  # a frozen server never answers: who waits for it longer than that never ends
    assert "timeout" in agent.logs("program.exit")[0]["message"]


def test_it_waits_for_a_truth_that_comes_later(scene):
    agent = scene.agent(TRUTH_WAIT_SEC="20")
    agent.wait_log("truth.waiting")
    seed(scene.buses, truth(), 1)
    assert scene.wait_beat(i=1, rev=1)["boot"]


def test_falling_back_to_the_second_bus_shows_until_the_first_has_a_truth(scene):
    seed([scene.market], truth(), 4)
    agent = scene.agent()
    beat = scene.wait_beat(rev=4)
    assert (beat["status"], beat["detail"]) == ("degraded", "truth from market-redis: system-redis has none")
    assert agent.wait_log("truth.fallback")["truth_from"] == "market-redis"
    seed([scene.system], truth(), 4)
    until(lambda: "status" not in scene.beat(), what="a beat that is well")


def test_a_reseed_is_in_force_at_once_and_the_body_hears_of_it(scene):
    seed(scene.buses, truth(interval_sec=30, timeout_sec=90), 1)
    agent = scene.agent("""
        while True:
            if await me.rest(60):
                me.log.info("probe.reseeded", revision=me.revision, every=me.section.heartbeat.interval_sec)
""")
    before = scene.wait_beat(rev=1)
    with Tail(scene.system.url, "elsewhere:heartbeat") as tail:
        seed(scene.buses, truth(interval_sec=0.5, timeout_sec=3, channel="elsewhere:heartbeat"), 2)
        beat = tail.next(within=14)  # the next beat of the old truth is due after 15 s or more
    assert (beat["rev"], beat["boot"], beat["every"], beat["i"]) == (2, before["boot"], 0.5, before["i"] + 1)
    until(lambda: 5000 < scene.system.cmd("PTTL", "beat:probe") <= 6000, what="the new time to live")
    assert agent.wait_log("probe.reseeded")["every"] == 0.5


def test_a_reseed_moves_the_beats_to_another_bus(scene):
    seed(scene.buses, truth(), 1)
    scene.agent()
    scene.wait_beat(rev=1)
    seed(scene.buses, truth(redis_url="redis://market-redis:6379"), 2)
    until(lambda: '"rev":2' in (scene.market.cmd("GET", "beat:probe") or ""), what="beats on the market bus")


def test_a_reseed_whose_message_was_missed_shows_with_the_next_beats(scene):
    seed(scene.buses, truth(), 1)
    scene.agent()
    before = scene.wait_beat(i=4)  # by now it listens, and has looked
    seed(scene.buses, truth(interval_sec=0.2), 2, say=False)
    assert scene.wait_beat(rev=2)["i"] < before["i"] + READ_EVERY_POLLS / 2


def test_a_reseed_while_a_bus_was_away_is_in_force_when_it_is_heard_again(scene):
    seed(scene.buses, truth(interval_sec=120, timeout_sec=360), 1)
    agent = scene.agent()
    scene.wait_beat(rev=1)
    scene.system.stop()
    agent.wait_log("truth.subscription_lost")
    scene.system.start()
    # said too: on a busy machine the agent may be back before the document is
    seed(scene.buses, truth(interval_sec=110, timeout_sec=360), 2)
    scene.wait_beat(rev=2)


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (truth(interval_sec=-5), "services.probe.heartbeat.interval_sec"),
        (
            {**truth(redis_url="redis://third:6379"), "buses": {"third": {"url": "env:NOBODY_SET_THIS"}}},
            "NOBODY_SET_THIS",
        ),
    ],
    ids=["wrong", "bus not found"],
)
def test_a_truth_it_cannot_accept_is_refused_and_the_last_good_one_stays(scene, refused, why):
    seed(scene.buses, truth(), 1)
    agent = scene.agent()
    scene.wait_beat(rev=1)
    seed(scene.buses, refused, 2)
    beat = scene.wait_beat(status="degraded")
    assert beat["rev"] == 1
    assert why in beat["detail"]
    seed(scene.buses, truth(), 3)
    scene.wait_beat(rev=3)
    until(lambda: "status" not in scene.beat(), what="a beat that is well")
    assert agent.running


@pytest.mark.parametrize(
    "damage",
    [
        ("FLUSHALL",),
        *(
            pytest.param(each, marks=pytest.mark.nightly("FLUSHALL"))
            for each in [("DEL", "truth:doc"), ("SET", "truth:doc", "{")]
        ),
    ],
)
def test_a_truth_that_goes_missing_under_it_costs_it_nothing_but_a_word(scene, damage):
    seed(scene.buses, truth(), 5)
    agent = scene.agent()
    scene.wait_beat(rev=5)
    scene.system.cmd(*damage)
    assert "truth from market-redis" in scene.wait_beat(status="degraded", rev=5)["detail"]
    scene.market.cmd(*damage)
    until(lambda: "no valid truth" in scene.next_beat().get("detail", ""), what="word of no truth at all")
    first = scene.next_beat()
    assert (first["rev"], first["status"]) == (5, "degraded")
    assert agent.running
    seed(scene.buses, truth(), 6)
    until(lambda: scene.beat()["rev"] == 6 and "status" not in scene.beat(), what="a beat that is well")


def test_a_service_that_the_truth_drops_works_on_and_says_so(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.agent()
    scene.wait_beat(rev=1)
    seed(scene.buses, truth(svc="someone_else"), 2)
    assert scene.wait_beat(rev=2)["detail"] == "not in the truth"
    assert scene.next_beat()["status"] == "degraded"
    assert agent.running


def test_a_flood_of_changes_that_are_none_does_not_keep_it_from_beating(scene):
    seed(scene.buses, truth(interval_sec=0.2), 1)
    scene.agent()
    scene.wait_beat(rev=1)
    before = scene.beat()["i"]

    def flooded() -> bool:
        scene.system.cmd("EVAL", "for i = 1, 500 do redis.call('PUBLISH', 'truth:changed', 'x') end", 0)
        return bool(scene.beat()["i"] >= before + 5)

    until(flooded, what="five beats")
    assert orjson.dumps(scene.beat())


def sent(scene):
    """What both buses have sent so far, in bytes."""
    return sum(int(server.cmd("INFO", "stats")["total_net_output_bytes"]) for server in scene.buses)


def large(revision):
    """A truth of 400 kB."""
    others = {f"s{n}": {"description": f"{revision}" * 400, "heartbeat": {}} for n in range(900)}
    return {"services": {**truth(interval_sec=0.3)["services"], **others}}


def test_a_reseed_costs_one_document_and_what_is_no_change_costs_none(scene):
    seed(scene.buses, large(1), 1)
    size = scene.system.cmd("STRLEN", "truth:doc")
    agent = scene.agent()
    scene.wait_beat(rev=1)
    before = sent(scene)
    for _ in range(3):
        scene.system.cmd("PUBLISH", "truth:changed", "{}")
        beaten = scene.beat()["i"]
        scene.wait_beat(i=beaten + 1)
    assert sent(scene) - before < size
    before = sent(scene)
    seed(scene.buses, large(2), 2)
    agent.wait_log("probe.reseeded")
    scene.wait_beat(rev=2)
    assert sent(scene) - before < 1.5 * size
