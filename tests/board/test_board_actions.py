"""Programs steer a real fleet through the board, each part of it with a user of its own."""

import httpx
import orjson

from support.rig import PLAIN
from support.waiting import until


def test_an_outage_is_acknowledged_in_the_name_that_the_client_gives(fleet):
    answer = fleet.ask("POST", "/incidents/backup/ack", {"by": "kim"})
    assert answer.status_code == 200, answer.text
    until(
        lambda: fleet.ask("GET", "/services/backup").json()["acked_by"] == "kim", what="the board to show it"
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


def test_what_a_token_wrote_through_one_api_counts_in_the_other(fleet):
    def ask_other(method: str, path: str = "") -> httpx.Response:
        return httpx.request(
            method,
            f"{fleet.url}/api/v3/checks/{path}",
            headers={"X-Api-Key": token},
            timeout=15,
            verify=PLAIN,
        )

    token = fleet.shell.said("token", "create", "busy", "--scope", "write").strip()
    fleet.headers = {"Authorization": f"Bearer {token}"}
    found = ask_other("GET").json()["checks"]
    resume = next(each["uuid"] for each in found if each["name"] == "backup") + "/resume"
    until(lambda: fleet.ask("DELETE", "/silences/nope").status_code == 429, what="the limit of a token")
    tries = (  # it may write again in two seconds, which may pass between the two
        (fleet.ask("DELETE", "/silences/nope").status_code, ask_other("POST", resume).status_code)
        for _ in range(3)
    )
    assert (429, 429) in tries


def test_acts_are_in_the_audit_log_and_no_server_refused_a_command_or_told_a_secret(fleet):
    made = fleet.ask("POST", "/silences", {"services": ["backup"], "for_sec": 60, "reason": "x"})
    assert made.is_success
    with fleet.operator() as client:
        entries = [fields for _, fields in client.xrange("board:audit")]
    assert [each["outcome"] for each in entries[-2:]] == ["begun", "done"]
    assert {each["name"] for each in entries[-2:]} == {"deploy"}
    assert fleet.refused() == {}
    secret = fleet.headers["Authorization"].rpartition("_")[2]
    assert secret not in repr(entries)
    assert secret not in fleet.logs()
    assert fleet.ask("DELETE", f"/silences/{made.json()['id']}").is_success
