"""Which services are monitored, where, for how long; where alerts go; which buses exist; probe targets."""

import json
from typing import Any

import orjson
import pytest

from marketswarm.truth import (
    ProbeTarget,
    Truth,
    Watch,
    find_probe_target,
    find_probe_targets,
    find_rule_target,
    parse_truth,
)


def truth(services: dict[str, Any], **others: Any) -> Truth:
    return parse_truth(json.dumps({"services": services, **others}).encode()).truth


def subscribed(*keys: str, bus: str = "system-redis", **section: Any) -> dict[str, Any]:
    return {"access_points": {"subscribe_to": [{"bus": bus, "key": key} for key in keys]}, **section}


def test_every_service_with_a_section_is_watched_without_a_word_in_subscribe_to():
    watched = truth(
        {
            "a": {},
            "b": {"heartbeat": {"channel": "b!", "interval_sec": 2, "redis_url": "redis://market-redis"}},
        }
    )
    assert watched.watched() == (
        Watch("a", "system-redis", "a:heartbeat", 10.0, 30.0),
        Watch("b", "market-redis", "b!", 2.0, 30.0),
    )


def test_the_healer_does_not_watch_itself():
    services = {"a": {}, "healer": subscribed("a:heartbeat", "healer:heartbeat")}
    assert [watch.svc for watch in truth(services).watched()] == ["a"]


def test_one_known_from_subscribe_to_alone_has_its_channels_name_and_a_third_of_its_timeout():
    services = {
        "a": {},
        "healer": subscribed(
            "a:heartbeat", "old.one:heartbeat", bus="system-redis", threshold={"heartbeat_cadence": 45}
        ),
    }
    assert truth(services).watched() == (
        Watch("a", "system-redis", "a:heartbeat", 10.0, 45.0),
        Watch("old.one", "system-redis", "old.one:heartbeat", 15.0, 45.0),
    )


def test_one_known_from_subscribe_to_alone_is_watched_on_the_bus_named_there():
    (watch,) = (
        truth({"healer": subscribed("x:heartbeat", bus="market-redis")}).with_default_timeout(12).watched()
    )
    assert watch == Watch("x", "market-redis", "x:heartbeat", 4.0, 12.0)


def test_what_is_not_monitored_is_not_watched_even_if_subscribed_to():
    services = {"a": {"heartbeat": {"monitored": False}}, "healer": subscribed("a:heartbeat")}
    assert truth(services).watched() == ()


def test_a_subscription_given_twice_is_watched_once():
    assert len(truth({"healer": subscribed("x:heartbeat", "x:heartbeat")}).watched()) == 1


def test_a_channel_of_another_name_belongs_to_its_section():
    services = {"a": {"heartbeat": {"channel": "b:heartbeat"}}, "healer": subscribed("b:heartbeat")}
    assert [(watch.svc, watch.channel) for watch in truth(services).watched()] == [("a", "b:heartbeat")]


@pytest.mark.parametrize(
    ("own", "cadence", "expected"), [(60, 45, 60.0), (60, None, 60.0), (None, 45, 45.0), (None, None, 33.0)]
)
def test_a_timeout_is_its_own_else_the_cadence_else_the_default(own, cadence, expected):
    beat = {} if own is None else {"timeout_sec": own}
    healer = {} if cadence is None else {"threshold": {"heartbeat_cadence": cadence}}
    made = truth({"a": {"heartbeat": beat}, "healer": healer}).with_default_timeout(33.0)
    assert made.timeout_of("a") == expected
    assert made.watched()[0].timeout_sec == expected


def test_the_default_timeout_is_no_part_of_the_document():
    made = truth({"a": {}})
    assert made.timeout_of("a") == 30.0
    longer = made.with_default_timeout(45.0)
    assert (longer.timeout_of("a"), longer.with_default_timeout(45.0) is longer) == (45.0, True)
    assert longer == made


def test_the_timeout_of_one_without_section_is_the_cadence():
    assert truth({"healer": {"threshold": {"heartbeat_cadence": 5}}}).timeout_of("nobody") == 5.0


def publishing(*keys: str, bus: str = "system-redis") -> dict[str, Any]:
    return {"access_points": {"publish_to": [{"bus": bus, "key": key} for key in keys]}}


@pytest.mark.parametrize(
    ("healer", "target"),
    [
        (None, ("system-redis", "default")),
        ({}, ("system-redis", "default")),
        (publishing("healer:heartbeat", "my:alerts", "other"), ("system-redis", "my:alerts")),
        (publishing("my:alerts", bus="market-redis"), ("market-redis", "my:alerts")),
        (publishing("healer:heartbeat"), ("system-redis", "default")),
        (publishing("beats", "alerts"), ("system-redis", "alerts")),
    ],
)
def test_alerts_go_to_the_first_of_publish_to_that_carries_no_heartbeat(healer, target):
    services = {"a": {"heartbeat": {"channel": "beats"}}} | ({} if healer is None else {"healer": healer})
    assert truth(services).alert_target("default") == target


