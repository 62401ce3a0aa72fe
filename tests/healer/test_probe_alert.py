import pytest

from healer.probe_alert import parse_probe_alert
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
    assert parse_probe_alert(encode_event(GOOD)) == GOOD


@pytest.mark.parametrize("kind", [kind for kind in Kind if not kind.startswith("probe_")])
def test_no_other_fact_is_for_massive_to_tell(kind):
    said = parse_probe_alert(changed(type=kind, id=f"{kind}.massive:shop.1762433488100"))
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
    assert parse_probe_alert(changed(**wrong)) == MalformedEvent(reason)
