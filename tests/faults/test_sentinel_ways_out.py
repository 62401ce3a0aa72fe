"""FAILURES row 34, and the rest of the sentinel's own way out: what nobody told people, it tells them."""

import time
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from support.rig import refusing_servers as ways
from support.rig.receiver import Answer, Receiver
from support.scenes.faults import BUS_TIMEOUT_SEC, BUSES, Scene, only, service
from support.waiting import fault_lasts, until

SENTINEL_SEC = 1.5
DIRECT_SEC = 1.0
ENV = {"SENTINEL_TIMEOUT_SEC": str(SENTINEL_SEC), "SENTINEL_DIRECT_SEC": str(DIRECT_SEC)}
SERVICES = {"alpha": service(), "sentinel": service()}
AGENTS = ("healer", "sentinel")
# that nothing more is told is known when the sentinel has beaten eight times, which takes two DIRECT_SEC


def scene_with(tmp_path, receiver: Receiver, **env: str) -> Scene:
    return Scene(tmp_path, SERVICES, AGENTS, env={**ENV, "WEBHOOK_URL": receiver.url, **env})


def told(scene: Scene, ident: str, bus: str) -> dict | None:
    """What `notifier:told:<id>` says on a bus."""
    raw = scene.server(bus).cmd("GET", f"notifier:told:{ident}")
    return None if raw is None else orjson.loads(raw)


def test_row_34_without_a_notifier_the_sentinel_tells_people_of_a_dead_healer_and_of_its_return(
    tmp_path, receiver
):
    with scene_with(tmp_path, receiver) as scene:
        scene["healer"].kill()
        killed = time.monotonic()
        miss = receiver.wait("healer_miss", "healer")
        assert time.monotonic() - killed >= DIRECT_SEC
        assert miss == only(scene.log("healer_miss"))
        assert only(receiver.seen).id == miss["id"]
        for bus in BUSES:
            until(lambda bus=bus: told(scene, miss["id"], bus), what=f"the record on {bus}")
            assert told(scene, miss["id"], bus)["channels"] == ["webhook"]
            assert 0 < scene.server(bus).cmd("TTL", f"notifier:told:{miss['id']}") <= 86_400
        scene["healer"].start()
        ok = receiver.wait("healer_ok", "healer", 20)
        assert ok == scene.log("healer_ok")[-1]  # it may have been seen before it was killed
        scene.wait_beats("sentinel", 8)
        assert [event["type"] for event in receiver.taken()] == ["healer_miss", "healer_ok"]
        assert scene["sentinel"].running


@pytest.mark.parametrize(
    "bus", [BUSES[0], pytest.param(BUSES[1], marks=pytest.mark.nightly("[system-redis]"))]
)
def test_a_lost_bus_that_nobody_told_is_told_directly_and_so_is_its_return(tmp_path, receiver, bus):
    other = next(each for each in BUSES if each != bus)
    with scene_with(tmp_path, receiver) as scene:
        scene.server(bus).kill()
        miss = receiver.wait("bus_miss", bus)
        assert miss == only(scene.log("bus_miss", bus=other))
        scene.server(bus).start()
        ok = receiver.wait("bus_ok", bus)
        assert ok == only(scene.log("bus_ok", bus=other))
        until(lambda: told(scene, ok["id"], bus), what="the record on the bus that was away")
        assert told(scene, miss["id"], bus), "what was told while it was away"
        scene.wait_beats("sentinel", 8)
        assert [event["id"] for event in receiver.taken(bus)] == [miss["id"], ok["id"]]


@pytest.mark.parametrize(
    "way",
    [
        ways.Full,
        *(
            pytest.param(way, marks=pytest.mark.nightly("[Full]; tests/sentinel/test_availability.py"))
            for way in (ways.Replica, ways.Lonely, ways.Unsaving)
        ),
    ],
)
def test_row_39_when_every_bus_refuses_to_be_written_that_is_no_bus(tmp_path, receiver, way):
    with scene_with(tmp_path, receiver) as scene:
        refusals = [way(scene.server(bus)) for bus in BUSES]
        with ThreadPoolExecutor() as pool:  # at once: it is no time for the one that refuses later
            list(pool.map(lambda refusal: refusal.begin(), refusals))
        for bus in BUSES:
            miss = receiver.wait("bus_miss", bus)
            assert (miss["by"], miss["reason"]) == ("sentinel", way.reason)
        for refusal in refusals:
            refusal.end()
        for bus in BUSES:
            receiver.wait("bus_ok", bus)
        scene.wait_beats("sentinel", 12)
        for bus in BUSES:
            assert [event["type"] for event in receiver.taken(bus)] == ["bus_miss", "bus_ok"]


