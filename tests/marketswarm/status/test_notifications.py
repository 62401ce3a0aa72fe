"""What is read of the notifier's state: held against what the notifier itself writes."""

import orjson
import pytest

from marketswarm.channels import Message, Severity
from marketswarm.keys import NOTIFIER_STATE
from marketswarm.status.notifications import (
    OpenIncident,
    PendingDelivery,
    describe_hold,
    group_stuck_by_channel,
    parse_incidents,
    parse_pending,
    read_notifications,
)
from marketswarm.testing import MemoryBus
from notifier.outbox import Outbox
from notifier.router.incident import Decision, Incident
from notifier.state import NotifierState

NOW = 1_762_433_458.0


def encoded(changes: dict[str, bytes | None]) -> dict[bytes, bytes]:
    return {name.encode(): raw for name, raw in changes.items() if raw is not None}


def stored(*incidents: Incident) -> dict[bytes, bytes]:
    return {f"r:i:{each.key}".encode(): each.encode() for each in incidents}


def message(ident: str, ts: float = NOW - 60) -> Message:
    return Message(ident, f"{ident} is down", "no beat", Severity.WARNING, ts)


def test_an_open_incident_says_who_sees_to_it_and_what_holds_its_message_back():
    found = parse_incidents(
        stored(
            Incident("a", "a", down=True, acked_by="kim"),
            Incident("b", "b", down=True, held=Decision.RATE_LIMIT, held_until=NOW + 60),
            Incident("c", "c"),
        )
    )
    assert found == {
        "a": OpenIncident("a", down=True, acked_by="kim"),
        "b": OpenIncident("b", down=True, held="rate_limit", held_until=NOW + 60),
    }


def test_a_message_waits_for_each_channel_that_has_not_taken_it():
    outbox, state = Outbox(), NotifierState()
    outbox.add(message("m1"), ["slack", "email"])
    outbox.add(message("m2", NOW - 90), ["slack"])
    outbox.record_accepted("m1", "email")
    outbox.record_failure("m1", "slack", NOW - 30)
    state.set_pause("slack", 3, NOW + 45)
    fields = encoded(outbox.changes() | state.changes())
    assert parse_pending(fields, NOW) == (
        PendingDelivery("m2", "slack", "m2 is down", NOW - 90, None, NOW + 45),
        PendingDelivery("m1", "slack", "m1 is down", NOW - 60, NOW - 30, NOW + 45),
    )
    assert [each.retry_at for each in parse_pending(fields, NOW + 46)] == [None, None]


def test_a_broken_channel_says_why():
    outbox, state = Outbox(), NotifierState()
    outbox.add(message("m1"), ["slack"])
    state.mark_broken("slack", "404 no_service")
    (found,) = parse_pending(encoded(outbox.changes() | state.changes()), NOW)
    assert found.broken == "404 no_service"


def test_only_what_something_keeps_back_is_stuck():
    outbox = Outbox()
    outbox.add(message("m1"), ["slack", "email"])
    outbox.record_failure("m1", "email", NOW - 30)
    pending = parse_pending(encoded(outbox.changes()), NOW)
    assert [(each.channel, each.stuck) for each in pending] == [("email", True), ("slack", False)]
    assert list(group_stuck_by_channel(pending)) == ["email"]


@pytest.mark.parametrize(
    "raw", [b"", b"no json", b"[]", b"{}", b'{"ways":5}', b'{"ways":{"slack":[]}}', b"\xff"]
)
def test_what_can_not_be_parsed_is_skipped(raw):
    outbox = Outbox()
    outbox.add(message("m1"), ["slack"])
    fields = encoded(outbox.changes())
    assert parse_pending(fields | {b"d:pauses": raw, b"d:broken": raw}, NOW)
    assert parse_pending(fields | {b"o:w:m1": raw}, NOW) == ()
    assert parse_pending(fields | {b"o:m:m1": raw}, NOW) == ()
    assert parse_incidents({b"r:i:a": raw}) == {}


