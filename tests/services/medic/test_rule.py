"""What a truth may say about alert rules, and which ones are in force."""

import orjson
import pytest
from pydantic import ValidationError

from marketswarm.truth import parse_truth
from services.medic.metric import Metric, MetricSubject
from services.medic.rule import (
    MAX_PAIRS,
    MAX_PATTERNS,
    SHIPPED,
    MonitorRule,
    RuleSeverity,
    list_pairs,
)
from services.medic.settings import HealingSettings, MedicSettings


def make_truth(services):
    return parse_truth(orjson.dumps({"services": services})).truth


def rule(**more):
    return MonitorRule.model_validate({"metric": "process_memory", "above": 80, **more})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"above": None}, "above: a rule has either above or below"),
        ({"below": 10}, "above: a rule has either above or below"),
        ({"metric": "restarts"}, "within_sec: is missing: this metric counts"),
        ({"within_sec": 60}, "within_sec: is for metrics that count"),
        ({"metric": "uptime"}, "metric"),
        ({"above": float("nan")}, "above"),
        ({"above": -1}, "above"),
        ({"for_sec": 1e9}, "for_sec"),
        ({"share_above": 1}, "share_above"),
        ({"severity": "panic"}, "severity"),
        ({"pattern": "x"}, "pattern: is for log_matches"),
        ({"metric": "log_matches", "within_sec": 60}, "pattern: is missing"),
        ({"metric": "write_age"}, "key: is missing"),
        ({"metric": "write_age", "key": "rss:*"}, "key: is a key of its own"),
        ({"metric": "write_age", "key": "board:checks"}, "key: is a key of its own, and none of the swarm's"),
        ({"metric": "write_age", "key": "a:b", "share_above": 0.5}, "share_above: is not for write_age"),
        ({"metric": "table_age"}, "table: is missing"),
        ({"metric": "table_age", "table": "pg_authid"}, "table"),
        ({"table": "bars"}, "table: is for table_age"),
        ({"metric": "table_age", "table": "bars", "share_above": 0.5}, "share_above: is not for table_age"),
        ({"metric": "log_new", "within_sec": 60, "above": None, "below": 1}, "below: is not for logs"),
        ({"services": [""]}, "services"),
    ],
)
def test_a_wrong_rule_is_refused_with_the_place_of_the_mistake(wrong, words):
    with pytest.raises(ValidationError, match=words):
        rule(**wrong)


@pytest.mark.parametrize("name", ["", "Disk", "a/b", "9lives", "a" * 31, "a-b", "a\n"])
def test_a_name_that_does_not_fit_into_the_name_of_an_event_is_refused(name):
    with pytest.raises(ValidationError):
        HealingSettings.model_validate({"rules": {name: {"metric": "fuse", "above": 0}}})


def test_a_truth_changes_takes_out_and_adds_rules():
    own = {"disk": None, "memory": {"metric": "process_memory", "above": 50}, "mine": None}
    rules = HealingSettings.model_validate({"rules": own}).rules_in_force()
    assert set(rules) == set(SHIPPED) - {"disk"}
    assert rules["memory"].above == 50
    assert HealingSettings(shipped_rules=False).rules_in_force() == {}


def test_each_metric_is_measured_of_something_and_each_shipped_rule_is_valid():
    assert {each.subject for each in Metric} == set(MetricSubject)
    for shipped in SHIPPED.values():
        again = shipped.model_dump(mode="json", exclude_none=True)
        assert MonitorRule.model_validate(again) == shipped
    assert {name for name, each in SHIPPED.items() if each.can_heal} == {"memory_high"}


def test_pairs_are_of_what_the_truth_names():
    rules = {
        "memory": rule(services=["rss_*"]),
        "bus": rule(metric="bus_memory"),
        "disk": rule(metric="host_disk_free"),
        "sources": rule(metric="source_failing", share_above=0.1),
        "half": rule(share_above=0.5),
        "one_source": rule(metric="source_failing"),
    }
    pairs = list_pairs(rules, make_truth({"rss_agg": {}, "mesh": {}}))
    assert list(pairs) == [
        *("memory/rss_agg", "bus/system-redis", "bus/market-redis", "disk/host", "sources/all", "half/all")
    ]
    assert pairs["memory/rss_agg"] == ("rss_agg", rules["memory"])


