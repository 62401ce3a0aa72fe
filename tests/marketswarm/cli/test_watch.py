"""`marketswarm watch`, the short way to add a page, and `history` of a target."""

import json
import time

import orjson
import pytest

from marketswarm.cli.add import make_page_name
from marketswarm.status.probe_past import RECORD_BYTES
from support.rig.shell import Shell
from support.waiting import until

TEXT = '{\n  "services": {\n    "healer": {},   "board":{},\n    "mesh": {}\n  }\n}\n'
URL = "https://shop.example/health"
NO_BUS = {"SYSTEM_REDIS_URL": "redis://127.0.0.1:1", "MARKET_REDIS_URL": "redis://127.0.0.1:1"}
live = pytest.mark.live


@pytest.fixture
def written(shell):
    """A truth file, and no bus."""
    shell.write(TEXT.encode())
    shell.env |= NO_BUS
    return shell


@pytest.fixture
def fleet(shell, buses):
    shell.write(TEXT.encode())
    shell.said("seed")
    return buses


def read(shell: Shell) -> str:
    return (shell.folder / "truth.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (URL, "shop.example"),
        ("http://Shop.Example:8080/", "shop.example:8080"),
        ("http://[::1]:80/", "::1:80"),
        ("shop.example", "shop.example"),
        ("http://[", "http://["),
        ("https://h:99999/", "https://h:99999/"),
    ],
)
def test_a_page_is_called_by_its_host(url, name):
    assert make_page_name(url) == name


def test_it_writes_what_add_page_writes(written):
    options = ("--every", "60s", "--timeout", "5s", "--expect-status", "200", "--expect-status", "401")
    said = written.said("watch", URL, *options, "--yes")
    assert "truth.json is written; no bus answers, so seed it later" in said
    watched = read(written)
    (target,) = json.loads(watched)["services"]["massive"]["settings"]["targets"]
    assert target == {
        "name": "shop.example",
        "url": URL,
        "status": [200, 401],
        "every_sec": 60,
        "timeout_sec": 5,
    }
    written.write(TEXT.encode())
    written.said("add", "page", "shop.example", URL, *options, "--yes")
    assert read(written) == watched


def test_a_status_is_changed_and_removed_again(written):
    written.said("watch", URL, "--name", "shop", "--yes")
    before = read(written)
    written.said("edit", "massive/shop", "--expect-status", "204", "--yes")
    assert json.loads(read(written))["services"]["massive"]["settings"]["targets"][0]["status"] == [204]
    written.said("edit", "massive/shop", "--expect-status", "", "--yes")
    assert json.loads(read(written)) == json.loads(before)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((URL, "--expect-status", "ok"), "status[0]: "),
        ((URL, "--expect-status", "99"), "status[0]: "),
        (("shop.example",), "must be https://host/… or http://host/…"),
        (("https://kim:secret@shop.example/",), "a password or key in a URL"),
        ((URL, "--every", "2d"), "every_sec"),
    ],
)
def test_what_validate_refuses_is_refused_in_its_words(written, words, said):
    refused = written("watch", *words, "--yes")
    assert (refused.returncode, read(written)) == (2, TEXT)
    assert refused.stderr.startswith("marketswarm: nothing changed: truth.json: 1 problem\n")
    assert said in refused.stderr
    assert "secret" not in refused.stderr


def test_a_host_that_is_probed_already_needs_another_name(written):
    written.said("watch", URL, "--yes")
    refused = written("watch", "https://shop.example/other", "--yes")
    assert (refused.returncode, "the truth has a page massive/shop.example already" in refused.stderr) == (
        2,
        True,
    )
    written.said("watch", "https://shop.example/other", "--name", "other", "--yes")


RESULT = {"target": "shop.example", "ok": True, "ts": 1.0, "kind": "https", "where": URL, "stage": "done",
          "total_ms": 43.2, "dns_ms": 3.2, "tls_ms": 20.0, "status": 200, "days_left": 61.3,
          "issuer": "Example CA"}  # fmt: skip