def test_a_sentinel_that_stood_still_tells_nobody_that_the_buses_are_away(tmp_path, receiver):
    with scene_with(tmp_path, receiver) as scene:
        scene["sentinel"].freeze()
        fault_lasts(2 * (BUS_TIMEOUT_SEC + DIRECT_SEC))
        scene["sentinel"].thaw()
        scene.wait_beats("sentinel", 8)
        assert scene["sentinel"].logs("bus.unreached") == []
        assert receiver.taken() == []


def beat(scene: Scene) -> dict:
    return orjson.loads(scene.system.cmd("GET", "beat:sentinel") or b"{}")


@pytest.mark.nightly("tests/sentinel/test_pending.py has what an earlier run left open or told")
def test_a_sentinel_killed_before_it_told_tells_at_its_next_start_and_one_killed_after_repeats_nothing(
    tmp_path, receiver
):
    with scene_with(tmp_path, receiver, SENTINEL_DIRECT_SEC="2.5") as scene:
        scene["healer"].kill()
        miss = scene.wait_logged("healer_miss", "healer")
        scene["sentinel"].kill()
        assert receiver.seen == []
        scene["sentinel"].start()
        assert receiver.wait("healer_miss", "healer") == miss
        until(lambda: told(scene, miss["id"], BUSES[0]), what="the record")
        scene["sentinel"].kill()
        recalled = len(scene["sentinel"].logs("monitor.state_loaded"))
        scene["sentinel"].start()
        until(lambda: len(scene["sentinel"].logs("monitor.state_loaded")) > recalled, what="it to recall")
        scene.wait_beats("sentinel", 14)  # longer than its wait for others
        assert len(receiver.seen) == 1
        scene["sentinel"].kill()
        scene["healer"].start()
        scene["sentinel"].start()
        receiver.wait("healer_ok", "healer")
        scene.wait_beats("sentinel", 10)
        assert [event["type"] for event in receiver.taken()] == ["healer_miss", "healer_ok"]


def test_someone_outside_hears_of_it_while_all_is_well_and_only_then(tmp_path, receiver):
    env = {**ENV, "DEADMAN_URL": receiver.url, "DEADMAN_INTERVAL_SEC": "0.5"}
    with Scene(tmp_path, SERVICES, AGENTS, env=env) as scene:
        until(lambda: len(receiver.seen) >= 3, what="pings")
        assert {request.method for request in receiver.seen} == {"GET"}
        receiver.always = Answer(hang=True)  # harms nobody
        scene["healer"].kill()
        scene.alerts.wait("healer_miss", "healer")
        receiver.always = 200
        scene["sentinel"].wait_log("deadman.failed")  # the hanging one ran out of its time
        count = len(receiver.seen)
        scene.wait_beats("sentinel", 6)  # three pings' time
        assert len(receiver.seen) == count, "all is not well"
        assert len(scene["sentinel"].logs("deadman.failed")) == 1
        assert "s3cret" not in str(scene["sentinel"])
        scene["healer"].start()
        until(lambda: len(receiver.seen) > count, what="a ping")
        scene.system.freeze()
        until(lambda: time.monotonic() - receiver.seen[-1].at > 2, what="an end: the healer can't be heard")
        count = len(receiver.seen)
        scene.system.thaw()
        until(lambda: len(receiver.seen) > count, what="a ping")
        receiver.always = Answer(hang=True)
        until(lambda: receiver.statuses()[-1] == 0, what="a ping that hangs")
        assert scene["sentinel"].stop(15) == 0


def test_what_no_bus_takes_is_told_all_the_same(tmp_path, receiver):
    env = {**ENV, "WEBHOOK_URL": receiver.url}
    with Scene(tmp_path, SERVICES, idle=["sentinel"], env=env) as scene:
        for bus in BUSES:  # nothing can be appended
            scene.server(bus).cmd("ACL", "SETUSER", "default", "-xadd")
        # that it sees the healer is not taken either, and the miss waits behind that
        scene.start("sentinel").wait_log("service.up")
        scene["healer"].kill()
        miss = receiver.wait("healer_miss", "healer")
        assert scene.alerts.of("healer_miss") == []
        for bus in BUSES:
            scene.server(bus).cmd("ACL", "SETUSER", "default", "+xadd")
        assert scene.wait_logged("healer_miss", "healer") == miss
        scene.wait_beats("sentinel", 8)
        assert len(receiver.seen) == 1
