"""The medic and a real container engine: what it is shown of containers, and what it restarts."""

import asyncio
import json
import sys

import pytest

from marketswarm.fleet_control import RestartAnswer
from marketswarm.operator.healing import BESIDE
from services.medic.metric import Metric
from services.medic.owners import engine as engine_module
from services.medic.owners.engine import ContainerEngine
from support.rig.compose import AGENTS, ROOT, find_engine_socket, patiently, read_steps, run_healing
from support.waiting import Patience

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes of containers by their pid")


@pytest.fixture
async def owner(fleet):
    owner = ContainerEngine(find_engine_socket(), fleet.name, None)
    yield owner
    await owner.end()


async def look(owner, svc, predicate=lambda _: True):
    """Look at a service's container until it is as wanted; return it."""
    patience = Patience(30)
    while not (predicate(found := {each.svc: each for each in await owner.read(AGENTS)}.get(svc))):
        assert not patience.is_over(), found
        await asyncio.sleep(0.25)
    return found


async def test_the_containers_of_a_project_are_seen_and_one_of_them_is_restarted_once(fleet, owner):
    assert sorted(each.svc for each in await owner.read((*AGENTS, "bootstrap"))) == sorted(
        (*AGENTS, "bootstrap")
    )
    first, shown = await look(owner, "rss_agg"), fleet["rss_agg"]
    assert first.facts.identity == f"{shown.id}@{shown.said['State']['StartedAt']}"
    assert (first.facts.is_waiting, first.facts.is_stopped) == (False, False)
    assert (await owner.restart("rss_agg", first.facts.identity, None))[0] is RestartAnswer.DONE
    assert (await owner.restart("rss_agg", first.facts.identity, None))[0] is RestartAnswer.CHANGED
    second = await look(owner, "rss_agg", lambda each: each.facts.identity != first.facts.identity)
    assert (second.restarts, second.facts.age_sec < 60) == (0, True)

    fleet["rss_agg"].kill()
    third = await look(owner, "rss_agg", lambda each: each.restarts == 1 and not each.facts.is_waiting)
    assert third.facts.identity != second.facts.identity, "a restart by the engine is another start"
    fleet.compose("pause", "rss_agg")
    await look(owner, "rss_agg", lambda each: each.facts.is_stopped)
    assert (await owner.restart("rss_agg", third.facts.identity, None))[0] is RestartAnswer.REFUSED
    fleet.compose("unpause", "rss_agg")
    fleet.compose("stop", "rss_agg")
    stopped = await look(owner, "rss_agg", lambda each: each.facts.exit_code is not None)
    assert stopped.facts.is_stopped, "by a person, as far as the engine says"
    fleet.compose("start", "rss_agg")
    fleet.healthy()


async def test_memory_is_that_of_the_limit_of_a_container_and_processor_time_that_of_one(
    fleet, owner, monkeypatch
):
    monkeypatch.setattr(engine_module, "MEASURED_AGAIN_SEC", 0.0)
    assert {each.svc for each in await owner.read(AGENTS)} == set(AGENTS)
    assert set(await owner.measure(AGENTS)) == {Metric.PROCESS_MEMORY, Metric.PROCESS_CPU}
    await asyncio.sleep(2)
    found = await owner.measure(AGENTS)
    assert dict(owner.requests).keys() == {(each, "ok") for each in ("list", "inspect", "stats")}
    # an agent takes some 50 of the 256 MB that compose.yaml allows it; of a machine, that is next to nothing
    assert all(5 < found[Metric.PROCESS_MEMORY][svc] < 80 for svc in AGENTS), found
    assert all(0 < found[Metric.PROCESS_CPU][svc] < 150 for svc in AGENTS), found


async def test_each_line_that_a_container_logs_is_read_once_and_goes_on_after_a_restart(fleet, owner):
    async def read_new():
        await look(owner, "rss_agg")
        await owner.logs.fetch(["rss_agg"])
        return owner.logs.list_logs(["rss_agg"])["rss_agg"]()

    first = (await read_new()).lines
    assert first
    assert all(line.startswith(b"{") for line in first), "what an agent logs, without frames and times"
    (end,) = await owner.logs.read_end("rss_agg")
    assert {*first[-5:]} <= {*end}
    before = (await look(owner, "rss_agg")).facts.identity
    assert (await owner.restart("rss_agg", before, None))[0] is RestartAnswer.DONE
    found, patience = list[bytes](), Patience(30)
    while not any(b'"agent.joined"' in line for line in found):
        assert not patience.is_over(), found
        new = await read_new()
        assert not new.has_gap
        found += new.lines
        await asyncio.sleep(0.25)
    assert not {*first} & {*found}
    assert len({*found}) == len(found), "a line of an agent has its time"
    fleet.healthy()


# each request that none of the five is, by the socket that medic has
REFUSED = """
import http.client, json, socket
def ask(method, path):
    connection = http.client.HTTPConnection("engine")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/engine/engine.sock")
    connection.request(method, path)
    return connection.getresponse().status
one = "/v1.44/containers/" + "0" * 64
refused = [("GET", "/v1.44/info"), ("GET", "/v1.44/images/json"), ("POST", "/v1.44/containers/create")]
refused += [("POST", "/v1.44/containers/json"), ("GET", one + "/restart"), ("POST", one + "/kill")]
refused += [("POST", one + "/exec"), ("DELETE", one), ("GET", one + "/archive?path=/")]
refused += [("GET", "/v1.43/containers/json"), ("POST", one + "/../../build")]
refused += [("GET", one + "/logs?follow=true&stdout=true")]
passed = [("GET", "/v1.44/containers/json"), ("GET", one + "/json"), ("POST", one + "/restart")]
print(json.dumps([[ask(*each) for each in asked] for asked in (refused, passed)]))
"""


@pytest.fixture
def healing(hasty):
    """The fleet with compose.healing.yaml over it, and without it again afterwards."""
    with run_healing(hasty, "compose.yaml"):
        yield hasty
    hasty.healthy()


@pytest.mark.nightly("tests/live/test_medic.py has the same of a stand-in, and the tests above its requests")
def test_an_agent_that_hangs_in_its_container_is_restarted_and_verified_through_the_proxy(healing):
    hasty = healing
    seeded = json.loads(hasty.truth.read_text(encoding="utf-8"))
    shipped = json.loads((ROOT / "examples/healing-fleet.json").read_bytes())
    quick = {"wait_sec": 0.5, "stable_sec": 2, "start_grace_sec": 5}
    seeded["services"]["medic"]["settings"] = shipped["services"]["medic"]["settings"] | quick
    hasty.seed(json.dumps(seeded))
    hasty.compose("up", "--detach", "medic")
    assert hasty["engine-proxy"].status == "running"
    hasty.healthy()
    refused, passed = json.loads(hasty.inside("medic", REFUSED))
    assert set(refused) == {403}
    assert passed == [200, 404, 404], "the engine's own answers"
    before = hasty["rss_agg"]
    before.freeze_agent()
    patiently(lambda: "resolved" in read_steps(hasty, "rss_agg"), 90, "the end of the incident")
    done = [each for each in read_steps(hasty, "rss_agg") if each not in ("refused", *BESIDE)]
    assert done == ["opened", "waiting", "intended", "acted", "verified", "resolved"]
    after = hasty["rss_agg"]
    assert after.id == before.id
    assert after.said["State"]["StartedAt"] != before.said["State"]["StartedAt"]
