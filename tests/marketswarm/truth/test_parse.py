"""Documents that are valid as they stand, and what their defaults are."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from marketswarm.truth import HEALER, MARKET, SYSTEM, TruthError, parse_truth

# the two of the reference, word for word
RSS_AGG_ALONE = b"""{
  "services": {
    "rss_agg": {
      "heartbeat": {
        "channel": "rss_agg:heartbeat",
        "interval_sec": 10,
        "redis_url": "redis://system-redis:6379"
      }
    }
  }
}"""
HEALER_ALONE = b"""{
  "services": {
    "healer": {
      "access_points": {
        "subscribe_to": [
          {"bus":"system-redis","key":"rss_agg:heartbeat"},
          {"bus":"system-redis","key":"massive:heartbeat"},
          {"bus":"system-redis","key":"mesh:heartbeat"},
          {"bus":"system-redis","key":"vexy_ai:heartbeat"}
        ],
        "publish_to": [
          {"bus":"system-redis","key":"healer:alerts"},
          {"bus":"system-redis","key":"healer:heartbeat"}
        ]
      },
      "threshold": {"heartbeat_cadence": 30}
    }
  }
}"""


@pytest.mark.parametrize("document", [RSS_AGG_ALONE, HEALER_ALONE])
def test_the_minimal_documents_of_the_reference_are_valid_and_leave_no_doubt(document):
    loaded = parse_truth(document)
    assert loaded.warnings == ()
    assert loaded.sha256 == hashlib.sha256(document).hexdigest()


def test_a_service_needs_no_key_at_all():
    truth = parse_truth(b'{"services": {"a.b-c_1": {}}}').truth
    service = truth.services["a.b-c_1"]
    beat = service.heartbeat
    assert (truth.channel_of("a.b-c_1"), beat.interval_sec, beat.redis_url) == (
        "a.b-c_1:heartbeat",
        10.0,
        "redis://system-redis:6379",
    )
    assert (beat.timeout_sec, beat.monitored) == (None, True)
    assert (service.description, service.tags, service.depends_on) == ("", (), ())
    assert service.severity == "warning"
    assert (service.endpoints, service.settings, service.threshold) == ([], {}, None)
    assert service.access_points.subscribe_to == service.access_points.publish_to == ()


def test_a_threshold_without_bus_timeout_waits_ten_seconds():
    truth = parse_truth(HEALER_ALONE).truth
    assert truth.services[HEALER].threshold.bus_timeout_sec == 10.0
    assert truth.bus_timeout_sec() == 10.0
    assert parse_truth(RSS_AGG_ALONE).truth.bus_timeout_sec() == 10.0


def test_the_shipped_fleet_is_valid_and_leaves_no_doubt():
    loaded = parse_truth((Path(__file__).parents[3] / "truth.json").read_bytes())
    assert loaded.warnings == ()
    workers, watchers = ["rss_agg", "massive", "mesh", "vexy_ai"], ["healer", "sentinel", "notifier"]
    assert list(loaded.truth.services) == [*workers, *watchers, "board", "medic"]
    assert {service.heartbeat.interval_sec for service in loaded.truth.services.values()} == {10.0}
    assert loaded.truth.cadence_sec() == 30.0
    assert loaded.truth.bus_names() == (SYSTEM, MARKET)
    assert loaded.truth.alert_target("other") == (SYSTEM, "healer:alerts")
    watched = {watch.svc: watch.timeout_sec for watch in loaded.truth.with_default_timeout(99).watched()}
    assert watched == dict.fromkeys([*workers, "sentinel", "notifier", "board", "medic"], 30.0)
    assert loaded.truth.services["rss_agg"].endpoints == []


@pytest.mark.parametrize("severity", ["info", "warning", "critical"])
def test_a_service_says_how_much_it_matters(severity):
    document = json.dumps({"services": {"a": {"severity": severity}}}).encode()
    assert parse_truth(document).truth.services["a"].severity == severity


@pytest.mark.parametrize("replicas", [1, 3, 100])
def test_a_service_says_how_many_processes_it_is_to_have(replicas):
    document = json.dumps({"services": {"a": {"replicas": replicas}, "b": {}, "c": {"replicas": None}}})
    services = parse_truth(document.encode()).truth.services
    assert services["a"].replicas == replicas
    assert services["b"].replicas is services["c"].replicas is None
    assert replace(services["b"], description="x").replicas is None


SETTINGS_WITHOUT_SECRETS = [
    {"api_key": "env:POLYGON_API_KEY"},
    {"auth": {"tokens": ["env:A", "env:B"]}},
    {"max_tokens": 4000, "token_limit": 5, "tokens": 3},
    {"password": None, "secret": "", "token": True},
    {"tokenizer": "cl100k", "secretary": "me", "key": "value", "keys": ["a"]},
    {"password_rules": {"min_length": 12}},
    {"url": "https://example.org:443/@user/feed?lang=en&page=2#top"},
    {"url": "https://user@example.org/feed"},
]


@pytest.mark.parametrize("settings", SETTINGS_WITHOUT_SECRETS, ids=json.dumps)
def test_what_is_no_secret_is_taken_for_none(settings):
    document = json.dumps({"services": {"a": {"settings": settings}}}).encode()
    assert parse_truth(document).truth.services["a"].settings == settings


def test_a_service_or_bus_may_be_named_after_a_secret():
    document = {
        "buses": {"token-redis": {"url": "redis://token-redis:6379"}},
        "services": {
            "secret_keeper": {"description": "keeps", "heartbeat": {"redis_url": "redis://token-redis"}}
        },
    }
    assert parse_truth(json.dumps(document).encode()).truth.bus_of("secret_keeper") == "token-redis"


def test_the_form_that_an_error_asks_for_is_accepted():
    document = {
        "buses": {"cache": {"url": "env:CACHE_URL"}},
        "services": {
            "a": {"heartbeat": {"redis_url": "env:A_URL"}, "settings": {"api_key": "env:A_KEY"}},
            "b": {"heartbeat": {"redis_url": "redis://cache"}},
        },
    }
    truth = parse_truth(json.dumps(document).encode()).truth
    assert truth.bus_names() == (SYSTEM, MARKET, "cache", "env:A_URL")
    assert truth.bus_url("env:A_URL") == "env:A_URL"
    assert truth.bus_url(truth.bus_of("b")) == "env:CACHE_URL"


@pytest.mark.parametrize("interval", ["1e-3", "0.25", "10", "31536000", "1.5e1"])
def test_an_interval_may_be_any_positive_number_of_seconds(interval):
    document = (
        f'{{"services": {{"a": {{"heartbeat": {{"interval_sec": {interval}, "timeout_sec": 31536000}}}}}}}}'
    )
    if interval == "31536000":
        with pytest.raises(TruthError, match="not above"):
            parse_truth(document.encode())
    else:
        assert parse_truth(document.encode()).truth.services["a"].heartbeat.interval_sec == float(interval)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://h:6380/2",
        "unix:///run/redis.sock",
        "redis://10.0.0.5",
        "redis://[::1]:6379",
        "redis://me@h",
    ],
)
def test_every_kind_of_redis_url_is_taken(url):
    document = {"services": {"a": {"heartbeat": {"redis_url": url}}}}
    assert parse_truth(json.dumps(document).encode()).truth.services["a"].heartbeat.redis_url == url


def test_one_channel_on_two_buses_is_two_channels():
    beats = [{"channel": "beat"}, {"channel": "beat", "redis_url": "redis://market-redis"}]
    document = {"services": {"a": {"heartbeat": beats[0]}, "b": {"heartbeat": beats[1]}}}
    assert len(parse_truth(json.dumps(document).encode()).truth.watched()) == 2


def test_nobody_waits_for_the_unmonitored_or_for_the_healer_so_that_their_intervals_may_be_long():
    services = {
        "a": {"heartbeat": {"interval_sec": 60, "monitored": False}},
        "healer": {"heartbeat": {"interval_sec": 60}},
    }
    assert parse_truth(json.dumps({"services": services}).encode()).warnings == ()


def test_depends_on_may_name_what_only_subscribe_to_knows():
    points = {"subscribe_to": [{"bus": "system-redis", "key": "feed:heartbeat"}]}
    document = {"services": {"a": {"depends_on": ["feed"]}, "healer": {"access_points": points}}}
    assert parse_truth(json.dumps(document).encode()).truth.services["a"].depends_on == ("feed",)


def test_a_diamond_of_dependencies_is_no_circle():
    services = {
        "a": {"depends_on": ["b", "c"]},
        "b": {"depends_on": ["d"]},
        "c": {"depends_on": ["d"]},
        "d": {},
    }
    assert parse_truth(json.dumps({"services": services}).encode()).warnings == ()


@pytest.mark.slow
def test_five_thousand_services_in_a_row_of_dependencies_are_read():
    services = {f"s{n}": {"depends_on": [f"s{n + 1}"]} for n in range(4999)} | {"s4999": {}}
    assert len(parse_truth(json.dumps({"services": services}).encode()).truth.services) == 5000
