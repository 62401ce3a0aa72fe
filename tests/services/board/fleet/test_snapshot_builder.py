"""The snapshot is held against what the buses can show, and against buses that are away."""

import orjson
import pytest

from marketswarm.beat import Beat
from marketswarm.detector import State as Verdict
from marketswarm.event import Event, Kind, encode_event
from marketswarm.monitor.last_run import LastRun
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.operator.silences import Silence
from marketswarm.status.fleet_state import FleetState, InstanceCount, Leader
from marketswarm.status.notifications import Notifications, OpenIncident, PendingDelivery
from marketswarm.status.service_rows import ServiceState
from marketswarm.truth import parse_truth
from services.board.fleet.snapshot import BarSpan, HealerView, Uptime, diff
from services.board.fleet.snapshot_builder import HistoryExtract, SnapshotInput, apply_event, build_snapshot
from services.board.fleet.words import describe_service

NOW = 1_790_000_000.0
UP, DOWN = RosterEntry(Verdict.UP), RosterEntry(Verdict.DOWN)
HOSTILE = "<b>\x1b[31m\u202egnp"
TRUTH = parse_truth(
    orjson.dumps(
        {
            "fleet": "prod",
            "services": {
                "db": {"heartbeat": {"interval_sec": 1, "timeout_sec": 10}, "severity": "critical"},
                "web": {
                    "heartbeat": {
                        "interval_sec": 1,
                        "timeout_sec": 10,
                        "redis_url": "redis://market-redis:6379",
                    },
                    "depends_on": ["db"],
                    "tags": ["front"],
                    "description": HOSTILE,
                },
                "healer": {"heartbeat": {"interval_sec": 1, "timeout_sec": 10}},
            },
        }
    )
).truth


def read(now=NOW, away=None, notifications=None, **state):
    return SnapshotInput(now, TRUTH, 7, FleetState(**state), away or {}, notifications or Notifications())


def beat(svc="db", **more):
    return Beat(**{"svc": svc, "i": 1, "ts": NOW, "boot": "boot1", "rev": 7, **more})


def test_a_fleet_that_beats_is_up_with_what_its_beats_say():
    found = build_snapshot(
        read(
            roster={"db": UP, "web": UP, "healer": UP},
            beats={"db": beat(detail=HOSTILE)},
            ttls_sec={"db": 18.0},
            instances={"db": InstanceCount(2, 3)},
        )
    )
    db = found.services[0]
    assert (found.fleet, found.revision, found.at) == ("prod", 7, NOW)
    assert [one.state for one in found.services] == [ServiceState.UP] * 3
    assert (db.last_beat_at, db.instances, db.restarts, db.boot) == (NOW - 2, 2, 3, "boot1")
    assert db.severity == "critical"
    assert not found.incidents
    assert not found.notes


def test_a_service_stays_on_the_host_that_it_was_last_heard_from():
    before = build_snapshot(read(instances={"db": InstanceCount(1, hosts=("db1",))}))
    gone = build_snapshot(read(instances={"db": InstanceCount(0)}), before)
    moved = build_snapshot(read(instances={"db": InstanceCount(1, hosts=("db2\x1b",))}), gone)
    assert [each.services[0].hosts for each in (before, gone, moved)] == [("db1",), ("db1",), ("db2\\x1b",)]


def test_texts_of_others_are_one_printable_line():
    found = build_snapshot(
        read(
            roster={"db": UP},
            beats={"db": beat(detail=HOSTILE)},
            notifications=Notifications(
                pending=(PendingDelivery("m", HOSTILE, HOSTILE, NOW, broken=HOSTILE),),
                silences=(
                    Silence(
                        id="s",
                        starts_at=NOW,
                        ends_at=NOW + 1,
                        author="a\u202e",
                        reason="b\u202e",
                        changed_at=NOW,
                        tags=("t",),
                    ),
                ),
            ),
            away={"market-redis": HOSTILE},
        )
    )

    def texts(value):
        if isinstance(value, dict):
            return [text for one in value.values() for text in texts(one)]
        if isinstance(value, list):
            return [text for one in value for text in texts(one)]
        return [value] if isinstance(value, str) else []

    found_texts = texts(orjson.loads(orjson.dumps(found)))
    assert any("<b>" in text for text in found_texts)
    assert all(text.isprintable() for text in found_texts)


