"""What happened while nobody listened: told once, as `heartbeat_gap`, if it is proven; never as a miss."""

from collections.abc import Iterable, Iterator

import pytest

from support.scenes.faults import (
    BUSES,
    TIMEOUT_SEC,
    WARM_UP_SEC,
    Scene,
    fault_lasts,
    only,
    service,
)
from support.waiting import until

# who did what while nobody listened
SERVICES = {
    "lived": service(),
    "anew": service(),
    "twice": service(),
    "hung": service(),
    "planned": service(),
    "bare": service(),
}
nightly = pytest.mark.nightly(
    "test_a_healer_that_was_away_…; tests/marketswarm/detector/test_restarts*.py have each case"
)
AWAY_SEC = 2 * TIMEOUT_SEC + 1
NOTED_SEC = 1.5
"""After which what happened while the healer listened is noted: it saves once a second."""
TOLD_SEC = 20.0
"""Within which of hearing them again a gap is told: a timeout, a lease, a start."""


@pytest.fixture
def scene(tmp_path) -> Iterator[Scene]:
    with Scene(tmp_path, SERVICES) as scene:
        noted(scene, SERVICES)
        scene.beaters["bare"].nameless.add("bare")
        scene.listen_for(NOTED_SEC)
        yield scene


def noted(scene: Scene, names: Iterable[str]) -> None:
    """Waits until the healer has saved a last beat of each, and how fast it beats."""

    def done() -> bool:
        notes = scene.system.cmd("HGETALL", "healer:heard")
        return all("pace_sec" in notes.get(name, "") for name in names)

    until(done, what=lambda: f"all to be noted: {scene.system.cmd('HGETALL', 'healer:heard')}")


def gaps(scene: Scene) -> dict[str, bool]:
    """Of whom a gap was told, and whether as a restart; each once. A stall of a beater's own is left out."""
    found = scene.log("heartbeat_gap")
    assert [event["id"] for event in scene.alerts.of("heartbeat_gap")] == [event["id"] for event in found]
    found = [event for event in found if not scene.is_of_a_stall(event)]
    told = {event["svc"]: event["restarted"] for event in found}
    assert len(told) == len(found), f"told twice: {found}"
    return told


def live_through(scene: Scene, away_sec: float = AWAY_SEC) -> None:
    """What the services do while nobody listens."""
    scene.beaters["anew"].restart("anew")
    scene.beaters["twice"].restart("twice")
    scene.beaters["bare"].restart("bare")
    scene.beaters["planned"].restart("planned")
    scene.beaters["hung"].stop("hung")
    fault_lasts(away_sec / 2)
    scene.beaters["twice"].restart("twice")
    fault_lasts(away_sec / 2)


def stop_one_in_order(scene: Scene) -> None:
    """Just before nobody listens."""
    scene.beaters["planned"].say_goodbye("planned")
    goodbye_noted(scene)


def goodbye_noted(scene: Scene) -> None:
    def noted() -> bool:
        return '"stopped":true' in (scene.system.cmd("HGET", "healer:heard", "planned") or "")

    until(noted, what="the goodbye to be noted")


def go_on(scene: Scene) -> None:
    scene.beaters["hung"].resume("hung")


def heard_out(scene: Scene) -> None:
    """Waits until all that could follow was told."""
    scene.listen_for(2 * TIMEOUT_SEC + WARM_UP_SEC, *BUSES)


def test_a_healer_that_was_away_tells_who_restarted_and_who_hung_and_nothing_of_the_others(scene):
    stop_one_in_order(scene)
    scene["healer"].kill()
    live_through(scene)
    scene["healer"].start()
    go_on(scene)
    for svc in ("anew", "twice", "hung"):
        gap = scene.alerts.wait("heartbeat_gap", svc, TOLD_SEC)
        assert gap["by"] == "healer"
        assert gap["id"].startswith(f"heartbeat_gap.{svc}.")
    heard_out(scene)
    assert gaps(scene) == {"anew": True, "twice": True, "hung": False}
    assert only(scene.log("heartbeat_gap", "hung"))["gap_sec"] >= AWAY_SEC / 2
    assert scene.misses() == []


@nightly
@pytest.mark.parametrize("end", ["kill", "freeze"])
def test_a_bus_that_was_away_leaves_the_restarts_to_tell_and_no_one_it_kept_from_beating(scene, end):
    stop_one_in_order(scene)
    scene.system.freeze() if end == "freeze" else scene.system.kill()
    live_through(scene)
    scene.system.thaw() if end == "freeze" else scene.system.start()
    go_on(scene)
    for svc in ("anew", "twice"):
        scene.wait_logged("heartbeat_gap", svc, within=TOLD_SEC)
    heard_out(scene)
    assert gaps(scene) == {"anew": True, "twice": True}
    assert scene.misses() == []


@nightly
@pytest.mark.parametrize("end", ["freeze the healer", "kill it and the buses"])
def test_a_healer_that_stood_still_or_was_away_with_its_buses_tells_the_same_once(scene, end):
    stop_one_in_order(scene)
    if end == "freeze the healer":
        scene["healer"].freeze()
        live_through(scene)
        scene["healer"].thaw()
    else:
        for process in (scene["healer"], *map(scene.server, BUSES)):
            process.kill()
        live_through(scene)
        scene["healer"].start()
        fault_lasts(0.5)
        for bus in BUSES:
            scene.server(bus).start()
    go_on(scene)
    for svc in ("anew", "twice", "hung"):
        scene.wait_logged("heartbeat_gap", svc, within=TOLD_SEC)
    heard_out(scene)
    assert gaps(scene) == {"anew": True, "twice": True, "hung": False}
    assert scene.misses() == []


@nightly
def test_a_whole_fleet_killed_and_started_again_is_told_service_by_service_once(tmp_path):
    many = {f"s{n}": service(BUSES[n % 2]) for n in range(20)}
    with Scene(tmp_path, many) as scene:
        noted(scene, many)
        scene["healer"].kill()
        scene.stop_beating(*many)
        for bus in BUSES:
            scene.server(bus).kill()
        fault_lasts(1)
        for bus in BUSES:
            scene.server(bus).start()
        for svc in many:
            scene.beaters[svc].restart(svc)
        scene["healer"].start()
        until(lambda: len(scene.log("heartbeat_gap")) >= len(many), TOLD_SEC, "all to be told")
        heard_out(scene)
        assert gaps(scene) == dict.fromkeys(many, True)
        assert scene.misses() == []


@nightly
def test_healers_that_come_and_go_before_and_after_it_is_told_tell_it_once(scene):
    scene["healer"].kill()
    scene.beaters["anew"].restart("anew")
    for run_sec in (0.5, 2.2, 6.0, 6.0):  # too short to lead, too short to be sure, and long enough
        scene["healer"].start()
        fault_lasts(run_sec)
        scene["healer"].kill()
    scene["healer"].start()
    scene.wait_logged("heartbeat_gap", "anew", within=TOLD_SEC)
    heard_out(scene)
    assert gaps(scene) == {"anew": True}
