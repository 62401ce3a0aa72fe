"""The embedded fleet with real agents, from `up` to Ctrl-C, by the commands that a newcomer types."""

import os
import re
import signal
from pathlib import Path
from typing import cast

import orjson
import pytest
from redis import Redis

from support.rig import AlertTail, Proc, free_port
from support.rig.shell import Shell
from support.waiting import PATIENT_SEC, until

pytestmark = pytest.mark.live


def section(svc: str, interval_sec: float = 0.4, timeout_sec: float = 6, **more):
    heartbeat = {"channel": f"{svc}:heartbeat", "interval_sec": interval_sec, "timeout_sec": timeout_sec}
    return {"heartbeat": heartbeat, **more}


TRUTH = {
    # as shipped: names that only containers know
    "buses": {name: {"url": f"redis://{name}:6379"} for name in ("system-redis", "market-redis")},
    "services": {
        "rss_agg": section("rss_agg", timeout_sec=3, endpoints=[], settings={"poll_sec": 1}),
        "mesh": section("mesh"),
        "healer": section("healer", interval_sec=1.5, threshold={"heartbeat_cadence": 1.6}),
        "sentinel": section("sentinel"),
    },
}


class Embedded:
    """A fleet that runs in `folder`, and the commands in that folder."""

    def __init__(self, folder: Path) -> None:
        self.port, self.shell = free_port(), Shell(folder)
        self.shell.write(TRUTH)
        self.up = Proc("marketswarm", {}, folder, "up", "--port", str(self.port))

    def row(self, svc: str) -> dict:
        rows = orjson.loads(self.shell.said("status", "--json"))["services"]
        return next(row for row in rows if row["svc"] == svc)


@pytest.fixture
def fleet(tmp_path):
    fleet = Embedded(tmp_path)
    with fleet.up:
        fleet.up.wait_log("fleet.up", 60)
        yield fleet


def test_from_up_to_ctrl_c_over_a_simulation_a_kill_and_a_reseed(fleet):
    with AlertTail(f"redis://127.0.0.1:{fleet.port}") as tail:
        rows = orjson.loads(fleet.shell.said("status", "--json"))["services"]
        assert {row["svc"]: row["verdict"] for row in rows} == dict.fromkeys(TRUTH["services"], "up")

        said = fleet.shell.said("simulate", "rss_agg").splitlines()
        assert "rss_agg stopped in" in said[0]
        assert re.fullmatch(
            r"its last beat was at [0-9:]{8}: the healer misses it 3 s after that, in [0-9.]+ s", said[1]
        )
        assert "✗ rss_agg is down" in said[2]
        assert "✓ rss_agg is up again, after" in said[4]
        assert [event["type"] for event in tail.of(svc="rss_agg")] == ["heartbeat_miss", "heartbeat_ok"]

        lines = fleet.shell.said("simulate", "rss_agg", "--json").splitlines()
        steps = [orjson.loads(line) for line in lines]
        assert [each["event"]["type"] for each in steps] == ["heartbeat_miss", "heartbeat_ok"]
        assert all(0 < each["after_sec"] < PATIENT_SEC for each in steps)

        boot = fleet.row("mesh")["boot"]
        assert "killed" in fleet.shell.said("kill", "mesh")
        until(lambda: fleet.row("mesh")["boot"] not in (None, boot))

        assert orjson.loads(fleet.shell.said("health", "rss_agg", "--json"))["type"] == "heartbeat_ok"
        assert past(fleet)[0] == "heartbeat_miss"
        assert {event["svc"] for event in tail.of()} <= {"rss_agg", "mesh"}  # nobody who lived

    end_simulations_by_signals(fleet)
    reseed_from_another_terminal(fleet)
    os.killpg(fleet.up.pid, signal.SIGINT)
    assert fleet.up.wait(PATIENT_SEC) == 0


def past(fleet: Embedded) -> list[str]:
    """What `alerts --since` tells of rss_agg, from its miss to its ok."""
    told: list[str] = []
    with fleet.shell.start("alerts", "--since", "1h", "--json") as alerts:
        while told[-1:] != ["heartbeat_ok"] or len(told) < 2:
            event = orjson.loads(alerts.stdout.readline())
            if event["svc"] == "rss_agg" and ("down_sec" in event or event["type"] == "heartbeat_miss"):
                told.append(event["type"])
        alerts.kill()
    return told


def end_simulations_by_signals(fleet: Embedded) -> None:
    """The service that each of them stopped is started again."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        with fleet.shell.start("simulate", "rss_agg") as simulating:
            assert "stopped in" in simulating.stdout.readline()
            simulating.stdout.readline()
            simulating.send_signal(number)
            assert "rss_agg starts" in simulating.stdout.read()
            assert simulating.wait(PATIENT_SEC) == code
    until(lambda: fleet.row("rss_agg")["verdict"] == "up")


def reseed_from_another_terminal(fleet: Embedded) -> None:
    """The new truth reaches the agents."""
    truth = orjson.loads((fleet.shell.folder / "truth.json").read_bytes())
    truth["services"]["rss_agg"]["tags"] = ["new"]
    fleet.shell.write(truth)
    assert "is revision 2 on" in fleet.shell.said("seed")
    until(lambda: fleet.row("rss_agg")["rev"] == 2)


SLOW = """
import sys
import time

time.sleep(4)
from marketswarm.cli import main

sys.argv = ["marketswarm", "beat", "slow", "--every", "0.3s"]
main()
"""


def test_nothing_is_missed_that_only_takes_long_to_start_at_first_and_after_a_planned_restart(tmp_path):
    (tmp_path / "services/slow").mkdir(parents=True)
    (tmp_path / "services/slow/__main__.py").write_text(SLOW, encoding="utf-8")
    shell, port = Shell(tmp_path), free_port()
    names = ("healer", "sentinel")
    services = {name: TRUTH["services"][name] for name in names} | {"slow": section("slow", timeout_sec=1.5)}
    shell.write({"services": services})
    for _ in range(2):
        with Proc("marketswarm", {}, tmp_path, "up", "--port", str(port)) as up:
            up.wait_log("fleet.up", 60)
            with Redis(port=port) as bus:
                entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", bus.xrange("healer:alerts:log"))
            os.killpg(up.pid, signal.SIGINT)
            assert up.wait(PATIENT_SEC) == 0
        events = [orjson.loads(fields[b"event"]) for _, fields in entries]
        assert {event["svc"] for event in events} >= {"healer", "slow"}
        assert [event for event in events if event["type"].endswith("_miss")] == []
