"""What every service owes: frozen buses cost it nothing but beats, however impatient its watchdog is."""

import contextlib
import time

import orjson
import pytest

from support.postgres import Postgres
from support.rig import free_port
from support.scenes.agent import Scene, seed
from support.waiting import until

HEARTBEAT = {"interval_sec": 0.2, "timeout_sec": 3}
FEEDS = [{"url": f"http://127.0.0.1:{free_port()}/", "name": "nobody"}]
SERIES = [
    {"symbol": "BTC/USDT", "asset": "crypto", "kind": "quotes", "from": ["binance"], "every_sec": 1},
]
TRUTH = {
    "services": {
        "rss_agg": {"heartbeat": HEARTBEAT, "endpoints": FEEDS, "settings": {"poll_sec": 0.5}},
        "massive": {
            "heartbeat": HEARTBEAT,
            "settings": {"probe_sec": 0.3, "targets": [{"name": "market", "bus": "market-redis"}]},
        },
        "mesh": {"heartbeat": HEARTBEAT},
        "vexy_ai": {"heartbeat": HEARTBEAT},
        "sources": {"heartbeat": HEARTBEAT, "endpoints": SERIES},
        "bars": {"heartbeat": HEARTBEAT, "endpoints": [{"symbols": ["BTC/USDT"], "asset": "crypto"}]},
        "archive": {"heartbeat": HEARTBEAT},
        "board": {"heartbeat": HEARTBEAT},
    }
}


@pytest.mark.parametrize("svc", TRUTH["services"])
@pytest.mark.parametrize("which", ["system", "market", "both"])
def test_frozen_buses_are_not_taken_for_a_hang_of_its_own(tmp_path, svc, which):
    with Scene(tmp_path) as scene, contextlib.ExitStack() as ends:
        seed(scene.buses, TRUTH, 1)
        agent = scene.module(f"services.{svc}", WATCHDOG_SEC="2.5", **_give_parts(svc, ends))
        until(lambda: scene.beat(svc).get("i", 0) >= 5, 20, f"five beats of {agent}")
        frozen = scene.buses if which == "both" else [getattr(scene, which)]
        for server in frozen:
            server.freeze()
        if which == "market":  # its beats go to the other bus, and must not know of it
            before = scene.beat(svc)["i"]
            until(lambda: scene.beat(svc)["i"] > before + 20, 15)
        else:
            frozen_for = time.monotonic() + 6
            until(lambda: time.monotonic() > frozen_for or not agent.running, 7)
        assert agent.running, agent.text()[-2000:]
        for server in frozen:
            server.thaw()
        before = scene.beat(svc).get("i", 0)
        until(lambda: scene.beat(svc).get("i", 0) > before + 3, 15)
        assert agent.stop() == 0
        assert "Traceback" not in agent.text()


def _give_parts(svc, ends):
    """Return what a service needs beside the buses; what that starts ends with `ends`."""
    if svc == "archive":
        return {"DATABASE_URL": ends.enter_context(Postgres()).new_database()}
    if svc == "board":
        return {"BOARD_PORT": str(free_port())}
    if svc == "sources":  # nobody answers there
        return {"SOURCES_BASE_URLS": orjson.dumps({"binance": f"http://127.0.0.1:{free_port()}"}).decode()}
    return {}
