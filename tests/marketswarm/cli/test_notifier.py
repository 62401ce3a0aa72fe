"""Asking the notifier from the command line: what is asked, what is answered, and when nobody answers."""

import time
from dataclasses import replace

import orjson
import pytest

from marketswarm.keys import NOTIFIER_REQUESTS, answers_key
from marketswarm.operator.requests import Answer, OperatorRequest, RequestKind
from support.rig.shell import SERVICES, AnswersAsks

pytestmark = pytest.mark.live

SLACK = Answer(ok=True, said="200 ok", channel="slack", where="hooks.slack.com")
MAIL = Answer(ok=True, said="250 queued as 4711", channel="email", where="mail.example.org", done=True)
REFUSED = Answer(ok=False, said="404 no_service", channel="slack", where="hooks.slack.com", done=True)
KIM = ("--by", "kim", "--within", "10s")


def the_ask(bus):
    """The one ask on a bus."""
    ((_, fields),) = bus.cmd("XRANGE", NOTIFIER_REQUESTS, "-", "+")
    return OperatorRequest.parse(fields["ask"].encode())


def test_a_test_is_asked_of_every_bus_under_one_id_and_each_answer_is_shown(shell, seeded):
    with AnswersAsks(seeded, SLACK, MAIL) as notifier:
        ended = shell("notify", "test", *KIM)
    assert ended.stdout.splitlines() == [
        "✓ slack (hooks.slack.com): 200 ok",
        "✓ email (mail.example.org): 250 queued as 4711",
    ]
    assert (ended.returncode, ended.stderr) == (0, "")
    assert the_ask(seeded[0]) == the_ask(seeded[1])
    (ask,) = notifier.asked.values()
    assert (ask.do, ask.what, ask.by) == (RequestKind.TEST, "*", "kim")
    assert ask.ts == pytest.approx(time.time(), abs=15)


@pytest.mark.parametrize(
    ("words", "do", "what"),
    [
        (["notify", "test", "slack"], RequestKind.TEST, "slack"),
        (["ack", "rss_agg"], RequestKind.ACK, "rss_agg"),
        (
            ["ack", "heartbeat_miss.rss_agg.1762433458300"],
            RequestKind.ACK,
            "heartbeat_miss.rss_agg.1762433458300",
        ),
        (["resend", "m1"], RequestKind.RESEND, "m1"),
        (["resend", "--all"], RequestKind.RESEND, "*"),
    ],
)
def test_each_command_asks_for_what_it_says(shell, seeded, words, do, what):
    with AnswersAsks(seeded, Answer(ok=True, said="as you wish", done=True)) as notifier:
        ended = shell(*words, *KIM)
    assert (ended.returncode, ended.stdout) == (0, "✓ as you wish\n")
    (ask,) = notifier.asked.values()
    assert (ask.do, ask.what, ask.by) == (do, what, "kim")


def test_a_receiver_that_refuses_is_shown_and_the_code_is_1(shell, seeded):
    with AnswersAsks(seeded, MAIL, REFUSED):
        ended = shell("notify", "test", *KIM)
    assert ended.returncode == 1
    assert "✗ slack (hooks.slack.com): 404 no_service" in ended.stdout
    assert ended.stderr == ""


def test_an_attempt_that_is_announced_is_waited_for_beyond_the_time_limit(shell, seeded):
    class Late(AnswersAsks):
        def answer(self, ask):
            first, last = self.answers
            for server in self.servers:
                server.cmd("RPUSH", answers_key(ask.id), first.encode())
            time.sleep(1.2)  # longer than the command was told to wait
            for server in self.servers:
                server.cmd("RPUSH", answers_key(ask.id), last.encode())

    paused = Answer(ok=True, said="slack: 500", channel="slack", where="hooks.slack.com", retry_sec=2)
    with Late(seeded, paused, replace(SLACK, done=True)):
        ended = shell("notify", "test", "--by", "kim", "--within", "1s")
    assert ended.stdout.splitlines() == [
        "· slack (hooks.slack.com): slack: 500; next attempt in 2 s, waiting for it",
        "✓ slack (hooks.slack.com): 200 ok",
    ]
    assert ended.returncode == 0


class AnswersInTurn(AnswersAsks):
    """Gives the answers of its turn to each request, those of the last turn to all further ones."""

    def __init__(self, servers, *turns):
        super().__init__(servers)
        self.turns = list(turns)

    def answer(self, ask):
        self.answers = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        super().answer(ask)


def left_of(found, left):
    return Answer(ok=False, said=f"100 of {found} are sent now, {left} are left", left=left)


LAST = replace(SLACK, done=True)


def test_all_dead_letters_are_asked_for_until_none_is_left(shell, seeded):
    turns = (left_of(250, 150), LAST), (left_of(150, 50), LAST), (LAST,)
    with AnswersInTurn(seeded, *turns) as notifier:
        ended = shell("resend", "--all", *KIM)
    sent = "✓ slack (hooks.slack.com): 200 ok"
    assert ended.stdout.splitlines() == [
        *("· 100 of 250 are sent now, 150 are left", sent),
        *("· 100 of 150 are sent now, 50 are left", sent),
        sent,
    ]
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [(ask.do, ask.what, ask.by) for ask in notifier.asked.values()] == [
        (RequestKind.RESEND, "*", "kim")
    ] * 3