def test_a_service_that_is_down_names_its_cause_and_is_folded_under_it():
    found = build_snapshot(
        read(
            roster={"db": DOWN, "web": DOWN, "healer": UP},
            health={"db": Event(Kind.HEARTBEAT_MISS, "db", NOW, "i", "healer", since=NOW - 40)},
            notifications=Notifications(
                incidents={"db": OpenIncident("db", down=True, acked_by="ann", held="acked")}
            ),
        )
    )
    assert found.find("web").cause == "db"
    assert [(one.svc, one.dependants, one.acked_by, one.since) for one in found.incidents] == [
        ("db", ("web",), "ann", NOW - 40)
    ]


def test_the_time_of_a_beat_stays_while_it_is_the_same_beat():
    first = build_snapshot(read(ttls_sec={"db": 18.0}))
    same = build_snapshot(read(NOW + 1.07, ttls_sec={"db": 17.0}), first)
    later = build_snapshot(read(NOW + 2, ttls_sec={"db": 19.9}), same)
    assert same.find("db").last_beat_at == first.find("db").last_beat_at
    assert later.find("db").last_beat_at == pytest.approx(NOW + 1.9)
    assert not diff(first, build_snapshot(read(NOW + 1, ttls_sec={"db": 17.0}), first))


def test_services_of_a_bus_that_is_away_are_unknown_and_keep_what_was_known():
    first = build_snapshot(read(roster={"web": UP}, beats={"web": beat("web")}, ttls_sec={"web": 18.0}))
    away = build_snapshot(
        read(NOW + 1, roster={"web": UP, "healer": UP}, away={"market-redis": "refused"}), first
    )
    web = away.find("web")
    assert (web.state, web.boot, web.last_beat_at) == (ServiceState.UNKNOWN, "boot1", NOW - 2)
    assert away.buses[1].state == "away"
    assert away.notes == ("bus market-redis does not answer: refused",)


def test_a_miss_stands_though_the_bus_of_the_service_is_away():
    first = build_snapshot(read(roster={"web": UP}))
    away = build_snapshot(read(roster={"web": DOWN}, away={"market-redis": "refused"}), first)
    assert away.find("web").state is ServiceState.DOWN


def test_without_system_redis_nothing_is_known():
    first = build_snapshot(read(roster={"db": DOWN, "web": UP}))
    away = build_snapshot(read(away={"system-redis": "refused"}), first)
    assert {one.state for one in away.services} == {ServiceState.UNKNOWN}
    assert not away.incidents


def test_a_bus_that_the_healer_does_not_hear_makes_its_services_unknown():
    found = build_snapshot(read(roster={"web": UP, "bus:market-redis": DOWN, "healer": UP}))
    assert found.find("web").state is ServiceState.UNKNOWN
    assert [(one.name, one.state) for one in found.buses] == [
        ("system-redis", "up"),
        ("market-redis", "unheard"),
    ]


def test_the_leader_comes_first_and_others_stand_by():
    found = build_snapshot(
        read(leader=Leader("b", 4, 0.0), instances={"healer": InstanceCount(2, 0, ("a", "b"))})
    )
    assert found.healers == (HealerView("b", is_leader=True, epoch=4), HealerView("a", is_leader=False))


def test_a_lease_that_ran_out_has_one_time_and_a_note():
    first = build_snapshot(read(roster={"healer": UP}, leader=Leader("b", 4, 2.0)))
    second = build_snapshot(read(NOW + 1, roster={"healer": UP}, leader=Leader("b", 4, 3.1)), first)
    assert first.healers[0].lapsed_at == second.healers[0].lapsed_at == NOW - 2
    assert "no healer leads" in second.notes[0]


def test_a_failed_run_is_shown_with_its_words():
    run = LastRun(ok=False, code=3, said="exit 3 after 12.4 s\x1b", ts=NOW - 5, took_sec=12.4)
    db = build_snapshot(read(roster={"db": UP}, runs={"db": run})).find("db")
    assert db.state is ServiceState.FAILED
    assert (db.last_run.text, db.last_run.exit_code) == ("exit 3 after 12.4 s\\x1b", 3)


