"""The words of the Makefile mean the fleet in containers, where that is the one that runs."""

import json

import pytest

from support.rig.compose import AGENTS, BUSES, WATCHED, patiently

pytestmark = pytest.mark.needs("make")


def test_make_ps_and_logs_show_what_runs_and_what_it_says(fleet):
    said = fleet.make("ps")
    assert [service for service in (*BUSES, *AGENTS) if service not in said] == []
    assert '"event":"vigil.monitoring"' in fleet.make("logs", "SVC=healer")


def test_make_status_and_health_say_that_all_are_up(fleet):
    patiently(lambda: all(fleet.ask("GET", f"health:{svc}") for svc in WATCHED), 30, "the health of each")
    rows = {words[0]: words for words in map(str.split, fleet.make("status").splitlines()) if words}
    assert {svc: "up" in rows[svc] for svc in WATCHED} == dict.fromkeys(WATCHED, True)
    assert "rss_agg" in fleet.make("health", "ARGS=rss_agg")


def test_make_seed_brings_a_truth_into_both_buses(fleet):
    shipped, revision = fleet.truth.read_text(encoding="utf-8"), fleet.revision()
    fleet.make("seed")
    assert fleet.revision() == revision
    truth = json.loads(shipped)
    truth["services"]["mesh"]["description"] = "another one"
    fleet.truth.write_text(json.dumps(truth), encoding="utf-8")
    fleet.make("seed")
    assert [json.loads(fleet.ask("GET", "truth:doc", bus=bus)) for bus in BUSES] == [truth] * 2
    fleet.truth.write_text(shipped, encoding="utf-8")
    fleet.make("seed")


def test_make_simulate_stops_a_service_and_starts_it_again(hasty):
    begun = len(hasty.told())
    hasty.make("simulate", "SVC=rss_agg")
    told = [(event["type"], event["svc"]) for event in hasty.told()[begun:]]
    assert told == [("heartbeat_miss", "rss_agg"), ("heartbeat_ok", "rss_agg")]
