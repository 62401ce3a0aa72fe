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