@pytest.mark.parametrize(
    ("turns", "asked", "left"),
    [
        ([(left_of(250, 150), REFUSED)], 1, 150),  # a receiver refuses: it would refuse the others, too
        ([(left_of(250, 150), LAST), (left_of(250, 150), LAST)], 2, 150),  # no bus deletes any
        ([(left_of(150, 50), LAST), (REFUSED,)], 2, 0),
    ],
)
def test_nothing_more_is_asked_for_once_a_receiver_refuses_or_no_fewer_are_left(
    shell, seeded, turns, asked, left
):
    with AnswersInTurn(seeded, *turns) as notifier:
        ended = shell("resend", "--all", *KIM)
    assert (ended.returncode, len(notifier.asked)) == (1, asked)
    said = f"{left} more are not sent yet: `marketswarm dead` shows them"
    assert (said in ended.stderr) is bool(left), ended.stderr


def test_answers_of_the_same_words_are_each_shown(shell, seeded):
    with AnswersAsks(seeded, SLACK, SLACK, replace(SLACK, done=True)):
        ended = shell("resend", "--all", *KIM)
    assert ended.stdout.splitlines() == ["✓ slack (hooks.slack.com): 200 ok"] * 3


def test_a_hostile_answer_steers_no_terminal(shell, seeded):
    with AnswersAsks(seeded, Answer(ok=True, said="\x1b[31m\nred", channel="slack", done=True)):
        ended = shell("notify", "test", *KIM)
    assert ended.stdout == "✓ slack: \\x1b[31m\\nred\n"


def test_rubbish_among_the_answers_is_passed_over(shell, seeded):
    class Garbled(AnswersAsks):
        def answer(self, ask):
            for server in self.servers:
                server.cmd("RPUSH", f"notifier:answers:{ask.id}", b"\xff", "{}", "[]")
            super().answer(ask)

    with Garbled(seeded, MAIL):
        assert shell("notify", "test", *KIM).returncode == 0


def test_with_a_bus_away_it_is_asked_of_the_other_and_says_so(shell, seeded):
    seeded[0].stop()
    with AnswersAsks(seeded[1:], MAIL):
        ended = shell("notify", "test", *KIM)
    assert ended.returncode == 0
    assert "bus system-redis did not take it: refused" in ended.stdout
    assert "✓ email" in ended.stdout


def test_without_a_notifier_it_says_so_and_the_code_is_1(shell, seeded):
    ended = shell("notify", "test", "--within", "0.2s")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "no notifier answered within 0.2 s, and no truth names one" in ended.stderr
    assert "stays asked" not in ended.stderr


def with_notifier(shell):
    shell.write({"services": SERVICES | {"notifier": {"heartbeat": {"timeout_sec": 30}}}})
    assert shell("seed").returncode == 0


def test_a_notifier_that_the_truth_names_and_that_does_not_run_is_told_from_one_that_does(shell, buses):
    with_notifier(shell)
    ended = shell("ack", "mesh", "--within", "0.2s")
    assert ended.returncode == 1
    assert "no notifier runs" in ended.stderr
    assert "It stays asked: one that runs again within a day does it" in ended.stderr
    buses[0].cmd("SET", "beat:notifier", '{"svc":"notifier","i":1,"ts":1}', "PX", 58_000)
    assert (
        "the notifier did not answer within 0.2 s, though it runs"
        in shell("ack", "mesh", "--within", "0.2s").stderr
    )
    buses[0].cmd("SET", "beat:notifier", '{"svc":"notifier","i":2,"ts":1,"status":"stopping"}', "PX", 58_000)
    assert "no notifier runs" in shell("ack", "mesh", "--within", "0.2s").stderr


def test_answers_that_break_off_are_no_success(shell, seeded):
    with AnswersAsks(seeded, SLACK):
        ended = shell("notify", "test", "--within", "1s")
    assert ended.returncode == 1
    assert "✓ slack" in ended.stdout
    assert "the notifier did not finish within 1 s" in ended.stderr


@pytest.mark.parametrize("words", [["resend"], ["resend", "m1", "--all"], ["ack"], ["ack", ""], ["notify"]])
def test_what_is_not_said_is_asked_for(shell, words):
    ended = shell(*words)
    assert ended.returncode == 2


def test_the_channels_are_listed_with_what_each_sent_and_failed_last_and_how_to_add_one(shell, seeded):
    record = {"sent": 3, "sent_at": 1762433458.0, "sent_title": "mesh is down"}
    broken = {
        "failed": 1,
        "refused": 1,
        "failed_at": 1762433458.0,
        "failed_title": "b is down",
        "reason": "404 no_service",
    }
    for bus in seeded:
        bus.cmd(
            "HSET", "notifier:state", "d:channels", '{"slack":"hooks.slack.com","email":"mail.example.org"}'
        )
        records = orjson.dumps({"slack": broken, "email": record}).decode()
        bus.cmd("HSET", "notifier:state", "d:records", records)
    lines = shell.said("notify", "list").splitlines()
    assert lines[0] == "✗ slack (hooks.slack.com): fails; 0 sent, 2 failed"
    assert lines[1].startswith("    failed last: b is down, ")
    assert lines[1].endswith(": 404 no_service")
    assert lines[2] == "✓ email (mail.example.org): works; 3 sent, 0 failed"
    assert lines[3].startswith("    sent last: mesh is down, ")
    assert "To add a channel:" in lines
    assert any("WEBHOOK_URL" in line for line in lines)
    found = orjson.loads(shell.said("notify", "list", "--json"))
    assert [(each["name"], each["record"]["sent"]) for each in found["channels"]] == [
        ("slack", 0),
        ("email", 3),
    ]


def test_a_fleet_whose_notifier_has_no_channel_says_so(shell, seeded):
    assert "unknown: no notifier has said" in shell.said("notify", "list")
    seeded[0].cmd("HSET", "notifier:state", "d:channels", "{}")
    assert "no channel is open: nobody is told of an outage" in shell.said("notify", "list")
