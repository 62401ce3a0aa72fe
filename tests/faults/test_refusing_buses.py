"""FAILURES rows 11 and 12, and their kin: a bus that runs, and refuses. One fact, told over the other bus.

A way to refuse is tried on both buses, since they differ: verdicts on services go to system-redis, so that
one keeps them waiting, while the other must not keep anyone.
"""

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from support.rig import Proc, Server
from support.rig import refusing_servers as ways
from support.rig.process import NO_HOST
from support.scenes.faults import (
    BUS_TIMEOUT_SEC,
    BUSES,
    SLACK,
    TIMEOUT_SEC,
    WARM_UP_SEC,
    Scene,
    fault_lasts,
    only,
    service,
    stamp,
)
from support.waiting import until

REFUSED_SEC = BUS_TIMEOUT_SEC + TIMEOUT_SEC + 1
LINES = 16
QUIET_SEC, QUIET_LINES = 1.5, 2
"""What a program may say of a refusal: so many lines in all, and so few once it has lasted for a while."""

SERVICES = {
    **{f"s{n}": service() for n in range(5)},
    **{f"m{n}": service("market-redis") for n in range(5)},
}

NAMES = {
    ways.Full: "row 11, full",
    ways.Replica: "row 12, replica",
    ways.StaleReplica: "row 12, stale replica",
    ways.Lonely: "no replicas",
    ways.Unsaving: "misconf",
    ways.Loading: "loading",
    ways.Locked: "no auth",
    ways.Forbidden: "no permission",
    ways.WrongPassword: "wrong password",
    ways.Untrusted: "untrusted certificate",
    ways.Expired: "expired certificate",
    ways.Misnamed: "another's certificate",
    ways.Busy: "busy",
}
ALIKE = (ways.StaleReplica, ways.Lonely, ways.WrongPassword, ways.Expired, ways.Misnamed)
"""Ways that differ from another one in what they say alone: tried on one bus each."""


def on(way: type[ways.Refusal], bus: str, every_run: Iterable[type[ways.Refusal]]) -> ParameterSet:
    marks = [pytest.mark.needs("openssl")] if issubclass(way, ways.Untrusted) else []
    if way not in every_run:
        ids = " and ".join(f"[{NAMES[one]}-…]" for one in every_run or ROWS)
        marks.append(pytest.mark.nightly(f"{ids}; tests/marketswarm/bus/test_bus.py has each reason"))
    return pytest.param(way, bus, id=f"{NAMES[way]}-{bus}", marks=marks)


ROWS, OTHERS = (ways.Full, ways.Replica), (ways.Untrusted,)
AT_START = [on(way, BUSES[n % 2], OTHERS) for n, way in enumerate(NAMES)]
MEANWHILE = [on(way, BUSES[n % 2], ROWS) for n, way in enumerate(NAMES)] + [
    on(way, BUSES[1 - n % 2], ()) for n, way in enumerate(NAMES) if way not in ALIKE
]


def refusal_of(way: type[ways.Refusal], server: Server) -> ways.Refusal:
    if issubclass(way, ways.Untrusted) and not ways.speaks_tls(server):
        pytest.skip("needs a server with TLS, as Debian's redis-server is")
    return way(server)


def scene_with_agent(folder: Path, bus: str) -> Scene:
    """The usual scene, and an agent that beats on the bus that is to refuse."""
    return Scene(folder, {"rss_agg": service(bus, timeout_sec=10), **SERVICES}, agents=(), idle=("rss_agg",))


def address(bus: str, url: str) -> dict[str, str]:
    return {bus.upper().replace("-", "_") + "_URL": url}


def start(scene: Scene, bus: str, refusal: ways.Refusal) -> tuple[Proc, Proc]:
    there = address(bus, refusal.url)
    return scene.start("healer", **there), scene.start("rss_agg", **there)


def lately(proc: Proc) -> list[dict[str, Any]]:
    """Return what a program has logged in the last QUIET_SEC."""
    return [line for line in proc.logs() if time.time() - stamp(line) < QUIET_SEC]


