from collections import Counter
from dataclasses import replace
from itertools import pairwise

import orjson

from marketswarm.status.service_rows import URGENCY, ServiceState
from services.board.fleet.snapshot import SnapshotDelta, diff, find_cause, fold_incidents
from support.board_examples import AT, make_large, make_service, make_small, make_snapshot, make_well


def apply(snapshot: dict, delta: dict) -> dict:
    """Do with JSON what the page's script does."""
    services = {one["svc"]: one for one in snapshot["services"] if one["svc"] not in delta["removed"]}
    for svc, changed in delta["services"].items():
        services[svc] = services.get(svc, {}) | changed
    order = delta["order"] or list(services)
    return snapshot | delta["fleet"] | {"at": delta["at"], "services": [services[svc] for svc in order]}


def test_every_state_has_its_urgency_and_down_is_the_worst():
    assert URGENCY.keys() == set(ServiceState)
    assert min(ServiceState, key=URGENCY.__getitem__) is ServiceState.DOWN


def test_a_snapshot_counts_every_state_the_worst_first():
    counts = make_small().counts()
    assert list(counts) == sorted(ServiceState, key=URGENCY.__getitem__)
    assert counts[ServiceState.DOWN] == 2
    assert counts[ServiceState.UP] == 5
    assert make_well().counts()[ServiceState.DOWN] == 0


def test_a_snapshot_counts_the_words_that_its_services_have():
    paused = [
        make_service(f"p{number}", state, paused=True)
        for number, state in enumerate((ServiceState.SILENT, ServiceState.UNKNOWN, ServiceState.UP))
    ]
    snapshot = make_snapshot(*make_small().services, *paused)
    assert snapshot.count_words() == Counter(one.word for one in snapshot.services)
    assert snapshot.count_words()["paused"] == 2


def test_a_service_is_found_by_its_name():
    fleet = make_small()
    assert fleet.find("nightly-backup").state is ServiceState.FAILED
    assert fleet.find("nobody") is None


def test_json_has_the_names_of_the_fields():
    found = orjson.loads(orjson.dumps(make_small()))
    rss = found["services"][0]
    assert (rss["svc"], rss["state"], rss["severity"]) == ("rss_agg", "down", "critical")
    assert rss["recent"][-1] == {"state": "down", "starts_at": AT - 600, "ends_at": None}
    assert rss["uptime"]["7d"] == {"share": 0.9991, "unknown_sec": 3600.0, "begins_at": None}
    assert found["incidents"][0]["dependants"] == ["vexy_ai"]


def test_the_same_fleet_a_second_later_differs_in_nothing():
    before = make_small()
    delta = diff(before, replace(make_small(), at=AT + 1))
    assert not delta
    assert delta == SnapshotDelta(AT + 1)


def test_only_what_changed_of_a_service_is_in_the_difference():
    before = make_snapshot(make_service("a"), make_service("b"))
    after = make_snapshot(make_service("a"), make_service("b", last_beat_at=AT + 8), at=AT + 8)
    delta = diff(before, after)
    assert delta
    assert orjson.loads(orjson.dumps(delta)) == {
        "at": AT + 8,
        "services": {"b": {"last_beat_at": AT + 8}},
        "removed": [],
        "order": None,
        "fleet": {},
    }


def test_what_became_none_is_in_the_difference():
    before = make_snapshot(make_service("a", acked_by="ann"))
    assert diff(before, make_snapshot(make_service("a"))).services == {"a": {"acked_by": None}}


def test_a_new_service_comes_with_all_its_fields_and_a_removed_one_by_its_name():
    before = make_snapshot(make_service("a"), make_service("b"))
    after = make_snapshot(make_service("c"), make_service("a"))
    delta = diff(before, after)
    assert delta.services.keys() == {"c"}
    assert delta.services["c"]["description"] == ""
    assert delta.removed == ("b",)
    assert delta.order == ("c", "a")


def test_a_difference_applied_to_the_json_gives_the_next_snapshot():
    fleets = [
        make_well(),
        make_small(),
        make_large(60),
        make_snapshot(),
        make_well(),
    ]
    for before, after in pairwise(fleets):
        found = apply(orjson.loads(orjson.dumps(before)), orjson.loads(orjson.dumps(diff(before, after))))
        assert found == orjson.loads(orjson.dumps(after))


def test_the_cause_is_the_last_one_down_along_what_a_service_needs():
    needs = {"shop": ("cdn", "web"), "web": ("db",), "db": ("disk",)}
    assert find_cause("shop", needs, {"shop", "web", "db"}) == "db"
    assert find_cause("shop", needs, {"shop", "web"}) == "web"
    assert find_cause("shop", needs, {"shop", "db"}) is None
    assert find_cause("db", needs, {"shop", "web", "db"}) is None


def test_services_that_need_each_other_have_a_cause_and_the_search_ends():
    needs = {"a": ("b",), "b": ("a",)}
    assert find_cause("a", needs, {"a", "b"}) == "b"


def test_incidents_fold_dependants_under_their_cause_and_begin_with_the_oldest():
    incidents = fold_incidents(
        [
            make_service("new", ServiceState.DOWN, since=AT - 10),
            make_service("never", ServiceState.DOWN, since=None),
            make_service("old", ServiceState.DOWN, since=AT - 100),
            make_service("leaf", ServiceState.DOWN, cause="old"),
            make_service("fine"),
        ]
    )
    assert [(one.svc, one.dependants) for one in incidents] == [
        ("old", ("leaf",)),
        ("new", ()),
        ("never", ()),
    ]