@pytest.mark.parametrize("detail", ["disk full", "exit 3: disk full"], ids=["a ping", "exec"])
def test_the_last_run_says_its_exit_code_and_why_it_failed(detail):
    run = LastRun(ok=False, code=3, said="exit 3", detail=detail, ts=NOW - 5)
    db = build_snapshot(read(roster={"db": UP}, runs={"db": run})).find("db")
    assert db.last_run.text == "exit 3: disk full"


def test_what_is_remembered_is_a_part_of_the_view():
    history = HistoryExtract({"db": (BarSpan("up", NOW),)}, {"db": {"24h": Uptime(1.0)}})
    db = build_snapshot(read(), history=history).find("db")
    assert db.recent == (BarSpan("up", NOW),)
    assert db.uptime == {"24h": Uptime(1.0)}


def test_a_miss_and_a_recovery_change_the_snapshot_before_the_buses_are_read():
    first = build_snapshot(read(roster={"db": UP, "web": DOWN, "healer": UP}))
    miss = Event(Kind.HEARTBEAT_MISS, "db", NOW, "i", "healer", since=NOW - 10)
    down = apply_event(first, miss)
    db, web = down.find("db"), down.find("web")
    assert (db.state, db.since, web.cause) == (ServiceState.DOWN, NOW - 10, "db")
    assert [one.svc for one in down.incidents] == ["db"]
    assert apply_event(down, miss) is down
    up = apply_event(down, Event(Kind.HEARTBEAT_OK, "db", NOW, "j", "healer", down_sec=10.0))
    assert (up.find("db").state, up.find("db").since, up.find("web").cause) == (ServiceState.UP, None, None)
    assert [one.svc for one in up.incidents] == ["web"]


def test_a_failure_that_was_reported_says_since_when_and_what_and_no_silence():
    first = build_snapshot(read(roster={"db": UP, "healer": UP}, ttls_sec={"db": 19.0}))
    miss = Event(
        *(Kind.HEARTBEAT_MISS, "db", NOW, "i", "healer"),
        reason="failed",
        since=NOW - 9,
        down_since=NOW - 2,
        detail="disk <full>",
        exit_code=3,
    )
    stored = RosterEntry(Verdict.DOWN, since=NOW - 9, event=encode_event(miss))
    for found in (apply_event(first, miss), build_snapshot(read(roster={"db": stored, "healer": UP}))):
        for one in (found.find("db"), found.incidents[0]):
            assert (one.since, one.outage, one.outage_at) == (NOW - 9, "failed since", NOW - 2)
            assert one.failure == "its command ended with exit code 3: disk <full>"
    up = apply_event(apply_event(first, miss), Event(Kind.HEARTBEAT_OK, "db", NOW, "j", "healer"))
    assert (up.find("db").outage, up.find("db").outage_at, up.find("db").failure) == (None, None, None)


def test_an_event_about_nobody_or_of_another_kind_changes_nothing():
    first = build_snapshot(read(roster={"db": UP}))
    assert apply_event(first, Event(Kind.HEARTBEAT_MISS, "nobody", NOW, "i", "healer")) is first
    assert apply_event(first, Event(Kind.BUS_MISS, "db", NOW, "i", "healer")) is first
    assert apply_event(first, Event(Kind.HEARTBEAT_OK, "db", NOW, "i", "healer")) is first


def test_what_was_said_about_a_failure_is_shown_until_it_is_over():
    event = Event(Kind.HEARTBEAT_MISS, "db", NOW, "i", "healer", reason="failed", detail="disk full\u202e")
    roster = {"db": RosterEntry(Verdict.DOWN, event=encode_event(event))}
    run = LastRun(ok=False, said="failed", detail="disk full", ts=NOW - 5)
    down = build_snapshot(read(roster=roster, runs={"db": run}, beats={"db": beat(detail="fine")}))
    assert down.find("db").detail == "disk full"
    assert [each.text for each in describe_service(down.find("db"))] == ["failed", "reported: disk full"]
    first = build_snapshot(read(roster={"db": UP}, beats={"db": beat(detail="fine")}))
    assert apply_event(first, event).find("db").detail == "disk full\\u202e"
    ok = Event(Kind.HEARTBEAT_OK, "db", NOW, "j", "healer", down_sec=10.0)
    assert apply_event(down, ok).find("db").detail is None
    assert first.find("db").detail == "fine"