def test_the_number_of_pairs_is_limited():
    truth = make_truth({f"s{n}": {} for n in range(MAX_PAIRS // 20 + 1)})
    assert len(list_pairs({f"r{n}": rule() for n in range(20)}, truth)) == MAX_PAIRS


def test_a_rule_about_a_key_is_of_the_services_that_write_it_and_one_about_probes_of_the_targets():
    points = {"publish_to": [{"bus": "market-redis", "key": "my:items"}]}
    targets = [{"name": "shop", "url": "https://shop.example"}, {"name": "db"}, "junk", {"name": "shop"}]
    truth = make_truth({
        "rss_agg": {}, "own": {"access_points": points}, "massive": {"settings": {"targets": targets}},
    })  # fmt: skip
    rules = {
        "stale": rule(metric="write_age", key="my:items"),
        "news": rule(metric="write_age", key="rss:items"),
        "other": rule(metric="write_age", key="rss:items", services=["own"]),
        "slow": rule(metric="probe_sec"),
    }
    assert list(list_pairs(rules, truth)) == ["stale/own", "news/rss_agg", "slow/shop", "slow/db"]


def test_a_truth_is_warned_of_a_key_that_no_service_writes_and_has_few_patterns():
    aged = {"metric": "write_age", "above": 1}
    rules = {"a": {**aged, "key": "rss:items"}, "b": {**aged, "key": "rss:itemz"}}
    config = MedicSettings.model_validate({"settings": {"rules": rules}})
    found = list(config.find_truth_warnings(make_truth({"rss_agg": {}})))
    assert [place for place, _ in found] == [("settings", "rules", "b", "key")]
    match = {"metric": "log_matches", "above": 1, "within_sec": 60, "pattern": "x"}
    HealingSettings.model_validate({"rules": {f"r{n}": match for n in range(MAX_PATTERNS)}})
    with pytest.raises(ValidationError, match="too many patterns"):
        HealingSettings.model_validate({"rules": {f"r{n}": match for n in range(MAX_PATTERNS + 1)}})


def test_a_rule_about_the_database_is_of_archive_and_says_nothing_without_it():
    rules = {
        "full": rule(metric="database_connections"),
        "old": rule(metric="table_age", table="quotes"),
        "behind": rule(metric="database_lag", services=["archive"], severity="critical"),
    }
    assert list(list_pairs(rules, make_truth({"archive": {}}))) == [
        *("full/database", "old/database", "behind/archive")
    ]
    assert list_pairs(rules, make_truth({"bars": {}})) == {}
    assert [each.can_heal for each in rules.values()] == [False, False, True]
    full = rule(metric="database_connections", severity="critical")
    assert not full.can_heal, "a restart frees none"
    assert full.frees_connections
    assert not rule(metric="database_connections").frees_connections
    assert not rule(metric="database_size", severity="critical").frees_connections
    config = MedicSettings.model_validate({"settings": {"rules": rules}})
    found = list(config.find_truth_warnings(make_truth({"bars": {}})))
    assert [place for place, _ in found] == [("settings", "rules", "old", "table")]
    assert list(config.find_truth_warnings(make_truth({"archive": {}}))) == []


def test_only_a_critical_rule_about_the_present_of_one_service_is_a_symptom():
    critical = {"severity": "critical"}
    assert rule(**critical).can_heal
    for more in (
        {"severity": "warning"},
        {"severity": "emergency"},
        {**critical, "share_above": 0.5},
        {**critical, "metric": "restarts", "within_sec": 60},
        {**critical, "metric": "host_memory"},
        {**critical, "metric": "escalated"},
    ):
        assert not rule(**more).can_heal, more


def test_a_rule_describes_its_limit_and_an_emergency_is_critical_for_people():
    assert rule(for_sec=300).describe() == "above 80 for 300 s"
    assert rule(metric="restarts", within_sec=3600).describe() == "above 80 within 3600 s"
    assert rule(above=None, below=10).describe() == "below 10"
    words = [each.for_event().value for each in RuleSeverity]
    assert words == ["info", "warning", "critical", "critical"]
