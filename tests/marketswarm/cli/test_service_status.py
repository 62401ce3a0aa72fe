import orjson
import pytest

from marketswarm.cli.service_status import FleetState, Leader, parse_leader, service_rows
from marketswarm.cli.status import format_instances
from marketswarm.truth import parse_truth


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
    known = {"roster": {}, "health": {}, "beats": {}, "ttls_sec": {}, "instances": {}} | facts
    return next(each for each in service_rows(truth, FleetState(**known)) if each.svc == svc)


def test_there_is_a_row_for_each_service_the_healer_knows_too(truth):
    found = service_rows(truth, FleetState({}, {}, {}, {}, {}))
    assert [(each.svc, each.bus) for each in found] == [
        ("a", "system-redis"),
        ("b", "market-redis"),
        ("healer", "system-redis"),
        ("shell_job", "system-redis"),
    ]
    assert {each.verdict for each in found} == {"unknown"}


def test_the_verdict_is_the_healers_whatever_else_is_seen(truth):
    assert row(truth, "a", roster={"a": {"verdict": "down"}}, ttls_sec={"a": 20.0}).verdict == "down"


def test_one_that_may_not_be_heard_is_unwatchable_whatever_else_is_known(truth):
    known = {"a": {"verdict": "up"}, "watch:a": {"verdict": "down"}}
    assert row(truth, "a", roster=known, ttls_sec={"a": 19.5}).verdict == "unwatchable"
    assert row(truth, "b", roster=known | {"b": {"verdict": "up"}}).verdict == "up"


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
        ({"ttls_sec": {"healer": 15.0}, "health": {"healer": {"type": "healer_miss"}}}, "down"),
        ({"ttls_sec": {"healer": 5.0}, "health": {"healer": {"type": "healer_ok"}}}, "silent"),
    ],
)
def test_whom_the_healer_does_not_judge_is_judged_by_its_beats(truth, facts, verdict):
    assert row(truth, "healer", **facts).verdict == verdict


def test_instances_and_their_restarts_are_summed(truth):
    one = row(truth, "a", instances={"a": [{"restarts": 2}, {"restarts": 1}, {"restarts": "x"}]})
    assert (one.instances, one.restarts) == (3, 3)
    assert row(truth, "a").instances is None


def test_a_beat_without_a_state_is_a_good_one_and_nonsense_is_nothing(truth):
    assert row(truth, "a", beats={"a": {"i": 1}}).status == "ok"
    assert row(truth, "a", beats={"a": {"status": "degraded", "detail": "no feed"}}).detail == "no feed"
    odd = row(truth, "a", beats={"a": {"boot": 7, "rev": True, "detail": []}})
    assert (odd.boot, odd.rev, odd.detail) == (None, None, None)


def test_how_many_there_are_is_held_against_how_many_there_are_to_be():
    services = {"a": {"replicas": 3}, "b": {}, "healer": {"replicas": 1}}
    several = parse_truth(orjson.dumps({"services": services})).truth
    known = {"a": [{}, {}], "b": [{}], "healer": []}
    assert [format_instances(row(several, svc, instances=known)) for svc in services] == [
        "2 of 3",
        "1",
        "0 of 1",
    ]
    assert format_instances(row(several, "a")) is None
    assert row(several, "a").replicas == 3


LEASE = {b"boot": b"0f3c", b"epoch": b"7", b"until": b"1000.5", b"renewed": b"9"}


def test_who_leads_is_shown_with_its_epoch():
    assert parse_leader(LEASE, 999.0) == Leader("0f3c", 7, 0.0)
    assert str(parse_leader(LEASE, 999.0)) == "healer 0f3c leads, epoch 7"


def test_a_lease_that_ran_out_is_told_as_nobody_leading():
    assert str(parse_leader(LEASE, 1012.6)) == (
        "no healer leads: the lease of 0f3c ran out 12 s ago, and no alert is published"
    )


@pytest.mark.parametrize(
    "lease",
    [{}, {**LEASE, b"boot": b""}, {**LEASE, b"epoch": b"x"}, {**LEASE, b"until": b"\xff"}, {b"boot": b"a"}],
)
def test_a_lease_that_is_free_or_that_nobody_can_read_has_no_leader(lease):
    assert parse_leader(lease, 0.0) is None


RUN = {"ok": False, "ts": 100.0}


@pytest.mark.parametrize(
    ("run", "beat", "verdict"),
    [
        (RUN, {"ts": 100.1, "status": "stopping"}, "failed"),
        (RUN, {"ts": 90.0}, "failed"),  # the one beat of an earlier success
        (RUN, {}, "failed"),
        (RUN, {"ts": 101.0}, "up"),  # it runs again
        (RUN | {"ok": True}, {"ts": 100.1, "status": "stopping"}, "up"),
        (RUN | {"ts": "x"}, {"ts": 1.0}, "failed"),
    ],
)
def test_a_command_whose_last_run_failed_is_failed_at_once(truth, run, beat, verdict):
    known = {"roster": {"a": {"verdict": "up"}}, "runs": {"a": run}, "beats": {"a": beat}}
    assert row(truth, "a", **known).verdict == verdict
    assert row(truth, "a", **known | {"roster": {"a": {"verdict": "down"}}}).verdict == "down"
