"""Traces of real alerts: a healer and a notifier on real servers, and a receiver of OTLP."""

import time
from pathlib import Path

import orjson
import pytest

from support.fixtures import opened
from support.rig import HOST, free_port
from support.rig.collector import Collector
from support.rig.forkserver import real_starts
from support.rig.receiver import Answer, Receiver
from support.scenes.faults import service
from support.scenes.notifier import LOG, Notified, hooks
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


def test_a_message_about_several_outages_is_in_the_first_ones_trace_and_links_the_others(
    tmp_path, receiver, collector
):
    with Notified(tmp_path, hooks(one=receiver), env=collector.env, group_wait_sec=0.5) as scene:
        now = time.time()
        misses = [{"type": "heartbeat_miss", "svc": svc, "late_sec": 3.0, "timeout_sec": 2.0, "ts": now,
                   "id": f"miss.{svc}"} for svc in ("a", "b")]  # fmt: skip
        # in one step: a notifier that reads one of them alone may send it alone
        script = "for i = 1, 2 do redis.call('XADD', KEYS[1], '*', 'event', ARGV[i]) end"
        scene.system.cmd("EVAL", script, 1, LOG, *map(orjson.dumps, misses))
        until(lambda: [each for each in collector.spans if each.links], what=lambda: f"{collector.spans}")
        [delivery] = [each for each in collector.spans if each.name == "notifier.deliver" and each.links]
    [request] = [each for each in receiver.seen if len(each.data["events"]) == 2]
    assert request.data["events"] == misses
    assert delivery.attributes["marketswarm.message.events"] == 2
    assert delivery.trace_id not in delivery.links
    assert len(delivery.links) == 1


WAYS = {
    "answers_503": 503,
    "hangs": Answer(hang=True),
    "refuses": None,
}


@pytest.mark.parametrize(
    "way",
    ["hangs", "refuses", pytest.param("answers_503", marks=pytest.mark.nightly("[refuses]"))],
)
def test_a_collector_that_fails_delays_no_alert_and_no_stop(tmp_path, receiver, collector, way):
    if WAYS[way] is None:
        env = {**collector.env, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://kim:hunter2@{HOST}:{free_port()}"}
    else:
        collector.always, env = WAYS[way], collector.env
    if way != "hangs":  # so that an export is given up, and reported, sooner than after ten seconds
        env = {**env, "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
    with fleet(tmp_path, receiver, env) as scene:
        for happen, kind in ((scene.stop_beating, "heartbeat_miss"), (scene.beat_again, "heartbeat_ok")):
            happen("alpha")
            event = receiver.wait(kind, "alpha")
            [asked] = [each for each in receiver.seen if event in each.data["events"]]
            assert time.time() - (time.monotonic() - asked.at) - event["ts"] < EXPORT_SEC - 1
        if way in ("refuses", "answers_503"):
            for name in AGENTS:
                until(lambda name=name: scene[name].logs("traces.failed"), what=f"{name} to report it")
                [line] = scene[name].logs("traces.failed")
                assert {"refuses": "Connection refused", "answers_503": "Service Unavailable"}[way] in line[
                    "reason"
                ]
        for name in AGENTS:
            assert scene[name].stop(EXPORT_SEC - 1) == 0, scene[name].text()
            assert len(scene[name].logs("traces.failed")) <= 1
            assert "library.message" not in scene[name].text()
            assert "hunter2" not in scene[name].text()


def test_a_collector_that_is_back_is_reported_once_with_what_was_lost(tmp_path, receiver, collector):
    collector.always = 400  # never tried again, so that the test need not wait for a retry
    with Notified(tmp_path, hooks(one=receiver), env=collector.env) as scene:
        for svc in ("a", "b"):
            count = len(collector.seen)
            scene.write("heartbeat_miss", svc, late_sec=3.0, timeout_sec=2.0)
            until(lambda n=count: len(collector.seen) > n, what="an export")
        collector.always = 200
        scene.write("heartbeat_miss", "c", late_sec=3.0, timeout_sec=2.0)
        until(lambda: scene.notifier.logs("traces.resumed"), what="the end of the outage")
        [failed], [resumed] = scene.notifier.logs("traces.failed"), scene.notifier.logs("traces.resumed")
    assert failed["where"] == resumed["where"] == f"{HOST}:{collector.port}"
    assert "400" in failed["reason"]
    assert resumed["lost"] >= 2
    assert [each for each in collector.spans if each.name == "notifier.deliver"]


def test_spans_that_are_left_are_exported_at_the_end(tmp_path, receiver, collector):
    env = {**collector.env, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with Notified(tmp_path, hooks(one=receiver), env=env) as scene:
        scene.write("heartbeat_miss", "a", late_sec=3.0, timeout_sec=2.0)
        until(lambda: receiver.taken("a"), what="a message")
        scene.notifier.wait_log("message.sent")
        assert collector.spans == []
        assert scene.notifier.stop() == 0
    assert "notifier.deliver" in [each.name for each in collector.spans]


def test_without_an_endpoint_no_agent_loads_what_exports(tmp_path, receiver):
    with real_starts(), fleet(tmp_path, receiver, {}) as scene:
        scene.stop_beating("alpha")
        receiver.wait("heartbeat_miss", "alpha")
        for name in AGENTS:
            assert not scene[name].logs("traces.on")
            # protobuf's library in C, which the exporter brings
            assert "upb" not in Path(f"/proc/{scene[name].pid}/maps").read_text(encoding="utf-8")
