"""`marketswarm topology` as a user runs it, with a picture that mesh might have written."""

import orjson
import pytest

from support.waiting import PATIENT_SEC, until

pytestmark = pytest.mark.live

ITEMS = {"bus": "market-redis", "key": "rss:items"}
TRUTH = {
    "services": {
        "rss_agg": {"access_points": {"publish_to": [ITEMS]}},
        "vexy_ai": {"access_points": {"subscribe_to": [ITEMS]}},
        "mesh": {},
    }
}


def write(server, name, kept_sec, left_sec, **found):
    server.cmd("SET", name, orjson.dumps({"kept_sec": kept_sec, **found}), "PX", round(1000 * left_sec))


def dress(server, age_sec=1.0):
    instance = {
        "boot": "b00t",
        "host": "web1",
        "version": "0.3.0",
        "rev": 1,
        "uptime_sec": 50,
        "status": "ok",
    }
    write(
        server,
        "mesh:topology",
        86_400,
        86_400 - age_sec,
        ts=100.0,
        services={"rss_agg": {"instances": [instance]}},
    )
    keys = [{**ITEMS, "kind": "stream", "length": 12, "rate": 1.25}]
    reads = [{**ITEMS, "svc": "vexy_ai", "does": "reads", "group": "vexy_ai", "lag": 3}]
    wrong = [{**ITEMS, "what": "falls_behind", "svc": "vexy_ai", "text": "\x1b[31mit falls behind"}]
    write(server, "mesh:flow", 3600, 3600 - age_sec, keys=keys, edges=reads, faults=wrong)


@pytest.fixture
def market(shell, buses):
    shell.write(TRUTH)
    assert shell("seed").returncode == 0
    return buses


def test_it_says_first_that_mesh_is_down_before_its_picture_is_old(shell, market):
    dress(market[0])
    market[0].cmd("HSET", "healer:roster", "mesh", orjson.dumps({"verdict": "down"}))
    assert shell.said("topology").splitlines()[0] == "mesh is down: the tables show what it saw last"
    market[0].cmd("HSET", "healer:roster", "mesh", orjson.dumps({"verdict": "up"}))
    assert "mesh is down" not in shell.said("topology")


def test_it_draws_who_runs_what_flows_and_what_is_wrong(shell, market):
    dress(market[0])
    ended = shell("topology")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\x1b" not in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 80
    assert "rss_agg  b00t  web1  0.3.0" in ended.stdout
    assert "rss_agg →  rss:items  1.2/s, 12 entries  → vexy_ai (lag 3)" in ended.stdout
    assert "✗ rss:items on market-redis: \\x1b[31mit falls behind" in ended.stdout
    dress(market[0])  # a busy machine may have made it old
    found = orjson.loads(shell("topology", "--json").stdout)
    assert (found["revision"], found["live"]) == (1, True)
    assert found["flows"][0]["readers"][0]["lag"] == 3
    assert 'k0[("rss:items<br/>1.2/s, 12 entries")]' in shell("topology", "--mermaid").stdout
    assert 'k0 -> s1 [label="lag 3"];' in shell("topology", "--dot").stdout
    plain = shell("topology", PYTHONIOENCODING="ascii").stdout
    assert "rss_agg >  rss:items" in plain
    assert "x rss:items on market-redis" in plain


def test_without_mesh_or_with_an_old_picture_it_draws_the_truth_and_says_so(shell, market):
    ended = shell("topology")
    assert ended.returncode == 0
    assert "mesh has written no mesh:flow: what flows is drawn from the truth alone" in ended.stdout
    assert "rss_agg →  rss:items    → vexy_ai" in ended.stdout
    dress(market[0], age_sec=40.0)
    ended = shell("topology")
    assert " s old: what flows is drawn from the truth alone" in ended.stdout
    assert "who runs is not known" in ended.stdout
    assert "12 entries" not in ended.stdout
    market[0].stop()
    ended = shell("topology")
    assert ended.returncode == 0
    assert "bus system-redis does not answer: refused" in ended.stdout


def test_a_file_is_drawn_without_any_server(shell):
    shell.write(TRUTH)
    ended = shell("topology", "--file", "truth.json", "--mermaid")
    assert ended.returncode == 0
    assert ended.stdout.startswith("flowchart LR\n")
    ended = shell("topology", "--file", "nothing.json")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert shell("topology", "--dot", "--mermaid").returncode == 2


def test_it_can_be_watched_while_a_bus_comes_and_goes(shell, market):
    dress(market[0])
    with shell.start("topology", "--watch", "--json") as watching:
        assert orjson.loads(watching.stdout.readline())["live"] is True
        for server in market:
            server.stop()
        until(lambda: "no bus answered" in watching.stdout.readline())
        market[1].start()
        until(lambda: '"rss:items"' in watching.stdout.readline())
        watching.send_signal(2)
        assert watching.wait(PATIENT_SEC) == 0
        assert watching.stderr.read() == ""
