"""FAILURES row 22: the truth is removed or corrupted under running agents, on one bus, then on both."""

import copy
import math

import orjson
import pytest

from support.scenes.faults import BUSES, INTERVAL_SEC, Scene, fits_beat, only, service
from support.waiting import until

ENV = {"SENTINEL_TIMEOUT_SEC": "5"}
SERVICES = {
    "alpha": service(),
    "sentinel": service(timeout_sec=5),
    "rss_agg": service("market-redis", timeout_sec=5),
}
AGENTS = ("healer", "sentinel", "rss_agg")
SETTLED_SEC = 2.0 + 2.0  # at most a glance and the settling
KEY = "truth:doc"

HARM = {
    "removed": lambda server: server.cmd("DEL", KEY),
    "removed with all that goes along": lambda server: server.cmd("DEL", KEY, "truth:meta", "truth:history"),
    "corrupted": lambda server: server.cmd("SET", KEY, '{"services": {'),
    "made a list": lambda server: (server.cmd("DEL", KEY), server.cmd("RPUSH", KEY, "a")),
    "invalid": lambda server: server.cmd(
        "SET", KEY, '{"services": {"alpha": {"heartbeat": {"interval_sec": -1}}}}'
    ),
}
WHY = {"removed": "missing", "removed with all that goes along": "missing"}


@pytest.fixture
def scene(tmp_path):
    with Scene(tmp_path, SERVICES, AGENTS, env=ENV) as one:
        for svc in ("sentinel", "rss_agg"):
            until(lambda svc=svc: status(one, svc) == "ok", what=f"{svc} to be well")
        yield one


def status(scene: Scene, svc: str) -> str:
    """What its last beat says of it; one that says nothing is well."""
    server = scene.market if svc == "rss_agg" else scene.system
    raw = server.cmd("GET", f"beat:{svc}")
    return orjson.loads(raw).get("status", "ok") if raw else "silent"


def drifted(scene: Scene, bus: str, why: str, count: int = 1) -> dict:
    """The `count`th drift of a bus, as it is on every bus."""
    drift = scene.wait_logged("truth_drift", bus, count=count)
    assert (drift["by"], drift["reason"]) == ("sentinel", why)
    for each in BUSES:
        assert scene.wait_logged("truth_drift", bus, bus=each, count=count) == drift
        assert scene.tail(each).wait("truth_drift", bus, count=count) == drift
    return drift


def mended(scene: Scene, bus: str, count: int = 1) -> None:
    ok = scene.wait_logged("truth_ok", bus, count=count)
    for each in BUSES:
        assert scene.wait_logged("truth_ok", bus, bus=each, count=count) == ok


def look_on(scene: Scene, sec: float = SETTLED_SEC) -> None:
    """Waits until the sentinel has looked for so long, by its beats."""
    scene.wait_beats("sentinel", math.ceil(sec / INTERVAL_SEC))


def working(scene: Scene) -> None:
    """Agents live, keep the last good truth, and nobody is missed for it."""
    assert all(scene[name].running and scene[name].exit_code is None for name in AGENTS)
    assert scene.misses() == []


@pytest.mark.nightly("test_row_22_a_truth_that_is_gone_from_both_buses_…")
@pytest.mark.parametrize(
    ("bus", "harm"),
    [
        *(("system-redis", harm) for harm in ("removed", "corrupted", "made a list")),
        *(("market-redis", harm) for harm in ("removed with all that goes along", "invalid")),
    ],
)
def test_row_22_a_truth_that_is_harmed_on_one_bus_is_told_once_and_so_is_its_mending(scene, bus, harm):
    HARM[harm](scene.server(bus))
    drifted(scene, bus, WHY.get(harm, "invalid"))
    if bus == "system-redis":  # the one that agents go by: they fall back, and say so
        for svc in ("sentinel", "rss_agg"):
            until(lambda svc=svc: status(scene, svc) == "degraded", what=f"{svc} to say so")
    look_on(scene, 2.5)
    working(scene)
    scene.seed(scene.truth)
    mended(scene, bus)
    for svc in ("sentinel", "rss_agg"):
        until(lambda svc=svc: status(scene, svc) == "ok", what=f"{svc} to be well")
    for each in BUSES:
        only(scene.log("truth_drift", bus=each))
        only(scene.log("truth_ok", bus=each))


def test_row_22_a_truth_that_is_gone_from_both_buses_stays_in_force_where_it_was(scene):
    scene.system.cmd("DEL", KEY)
    drifted(scene, "system-redis", "missing")
    scene.market.cmd("SET", KEY, "nonsense")
    drifted(scene, "market-redis", "invalid")
    for svc in ("sentinel", "rss_agg"):
        until(lambda svc=svc: status(scene, svc) == "degraded", what=f"{svc} to say so")
    # who watches still watches, and by the last good truth
    last = scene.stop_beating("alpha")
    miss = scene.alerts.wait("heartbeat_miss", "alpha")
    assert fits_beat(miss["since"], last)
    scene.beat_again("alpha")
    scene.alerts.wait("heartbeat_ok", "alpha")
    # a sentinel without its memory's truth can't start; one that goes on is told of the mending
    scene.seed(scene.truth)
    for bus in BUSES:
        mended(scene, bus)
        only(scene.log("truth_drift", bus))
    assert all(scene[name].running for name in AGENTS)


@pytest.mark.nightly("test_row_22_a_truth_that_is_gone_from_both_buses_…; tests/sentinel/test_drift.py")
def test_a_document_that_someone_wrote_by_hand_makes_its_bus_differ(scene):
    other = copy.deepcopy(scene.truth)
    other["services"]["alpha"]["description"] = "not seeded"
    scene.market.cmd("SET", KEY, orjson.dumps(other))
    drifted(scene, "market-redis", "differs")
    scene.seed(scene.truth)
    mended(scene, "market-redis")


@pytest.mark.nightly("test_row_22_a_truth_that_is_gone_from_both_buses_…; tests/sentinel/test_drift.py")
def test_a_drift_outlives_the_sentinel_that_told_it_and_is_told_once(scene):
    scene.market.cmd("DEL", KEY)
    drifted(scene, "market-redis", "missing")
    scene["sentinel"].kill()
    scene["sentinel"].start()
    look_on(scene, SETTLED_SEC + 2)
    for bus in BUSES:
        only(scene.log("truth_drift", bus=bus))
    scene["sentinel"].kill()
    scene.seed(scene.truth)  # it is mended while nobody looks
    scene["sentinel"].start()
    scene.wait_logged("truth_ok", "market-redis")
    look_on(scene)
    for bus in BUSES:
        only(scene.log("truth_drift", bus=bus))
        only(scene.log("truth_ok", bus=bus))
