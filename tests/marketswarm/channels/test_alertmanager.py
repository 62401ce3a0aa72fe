"""Alertmanager's webhook JSON, version 4: held to what its receivers read, and to its fingerprints."""

import re
from dataclasses import replace

import orjson
import pytest

from marketswarm.channels import Message, MessageKind, SendError, Severity
from marketswarm.channels.alertmanager import (
    ALERTS_AT_MOST,
    NOT_ENDED,
    Alertmanager,
    Options,
    encode_alert_group,
)
from marketswarm.channels.http import Http
from marketswarm.event import Kind, encode_event
from support.channel_messages import (
    AT,
    CASES,
    FLAPPING,
    GROUP,
    HOSTILE,
    MISS,
    OK,
    REMINDER,
    agrees,
    event_of,
    group_of,
    hostile,
)
from support.rig.receiver import Answer, Receiver

# fmt: off
GROUP_KEYS = {
    "version": str, "groupKey": str, "truncatedAlerts": int, "status": str, "receiver": str,
    "groupLabels": dict, "commonLabels": dict, "commonAnnotations": dict, "externalURL": str, "alerts": list,
}
ALERT_KEYS = {
    "status": str, "labels": dict, "annotations": dict, "startsAt": str, "endsAt": str, "generatorURL": str,
    "fingerprint": str,
}
# fmt: on
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def read(message: Message, anchor: str | None = None) -> dict:
    """The payload, once it is what a receiver's types want."""
    found = orjson.loads(encode_alert_group(message, "night", anchor))
    assert {name: type(value) for name, value in found.items()} == GROUP_KEYS
    assert (found["version"], found["receiver"]) == ("4", "night")
    assert found["status"] in ("firing", "resolved")
    assert found["alerts"]
    for build_alert in found["alerts"]:
        assert {name: type(value) for name, value in build_alert.items()} == ALERT_KEYS
        assert build_alert["status"] in ("firing", "resolved")
        assert TIME.fullmatch(build_alert["startsAt"])
        assert TIME.fullmatch(build_alert["endsAt"])
        assert (build_alert["endsAt"] == NOT_ENDED) == (build_alert["status"] == "firing")
        assert re.fullmatch("[0-9a-f]{16}", build_alert["fingerprint"])
        for texts in (build_alert["labels"], build_alert["annotations"]):
            assert all(isinstance(value, str) for value in texts.values())
        assert found["commonLabels"].items() <= build_alert["labels"].items()
        assert found["commonAnnotations"].items() <= build_alert["annotations"].items()
        assert found["groupLabels"].items() <= build_alert["labels"].items()
    fingerprints = [build_alert["fingerprint"] for build_alert in found["alerts"]]
    assert len(set(fingerprints)) == len(fingerprints)
    return found


def one(message: Message, anchor: str | None = None) -> dict:
    (build_alert,) = read(message, anchor)["alerts"]
    return build_alert


@pytest.mark.parametrize("case", CASES)
def test_what_is_sent_is_as_documented_and_that_of_its_golden_file(case):
    read(CASES[case])
    agrees("alertmanager", case, encode_alert_group(CASES[case], "alertmanager"))


def test_a_miss_fires_and_its_ok_resolves_the_same_alert():
    fired, resolved = one(MISS), one(OK, "warning")
    assert (fired["status"], resolved["status"]) == ("firing", "resolved")
    assert (
        fired["labels"]
        == resolved["labels"]
        == {"alertname": "heartbeat", "severity": "warning", "svc": "rss_agg"}
    )
    assert fired["fingerprint"] == resolved["fingerprint"] == one(REMINDER)["fingerprint"]
    assert fired["startsAt"] == resolved["startsAt"]
    assert resolved["endsAt"] == "2025-11-06T12:55:01.000Z"
    assert read(MISS)["groupKey"] == read(OK)["groupKey"]


def test_an_alert_keeps_the_severity_that_its_thread_began_with():
    assert one(replace(MISS, severity=Severity.CRITICAL))["labels"]["severity"] == "critical"
    assert one(OK, "critical")["labels"]["severity"] == "critical"
    assert one(REMINDER, "warning")["labels"]["severity"] == "warning"
    assert one(OK, "nonsense")["labels"]["severity"] == "warning"  # what misses are, where nobody knows more
    healer = encode_event(event_of(Kind.HEALER_OK, "healer", AT))
    assert one(replace(OK, events=(healer,)))["labels"]["severity"] == "critical"


@pytest.mark.parametrize("end", [Kind.WATCH_OK, Kind.WATCH_UNWATCHED])
def test_that_a_service_cannot_be_watched_is_an_alert_of_its_own_from_when_it_was_refused(end):
    miss = event_of(Kind.WATCH_MISS, "rss_agg", AT, reason="auth", since=AT - 3000)
    more = {"down_sec": 240.0} if end is Kind.WATCH_OK else {}
    ended = event_of(end, "rss_agg", AT + 240, **more)
    fired = one(replace(MISS, id=miss.id, events=(encode_event(miss),)))
    resolved = one(replace(OK, events=(encode_event(ended),)), "warning")
    assert (fired["status"], resolved["status"]) == ("firing", "resolved")
    assert fired["labels"] == resolved["labels"]
    assert fired["labels"] == {"alertname": "watch", "severity": "warning", "svc": "rss_agg"}
    assert fired["fingerprint"] == resolved["fingerprint"] != one(MISS)["fingerprint"]
    assert fired["startsAt"] == "2025-11-06T12:50:58.300Z"
    if end is Kind.WATCH_OK:
        assert resolved["startsAt"] == fired["startsAt"]


