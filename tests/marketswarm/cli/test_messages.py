"""`marketswarm dead`: messages that a channel did not take for good."""

import orjson
import pytest

from marketswarm.channels import Message, Severity
from marketswarm.channels.message import encode_message
from marketswarm.cli.notification_text import describe_delay
from marketswarm.keys import NOTIFIER_DEAD, NOTIFIER_STATE
from marketswarm.status.notifications import PendingDelivery
from notifier.outbox import Outbox

pytestmark = pytest.mark.live


def message(ident, title="rss_agg is down"):
    return encode_message(Message(ident, title, "no beat for 31.2 s", Severity.WARNING, 1762433458.3))


def bury(bus, ident, channel, reason, ts="1762433460.0", **more):
    bus.cmd(
        "XADD",
        NOTIFIER_DEAD,
        "*",
        "message",
        message(ident, **more),
        "channel",
        channel,
        "reason",
        reason,
        "ts",
        ts,
    )


def test_the_dead_are_listed_once_each_though_they_lie_on_both_buses(shell, seeded):
    assert shell("dead").stdout == "everything was delivered\n"
    for bus in seeded:
        bury(bus, "m1", "slack", "404")
    bury(seeded[0], "m1", "email", "550 no such user", "1762433461.0")
    bury(seeded[1], "m2", "slack", "410", "1762433459.0", title="mesh\x1b is down")
    ended = shell("dead", TZ="UTC", COLUMNS="120")
    assert ended.returncode == 0
    head, first, second, third, hint = ended.stdout.splitlines()
    assert head.split() == ["id", "channel", "since", "why", "what"]
    assert first.split() == [
        "m2",
        "slack",
        "Thu",
        "06",
        "Nov",
        "2025",
        "12:50",
        "410",
        r"mesh\x1b",
        "is",
        "down",
    ]
    assert second.split()[:2] == ["m1", "slack"]
    assert third.split()[:2] == ["m1", "email"]
    assert "550 no such user" in third
    assert "marketswarm resend" in hint
    found = orjson.loads(shell("dead", "--json").stdout)
    assert [(each["id"], each["channel"]) for each in found] == [
        ("m2", "slack"),
        ("m1", "slack"),
        ("m1", "email"),
    ]
    assert found[1]["text"] == "no beat for 31.2 s"


def test_rubbish_among_the_dead_is_passed_over(shell, seeded):
    seeded[0].cmd("XADD", NOTIFIER_DEAD, "*", "message", b"\xff", "channel", "slack")
    seeded[0].cmd("XADD", NOTIFIER_DEAD, "*", "x", "y")
    bury(seeded[0], "m1", "slack", "404", ts="soon")
    ended = shell("dead")
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[1].split()[:3] == ["m1", "slack", "-"]


def test_status_counts_them(shell, seeded):
    bury(seeded[1], "m1", "slack", "404")
    assert "1 message could not be delivered: `marketswarm dead`" in shell("status").stdout
    bury(seeded[1], "m2", "slack", "404")
    assert "2 messages could not be delivered: `marketswarm dead`" in shell("status").stdout
    assert orjson.loads(shell("status", "--json").stdout)["undelivered"] == 2


def test_what_waits_for_a_channel_is_shown_before_what_is_dead(shell, seeded):
    outbox = Outbox()
    outbox.add(Message("m2", "mesh is down", "no beat", Severity.WARNING, 1762433458.3), ["email"])
    outbox.record_failure("m2", "email", 1762433460.0)
    fields = [part for name, raw in outbox.changes().items() for part in (name, raw)]
    seeded[0].cmd("HSET", NOTIFIER_STATE, "seq", "2", *fields)
    seeded[1].cmd("HSET", NOTIFIER_STATE, "seq", "1")
    lines = shell("dead", TZ="UTC", COLUMNS="160").stdout.splitlines()
    assert lines[0] == "1 not delivered yet:"
    assert lines[2].split()[:2] == ["m2", "email"]
    assert "failing since Thu 06 Nov 2025 12:51" in lines[2]
    assert len(lines) == 3
    bury(seeded[0], "m1", "slack", "404")
    assert "1 given up:" in shell("dead").stdout
    assert [each["id"] for each in orjson.loads(shell("dead", "--json").stdout)] == ["m1"]
    assert "1 message waits for email, failing since" in shell("status", COLUMNS="160").stdout
    (waiting,) = orjson.loads(shell("status", "--json").stdout)["waiting"]
    assert (waiting["id"], waiting["channel"], waiting["failing_since"]) == ("m2", "email", 1762433460.0)


def test_what_delays_a_message_is_described():
    at = 1_762_433_458.0
    on_its_way = PendingDelivery("m1", "slack", "a is down", at)
    assert describe_delay(on_its_way, at) == "on its way"
    broken = PendingDelivery("m1", "slack", "a is down", at, broken="404\x1b")
    assert describe_delay(broken, at) == r"404\x1b"


def test_without_a_channel_nothing_is_said_to_be_delivered(shell, seeded):
    seeded[0].cmd("HSET", NOTIFIER_STATE, "seq", "1", "d:channels", "{}")
    assert shell("dead").stdout == (
        "no channel is open, so no message is sent: set WEBHOOK_URL,"
        " or see docs/notifications.md for other ways\n"
    )
    bury(seeded[0], "m1", "slack", "404")
    assert shell("dead", COLUMNS="120").stdout.splitlines()[-1].startswith("no channel is open")
    seeded[0].cmd("HSET", NOTIFIER_STATE, "d:channels", '{"webhook":"hooks.example.org"}')
    assert "no channel" not in shell("dead").stdout
