"""One row per service: held against every state that the buses can show."""

from dataclasses import replace

import orjson
import pytest

from marketswarm.beat import Beat
from marketswarm.detector import SavedJob, State
from marketswarm.event import Event, Kind, encode_event
from marketswarm.monitor.last_run import LastRun
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.status.fleet_state import FleetState, InstanceCount
from marketswarm.status.notifications import OpenIncident
from marketswarm.status.service_rows import (
    JobStatus,
    group_by_host,
    make_service_rows,
    write_headline,
)
from marketswarm.truth import parse_truth

UP, DOWN = RosterEntry(State.UP), RosterEntry(State.DOWN)


@pytest.fixture
def truth():
    beat = {"interval_sec": 1, "timeout_sec": 10}
    return parse_truth(
        orjson.dumps(
            {
                "services": {
                    "a": {"heartbeat": beat},
                    "b": {"heartbeat": beat | {"redis_url": "redis://market-redis:6379"}},
                    "healer": {
                        "heartbeat": beat,
                        "access_points": {
                            "subscribe_to": [{"bus": "system-redis", "key": "shell_job:heartbeat"}]
                        },
                    },
                }
            }
        )
    ).truth


def row(truth, svc, **facts):
    return next(each for each in make_service_rows(truth, FleetState(**facts)) if each.svc == svc)


def event(kind, svc="healer", **more):
    return Event(kind, svc, 1000.0, "id", "sentinel", **more)


def beat(**more):
    return Beat(**{"svc": "a", "i": 1, "ts": 1000.0, **more})


def test_there_is_a_row_for_each_service_the_healer_knows_too(truth):
    found = make_service_rows(truth, FleetState())
    assert [(each.svc, each.bus) for each in found] == [
        ("a", "system-redis"),
        ("b", "market-redis"),
        ("healer", "system-redis"),
        ("shell_job", "system-redis"),
    ]
    assert {each.verdict for each in found} == {"unknown"}


def test_the_verdict_is_the_healers_whatever_else_is_seen(truth):
    assert row(truth, "a", roster={"a": DOWN}, ttls_sec={"a": 20.0}).verdict == "down"


def test_one_that_may_not_be_heard_is_unwatchable_whatever_else_is_known(truth):
    known = {"a": UP, "watch:a": DOWN}
    assert row(truth, "a", roster=known, ttls_sec={"a": 19.5}).verdict == "unwatchable"
    assert row(truth, "b", roster=known | {"b": UP}).verdict == "up"


def test_what_was_up_on_a_bus_that_the_healer_does_not_hear_is_unknown(truth):
    roster = {"a": UP, "b": UP, "bus:market-redis": DOWN}
    assert row(truth, "b", roster=roster).verdict == "unknown"
    assert row(truth, "a", roster=roster).verdict == "up"


def test_silence_is_what_the_beat_has_lived(truth):
    assert row(truth, "a", ttls_sec={"a": 19.5}).silence_sec == 0.5
    assert row(truth, "a", ttls_sec={"a": 20.1}).silence_sec is None
    assert row(truth, "a", ttls_sec={"a": -0.001}).silence_sec is None


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({"ttls_sec": {"healer": 15.0}}, "up"),
        ({"ttls_sec": {"healer": 5.0}}, "silent"),
        ({}, "unknown"),
        ({"ttls_sec": {"healer": 15.0}, "health": {"healer": event(Kind.HEALER_MISS)}}, "down"),
        ({"ttls_sec": {"healer": 5.0}, "health": {"healer": event(Kind.HEALER_OK)}}, "silent"),
    ],
)
def test_whom_the_healer_does_not_judge_is_judged_by_its_beats(truth, facts, verdict):
    assert row(truth, "healer", **facts).verdict == verdict


