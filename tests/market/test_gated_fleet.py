"""`marketswarm up` with a gate that is closed: the fleet runs, and the readers start once the gate opens."""

import time

import orjson
import pytest

from support.fixtures import opened
from support.rig.process import HOST, Proc, free_port
from support.rig.receiver import Answer, Receiver
from support.rig.shell import Shell
from support.waiting import until

pytestmark = pytest.mark.live
BITCOIN = {"symbol": "BTC/USD", "asset": "crypto", "critical": True, "from": ["kraken"]}
TRUTH = {
    "services": {
        "sources": {
            "heartbeat": {"interval_sec": 1, "timeout_sec": 30},
            "endpoints": [BITCOIN],
            "settings": {"gate": {"patience_sec": 0}},
        },
        "bars": {
            "depends_on": ["sources"],
            "heartbeat": {"interval_sec": 1, "timeout_sec": 30},
            "endpoints": [{"symbols": ["BTC/USD"], "asset": "crypto"}],
        },
        "healer": {"threshold": {"heartbeat_cadence": 30}},
    }
}


def answer_as_kraken(_request):
    """Return an hour of minutes up to now, as Kraken does."""
    now = int(time.time()) // 60 * 60
    rows = [[at, "100", "102", "99", "101", "100", "10", 4] for at in range(now - 3600, now + 60, 60)]
    return Answer(200, {}, orjson.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": 0}}))


kraken = opened(Receiver)


@pytest.fixture
def shell(tmp_path):
    shell = Shell(tmp_path)
    shell.write(TRUTH)
    return shell


@pytest.fixture
def fleet(kraken, shell):
    urls = orjson.dumps({"kraken": f"http://{HOST}:{kraken.port}"}).decode()
    words = ("up", "--port", str(free_port()), "--no-board")
    with Proc("marketswarm", {"SOURCES_BASE_URLS": urls}, shell.folder, *words) as fleet:
        yield fleet


def test_a_fleet_whose_gate_is_closed_runs_and_its_readers_start_when_it_opens(kraken, shell, fleet):
    kraken.always = 500
    assert fleet.wait_log("gate.waiting", 60)["services"] == ["bars"]
    assert fleet.wait_log("fleet.up", 60)["agents"] == ["sources", "healer"]
    assert "sources" in [line.split()[0] for line in shell("status").stdout.splitlines() if " up " in line]
    kraken.choose = answer_as_kraken
    assert fleet.wait_log("gate.open", 60)["loaded"] == 1
    until(lambda: "all 3 up" in shell("status").stdout, 60, fleet.text)
    assert fleet.stop(15) == 0


def test_a_fleet_that_is_ended_while_its_gate_waits_for_an_answer_leaves_nothing_behind(kraken, fleet):
    kraken.always = Answer(hang=True)
    until(lambda: kraken.seen, 60, fleet.text)
    assert fleet.stop(15) == 0
    assert fleet.logs("fleet.stopped")
