"""A fleet of real programs: each is stopped or killed and started again, and the numbers are right."""

import pytest

from support.rig import AlertTail
from support.scenes.faults import (
    SLACK,
    Scene,
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


def test_a_service_that_is_stopped_is_missed_once_and_started_again_is_ok_once(tmp_path):
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
        scene["rss_agg"].stop()
        miss = scene.alerts.wait("heartbeat_miss", "rss_agg")
        last = last_beat(tail)
        assert list(miss) == [
            "type", "svc", "late_sec", "timeout_sec", "ts", "id", "reason", "since", "by", "host", "host_up",
        ]  # fmt: skip
        assert miss["ts"] - last >= REAL_TIMEOUT_SEC
        assert REAL_TIMEOUT_SEC <= miss["late_sec"] <= SLACK * (REAL_TIMEOUT_SEC + 1)
        assert (miss["timeout_sec"], miss["reason"], miss["by"]) == (REAL_TIMEOUT_SEC, "stopped", "healer")
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
