"""Jobs ping the board of a real fleet, in which each agent has a user of its own.

Programs that ping Healthchecks do so unmodified: they get another host, and nothing else.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import httpx
import orjson
import pytest

from marketswarm.keys import ALERT_LOG, NOTIFIER_REQUESTS, pings_key
from marketswarm.operator.tokens import create_ping_key
from support.fixtures import opened
from support.pages import ROOT, blocks
from support.rig.process import PLAIN, descendants
from support.rig.steered_fleet import run_steered_fleet
from support.waiting import PATIENT_SEC, until

get, post = (functools.partial(each, verify=PLAIN) for each in (httpx.get, httpx.post))

fleet = opened(lambda tmp_path_factory: run_steered_fleet(tmp_path_factory.mktemp("pinged")), scope="module")


def find_process(fleet, *words):
    """Return the id of the process of the fleet whose command line has all these words."""
    (found,) = (pid for pid, line in descendants(fleet.up.pid) if all(word in line for word in words))
    return found


def ask(fleet, path):
    """Return the status of an answer; None while the board does not answer."""
    with contextlib.suppress(httpx.HTTPError):
        return get(fleet.url + path, timeout=PATIENT_SEC).status_code
    return None


def make_key(fleet, *words):
    """Make a key, which works the moment that it is printed; return its id and its secret."""
    secret = fleet.shell.said("token", "create", "test", *words).strip()
    path = f"/ping/{secret}" if "--ping" in words else f"/ping/{secret}/backup"
    # a board that was killed by the test before may still be starting: its first answer is what counts
    assert until(lambda: ask(fleet, f"{path}/log"), what="the board to answer") == 200
    shown = orjson.loads(fleet.shell.said("token", "list", "--json"))
    return shown[-1]["id"], secret


def test_a_ping_is_a_beat_that_the_healer_hears_and_a_failure_is_missed_at_once(fleet):
    _, uuid = make_key(fleet, "--ping", "backup")
    answer = get(f"{fleet.url}/ping/{uuid}")
    assert (answer.status_code, answer.text) == (200, "OK")

    def is_up():
        """Ping, and return whether the service is up: one ping alone keeps it up for 3 s."""
        assert get(f"{fleet.url}/ping/{uuid}").status_code == 200
        return fleet.state("backup") == "up"

    until(is_up, what="the service to be up")
    assert post(f"{fleet.url}/ping/{uuid}/3", content="no space left").status_code == 200
    with fleet.operator() as client:
        until(
            lambda: orjson.loads(client.get("health:backup")).get("reason") == "failed",
            what="the miss to be said",
        )
        assert orjson.loads(client.get("run:backup"))["code"] == 3
        assert [fields["kind"] for _, fields in client.xrange("pings:backup")][-2:] == ["success", "fail"]


def test_a_key_that_is_revoked_or_rotated_is_refused_at_once(fleet):
    ident, uuid = make_key(fleet, "--ping", "backup")
    new = fleet.shell.said("token", "rotate", ident).strip()
    assert [get(f"{fleet.url}/ping/{each}").status_code for each in (uuid, new)] == [404, 200]
    fleet.shell.said("token", "revoke", ident)
    answer = get(f"{fleet.url}/ping/{new}")
    assert (answer.status_code, answer.text) == (404, "not found")


def test_each_new_key_of_a_full_board_works_at_once(fleet):
    made = [create_ping_key(f"job {n}", "backup", author="kim", now=time.time()) for n in range(5_100)]
    with fleet.operator() as client:
        client.hset("board:pings", mapping={key.id: key.encode() for key, _ in made[:5_000]})
        client.hincrby("board:pings", "version", 1)
        try:
            for key, secret in made[5_000:]:
                pipe = client.pipeline(transaction=True)
                pipe.hset("board:pings", key.id, key.encode())
                pipe.hincrby("board:pings", "version", 1)
                pipe.execute()
                assert ask(fleet, f"/ping/{secret}/log") == 200
        finally:
            client.hdel("board:pings", *(key.id for key, _ in made))


def test_an_entry_with_the_last_possible_id_stops_neither_pings_nor_requests_nor_alerts(fleet):
    last = "18446744073709551615-18446744073709551615"
    _, uuid = make_key(fleet, "--ping", "backup")

    def is_up():
        assert get(f"{fleet.url}/ping/{uuid}").status_code == 200
        return fleet.state("backup") == "up"

    def list_kinds():
        return [fields["kind"] for _, fields in client.xrange(pings_key("backup"))]

    with fleet.operator() as client:
        until(is_up, what="the service to be up")
        for _ in range(2):
            client.xadd(pings_key("backup"), {"kind": "junk"}, id=last)
            assert get(f"{fleet.url}/ping/{uuid}").status_code == 200
            assert list_kinds() == ["success"]
        client.xadd(pings_key("backup"), {"kind": "junk"}, id=last)
        fleet.shell.said("exec", "--svc", "backup", "--", "true")
        assert list_kinds() == ["success"]
        until(is_up, what="the service to be up")
        with fleet.connect("healer") as healer:
            healer.xadd(ALERT_LOG, {"event": "{}"}, id=last)
        client.xadd(NOTIFIER_REQUESTS, {"ask": "{}"}, id=last)
        assert post(f"{fleet.url}/ping/{uuid}/3", content="no space left").status_code == 200
        until(
            lambda: [each for _, each in client.xrange(ALERT_LOG) if "no space left" in each["event"]],
            what="the miss on the log",
        )
        until(lambda: fleet.shell("ack", "backup").returncode == 0, what="an acknowledgement")
        until(is_up, what="the service to be up")
    assert fleet.logs().count("board.pings_reset") == 1


def test_no_user_lacks_a_right_and_no_log_has_a_key(fleet):
    _, uuid = make_key(fleet, "--ping", "backup")
    assert get(f"{fleet.url}/ping/{uuid}").status_code == 200
    assert "errorstat_NOPERM" not in fleet.refused()
    assert uuid not in fleet.logs()


def test_a_ping_adds_its_service_to_the_truth_and_the_healer_watches_it(fleet):
    _, secret = make_key(fleet, "--ping-key")
    path = f"{fleet.url}/ping/{secret}/nightly.import"
    assert get(path).status_code == 404
    answer = get(path, params={"create": "1"}, timeout=10)
    assert (answer.status_code, answer.text) == (201, "Created")
    assert get(path, params={"create": "1"}).text == "OK"
    until(lambda: fleet.state("nightly.import") == "up", what="the new service to be up")
    with fleet.operator() as client:
        assert len(client.xrange("pings:nightly.import")) == 2


def test_ten_new_services_at_once_are_all_added(fleet):
    _, secret = make_key(fleet, "--ping-key")
    answers = []

    def ping(number):
        url = f"{fleet.url}/ping/{secret}/job{number}"
        answers.append(get(url, params={"create": "1"}, timeout=30).status_code)

    threads = [threading.Thread(target=ping, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT_SEC)
    assert answers == [201] * 10


def test_the_address_that_a_check_has_in_the_management_api_pings_its_service(fleet):
    token = fleet.shell.said("token", "create", "checks", "--scope", "write").strip()
    answer = get(f"{fleet.url}/api/v3/checks/", headers={"X-Api-Key": token})
    check = next(each for each in answer.json()["checks"] if each["name"] == "backup")
    assert get(f"{check['ping_url']}/log").text == "OK"
    after = get(check["update_url"], headers={"X-Api-Key": token}).json()
    assert after["n_pings"] > check["n_pings"] >= 0
    paused = post(check["pause_url"], headers={"X-Api-Key": token})
    assert paused.json()["status"] == "paused"
    assert get(check["ping_url"]).text == "OK"
    assert get(check["update_url"], headers={"X-Api-Key": token}).json()["status"] != "paused"
    assert "paused through" not in fleet.shell.said("silences")
    assert "errorstat_NOPERM" not in fleet.refused()
    # while the keys are read anew, a key that is not known is none of its yet: 503, and to be tried again
    unknown = f"{fleet.url}/ping/{uuid.uuid4()}"
    until(lambda: get(unknown).status_code == 404, what="a key that nobody made to be refused")


def test_a_board_that_is_killed_under_load_loses_no_acknowledged_ping(fleet):
    _, secret = make_key(fleet, "--ping-key")
    acknowledged, is_over = [0] * 4, threading.Event()

    def ping_on(number):
        with httpx.Client(base_url=fleet.url, verify=PLAIN) as client:
            while not is_over.is_set():
                try:
                    answer = client.post(f"/ping/{secret}/backup/log", content=f"{number}")
                except httpx.HTTPError:
                    return
                acknowledged[number] += answer.status_code == 200

    with fleet.operator() as client:
        before = client.xinfo_stream("pings:backup")["entries-added"]
        threads = [threading.Thread(target=ping_on, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: sum(acknowledged) > 200, what="some pings")
        os.kill(find_process(fleet, "services.board"), signal.SIGKILL)
        is_over.set()
        for thread in threads:
            thread.join(10)
        added = client.xinfo_stream("pings:backup")["entries-added"] - before
        assert sum(acknowledged) <= added <= sum(acknowledged) + 4


def test_a_bus_that_is_gone_is_503_and_never_ok(fleet):
    _, uuid = make_key(fleet, "--ping", "backup")
    with fleet.operator() as client:
        server = client.info("server")["process_id"]
    os.kill(server, signal.SIGSTOP)
    try:
        answer = get(f"{fleet.url}/ping/{uuid}", timeout=15)
    finally:
        os.kill(server, signal.SIGCONT)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    until(lambda: ask(fleet, f"/ping/{uuid}") == 200, what="pings to be taken again")


BORGMATIC = Path(sys.executable).parent / "borgmatic"
BORG = """\
#!/bin/sh
# stands in for borg: it backs up nothing, and fails if it is told to
case "$*" in
  *--version*) echo "borg 1.4.0"; exit 0 ;;
  *create*) exit "${BORG_ENDS_WITH:-0}" ;;
  *info*) echo '{"repository": {"id": "x", "location": "x"}, "encryption": {"mode": "none"}, "cache": {}}' ;;