@pytest.mark.parametrize(
    ("url", "bus"),
    [
        ("redis://system-redis:6379", "system-redis"),
        ("redis://market-redis", "market-redis"),
        ("rediss://Market-Redis:7000/3", "market-redis"),
        ("redis://cache:6379", "cache"),
        ("redis://UPPER:6379", "Upper"),
        ("redis://10.0.0.5", "10.0.0.5:6379"),
        ("redis://10.0.0.5:6379/0", "10.0.0.5:6379"),
        ("redis://10.0.0.5:7000/2", "10.0.0.5:7000/2"),
        ("redis://[::1]:7000", "[::1]:7000"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
    ],
)
def test_a_url_whose_host_is_a_buss_name_is_that_bus_and_any_other_is_taken_literally(url, bus):
    made = truth({"a": {"heartbeat": {"redis_url": url}}}, buses={"cache": {}, "Upper": {}})
    assert made.bus_of("a") == bus
    assert made.bus_names() == tuple(dict.fromkeys(["system-redis", "market-redis", "cache", "Upper", bus]))
    literal = bus not in ("system-redis", "market-redis", "cache", "Upper")
    assert made.bus_url(bus) == (url if literal else None)


def test_a_buss_url_is_what_the_truth_says():
    made = truth({}, buses={"market-redis": {"url": "redis://elsewhere:1"}, "cache": {"url": "env:CACHE"}})
    assert made.bus_url("market-redis") == "redis://elsewhere:1"
    assert made.bus_url("cache") == "env:CACHE"
    assert made.bus_url("system-redis") is None
    assert made.bus_url("unheard-of") is None


def test_an_access_point_may_name_a_bus_that_only_a_literal_url_names():
    beat = {"channel": "a:heartbeat", "redis_url": "redis://10.0.0.5"}
    services = {
        "a": {"heartbeat": beat},
        "healer": subscribed("a:heartbeat", "b:heartbeat", bus="10.0.0.5:6379"),
    }
    assert {watch.bus for watch in truth(services).watched()} == {"10.0.0.5:6379"}


def test_the_bus_of_one_without_section_is_a_key_error():
    with pytest.raises(KeyError):
        truth({}).bus_of("nobody")


def truth_with_targets(targets, **section):
    document = {"services": {"massive": {**section, "settings": {"targets": targets}}, "mesh": {}}}
    return parse_truth(orjson.dumps(document)).truth


def test_a_target_has_what_it_says_and_else_what_its_service_has():
    found = truth_with_targets(
        [
            {"name": "a"},
            {"name": "b/c", "severity": "critical", "tags": ["x"], "depends_on": ["mesh", "massive/a"]},
            {"name": "d", "bus": "market-redis"},
        ],
        severity="info",
        tags=["outside"],
    )
    assert list(find_probe_targets(found)) == [
        ProbeTarget("massive/a", "info", ("outside",)),
        ProbeTarget("massive/b/c", "critical", ("outside", "x"), ("mesh", "massive/a")),
        ProbeTarget("massive/d", "info", ("outside",), ("bus:market-redis",)),
    ]
    assert find_probe_target(found, "massive/b/c") == list(find_probe_targets(found))[1]


@pytest.mark.parametrize("svc", ["massive", "massive/", "massive/z", "mesh/a", "nobody/a", "", "/", "bus:x"])
def test_what_is_no_target_is_none(svc):
    assert find_probe_target(truth_with_targets([{"name": "a"}]), svc) is None


@pytest.mark.parametrize(
    "targets",
    [
        None,
        {},
        "x",
        7,
        [None, 7, "x", [], {}, {"name": 7}],
        [{"name": "a", "tags": 5, "depends_on": {"b": 1}}],
    ],
)
def test_what_makes_no_sense_is_passed_over(targets):
    assert [each.svc for each in find_probe_targets(truth_with_targets(targets))] in ([], ["massive/a"])


def test_a_severity_that_is_none_is_that_of_the_service():
    assert next(find_probe_targets(truth_with_targets([{"name": "a", "severity": 5}]))).severity == "warning"


def test_no_question_about_buses_and_channels_goes_through_all_services():
    services = {f"svc{n}": {"heartbeat": {"interval_sec": 1 + n % 3}} for n in range(300)}
    services |= {"far": {"heartbeat": {"redis_url": "redis://far", "channel": "far!"}}}
    services |= {"healer": subscribed("x:heartbeat")}
    found = truth(services)

    class Forbidden(dict[str, Any]):
        def values(self) -> Any:
            raise AssertionError("all of them")

    object.__setattr__(found, "services", Forbidden(found.services))
    assert found.bus_names() == ("system-redis", "market-redis", "far:6379")
    assert found.bus_url("far:6379") == "redis://far"
    assert found.alert_target("healer:alerts") == ("system-redis", "healer:alerts")
    assert [watch.svc for watch in found.subscribed()] == ["x"]


def test_what_a_rule_of_the_medic_is_about_has_the_tags_of_its_service_and_depends_on_it():
    found = truth({"feed": {"tags": ["a"]}, "medic": {"tags": ["own"]}})

    def of(svc):
        target = find_rule_target(found, svc)
        return target and (target.tags, target.depends_on)

    assert of("medic/memory/feed") == (("a",), ("feed",))
    assert of("medic/bus_memory/system-redis") == (("own",), ("bus:system-redis",))
    assert of("medic/disk/host") == (("own",), ())
    assert of("medic/escalated/feed") == of("medic/proposed/feed") == (("a",), ())
    assert [of(svc) for svc in ("feed", "medic", "medic/memory", "medic/memory/", "massive/a/b")] == [
        None
    ] * 5
    assert find_rule_target(truth({"feed": {}}), "medic/memory/feed") is None
