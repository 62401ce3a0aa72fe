"""The runbooks of the operator's document and its known good checks, run as the page shows them."""

import contextlib
import json
import time

import pytest
import redis

from support.pages import get_command, shown
from support.rig.compose import AGENTS, BUSES, PAGE, WATCHED, begins_anew, patiently

pytestmark = pytest.mark.needs("redis-cli", "make")


def test_a_fresh_init_brings_up_all_of_it_and_the_known_good_checks_are_good(fleet):
    found = fleet.containers()
    assert not fleet.unhealthy()
    assert (found["bootstrap"].status, found["bootstrap"].exit_code) == ("exited", 0)
    for bus in BUSES:
        assert fleet.ask("GET", "truth:doc", bus=bus) == fleet.truth.read_text(encoding="utf-8")
    assert "marketswarm-bus" in fleet.script(get_command(PAGE, "Known good checks", "config"))
    for said in (fleet.script(get_command(PAGE, "Known good checks", "compose ps")), fleet.make("ps")):
        assert [svc for svc in (*BUSES, *AGENTS) if svc not in said] == []
    logs = fleet.script(get_command(PAGE, "Known good checks", "logs"))
    assert "listening" in logs
    assert "monitoring" in logs
    assert '"event":"vigil.monitoring"' in fleet.make("logs", "SVC=healer")


def test_all_are_heard_and_known_to_be_up(fleet):
    words = fleet.script(get_command(PAGE, "Quick status", "NUMSUB")).split()
    counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert counts.keys() == {f"{svc}:heartbeat" for svc in WATCHED}
    assert min(counts.values()) >= 1

    def well() -> bool:
        said = fleet.script(get_command(PAGE, "Quick status", "KEYS")).splitlines()
        found = [json.loads(line) for line in said if line]
        return {one["svc"] for one in found if one["type"] == "heartbeat_ok"} >= set(WATCHED)

    patiently(well, 30, "an ok for each")
    rows = {words[0]: words for words in map(str.split, fleet.make("status").splitlines()) if words}
    assert {svc: "up" in rows[svc] for svc in WATCHED} == dict.fromkeys(WATCHED, True)
    assert "rss_agg" in fleet.make("health", "ARGS=rss_agg")


def test_a_reseed_changes_nothing_that_is_the_same_and_brings_what_is_new(fleet):
    shipped = fleet.truth.read_text(encoding="utf-8")
    revision = fleet.revision()
    changed = shipped.replace("Watches the healer", "Watches over the healer")
    for text, seed in ((shipped, fleet.make), (changed, fleet.make), (shipped, fleet.script)):
        fleet.truth.write_text(text, encoding="utf-8")
        seed("seed" if seed == fleet.make else shown(PAGE, "Force reseed"))
        assert [fleet.ask("GET", "truth:doc", bus=bus) for bus in BUSES] == [text] * 2
        assert (fleet.revision() == revision) is (text is shipped and seed == fleet.make)


def test_a_new_password_is_in_force_and_the_old_one_is_refused(fleet):
    old, others = fleet.url(user="rss_agg"), fleet.passwords | {"rss_agg": ""}
    at = time.monotonic()
    with contextlib.closing(fleet.beats("rss_agg")) as heard:
        fleet.script(shown(PAGE, "New passwords"))
        begins_anew(heard, at)
    fleet.passwords_anew()
    assert fleet.url(user="rss_agg") != old
    assert fleet.passwords | {"rss_agg": ""} == others
    assert fleet.ask("PING", user="rss_agg")
    with redis.Redis.from_url(old) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    fleet.healthy()