def test_a_time_that_is_none_is_not_taken():
    incident = orjson.loads(Incident("a", "a", down=True).encode())
    assert parse_incidents({b"r:i:a": orjson.dumps(incident | {"held_until": 1e300})}) == {}
    assert parse_pending({b"d:pauses": b'{"slack":[1,1e999]}'}, NOW) == ()


def test_why_no_message_is_sent_stands_in_words():
    assert describe_hold(Decision.NO_CHANNEL) == "no message sent: no channel is configured"
    assert describe_hold(Decision.SILENCED) == "no message sent: it is silenced"
    assert describe_hold(Decision.RATE_LIMIT) == "message held back: rate limit"


async def test_a_number_of_thousands_of_digits_is_none():
    bus = MemoryBus("system-redis")
    incident = {f"r:i:{name}": Incident(name, name, down=True).encode() for name in ("a",)}
    await bus.client.hset(NOTIFIER_STATE, mapping={**incident, "seq": "9" * 5000})
    assert (await read_notifications([bus])).incidents.keys() == {"a"}
    await bus.aclose()


async def test_the_channels_are_those_that_the_notifier_opened_last_and_unknown_if_it_said_none():
    bus = MemoryBus("system-redis")
    assert (await read_notifications([bus])).channels is None
    state = NotifierState()
    for places in ({}, {"webhook": "hooks.example.org"}):
        state.record_channels(places)
        await bus.client.hset(NOTIFIER_STATE, mapping=state.changes())
        found = (await read_notifications([bus])).channels
        assert {each.name: each.where for each in found} == places
        state.record_channels(places)
        assert state.changes() == {}
    for odd in (b"{", b"[]", b'{"a":1}', orjson.dumps({"a": "x" * 301})):
        await bus.client.hset(NOTIFIER_STATE, "d:channels", odd)
        assert (await read_notifications([bus])).channels is None
    await bus.aclose()


async def test_each_open_channel_has_what_it_sent_and_failed_last_and_how_it_is():
    bus, outbox, state = MemoryBus(), Outbox(), NotifierState()
    state.record_channels(dict.fromkeys(("slack", "email", "ntfy", "teams"), "example.org"))
    state.record_attempt("slack", "a is down", NOW - 50, None, is_final=True)
    state.record_attempt("slack", "b is down", NOW - 40, "404", is_final=True)
    state.mark_broken("slack", "404: no such channel")
    state.record_attempt("email", "a is down", NOW - 50, "timeout", is_final=False)
    state.record_attempt("email", "a is down", NOW - 40, None, is_final=True)
    state.record_attempt("ntfy", "a is down", NOW - 40, "503", is_final=False)
    outbox.add(message("m1"), ["ntfy"])
    await bus.client.hset(NOTIFIER_STATE, mapping=encoded(outbox.changes() | state.changes()))
    statuses = (await read_notifications([bus])).channels
    found = {each.name: (str(each.state), each.record.sent, each.waiting, each.broken) for each in statuses}
    assert found == {
        "slack": ("broken", 1, 0, "404: no such channel"),
        "email": ("works", 1, 0, None),
        "ntfy": ("fails", 0, 1, None),
        "teams": ("unused", 0, 0, None),
    }
    assert [each.name for each in statuses] == ["slack", "email", "ntfy", "teams"]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"a":7}', b'{"a":{"sent":"1"}}', b'{"a":{"sent_at":1e99}}']
)
async def test_records_that_can_not_be_used_leave_the_channels(raw):
    bus = MemoryBus()
    fields = {b"d:channels": b'{"slack":"example.org"}', b"d:records": raw}
    await bus.client.hset(NOTIFIER_STATE, mapping=fields)
    (status,) = (await read_notifications([bus])).channels
    assert (status.where, status.state, status.record.sent) == ("example.org", "unused", 0)
