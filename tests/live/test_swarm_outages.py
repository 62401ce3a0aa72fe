"""A fleet of real programs: each is stopped or killed and started again, and the numbers are right."""

from contextlib import ExitStack

import pytest

from support.rig import AlertTail
from support.scenes.faults import (
    BUSES,
    SLACK,
    Scene,
    only,
    service,
)
from support.waiting import until

WORKERS = ("rss_agg", "massive", "mesh", "vexy_ai", "sentinel", "notifier")
FLEET = {name: service() for name in WORKERS}
REAL_TIMEOUT_SEC = 3.0
"""That of real agents: a busy machine keeps one of several from beating for longer than the usual 1.5 s."""


def last_beat(tail: AlertTail) -> float:
    """When the service says it beat last; a goodbye is no beat."""
    return [beat["ts"] for _, beat in tail.seen if beat.get("status") != "stopping"][-1]


def came_back(tail: AlertTail, count: int) -> float:
    """When the first beat came after the `count` there were."""
    until(lambda: len(tail.seen) > count, what="its first beat")
    return tail.seen[count][1]["ts"]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("stop", "stopped"),
        pytest.param("kill", "silent", marks=pytest.mark.nightly("[stop-stopped]; row 35")),
    ],
)
def test_a_service_that_is_stopped_is_missed_once_and_started_again_is_ok_once(tmp_path, end, reason):
    with (
        Scene(
            tmp_path,
            {"rss_agg": service(), "massive": service(timeout_sec=5)},
            ("healer", "rss_agg", "massive"),
            timeout_sec=REAL_TIMEOUT_SEC,
        ) as scene,
        AlertTail(scene.system.url, "rss_agg:heartbeat") as tail,
    ):
        # each 30th does, and the healer began after the first
        until(lambda: any("host" in beat for _, beat in tail.seen), what="a beat that names its host")
        getattr(scene["rss_agg"], end)()
        miss = scene.alerts.wait("heartbeat_miss", "rss_agg")
        last = last_beat(tail)
        assert list(miss) == [
            "type", "svc", "late_sec", "timeout_sec", "ts", "id", "reason", "since", "by", "host", "host_up",
        ]  # fmt: skip
        assert miss["ts"] - last >= REAL_TIMEOUT_SEC
        assert REAL_TIMEOUT_SEC <= miss["late_sec"] <= SLACK * (REAL_TIMEOUT_SEC + 1)
        assert (miss["timeout_sec"], miss["reason"], miss["by"]) == (REAL_TIMEOUT_SEC, reason, "healer")
        assert last - 0.01 <= miss["since"] <= miss["ts"] - REAL_TIMEOUT_SEC + 0.05  # heard after it was sent
        assert scene.system.cmd("GET", "health:rss_agg").startswith('{"type":"heartbeat_miss"')

        count = len(tail.seen)
        scene["rss_agg"].start()
        first = came_back(tail, count)
        ok = scene.alerts.wait("heartbeat_ok", "rss_agg")
        assert list(ok) == ["type", "svc", "age_sec", "ts", "id", "down_sec", "since", "by", "host"]
        assert first <= ok["ts"] + 0.01
        assert ok["since"] == miss["since"]
        assert ok["down_sec"] == pytest.approx(ok["ts"] - ok["since"], abs=0.05)
        assert 0 <= ok["age_sec"] < SLACK
        assert scene.system.cmd("GET", "health:rss_agg").startswith('{"type":"heartbeat_ok"')
        scene.listen_for(REAL_TIMEOUT_SEC)
        assert [event["type"] for event in scene.alerts.of()] == ["heartbeat_miss", "heartbeat_ok"]
        assert [event["id"] for event in scene.log()][-2:] == [miss["id"], ok["id"]]


@pytest.mark.nightly("[stop-stopped]; row 24 kills the healer, and its tests the sentinel")
def test_each_agent_killed_in_turn_is_one_miss_and_one_ok_and_none_for_those_that_lived(tmp_path):
    with ExitStack() as tails:
        env = {"SENTINEL_TIMEOUT_SEC": str(REAL_TIMEOUT_SEC)}
        scene = tails.enter_context(
            Scene(tmp_path, FLEET, (*WORKERS, "healer"), timeout_sec=REAL_TIMEOUT_SEC, env=env)
        )
        order = ("rss_agg", "massive", "mesh", "vexy_ai", "healer", "sentinel", "notifier")
        url = scene.system.url
        beats = {name: tails.enter_context(AlertTail(url, f"{name}:heartbeat")) for name in order}
        for name in order:
            until(lambda tail=beats[name]: tail.seen, what=f"a beat of {name}")
            kind = "healer" if name == "healer" else "heartbeat"
            scene[name].kill()
            miss = scene.alerts.wait(f"{kind}_miss", name)
            last, count = last_beat(beats[name]), len(beats[name].seen)
            scene[name].start()
            first = came_back(beats[name], count)
            ok = scene.alerts.wait(f"{kind}_ok", name)
            assert miss["reason"] == "silent"
            assert miss["late_sec"] >= REAL_TIMEOUT_SEC
            assert last - 0.01 <= miss["since"] <= miss["ts"] - REAL_TIMEOUT_SEC + 0.05  # heard, not sent
            assert first <= ok["ts"] + 0.01
            assert ok["since"] == miss["since"]
            assert ok["down_sec"] == pytest.approx(ok["ts"] - ok["since"], abs=0.05)
        scene.heard_again(2)
        scene.listen_for(REAL_TIMEOUT_SEC)
        told = [(event["type"].rpartition("_")[2], event["svc"]) for event in scene.alerts.of()]
        told = [(what, svc) for what, svc in told if what != "gap"]  # of who had no processor for its beats
        assert told == [(what, name) for name in order for what in ("miss", "ok")]
        for bus in BUSES:
            ids = [event["id"] for event in scene.log(bus=bus) if event["type"] == "healer_miss"]
            assert ids == [only(scene.alerts.of("healer_miss"))["id"]]