@live
def test_the_first_probe_is_said_and_one_of_before_is_none(shell, fleet):
    fleet[1].cmd("SET", "probe:shop.example", orjson.dumps(RESULT | {"status": 500}))
    shell.env["BOARD_PORT"] = "1"
    with shell.start("watch", URL, "--yes", "--wait", "60s") as command:
        for line in command.stdout:
            if line.startswith("waiting for the first probe of massive/shop.example"):
                break
        fleet[1].cmd("SET", "probe:shop.example", orjson.dumps(RESULT | {"ts": 2.0}))
        said = command.stdout.readline()
        assert "✓ first probe of massive/shop.example: 200 in 43 ms, certificate good for 61.3 days" in said
        page = "its page: http://127.0.0.1:1/services/massive/shop.example\n"
        assert (command.stdout.readline(), command.wait(30)) == (page, 0)


@live
def test_a_first_probe_that_failed_says_why_and_json_has_all_of_it(shell, fleet):
    words = ("watch", URL, "--yes", "--json", "--wait", "60s")
    failed = RESULT | {"ok": False, "stage": "tcp", "error": "refused\x1b", "days_left": None}
    with shell.start(*words) as command:
        until(lambda: URL in (fleet[1].cmd("GET", "truth:doc") or ""))
        fleet[1].cmd("SET", "probe:shop.example", orjson.dumps(failed))
        said = orjson.loads(command.stdout.read())
        assert command.wait(30) == 0
    assert (said["name"], said["kind"], said["seeded"]) == ("massive/shop.example", "page", True)
    sign = said["first_sign"]
    assert (sign["problem"], sign["probe"]["ok"], sign["probe"]["stage"]) == ("refused", False, "tcp")
    assert (sign["probe"]["total_sec"], sign["probe"]["steps_sec"]) == (0.0432, {"dns": 0.0032, "tls": 0.02})


@live
def test_without_a_probe_in_time_it_says_what_to_look_at(shell, fleet):
    late = shell("watch", URL, "--yes", "--wait", "1s")
    assert late.returncode == 1
    assert (
        "does massive run? In a fleet of this machine, `marketswarm start massive` starts it" in late.stderr
    )
    assert URL in fleet[1].cmd("GET", "truth:doc")


@live
def test_history_shows_how_a_target_was(shell, fleet):
    shell.said("watch", URL, "--yes")
    now = time.time()
    number = int(now // 3600)
    past = f"{number:010}{4:05}{1:05}{40_000:08}{90_000:08}{614:05}"
    begin = RECORD_BYTES * (60 + 288 + number % 720)
    fleet[1].cmd("SETRANGE", "massive:probes:past:shop.example", str(begin), past)
    fleet[1].cmd("SET", "probe:shop.example", orjson.dumps(RESULT))
    run = {
        "since": now - 90,
        "until": now - 30,
        "count": 5,
        "stage": "tcp",
        "error": "refused",
        "open": False,
    }
    fleet[1].cmd("LPUSH", "massive:probes:failures:shop.example", orjson.dumps(run))
    said = shell.said("history", "massive/shop.example")
    assert "massive/shop.example: 200 in 43 ms, certificate good for 61.3 days" in said
    assert ["30d", "75.000", "%", "4", "40", "ms", "90", "ms"] in [line.split() for line in said.splitlines()]
    assert "60 s  tcp refused (5 probes)" in said
    found = orjson.loads(shell.said("history", "massive/shop.example", "--json"))
    assert (found["svc"], found["uptime"]["30d"]["share"]) == ("massive/shop.example", 0.75)
    assert (found["month"][0]["days_left"], found["failures"][0]["count"]) == (61.3, 5)
    nobody = shell("history", "massive/nobody")
    assert nobody.returncode != 0
