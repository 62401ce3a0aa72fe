"""The client `healthchecks-io` of PyPI, unmodified, on a real board: it gets another host, nothing else.

It wants an older httpx than the tree, so it has an environment of its own, made here from tools/clients.lock.
"""

import fcntl
import itertools
import json
import os
import shutil
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from support.rig import PLAIN
from support.rig.steered_fleet import TRUTH, run_steered_fleet
from support.waiting import until

pytestmark = [
    pytest.mark.timeout(900),  # one test of the run makes the environment
    pytest.mark.nightly(
        "tests/services/board/pings asks the same of the board over HTTP, and test_pings has other clients"
    ),
]
ROOT = Path(__file__).parents[2]
LOCK = ROOT / "tools" / "clients.lock"
DRIVER = ROOT / "tests" / "support" / "healthchecks_calls.py"
MAKING_SEC = 600
TAGGED = {
    **TRUTH,
    "services": {**TRUTH["services"], "backup": {**TRUTH["services"]["backup"], "tags": ["nightly"]}},
}
THE_TRUTH = "a check is a service of the truth: add, change or delete its section, and seed"


def make_environment(folder):
    """Make an environment with the client, and return its Python. Skip the test where no index answers."""
    python = folder / "bin" / "python"
    if uv := shutil.which("uv"):
        steps = [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(LOCK)],
        ]
    else:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "15"]
        steps = [
            [sys.executable, "-m", "venv", str(folder)],
            [*pip, "--require-hashes", "-r", str(LOCK)],
        ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, timeout=MAKING_SEC, check=False)
        if done.returncode != 0:
            pytest.skip(f"healthchecks-io can't be installed here: {done.stderr.strip()[-300:]}")
    return python


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """The Python of an environment that has the client; xdist's workers share it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, made = shared / "healthchecks", shared / "healthchecks.made"
    with (shared / "healthchecks.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # another worker's attempt that failed
            make_environment(folder)
            made.touch()
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def fleet(python, tmp_path_factory):
    """A fleet whose service `backup` has a tag, its keys for pings and its tokens."""
    assert python.is_file()
    with run_steered_fleet(tmp_path_factory.mktemp("clients"), TAGGED) as fleet:
        said = fleet.shell.said
        fleet.key = said("token", "create", "every", "--ping-key").strip()
        fleet.uuid = said("token", "create", "one", "--ping", "backup").strip()
        fleet.writer = fleet.headers["Authorization"].removeprefix("Bearer ")
        fleet.reader = said("token", "create", "reader", "--scope", "read").strip()
        for path in (fleet.uuid, f"{fleet.key}/backup"):
            log = f"{fleet.url}/ping/{path}/log"
            until(
                lambda log=log: httpx.get(log, verify=PLAIN).status_code == 200,
                what="the board to know the keys",
            )
        yield fleet


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def call(request, fleet, python):
    """Makes calls with one of the two clients; each gives what it returned, or what it raised."""

    def call_client(*calls, version=3, api_key=fleet.writer, ping_key=fleet.key):
        client = {
            "api_key": api_key,
            "ping_key": ping_key,
            "api_url": f"{fleet.url}/api/",
            "ping_url": f"{fleet.url}/ping/",
            "api_version": version,
        }
        asked = {"is_async": request.param, "client": client, "calls": calls}
        words = [str(python), "-I", str(DRIVER)]
        done = subprocess.run(
            words, input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return call_client


def read_pings(fleet):
    """Return the kind, the exit code and the body of each ping that the client has sent."""
    with fleet.operator() as client:
        entries = [fields for _, fields in client.xrange("pings:backup")]
    return [
        (each["kind"], each.get("exit_code"), each.get("body", ""))
        for each in entries
        if each.get("user_agent", "").startswith("py-healthchecks.io")
    ]


def find_check(call, **how):
    """Return the check of the service `backup`."""
    (checks,) = call(("get_checks", {}), **how)
    (found,) = [each for each in checks["returned"] if each["slug"] == "backup"]
    return found


def test_pings_by_uuid_and_by_slug_are_taken(fleet, call):
    by_uuid, by_slug, before = {"uuid": fleet.uuid}, {"slug": "backup"}, len(read_pings(fleet))
    answers = call(
        ("start_ping", by_uuid),
        ("success_ping", {**by_uuid, "data": "4 files"}),
        ("start_ping", by_slug),
        ("fail_ping", {**by_slug, "data": "no space left"}),
        ("exit_code_ping", {**by_slug, "exit_code": 0}),
        ("exit_code_ping", {**by_uuid, "exit_code": 3}),
        ("success_ping", by_slug),
    )
    assert answers == [{"returned": [True, "OK"]}] * 7
    assert read_pings(fleet)[before:] == [
        ("start", None, ""),
        ("success", None, "4 files"),
        ("start", None, ""),
        ("fail", None, "no space left"),
        ("success", "0", ""),
        ("fail", "3", ""),
        ("success", None, ""),
    ]


def test_the_context_manager_reports_a_job_and_its_error(fleet, call):
    before = len(read_pings(fleet))
    ended, failed = call(
        ("trap", {"slug": "backup", "log": "4 files"}),
        ("trap", {"slug": "backup", "log": "4 files", "fails": True}),
    )
    assert ended == {"returned": None}
    assert failed == {"raised": "RuntimeError", "text": "no space left"}
    pings = read_pings(fleet)[before:]
    assert pings[:3] == [("start", None, ""), ("success", None, "4 files"), ("start", None, "")]
    kind, _, body = pings[3]
    assert (kind, body.splitlines()[:2]) == ("fail", ["4 files", "no space left"])


def test_pings_that_are_refused_raise_the_clients_own_errors(call):
    answers = call(
        ("success_ping", {"slug": "nothing"}),
        ("success_ping", {"uuid": str(uuid.uuid4())}),
        ("exit_code_ping", {"slug": "backup", "exit_code": 256}),
    )
    assert [each["raised"] for each in answers] == [
        "CheckNotFoundError",
        "CheckNotFoundError",
        "BadAPIRequestError",
    ]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_checks_are_read_paused_and_resumed(fleet, call, version):
    # a token of its own: ten writes may be done with one at once, and all runs of this test do twelve
    key = fleet.shell.said("token", "create", "pauses", "--scope", "write").strip()
    found = find_check(call, version=version, api_key=key)
    assert (found["name"], found["tags"], found["timeout"]) == ("backup", "nightly", 3)
    assert found["ping_url"] == f"{fleet.url}/ping/{found['uuid']}"
    pinged, one, pings, badges, channels, paused = call(
        ("success_ping", {"uuid": found["uuid"]}),
        ("get_check", {"check_id": found["uuid"]}),
        ("get_check_pings", {"check_id": found["uuid"]}),
        ("get_badges", {}),
        ("get_integrations", {}),
        ("pause_check", {"check_id": found["uuid"]}),
        version=version,
        api_key=key,
    )
    assert pinged == {"returned": [True, "OK"]}
    assert one["returned"]["uuid"] == found["uuid"]
    assert one["returned"]["n_pings"] == len(pings["returned"]) >= 1
    assert pings["returned"][-1]["type"] == "log"
    assert list(badges["returned"]) == ["*", "nightly"]
    assert httpx.get(badges["returned"]["nightly"]["svg"]).headers["content-type"].startswith("image/svg")
    assert channels == {"returned": []}
    assert paused["returned"]["status"] == "paused"
    # this client has no method to resume: its user follows the address, with the same key
    answer = httpx.post(
        f"{fleet.url}/api/v{version}/checks/{found['uuid']}/resume", headers={"X-Api-Key": key}
    )
    assert (answer.status_code, answer.json()["status"] == "paused") == (200, False)


def read_changes(fleet):
    """Return the changes of `backup` between up and down in the alert log, as flips, the oldest first."""
    with fleet.operator() as client:
        events = [json.loads(fields["event"]) for _, fields in client.xrange("healer:alerts:log")]
    return [
        {
            "timestamp": datetime.fromtimestamp(event["ts"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "up": int(event["type"] == "heartbeat_ok"),
        }
        for event in events
        if event["svc"] == "backup" and event["type"] in ("heartbeat_miss", "heartbeat_ok")
    ]


def test_the_flips_are_those_of_the_alert_log(fleet, call):
    found, earlier = find_check(call), len(read_changes(fleet))
    ping = {"slug": "backup"}
    answers = call(("success_ping", ping), ("fail_ping", ping), ("success_ping", ping))
    assert ["returned" in answer for answer in answers] == [True] * 3, answers

    def went_down_and_up():
        """Return whether the log has an outage that is over; without pings another one follows by itself."""
        states = [change["up"] for change in read_changes(fleet)[earlier:]]
        return (0, 1) in itertools.pairwise(states)

    until(went_down_and_up, what=lambda: f"an outage and its end; there is {read_changes(fleet)[earlier:]}")
    url = f"{fleet.url}/api/v3/checks/{found['uuid']}/flips/"

    def read_flips(**query):
        """Return the answer as the server of Healthchecks gives it; this client expects a list."""
        answer = httpx.get(url, params=query, headers={"X-Api-Key": fleet.writer})
        return [
            {**each, "timestamp": each["timestamp"].replace("+00:00", "Z")} for each in answer.json()["flips"]
        ]

    until(
        lambda: read_flips() == read_changes(fleet)[::-1],
        what=lambda: f"{read_flips()} to be {read_changes(fleet)}",
    )
    assert read_flips(start=0, end=1000) == []
    (answer,) = call(("get_check_flips", {"check_id": found["uuid"]}))
    assert answer["raised"] == "TypeError"  # as with Healthchecks itself


def test_what_the_truth_says_can_t_be_changed_and_the_reason_is_given(call):
    check_id = find_check(call)["uuid"]
    answers = call(
        ("create_check", {"new_check": {"name": "new"}}),
        ("update_check", {"uuid": check_id, "update_check": {"name": "other"}}),
        ("delete_check", {"check_id": check_id}),
    )
    assert [each["raised"] for each in answers] == ["BadAPIRequestError"] * 3
    assert all(THE_TRUTH in each["text"] for each in answers)
    assert find_check(call)["uuid"] == check_id


def test_a_key_that_may_only_read_lists_checks_and_pauses_none(fleet, call):
    found = find_check(call, api_key=fleet.reader)
    assert (found["uuid"], len(found["unique_key"])) == (None, 40)
    one, pause, wrong = (
        *call(("get_check", {"check_id": found["unique_key"]}), api_key=fleet.reader),
        *call(("pause_check", {"check_id": found["unique_key"]}), api_key=fleet.reader),
        *call(("get_checks", {}), api_key="none"),
    )
    assert one["returned"]["name"] == "backup"
    assert (pause["raised"], wrong["raised"]) == ("HCAPIAuthError", "HCAPIAuthError")
