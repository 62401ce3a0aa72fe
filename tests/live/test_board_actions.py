"""Programs steer a real fleet through the board, each part of it with a user of its own."""

import contextlib

import httpx
import orjson
import pytest
import redis

from support.rig import HOST, Proc, free_port
from support.rig.receiver import Receiver
from support.rig.shell import Shell
from support.waiting import until

BEATS = {"interval_sec": 0.5, "timeout_sec": 3}
TRUTH = {
    "fleet": "testing",
    "services": {
        **{svc: {"heartbeat": BEATS} for svc in ("healer", "notifier", "board")},
        "backup": {"heartbeat": BEATS},
    },
}
REFUSALS = ("errorstat_NOPERM", "errorstat_NOAUTH", "errorstat_WRONGPASS")


class Steered:
    """A fleet with users and passwords, its shell, and a client of its board."""

    def __init__(self, folder, webhook):
        self.folder, self.shell, port = folder, Shell(folder), free_port()
        self.port, self.headers = free_port(), {}
        self.shell.write(TRUTH)
        env = {"WEBHOOK_URL": webhook, "BOARD_PORT": str(self.port)}
        self.up = Proc("marketswarm", env, folder, "up", "--acl", "--port", str(port))
        self.up.wait_log("fleet.up", 60)

    def ask(self, method, path, body=None):
        url = f"http://{HOST}:{self.port}/api/v1{path}"
        return httpx.request(method, url, json=body, headers=self.headers, timeout=15)

    def state(self, svc):
        with contextlib.suppress(httpx.HTTPError):
            answer = self.ask("GET", f"/services/{svc}")
            return answer.json()["state"] if answer.status_code == 200 else None
        return None

    def operator(self):
        url = (self.folder / ".marketswarm/urls/operator/system-redis").read_text(encoding="utf-8").strip()
        return contextlib.closing(redis.Redis.from_url(url, decode_responses=True, protocol=2))

    def refused(self):
        """Return what the server counted of the commands that it refused to its users."""
        with self.operator() as client:
            return {name: count for name, count in client.info("errorstats").items() if name in REFUSALS}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with Receiver() as receiver:
        steered = Steered(tmp_path_factory.mktemp("steered"), receiver.url)
        try:
            receiver.wait("heartbeat_miss", "backup", 30)  # nothing beats for it
            until(lambda: steered.state("backup") == "down", 30, "an outage that the board shows")
            token = steered.shell.said("token", "create", "deploy", "--scope", "write", "--by", "kim").strip()
            steered.headers = {"Authorization": f"Bearer {token}"}
            yield steered
        finally:
            steered.up.stop(15)


def test_an_outage_is_acknowledged_in_the_name_that_the_client_gives(fleet):
    answer = fleet.ask("POST", "/incidents/backup/ack", {"by": "kim"})
    assert answer.status_code == 200, answer.text
    until(
        lambda: fleet.ask("GET", "/services/backup").json()["acked_by"] == "kim", 10, "the board to show it"
    )
    assert fleet.ask("POST", "/incidents/healer/ack").status_code == 409


def test_a_silence_is_seen_by_the_command_line_and_ended_again(fleet):
    body = {"services": ["back*"], "for_sec": 600, "reason": "new disks"}
    made = fleet.ask("POST", "/silences", body)
    assert (made.status_code, made.json()["matches"], made.json()["refused"]) == (201, ["backup"], {})
    (shown,) = orjson.loads(fleet.shell.said("silences", "--json"))
    assert (shown["id"], shown["author"], shown["reason"]) == (made.json()["id"], "deploy", "new disks")
    assert fleet.ask("DELETE", f"/silences/{shown['id']}").status_code == 200
    assert orjson.loads(fleet.shell.said("silences", "--json")) == []


def test_a_test_message_arrives_and_the_answer_is_the_receivers(fleet):
    answer = fleet.ask("POST", "/notifications/test")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["ok"], answer.json()["answers"][0]["said"]) == (True, "200")


def test_a_revoked_token_writes_no_more(fleet):
    token = fleet.shell.said("token", "create", "short", "--scope", "write").strip()
    mine, fleet.headers = fleet.headers, {"Authorization": f"Bearer {token}"}
    try:
        assert fleet.ask("DELETE", "/silences/nope").status_code == 404
        fleet.shell.said("token", "revoke", token.split("_")[1])
        assert fleet.ask("DELETE", "/silences/nope").status_code == 401
    finally:
        fleet.headers = mine


def test_acts_are_in_the_audit_log_and_no_server_refused_a_command_or_told_a_secret(fleet):
    assert fleet.ask("POST", "/silences", {"services": ["backup"], "for_sec": 1, "reason": "x"}).is_success
    with fleet.operator() as client:
        entries = [fields for _, fields in client.xrange("board:audit")]
    assert [each["outcome"] for each in entries[-2:]] == ["begun", "done"]
    assert {each["name"] for each in entries} == {"deploy"}
    assert fleet.refused() == {}
    secret = fleet.headers["Authorization"].rpartition("_")[2]
    assert secret not in repr(entries)
    logs = (fleet.folder / ".marketswarm/logs").glob("*.log")
    assert not any(secret in log.read_text(encoding="utf-8") for log in logs)
