"""What the commands that change something, or judge it, print for programs."""

import orjson
import pytest

from marketswarm.operator.requests import Answer
from support.rig.shell import AnswersAsks

pytestmark = pytest.mark.live


def read(ended, code=0):
    """The one document on stdout of a command that ended with the code."""
    assert (ended.returncode, ended.stdout.count("\n")) == (code, 1), ended
    return orjson.loads(ended.stdout)


def test_a_truth_that_is_valid_has_its_warnings(shell):
    shell.write({"services": {"a": {"heartbeat": {"interval_sec": 10, "timeout_sec": 11}}}})
    found = read(shell("validate", "--json"))
    (warning,) = found.pop("warnings")
    assert warning["path"] == "services.a.heartbeat.timeout_sec"
    assert warning["message"]
    assert found == {"file": "truth.json", "valid": True, "services": 1, "problems": []}


def test_a_truth_that_is_not_valid_has_each_problem_and_ends_with_2(shell):
    shell.write({"services": {"a": {"heartbeat": {"interval_sec": -5}}, "b": {"depends_on": ["nobody"]}}})
    ended = shell("validate", "--json")
    found = read(ended, 2)
    assert ended.stderr == ""
    assert (found["valid"], found["services"]) == (False, None)
    assert [each["path"] for each in found["problems"]] == [
        "services.a.heartbeat.interval_sec",
        "services.b.depends_on[0]",
    ]


def test_a_file_that_is_not_there_is_an_error_as_it_is_for_people(shell):
    ended = shell("validate", "gone.json", "--json")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "gone.json: No such file or directory" in ended.stderr


def test_a_seeding_says_what_it_changed_where(shell, buses):
    first = read(shell("seed", "--json"))
    assert (first["file"], first["revision"], first["changed"]) == ("truth.json", 1, True)
    assert (first["buses"], first["repaired"]) == (["system-redis", "market-redis"], [])
    assert "+ rss_agg" in first["changes"]
    again = read(shell("seed", "--json"))
    assert (again["revision"], again["changed"], again["changes"]) == (1, False, [])


def test_a_silence_is_what_the_list_of_them_has_and_what_it_is_on(shell, seeded):
    made = read(shell("silence", "rss_agg", "--for", "1h", "--by", "kim", "--json"))
    assert (made.pop("matched"), made.pop("failed")) == (["rss_agg"], {})
    assert [made] == read(shell("silences", "--json"))


def test_a_silence_on_an_unknown_name_is_an_error_as_it_is_for_people(shell, seeded):
    ended = shell("silence", "rss_ag", "--for", "1h", "--json")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "did you mean rss_agg?" in ended.stderr


def test_a_token_has_its_secret_once_and_nothing_beside_it_on_either_stream(shell, seeded):
    ended = shell("token", "create", "wall", "--json")
    made = read(ended)
    assert made.pop("secret").startswith(f"mst_{made['id']}_")
    assert (made["scopes"], ended.stderr) == (["read"], "")
    assert [made] == read(shell("token", "list", "--json"))
    key = read(shell("token", "create", "cron", "--ping", "rss_agg", "--json"))
    assert (key["svc"], len(key["secret"])) == ("rss_agg", 36)
    assert "sha256" not in key


@pytest.mark.parametrize("command", [["ack", "rss_agg"], ["notify", "test"]])
def test_answers_of_the_notifier_are_together(shell, seeded, command):
    answers = [
        Answer(ok=True, said="200 ok", channel="slack", where="hooks.slack.com"),
        Answer(ok=False, said="404", channel="ntfy", where="ntfy.sh", done=True),
    ]
    with AnswersAsks(seeded, *answers) as notifier:
        found = read(shell(*command, "--within", "10s", "--json"), 1)
    assert found.pop("id") in notifier.asked
    assert found == {
        "done": True,
        "answers": [
            {"ok": True, "said": "200 ok", "channel": "slack", "where": "hooks.slack.com", "retry_sec": 0.0},
            {"ok": False, "said": "404", "channel": "ntfy", "where": "ntfy.sh", "retry_sec": 0.0},
        ],
        "failed": {},
    }


def test_no_answer_of_the_notifier_is_said_on_both_streams(shell, seeded):
    ended = shell("notify", "test", "--within", "0.1s", "--json")
    found = read(ended, 1)
    assert (found["done"], found["answers"]) == (False, [])
    assert "no notifier" in ended.stderr


def test_a_check_is_what_it_says(shell):
    found = read(shell("check", "--json"), 2)
    assert found["ok"] is False
    assert found["said"].startswith("MARKETSWARM_ALIVE_FILE is not set")
    missing = read(shell("check", "--ready", "--json", MARKETSWARM_ALIVE_FILE=str(shell.folder / "none")), 1)
    assert missing["ok"] is False
