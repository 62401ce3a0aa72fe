"""The runbooks of the reference: fresh init, force reseed, extend the system."""

from pathlib import Path

import orjson

from support.rig import Proc, Server
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
