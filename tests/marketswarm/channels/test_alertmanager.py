"""Alertmanager's webhook JSON, version 4: when an alert fires, and which one is resolved."""

from dataclasses import replace

import httpx
import orjson
import pytest

from marketswarm.channels import AlertState, Message, MessageKind, SendError, Severity
from marketswarm.channels.alertmanager import ALERTS_AT_MOST, Alertmanager, Options, encode_alert_groups
from marketswarm.event import Kind, encode_event
from support.channel_kinds import URL
from support.channel_messages import AT, FLAPPING, GROUP, MISS, OK, REMINDER, event_of, group_of
from support.chat_schemas import Alertmanager as Documented


def read(message: Message, anchor: str | None = None) -> dict:
    """The payload, once it is as documented."""
    body = next(iter(encode_alert_groups(message, "night", anchor).values()))
    Documented.model_validate_json(body)
    return orjson.loads(body)


def one(message: Message, anchor: str | None = None) -> dict:
    (build_alert,) = read(message, anchor)["alerts"]
    return build_alert


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
    assert [alert["labels"]["svc"] for alert in found["alerts"]] == [f"worker_{i:03d}" for i in range(8)]
    assert (found["groupLabels"], found["truncatedAlerts"]) == ({"alertname": "heartbeat"}, 0)
    assert found["alerts"][7]["annotations"]["summary"] == "worker_007 is down"
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


async def test_a_receiver_gets_it_with_the_id_by_which_repeats_can_be_dropped(http, receiver):
    channel = Alertmanager("night", Options(url=URL), http)
    first = await channel.send(MISS)
    later = await channel.send(OK, first.anchor)
    assert (first.answer, first.anchor, later.anchor) == ("200", "warning", "warning")
    assert [request.headers["webhook-id"] for request in receiver.requests] == [MISS.id, OK.id]
    assert receiver.found[1]["alerts"][0]["labels"]["severity"] == "warning"


A, B = (
    AlertState("heartbeat", svc, f"m.{svc}", Severity.CRITICAL, AT - 30, AT) for svc in ("rss_agg", "mesh")
)
BOTH = replace(OK, id="ok.2", thread="ok.2", closes=("m.mesh",), states=(A, B))
"""Two outages of two conversations are over; in that of the first, another one lasts."""


async def test_outages_of_several_conversations_are_several_groups_and_each_is_posted_once(http, receiver):
    receiver.answer(httpx.Response(200), httpx.Response(503), httpx.Response(200))
    channel = Alertmanager("night", Options(url=URL), http)
    with pytest.raises(SendError, match="503"):
        await channel.send(BOTH)
    await channel.send(BOTH)
    first, failed, again = receiver.found
    assert failed == again
    assert (first["groupKey"], first["status"]) == ("marketswarm:m.rss_agg", "firing")
    assert (again["groupKey"], again["status"]) == ("marketswarm:m.mesh", "resolved")
    assert [alert["status"] for group in (first, again) for alert in group["alerts"]] == ["resolved"] * 2
    assert first["alerts"][0]["labels"]["severity"] == "critical", "what its conversation began with"
    ids = [request.headers["webhook-id"] for request in receiver.requests]
    assert ids[0] != ids[1] == ids[2]