def test_an_outage_began_at_the_last_beat_that_the_verdict_or_the_event_names(truth):
    named = {"a": event(Kind.HEARTBEAT_MISS, "a", since=900.0)}
    by_roster = {"a": RosterEntry(State.DOWN, since=800.0)}
    assert row(truth, "a", roster=by_roster, health=named).since == 800.0
    assert row(truth, "a", roster={"a": DOWN}, health=named).since == 900.0
    assert row(truth, "a", health={"a": event(Kind.HEARTBEAT_MISS, "a", since=1e300)}).since is None
    assert row(truth, "a").since is None


def test_a_row_has_the_failure_of_the_outage_that_lasts_and_of_no_other(truth):
    miss = event(Kind.HEARTBEAT_MISS, "a", reason="failed", detail="disk full", exit_code=3, down_since=990.0)
    stored = RosterEntry(State.DOWN, since=900.0, event=encode_event(miss))
    for facts in ({"roster": {"a": stored}}, {"roster": {"a": DOWN}, "health": {"a": miss}}):
        found = row(truth, "a", **facts)
        assert (found.reason, found.failure, found.exit_code, found.down_since) == (
            *("failed", "disk full", 3, 990.0),
        )
    over = row(truth, "a", roster={"a": UP}, health={"a": miss})
    assert (over.reason, over.failure, over.exit_code, over.down_since) == (None, None, None, None)


def test_an_incident_tells_who_sees_to_the_outage(truth):
    incident = OpenIncident("a", down=True, acked_by="kim", held="rate_limit", held_until=2000.0)
    found = make_service_rows(truth, FleetState(), {"a": incident})[0]
    assert (found.acked_by, found.held, found.held_until) == ("kim", "rate_limit", 2000.0)


def test_a_row_has_what_the_last_beat_says_and_what_mesh_counts(truth):
    said = beat(boot="0f3c", rev=7, status="degraded", detail="no feed")
    found = row(truth, "a", beats={"a": said}, instances={"a": InstanceCount(3, 2)})
    assert (found.boot, found.rev, found.status, found.detail) == ("0f3c", 7, "degraded", "no feed")
    assert (found.instances, found.restarts) == (3, 2)
    assert row(truth, "a", beats={"a": beat()}).status == "ok"
    assert (row(truth, "a").status, row(truth, "a").instances) == (None, None)


def test_a_row_has_the_number_of_instances_that_the_truth_asks_for():
    services = {"a": {"replicas": 3}, "b": {}}
    several = parse_truth(orjson.dumps({"services": services})).truth
    assert [row(several, svc).replicas for svc in services] == [3, None]


RUN = LastRun(ok=False, ts=100.0)


@pytest.mark.parametrize(
    ("run", "last_beat", "verdict"),
    [
        (RUN, beat(ts=100.1, status="stopping"), "failed"),
        (RUN, beat(ts=90.0), "failed"),  # the one beat of an earlier success
        (RUN, None, "failed"),
        (RUN, beat(ts=101.0), "up"),  # it runs again
        (LastRun(ok=True, ts=100.0), beat(ts=100.1, status="stopping"), "up"),
        (LastRun(said="exit 3", ts=100.0), beat(ts=90.0), "up"),
        (LastRun(ok=False), beat(ts=1.0), "failed"),
    ],
)
def test_a_command_whose_last_run_failed_is_failed_at_once(truth, run, last_beat, verdict):
    beats = {} if last_beat is None else {"a": last_beat}
    known = {"runs": {"a": run}, "beats": beats}
    assert row(truth, "a", roster={"a": UP}, **known).verdict == verdict
    assert row(truth, "a", roster={"a": DOWN}, **known).verdict == "down"


# -- jobs

NIGHT = 1773100800.0  # 2026-03-10 00:00 UTC; the run of 03:00 in Berlin is two hours later


@pytest.fixture
def jobs_truth():
    nightly = {"schedule": "0 3 * * *", "time_zone": "Europe/Berlin", "grace_sec": 600}
    services = {"backup": {"heartbeat": nightly}, "worker": {"heartbeat": {"max_run_sec": 60}}}
    return parse_truth(orjson.dumps({"services": services})).truth


