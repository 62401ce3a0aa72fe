"""What every service owes: frozen buses cost it nothing but beats, however impatient its watchdog is."""

import orjson

from support.rig import free_port
from support.scenes.agent import Scene, seed
from support.waiting import until

HEARTBEAT = {"interval_sec": 0.2, "timeout_sec": 3}
WATCHDOG_SEC = 3
FEEDS = [{"url": f"http://127.0.0.1:{free_port()}/", "name": "nobody"}]
SERIES = [
    {"symbol": "BTC/USDT", "asset": "crypto", "kind": "quotes", "from": ["binance"], "every_sec": 1},
]
SERVICES = {
    "rss_agg": {"endpoints": FEEDS, "settings": {"poll_sec": 0.5}},
    "massive": {"settings": {"probe_sec": 0.3, "targets": [{"name": "market", "bus": "market-redis"}]}},
    "mesh": {},
    "vexy_ai": {},
    "sources": {"endpoints": SERIES},
    "bars": {"endpoints": [{"symbols": ["BTC/USDT"], "asset": "crypto"}]},
    "archive": {},
    "board": {},
}
HANGS_ON_DEMAND = """
        while not os.path.exists(os.environ["HANG"]):
            await me.rest(0.05)
        while True:
            time.sleep(60)
"""


def test_frozen_buses_are_not_taken_for_a_hang_of_its_own_by_any_service(tmp_path, archive_url):
    """Agents that hang on demand show when a watchdog that was wrong would have ended a service."""
    parts = {
        "archive": {"DATABASE_URL": archive_url},
        "board": {"BOARD_PORT": str(free_port())},
        # no source answers there
        "sources": {
            "SOURCES_BASE_URLS": orjson.dumps({"binance": f"http://127.0.0.1:{free_port()}"}).decode()
        },
    }
    with Scene(tmp_path) as scene:
        sections = {svc: each | {"heartbeat": HEARTBEAT} for svc, each in (SERVICES | {"probe": {}}).items()}
        seed(scene.buses, {"services": sections}, 1)
        patience = {"WATCHDOG_SEC": str(WATCHDOG_SEC)}
        agents = {svc: scene.module(f"services.{svc}", **patience, **parts.get(svc, {})) for svc in SERVICES}
        hangers = [scene.agent(HANGS_ON_DEMAND, HANG=f"hang-{number}", **patience) for number in range(3)]

        def wait_for_beats(count):
            before = {svc: scene.beat(svc).get("i", 0) for svc in agents}
            for svc, agent in agents.items():
                until(lambda svc=svc: scene.beat(svc).get("i", 0) >= before[svc] + count, what=agent)

        def outlast_a_watchdog(number):
            (tmp_path / f"hang-{number}").touch()
            assert hangers[number].wait(30) == 5
            assert [svc for svc, agent in agents.items() if not agent.running] == []

        wait_for_beats(5)
        for hanger in hangers:
            hanger.wait_log("agent.joined")
        scene.market.freeze()
        wait_for_beats(WATCHDOG_SEC * 6)  # beats go to the other bus, and do not know of it
        scene.system.freeze()
        outlast_a_watchdog(0)
        outlast_a_watchdog(1)
        scene.market.thaw()
        outlast_a_watchdog(2)
        scene.system.thaw()
        wait_for_beats(3)
        for agent in agents.values():
            assert agent.stop() == 0
            assert "Traceback" not in agent.text()
