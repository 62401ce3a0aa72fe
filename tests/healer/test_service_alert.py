from dataclasses import replace

import pytest

from healer.service_alert import parse_service_alert
from marketswarm.agent.outage_state import MONITOR, PROBES, SIGNALS, SOURCES
from marketswarm.event import Event, Kind, MalformedEvent, encode_event

GOOD = Event(
    Kind.PROBE_MISS,
    "massive/shop",
    1762433488.1,
    "probe_miss.massive:shop.1762433488100",
    "massive",
    late_sec=30.1,
    reason="refused",
    since=1762433458.0,
)


def changed(**more) -> bytes:
    return encode_event(Event(**{**{name: getattr(GOOD, name) for name in GOOD.__slots__}, **more}))


def test_a_fact_on_a_target_is_read_as_it_was_written():
    assert parse_service_alert(PROBES, encode_event(GOOD)) == GOOD


@pytest.mark.parametrize("kind", [kind for kind in Kind if not kind.startswith("probe_")])
def test_no_other_fact_is_for_massive_to_tell(kind):
    said = parse_service_alert(PROBES, changed(type=kind, id=f"{kind}.massive:shop.1762433488100"))
    assert said == MalformedEvent("foreign_type")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"svc": "shop"}, "foreign_svc"),
        ({"svc": "massive"}, "foreign_svc"),
        ({"svc": "massive/"}, "foreign_svc"),
        ({"svc": "rss_agg/shop"}, "foreign_svc"),
        ({"svc": "massive/" + "x" * 101}, "foreign_svc"),
        ({"svc": "massive/a\nb"}, "foreign_svc"),
        ({"by": "healer"}, "foreign_by"),
        ({"id": "heartbeat_miss.shop.1762433488100"}, "foreign_id"),
        ({"id": "probe_ok.massive:shop.1762433488100"}, "foreign_id"),
        ({"id": "probe_miss.massive:shop.1762433488101"}, "foreign_id"),
        ({"id": "probe_miss.massive:a b.1762433488100"}, "foreign_id"),
        ({"id": ""}, "foreign_id"),
        ({"reason": "x" * 201}, "bad_reason"),
        ({"reason": "\x1b[2J"}, "bad_reason"),
        ({"reason": "x" * 20_000}, "too_long"),
    ],
)
def test_what_is_not_its_own_says_why(wrong, reason):
    assert parse_service_alert(PROBES, changed(**wrong)) == MalformedEvent(reason)


OF_A_SOURCE = Event(
    Kind.SOURCE_MISS,
    "source:kraken",
    1762433488.1,
    "source_miss.source:kraken.1762433488100",
    "sources",
    late_sec=30.1,
    reason="timeout",
    since=1762433458.0,
)


def test_the_alert_of_a_source_is_for_sources_alone():
    raw = encode_event(OF_A_SOURCE)
    assert parse_service_alert(SOURCES, raw) == OF_A_SOURCE
    assert parse_service_alert(PROBES, raw) == MalformedEvent("foreign_type")
    assert parse_service_alert(SOURCES, encode_event(GOOD)) == MalformedEvent("foreign_type")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"svc": "kraken"}, "foreign_svc"),
        ({"svc": "source:"}, "foreign_svc"),
        ({"by": "massive"}, "foreign_by"),
        ({"id": "source_miss.massive:kraken.1762433488100"}, "foreign_id"),
        ({"id": "source_ok.source:kraken.1762433488100"}, "foreign_id"),
    ],
)
def test_an_alert_that_is_not_about_a_source_says_why(wrong, reason):
    raw = encode_event(
        Event(**{**{name: getattr(OF_A_SOURCE, name) for name in OF_A_SOURCE.__slots__}, **wrong})
    )
    assert parse_service_alert(SOURCES, raw) == MalformedEvent(reason)


OF_A_CHECK = Event(
    Kind.SIGNALS_MISS,
    "signals/witness",
    1762433488.1,
    "signals_miss.signals:witness.1762433488100",
    "signals",
    reason="the witness refuses: 422",
    severity="critical",
)


def test_the_alert_of_a_check_is_for_signals_alone():
    raw = encode_event(OF_A_CHECK)
    assert parse_service_alert(SIGNALS, raw) == OF_A_CHECK
    for other in (PROBES, SOURCES, MONITOR):
        assert parse_service_alert(other, raw) == MalformedEvent("foreign_type")
    raw = encode_event(replace(OF_A_CHECK, svc="medic/stopped/fleet"))
    assert parse_service_alert(SIGNALS, raw) == MalformedEvent("foreign_svc")


OF_A_RULE = Event(
    Kind.MONITOR_MISS,
    "medic/degraded/rss_agg",
    1762433488.1,
    "monitor_miss.medic:degraded_rss_agg-12ab34cd.1762433488100",
    "medic",
    reason="degraded 1, above 0 for 300 s",
    severity="critical",
)


def test_the_alert_of_a_rule_is_for_the_medic_alone_and_has_a_known_severity():
    assert parse_service_alert(MONITOR, encode_event(OF_A_RULE)) == OF_A_RULE
    assert parse_service_alert(PROBES, encode_event(OF_A_RULE)) == MalformedEvent("foreign_type")
    for severity in ("emergency", "", "CRITICAL"):
        raw = encode_event(replace(OF_A_RULE, severity=severity))
        assert parse_service_alert(MONITOR, raw) == MalformedEvent("bad_severity")