def test_a_job_has_its_schedule_though_the_healer_knows_nothing_of_it(jobs_truth):
    found = row(jobs_truth, "backup")
    assert found.job == JobStatus("0 3 * * *", "Europe/Berlin")
    assert found.timeout_sec == 25 * 3600 + 600


def test_a_job_is_shown_as_the_healer_knows_it(jobs_truth):
    known = SavedJob(NIGHT, runs=(("1", NIGHT + 50), ("2", NIGHT + 40)), leads_sec=(3600.0, 3500.0, 3400.0))
    assert row(jobs_truth, "backup", jobs={"backup": known}).job == JobStatus(
        "0 3 * * *",
        "Europe/Berlin",
        next_run_at=NIGHT + 7200,
        next_due_at=NIGHT + 7800,
        running_since=NIGHT + 40,
        early_sec=3400.0,
    )


def test_two_early_runs_are_no_habit_and_a_service_without_a_schedule_has_no_next_run(jobs_truth):
    known = SavedJob(NIGHT, runs=(("1", NIGHT + 50),), leads_sec=(3600.0, 3500.0))
    assert row(jobs_truth, "backup", jobs={"backup": known}).job.early_sec is None
    assert row(jobs_truth, "worker", jobs={"worker": known}).job == JobStatus(running_since=NIGHT + 50)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([], "no services"),
        (["up", "up"], "all 2 up"),
        (["up", "down", "down"], "2 of 3 down"),
        (["up", "unknown"], "none of 2 down, 1 unknown"),
        (["silent", "down", "unwatchable", "failed"], "1 of 4 down, 1 failed, 1 unwatchable, 1 silent"),
        (["up", "up", "paused"], "all 2 up, 1 paused"),
        (["paused"], "none of 1 down, 1 paused"),
        (["paused", "up", "unknown", "down"], "1 of 4 down, 1 unknown, 1 paused"),
    ],
)
def test_the_headline_counts_the_worst_first(states, words):
    assert write_headline(states) == words


def test_who_is_paused_is_called_so_and_its_verdict_stays_what_it_was():
    beat = {"interval_sec": 1, "timeout_sec": 10}
    document = {"services": {"a": {"heartbeat": beat | {"monitored": False}}, "b": {"heartbeat": beat}}}
    paused = parse_truth(orjson.dumps(document)).truth
    for ttls, verdict, word in ({}, "unknown", "paused"), ({"a": 19.5}, "up", "up"):
        found = row(paused, "a", ttls_sec=ttls)
        assert (found.verdict, found.word, found.paused) == (verdict, word, True)
    assert (row(paused, "b").word, row(paused, "b").paused) == ("unknown", False)


def test_a_row_says_whether_its_bus_refuses_its_channel_or_it_floods_it(truth):
    event = encode_event(Event(Kind.WATCH_MISS, "a", 9.0, "x", "healer", reason="flood"))
    known = {"a": UP, "watch:a": replace(DOWN, event=event)}
    assert row(truth, "a", roster=known).watch_reason == "flood"
    assert row(truth, "a", roster={"a": UP}).watch_reason is None


def test_a_service_is_on_the_hosts_of_its_instances_and_else_where_its_last_beat_came_from(truth):
    counted = {"a": InstanceCount(2, hosts=("db1", "web1")), "b": InstanceCount(0)}
    miss = encode_event(event(Kind.HEARTBEAT_MISS, "b", host="web2"))
    roster = {"b": replace(DOWN, event=miss)}
    rows = make_service_rows(truth, FleetState(instances=counted, roster=roster))
    assert {each.svc: each.hosts for each in rows} == {
        "a": ("db1", "web1"),
        "b": ("web2",),
        "healer": (),
        "shell_job": (),
    }
    groups = [(hosts, [each.svc for each in some]) for hosts, some in group_by_host(rows)]
    assert groups == [(("db1", "web1"), ["a"]), (("web2",), ["b"]), ((), ["healer", "shell_job"])]
