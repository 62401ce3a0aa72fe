"""The runbooks of the reference: fresh init, force reseed, extend the system."""

from pathlib import Path

import orjson
import pytest

from support.rig import AlertTail, Proc, Server
from support.scenes.faults import BUSES, Scene, service
from support.waiting import until

SHIPPED = Path(__file__).parents[2] / "truth.json"
AGENTS = ("rss_agg", "massive", "mesh", "vexy_ai", "healer", "sentinel", "notifier")


def held(server: Server) -> list:
    """What a bus holds of the truth, byte for byte."""
    words = (("GET", "truth:doc"), ("HGETALL", "truth:meta"), ("XRANGE", "truth:history", "-", "+"))
    document, meta, history = (server.cmd(*each) for each in words)
    return [document, meta, [fields for _, fields in history]]


def test_a_fresh_init_with_the_shipped_truth_brings_every_agent_up(tmp_path):
    with Server(tmp_path / "system-redis") as system, Server(tmp_path / "market-redis") as market:
        env = {"SYSTEM_REDIS_URL": system.url, "MARKET_REDIS_URL": market.url, "TRUTH_PATH": str(SHIPPED)}
        programs = {}
        try:
            for name in AGENTS:  # in any order: those who come first wait for the truth
                module = name if name in ("healer", "sentinel", "notifier") else f"services.{name}"
                programs[name] = Proc(module, env, tmp_path)
            programs["healer"].wait_log("truth.waiting")
            with Proc("bootstrap", env, tmp_path) as bootstrap:
                assert bootstrap.wait() == 0, bootstrap
            names = set(AGENTS) - {"healer"}

            def well() -> set[str]:
                found = {name: orjson.loads(system.cmd("GET", f"health:{name}") or "{}") for name in names}
                return {name for name, event in found.items() if event.get("type") == "heartbeat_ok"}

            until(lambda: well() == names, what="all to be well")
            for name in names:
                assert system.cmd("PUBSUB", "NUMSUB", f"{name}:heartbeat")[1] >= 1
                assert orjson.loads(system.cmd("GET", f"beat:{name}"))["rev"] == 1
            assert system.cmd("GET", "truth:doc").encode() == SHIPPED.read_bytes()
            assert held(system) == held(market)
            # who beat before mesh heard is shown with its next beat
            until(lambda: shown(system) >= names, what="mesh to show all")
            assert all(program.running for program in programs.values())
        finally:
            for program in programs.values():
                program.close()


def shown(system: Server) -> set[str]:
    return set(orjson.loads(system.cmd("GET", "mesh:topology") or "{}").get("services", {}))


def test_a_forced_reseed_changes_nothing_and_disturbs_nobody(tmp_path):
    patient = service(timeout_sec=5)  # a busy machine holds up beats for longer than the usual 1.5 s
    with (
        Scene(tmp_path, {"rss_agg": patient, "alpha": patient}, ("healer", "rss_agg")) as scene,
        AlertTail(scene.system.url, "truth:changed") as changes,
    ):
        before = [held(server) for server in (scene.system, scene.market)]
        assert before[0] == before[1]
        for _ in range(2):
            scene.seed(scene.truth)
        assert [held(server) for server in (scene.system, scene.market)] == before
        scene.listen_for(2)
        assert changes.seen == []
        assert scene.alerts.of() == []
        assert scene["healer"].logs("truth.applied") == []


@pytest.mark.parametrize(
    "bus", [BUSES[1], pytest.param(BUSES[0], marks=pytest.mark.nightly("[market-redis]"))]
)
def test_a_new_service_needs_its_section_and_a_reseed_and_nothing_else(tmp_path, bus):
    with Scene(tmp_path, {"alpha": service(timeout_sec=5)}) as scene:
        healer = scene.truth["services"]["healer"]
        healer["access_points"]["subscribe_to"] = [{"bus": "system-redis", "key": "alpha:heartbeat"}]
        scene.seed(scene.truth)
        until(lambda: scene["healer"].logs("truth.applied"), what="the first reseed")
        section = {"heartbeat": {"channel": "new_svc:heartbeat", "interval_sec": 0.25}}
        section["heartbeat"]["redis_url"] = f"redis://{bus}:6379"
        scene.truth["services"]["new_svc"] = section  # subscribe_to stays as it is
        scene.seed(scene.truth)
        where = scene.server(bus)
        until(lambda: where.cmd("PUBSUB", "NUMSUB", "new_svc:heartbeat")[1] >= 1, what="a listener")
        # it is expected from the moment it is in the truth
        miss = scene.alerts.wait("heartbeat_miss", "new_svc")
        assert (miss["reason"], "since" in miss) == ("never_seen", False)
        scene.beat("new_svc", section["heartbeat"])
        assert "down_sec" not in scene.alerts.wait("heartbeat_ok", "new_svc")
        scene.stop_beating("new_svc")
        scene.alerts.wait("heartbeat_miss", "new_svc", count=2)
        assert scene.misses() == ["new_svc", "new_svc"]


def test_a_truth_seeded_on_one_bus_alone_is_put_on_the_other_under_its_revision(tmp_path):
    with Scene(tmp_path, {"alpha": service()}) as scene:
        scene.market.cmd("DEL", "truth:doc", "truth:meta", "truth:history")
        scene.seed(scene.truth)
        assert held(scene.system) == held(scene.market)
        assert scene.market.cmd("HGET", "truth:meta", "revision") == "1"
        scene.listen_for(1)
        assert scene.alerts.of() == []
