"""The runbooks of the operator's document and its known good checks, run as the page shows them."""

import json
import subprocess
from pathlib import Path

import pytest

from support.pages import shown
from support.rig.compose import AGENTS, BUSES, PAGE, WATCHED, patiently
from support.rig.process import Process

pytestmark = pytest.mark.needs("redis-cli")


class Subscriber(Process):
    """A command of a page that goes on until it is ended; what it printed so far is its `text`."""

    def __init__(self, line: str, output: Path) -> None:
        super().__init__()
        self.output = output
        with output.open("wb") as sink:
            self.spawn(["bash", "-c", f"exec {line}"], stdout=sink, stderr=subprocess.STDOUT)

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def events(self, svc: str) -> list[dict[str, object]]:
        """The JSON that it printed about one service."""
        lines = (line for line in self.text().splitlines() if line.startswith("{"))
        return [event for event in map(json.loads, lines) if event["svc"] == svc]


def line(heading: str, part: str) -> str:
    """The one command under a heading that has `part` in it, without its remark."""
    commands = shown(PAGE, heading).replace("\\\n", " ").splitlines()
    [found] = [command for command in commands if part in command]
    return found.partition("  #")[0].strip()


def test_a_fresh_init_brings_up_all_of_it(fleet):
    found = fleet.containers()
    assert not fleet.unhealthy()
    assert (found["bootstrap"].status, found["bootstrap"].exit_code) == ("exited", 0)
    assert {found[svc].restarts for svc in (*BUSES, *AGENTS)} == {0}
    for bus in BUSES:
        assert fleet.ask("GET", "truth:doc", bus=bus) == fleet.truth.read_text(encoding="utf-8")


def test_the_healer_is_subscribed_to_every_heartbeat(fleet):
    words = fleet.script(line("Quick status", "NUMSUB")).split()
    counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert counts.keys() == {f"{svc}:heartbeat" for svc in WATCHED}
    assert min(counts.values()) >= 1


def test_the_latest_health_is_there_for_every_service(fleet):
    def well() -> bool:
        found = [json.loads(said) for said in fleet.script(line("Quick status", "KEYS")).splitlines() if said]
        return {one["svc"] for one in found if one["type"] == "heartbeat_ok"} >= set(WATCHED)

    patiently(well, 30, "an ok for each")


def outages(tail: Subscriber) -> list[dict]:
    """Of rss_agg; that it restarted while a bus was away, in a test before, may be told a timeout later."""
    return [event for event in tail.events("rss_agg") if event["type"] != "heartbeat_gap"]


def test_a_simulated_failure_is_seen_by_who_subscribes(fleet, tmp_path):
    with Subscriber(fleet.here(line("Quick status", "SUBSCRIBE")), tmp_path / "alerts") as tail:
        patiently(lambda: "healer:alerts" in tail.text(), 10, "a subscription")
        fleet.script(line("Simulate a failure", "stop"))
        patiently(lambda: outages(tail), 60, "the miss")
        fleet.script(line("Simulate a failure", "start"))
        patiently(lambda: len(outages(tail)) > 1, 30, "the ok")
        miss, ok = outages(tail)
    assert (miss["type"], miss["timeout_sec"], miss["reason"]) == ("heartbeat_miss", 30.0, "stopped")
    assert 30 <= miss["late_sec"] < 40
    assert (ok["type"], ok["svc"]) == ("heartbeat_ok", "rss_agg")
    assert list(miss)[:5] == ["type", "svc", "late_sec", "timeout_sec", "ts"]


def test_a_forced_reseed_changes_nothing_that_is_the_same_and_brings_what_is_new(fleet):
    shipped = fleet.truth.read_text(encoding="utf-8")
    revision = fleet.revision()
    fleet.script(shown(PAGE, "Force reseed"))
    assert fleet.revision() == revision
    changed = shipped.replace("Watches the healer", "Watches over the healer")
    fleet.seed(changed)
    assert [fleet.ask("GET", "truth:doc", bus=bus) for bus in BUSES] == [changed] * 2
    fleet.seed(shipped)
    assert [fleet.ask("GET", "truth:doc", bus=bus) for bus in BUSES] == [shipped] * 2


def test_the_known_good_checks_are_good(fleet):
    assert "marketswarm-bus" in fleet.script(line("Known good checks", "config"))
    said = fleet.script(line("Known good checks", "compose ps"))
    assert [svc for svc in (*BUSES, *AGENTS) if svc not in said] == []
    logs = fleet.script(line("Known good checks", "logs"))
    assert "listening" in logs
    assert "monitoring" in logs
