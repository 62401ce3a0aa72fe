"""Traces of real alerts: a healer and a notifier on real servers, and a receiver of OTLP."""

import time

import pytest

from support.fixtures import opened
from support.rig import HOST, free_port
from support.rig.collector import Collector
from support.rig.receiver import Answer, Receiver
from support.scenes.faults import service
from support.scenes.notifier import Notified, hooks
from support.waiting import until

AGENTS = ("notifier", "healer")
EXPORT_SEC = 10.0
"""What an export takes that nobody answers: somebody who waited for it would be as late."""
STEPS = ["healer.publish", "notifier.wait", "notifier.deliver"]

receiver = opened(Receiver)
collector = opened(Collector)


def fleet(folder, receiver, env, **names):
    """A healer and a notifier with a service `alpha` that beats."""
    return Notified(folder, hooks(one=receiver), AGENTS, services={"alpha": service(), **names}, env=env)


def test_the_steps_from_a_miss_to_its_delivery_share_one_trace(tmp_path, receiver, collector):
    receiver.script.append(503)
    env = {**collector.env, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    with fleet(tmp_path, receiver, env) as scene:
        scene.stop_beating("alpha")
        miss = receiver.wait("heartbeat_miss", "alpha")

        def of_miss():
            traces = {each.trace_id for each in collector.spans
                      if each.attributes.get("marketswarm.event.id") == miss["id"]}  # fmt: skip
            return [each for each in collector.of_service("alpha") if each.trace_id in traces]

        until(lambda: len(of_miss()) >= 4, what=lambda: f"four spans: {collector.spans}")
        published, waited, first, second = of_miss()
    assert [each.name for each in (published, waited, first, second)] == [*STEPS, "notifier.deliver"]
    assert published.parent_id == ""
    assert {each.parent_id for each in (waited, first, second)} == {published.span_id}
    assert (published.agent, first.agent) == ("healer", "notifier")
    assert published.resource["deployment.environment.name"] == "test"
    assert published.resource["service.instance.id"]
    assert published.attributes["marketswarm.event.reason"] == "silent"
    assert published.attributes["marketswarm.event.late_sec"] == miss["late_sec"]
    assert published.attributes["marketswarm.bus"] == "system-redis"
    assert [each.kind for each in (published, waited, first)] == [4, 1, 3], "producer, internal, client"
    # in order: concluded, published, sent, sent again
    assert abs(published.started_at - miss["ts"]) < 0.001
    assert published.started_at == waited.started_at <= published.ended_at
    assert waited.ended_at == first.started_at <= first.ended_at <= second.started_at <= second.ended_at
    said = [(each.attributes["marketswarm.attempt"], each.attributes["marketswarm.outcome"], each.failed)
            for each in (first, second)]  # fmt: skip
    assert said == [(1, "temporary", True), (2, "accepted", False)]
    assert (first.attributes["error.type"], first.why) == ("503", "503")
    assert second.attributes["marketswarm.answer"] == "200"
    assert second.attributes["server.address"] == f"{HOST}:{receiver.port}"
    assert b"s3cret" not in b"".join(each.body for each in collector.seen)


@pytest.mark.parametrize("way", ["hangs", "refuses"])
def test_a_collector_that_fails_delays_no_alert_and_no_stop(tmp_path, receiver, collector, way):
    collector.always, env = Answer(hang=True), collector.env
    if way == "refuses":  # an export is given up, and reported, sooner than after ten seconds
        elsewhere = f"http://kim:hunter2@{HOST}:{free_port()}"
        env = {**env, "OTEL_EXPORTER_OTLP_ENDPOINT": elsewhere, "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
    with fleet(tmp_path, receiver, env) as scene:
        for happen, kind in ((scene.stop_beating, "heartbeat_miss"), (scene.beat_again, "heartbeat_ok")):
            happen("alpha")
            event = receiver.wait(kind, "alpha")
            [asked] = [each for each in receiver.seen if event in each.data["events"]]
            assert time.time() - (time.monotonic() - asked.at) - event["ts"] < EXPORT_SEC - 1
        if way == "refuses":
            for name in AGENTS:
                until(lambda name=name: scene[name].logs("traces.failed"), what=f"{name} to report it")
                [line] = scene[name].logs("traces.failed")
                assert "Connection refused" in line["reason"]
        for name in AGENTS:
            assert scene[name].stop(EXPORT_SEC - 1) == 0, scene[name].text()
            assert len(scene[name].logs("traces.failed")) <= 1
            assert "library.message" not in scene[name].text()
            assert "hunter2" not in scene[name].text()


def test_spans_that_are_left_are_exported_at_the_end(tmp_path, receiver, collector):
    env = {**collector.env, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with Notified(tmp_path, hooks(one=receiver), env=env) as scene:
        scene.write("heartbeat_miss", "a", late_sec=3.0, timeout_sec=2.0)
        until(lambda: receiver.taken("a"), what="a message")
        scene.notifier.wait_log("message.sent")
        assert collector.spans == []
        assert scene.notifier.stop() == 0
    assert "notifier.deliver" in [each.name for each in collector.spans]