esac
"""


@pytest.fixture
def key(fleet):
    return make_key(fleet, "--ping-key")[1]


def kinds(fleet, agent):
    """Return what the pings said that a client has sent."""
    with fleet.operator() as client:
        entries = [fields for _, fields in client.xrange("pings:backup")]
    return [each["kind"] for each in entries if each.get("user_agent", "").startswith(agent)]


def run_borgmatic(fleet, key, folder, code):
    """Run borgmatic with a borg that ends with `code`."""
    borg, source, config = folder / "borg", folder / "source", folder / "config.yaml"
    borg.write_text(BORG, encoding="utf-8")
    borg.chmod(0o755)
    source.mkdir()
    config.write_text(
        f"source_directories: ['{source}']\n"
        f"repositories: [{{path: '{folder / 'repository'}'}}]\n"
        f"local_path: '{borg}'\n"
        f"healthchecks: {{ping_url: '{fleet.url}/ping/{key}/backup'}}\n",
        encoding="utf-8",
    )
    env = {**os.environ, "HOME": str(folder), "BORG_ENDS_WITH": str(code)}
    words = [str(BORGMATIC), "--config", str(config), "create"]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("code", "last"),
    [
        (2, "fail"),
        pytest.param(0, "success", marks=pytest.mark.nightly("a backup that fails is run in every run")),
    ],
)
def test_borgmatic_reports_the_start_and_the_end_of_a_backup(fleet, key, tmp_path, code, last):
    before = len(kinds(fleet, "borgmatic"))
    ended = run_borgmatic(fleet, key, tmp_path, code)
    assert (ended.returncode == 0) is (code == 0), ended.stderr
    assert kinds(fleet, "borgmatic")[before:] == ["start", "log", last]


@pytest.mark.needs("curl")
def test_the_line_of_a_crontab_reports_the_exit_code_of_its_job(fleet, key):
    url = f"{fleet.url}/ping/{key}/backup"
    [shown] = [block for block in blocks(ROOT / "docs/pings.md", "text") if block.startswith("30 2 * * *")]
    line = (
        shown.removeprefix("30 2 * * *")
        .replace("http://board.example:8080/ping/$UUID", url)
        .replace("/usr/local/bin/backup", "(exit 7)")
    )
    ended = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert kinds(fleet, "curl") == ["start", "fail"]
