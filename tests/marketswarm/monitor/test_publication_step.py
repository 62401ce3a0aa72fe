"""The step of a published event."""

from marketswarm.event import Event, Kind, encode_event
from marketswarm.monitor.publication_step import make_publication_step

MISS = Event(
    Kind.HEARTBEAT_MISS, "alpha", 100.0, "m1", "healer", late_sec=3.2, timeout_sec=3.0, reason="silent"
)


def test_it_begins_when_the_event_was_concluded_and_ends_when_the_bus_took_it():
    step = make_publication_step("healer", "system-redis", encode_event(MISS), 100.25, is_home=True)
    assert (step.name, step.trace_keys, step.started_at, step.ended_at) == (
        "healer.publish",
        ("m1",),
        100.0,
        100.25,
    )
    assert step.is_first
    found = {key.removeprefix("marketswarm."): value for key, value in step.attributes.items() if value}
    assert found == {
        "event.id": "m1",
        "event.type": "heartbeat_miss",
        "event.late_sec": 3.2,
        "event.timeout_sec": 3.0,
        "event.reason": "silent",
        "service": "alpha",
        "bus": "system-redis",
    }


def test_on_another_bus_than_the_alerts_it_is_not_the_first():
    step = make_publication_step("healer", "market-redis", encode_event(MISS), 100.25, is_home=False)
    assert not step.is_first


def test_a_verdict_without_an_event_has_no_step():
    assert make_publication_step("healer", "system-redis", b"", 1.0, is_home=True) is None