def test_that_no_bus_was_reached_fires_nothing():
    gap = event_of(Kind.REACH_GAP, "healer", AT, since=AT - 31, gap_sec=31.0)
    found = one(replace(OK, kind=MessageKind.NOTE, events=(encode_event(gap),), closes=()))
    assert (found["status"], found["labels"]["alertname"]) == ("resolved", "reach")
    assert found["labels"]["severity"] == "info"


def test_a_group_has_an_alert_for_each_and_says_how_many_it_leaves_out():
    found = read(GROUP)
    assert [build_alert["labels"]["svc"] for build_alert in found["alerts"]] == [
        f"worker_{i}" for i in range(8)
    ]
    assert (found["groupLabels"], found["truncatedAlerts"]) == ({"alertname": "heartbeat"}, 0)
    assert found["alerts"][7]["annotations"]["summary"] == "worker_7 is down"
    found = read(group_of([f"w{i}" for i in range(ALERTS_AT_MOST + 5)]))
    assert (len(found["alerts"]), found["truncatedAlerts"]) == (ALERTS_AT_MOST, 5)


def test_of_two_events_on_one_alert_the_later_counts():
    first, later = MISS.events[0], OK.events[0]
    assert one(replace(OK, events=(first, later)))["status"] == "resolved"
    assert one(replace(OK, events=(later, first)))["status"] == "firing"


def test_flapping_is_an_alert_of_its_own_until_it_settles():
    heart, flap = read(FLAPPING)["alerts"]
    assert (heart["labels"]["alertname"], flap["labels"]["alertname"]) == ("heartbeat", "flapping")
    assert (heart["status"], flap["status"]) == ("resolved", "firing")
    settled = read(replace(FLAPPING, kind=MessageKind.SETTLED, opens=False))["alerts"][1]
    assert (settled["status"], settled["fingerprint"]) == ("resolved", flap["fingerprint"])


@pytest.mark.parametrize("kind", Kind)
def test_every_event_is_an_alert_that_fires_or_has_ended(kind):
    event = event_of(kind, "rss_agg", AT)
    build_alert = one(replace(OK, events=(encode_event(event),)))
    fires = kind.endswith(("_miss", "_drift"))
    assert build_alert["status"] == ("firing" if fires else "resolved")
    assert build_alert["labels"]["alertname"] == kind.partition("_")[0]


def test_a_message_without_events_that_can_be_read_is_an_alert_itself():
    test = Message("test.1", "a test", "all is well", Severity.INFO, AT, kind=MessageKind.TEST)
    assert one(test)["labels"] == {"alertname": "marketswarm", "severity": "info", "svc": "test"}
    assert one(test)["status"] == "firing"
    strange = Message("a", "t", "t", Severity.INFO, AT, events=(b"{}", b"nonsense"))
    assert one(strange)["status"] == "resolved"
    assert one(replace(strange, opens=True))["status"] == "firing"


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_stranger_is_called_breaks_nothing(name):
    assert one(hostile(name))["annotations"]["summary"] == f"{name} is down".replace("\ud800", "?")


@pytest.fixture
async def channel():
    """Opens one that talks to a receiver."""
    made = []

    def of(receiver: Receiver) -> Alertmanager:
        made.append(Alertmanager("night", Options(url=receiver.url), Http(within_sec=3.0)))
        return made[-1]

    yield of
    for each in made:
        await each.aclose()


async def test_a_receiver_gets_it_with_the_id_by_which_repeats_can_be_dropped(channel):
    with Receiver() as receiver:
        receipt = await channel(receiver).send(MISS)
        assert (receipt.answer, receipt.anchor) == ("200", "warning")
        assert (await channel(receiver).send(OK, receipt.anchor)).anchor == "warning"
        first, later = receiver.seen
        assert (first.id, later.id) == (MISS.id, OK.id)
        assert orjson.loads(later.body)["alerts"][0]["labels"]["severity"] == "warning"


@pytest.mark.parametrize(
    ("answer", "found"),
    [(503, ("503", False)), (404, ("404", True)), (Answer(hang=True), ("timeout", False))],
)
async def test_a_refusal_says_itself_whether_it_is_for_good(channel, answer, found):
    with Receiver(answer) as receiver:
        with pytest.raises(SendError) as caught:
            await channel(receiver).send(MISS)
        assert (caught.value.reason, caught.value.is_permanent) == found
        assert "s3cret" not in repr(caught.value) + repr(Options(url=receiver.url))
