"""FAILURES row 36: SIGTERM, to any agent at any time. Bootstrap's own is in test_bootstrap."""

import signal
import socket
from collections.abc import Iterable, Iterator

import orjson
import pytest

from support.rig import HOST, Proc, free_port
from support.scenes.faults import SLACK, Scene, service

STOP_SEC = 5.0
AGENTS = ("rss_agg", "massive", "mesh", "vexy_ai", "healer", "sentinel", "notifier")


@pytest.fixture
def tar_pit() -> Iterator[int]:
    """A port that takes connections and never says a word: whoever reads from it is mid-work."""
    with socket.create_server((HOST, 0)) as listening:
        yield listening.getsockname()[1]


def services(pit: int) -> dict:
    # a timeout that outlasts a busy machine's stops: their goodbyes are read when all have ended
    found = {name: service(timeout_sec=10) for name in AGENTS if name != "healer"}
    feed = {"name": "pit", "url": f"http://{HOST}:{pit}/feed"}
    found["rss_agg"] |= {"endpoints": [feed], "settings": {"timeout_sec": 30}}
    target = {"name": "pit", "host": HOST, "port": pit}
    found["massive"] |= {"settings": {"probe_sec": 0.2, "targets": [target]}}
    return found


def ended(programs: Iterable[Proc]) -> None:
    """All end as asked, in time, without a traceback."""
    for program in programs:
        program.signal(signal.SIGTERM)
    for program in programs:
        assert program.wait(SLACK * STOP_SEC) == 0, program
        assert "Traceback" not in program.text(), program


def test_row_36_agents_asked_to_stop_mid_work_say_goodbye_and_end_with_0(tmp_path, tar_pit):
    with Scene(tmp_path, services(tar_pit), AGENTS) as scene:
        ended(scene.agents.values())
        for name in AGENTS:
            beat = orjson.loads(scene.system.cmd("GET", f"beat:{name}"))
            assert beat["status"] == "stopping", beat
        assert scene.misses() == []


def test_row_36_agents_asked_to_stop_while_both_buses_hang_end_with_0(tmp_path, tar_pit):
    with Scene(tmp_path, services(tar_pit), AGENTS) as scene:
        scene.system.freeze()
        scene.market.freeze()
        ended(scene.agents.values())
        scene.system.thaw()
        scene.market.thaw()
        assert scene.misses() == []


def test_row_36_agents_asked_to_stop_before_there_is_a_bus_end_with_0(tmp_path):
    env = {f"{bus}_REDIS_URL": f"redis://{HOST}:{free_port()}" for bus in ("SYSTEM", "MARKET")}
    programs = []
    try:
        for name in AGENTS:
            module = name if name in ("healer", "sentinel", "notifier") else f"services.{name}"
            programs.append(Proc(module, env, tmp_path))
        for program in programs:
            program.wait_log("truth.waiting")
        ended(programs)
    finally:
        for program in programs:
            program.close()
