"""What a new truth changes, in words for a person."""

import json
from typing import Any

from marketswarm.truth import Changes, Truth, diff_truths, format_changes, parse_truth


def truth(services: dict[str, Any], **others: Any) -> Truth:
    return parse_truth(json.dumps({"services": services, **others}).encode()).truth


def test_nothing_changes_between_two_ways_to_write_the_same():
    changes = diff_truths(truth({"a": {}}), truth({"a": {"heartbeat": {"interval_sec": 10.0}}}))
    assert changes == Changes()
    assert not changes


def test_without_an_old_one_everything_is_added():
    assert diff_truths(None, truth({"a": {}, "b": {}}, buses={"cache": {}})) == Changes(
        added=("a", "b"), buses=(("cache", "added"),)
    )


def test_added_and_dropped_are_named():
    changes = diff_truths(truth({"a": {}, "b": {}}), truth({"b": {}, "c": {}}))
    assert changes == Changes(added=("c",), dropped=("a",))
    assert changes


def test_what_changed_is_told_with_its_values_where_they_are_short():
    old = truth({"a": {"heartbeat": {"interval_sec": 10}}, "b": {"settings": {"x": 1}}})
    new = truth(
        {
            "a": {"heartbeat": {"interval_sec": 0.5, "monitored": False}},
            "b": {"settings": {"x": 2}, "endpoints": [1], "description": "new"},
        }
    )
    assert diff_truths(old, new).changed == (
        ("a", "heartbeat.interval_sec 10 → 0.5, heartbeat.monitored true → false"),
        ("b", 'description "" → "new", endpoints, settings'),
    )


def test_a_service_that_matters_more_than_before_is_told():
    old, new = truth({"a": {}}), truth({"a": {"severity": "critical"}})
    assert diff_truths(old, new).changed == (("a", 'severity "warning" → "critical"'),)


def test_another_number_of_replicas_is_told_and_so_is_the_first():
    none, two, three = truth({"a": {}}), truth({"a": {"replicas": 2}}), truth({"a": {"replicas": 3}})
    assert diff_truths(none, three).changed == (("a", "replicas default → 3"),)
    assert diff_truths(two, three).changed == (("a", "replicas 2 → 3"),)
    assert not diff_truths(two, truth({"a": {"replicas": 2}}))


def test_a_changed_threshold_is_told():
    old, new = truth({"healer": {}}), truth({"healer": {"threshold": {"heartbeat_cadence": 30}}})
    assert diff_truths(old, new).changed == (("healer", "threshold"),)
    newer = truth({"healer": {"threshold": {"heartbeat_cadence": 60}}})
    assert diff_truths(new, newer).changed == (("healer", "threshold.heartbeat_cadence 30 → 60"),)


def test_buses_are_told_apart_from_services():
    old = truth({}, buses={"a": {"url": "redis://a"}, "b": {}})
    new = truth({}, buses={"a": {"url": "redis://elsewhere"}, "c": {}})
    assert diff_truths(old, new).buses == (
        ("c", "added"),
        ("b", "dropped"),
        ("a", 'url "redis://a" → "redis://elsewhere"'),
    )


def test_another_name_of_the_fleet_is_told():
    changes = diff_truths(truth({}, fleet="a"), truth({}, fleet="b"))
    assert changes
    assert list(format_changes(changes)) == ['~ fleet: "a" → "b"']


def test_changes_are_lines_for_people():
    old, new = truth({"a": {}, "b": {}}), truth({"b": {"replicas": 2}, "c": {}}, buses={"cache": {}})
    assert list(format_changes(diff_truths(old, new))) == [
        "+ c", "- a", "~ b: replicas default → 2", "~ cache: added",
    ]  # fmt: skip