@pytest.mark.parametrize(("way", "bus"), MEANWHILE)
def test_rows_11_12_a_bus_that_refuses_is_one_fact_and_what_it_did_not_take_is_told_later(tmp_path, way, bus):
    other = next(each for each in BUSES if each != bus)
    doomed, mortal = ("s0", "m0") if bus == "system-redis" else ("m0", "s0")
    with scene_with_agent(tmp_path, bus) as scene:
        refusal = refusal_of(way, scene.server(bus))
        healer, agent = start(scene, bus, refusal)
        scene.all_up()
        until(lambda: "rss_agg" in scene.roster(), what="rss_agg to beat")
        lines = {proc: len(proc.logs()) for proc in (healer, agent)}
        refusal.begin()
        begun = time.monotonic()
        last = scene.stop_beating("s0", "m0")
        miss = scene.wait_logged("bus_miss", bus, bus=other)
        assert scene.tail(other).wait("bus_miss", bus) == miss
        assert (miss["reason"], miss["timeout_sec"]) == (way.reason, BUS_TIMEOUT_SEC)
        if other == "system-redis":
            scene.wait_logged("heartbeat_miss", mortal)
        fault_lasts(max(0.0, begun + REFUSED_SEC - time.monotonic()))
        for proc, before in lines.items():
            said = proc.logs()[before:]
            assert proc.running
            others = {line.get("reason") for line in said} - {None, "silent", way.reason}
            # a busy machine may see a second reason on the way, each of the healer's five relays by itself
            assert len(said) <= LINES + 5 * len(others), f"{len(said)} lines in {REFUSED_SEC} s: {said}"
            names = ("event", "bus", "reason", "svc", "why", "stream")
            same = Counter(tuple(line.get(name) for name in names) for line in said)
            assert max(same.values(), default=0) <= 2, f"said again and again: {same.most_common(3)}"
            until(
                lambda proc=proc: len(lately(proc)) <= QUIET_LINES,
                what=lambda proc=proc: f"{QUIET_SEC} s with at most {QUIET_LINES} lines: {lately(proc)}",
            )
        refusal.end()
        ok = scene.wait_logged("bus_ok", bus, bus=other)
        told = scene.wait_logged("heartbeat_miss", mortal)
        assert told["ts"] - last <= SLACK * (TIMEOUT_SEC + 1), (
            "as it was concluded, whenever it could be told"
        )
        assert -0.5 <= told["since"] - scene.beaters[mortal].last(mortal) <= SLACK
        # whom the other bus heard die meanwhile
        scene.wait_logged("heartbeat_miss", doomed)
        scene.listen_for(TIMEOUT_SEC, *BUSES)
        assert sorted(scene.misses()) == ["m0", "s0"]
        for each in BUSES:  # under one id on both, however late
            until(lambda each=each: len(scene.log("bus_ok", bus, each)) == 1, what=f"the ok on {each}")
            assert [event for event in scene.log(bus=each) if event["type"].startswith("bus_")] == [miss, ok]
        secrets = (ways.PASSWORD, ways.OTHER_PASSWORD)
        assert not [each for each in secrets for proc in (healer, agent) if each in proc.text()]


@pytest.mark.parametrize(("way", "bus"), AT_START)
def test_rows_11_12_36_who_starts_while_a_bus_refuses_works_with_the_other_and_can_be_stopped(
    tmp_path, way, bus
):
    other = next(each for each in BUSES if each != bus)
    with scene_with_agent(tmp_path, bus) as scene:
        refusal = refusal_of(way, scene.server(bus))
        refusal.begin()
        healer, agent = start(scene, bus, refusal)
        miss = scene.wait_logged("bus_miss", bus, bus=other)
        assert (miss["reason"], "since" in miss) == (way.reason, False)
        until(lambda: agent.logs("beat.failed"), what=lambda: f"rss_agg to live: {agent}")
        assert agent.stop(15) == 0
        assert healer.stop(15) == 0
        healer.start()
        until(lambda: len(healer.logs("monitor.monitoring")) == 2, what=lambda: f"the healer again: {healer}")
        fault_lasts(0.7)  # this run has it from the one before that the bus is lost, and says nothing new
        refusal.end()
        scene.wait_logged("bus_ok", bus, bus=other)
        scene.all_up()
        scene.listen_for(TIMEOUT_SEC, *BUSES)
        assert [each for each in scene.misses() if each != "rss_agg"] == []
        assert only(scene.log("bus_miss", bus, other)) == miss
        assert "Traceback" not in healer.text() + agent.text()


@pytest.mark.nightly("test_rows_11_12_…; tests/marketswarm/net/test_errors.py has the reason")
def test_a_bus_whose_name_resolves_no_more_is_one_fact_and_so_is_its_return(tmp_path):
    place = tmp_path / "where market-redis is"
    with Scene(tmp_path, SERVICES, agents=()) as scene:
        place.write_text(scene.market.url, encoding="ascii")
        healer = scene.start("healer", MARKET_REDIS_URL="", MARKET_REDIS_URL_FILE=str(place))
        scene.all_up()
        begun = len(healer.logs())
        place.write_text(f"redis://{NO_HOST}:6379", encoding="ascii")
        scene.seed({**scene.truth, "revised": 1})
        miss = scene.wait_logged("bus_miss", "market-redis")
        assert miss["reason"] == "dns"
        scene.stop_beating("s0")
        scene.wait_logged("heartbeat_miss", "s0")
        assert len(healer.logs()) - begun <= LINES
        place.write_text(scene.market.url, encoding="ascii")
        scene.seed({**scene.truth, "revised": 2})
        scene.wait_logged("bus_ok", "market-redis")
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC, *BUSES)
        assert scene.misses() == ["s0"]
        only(scene.log("bus_miss"))
