"""FAILURES rows 27 to 29, 31 and 47: receivers that fail, that ask for a pause, that refuse, that hang."""

import os
import time
from functools import partial
from itertools import pairwise

import pytest

from support.rig import free_port
from support.rig.metrics import key, samples
from support.rig.receiver import Answer, Request, texts
from support.scenes.faults import BUSES
from support.scenes.notifier import Notified, hooks
from support.waiting import until

OUTAGE_SEC = float(os.environ.get("RECEIVER_OUTAGE_SEC", "5"))
"""How long the receiver of row 27 is ill; a whole minute is for those who have the time."""


@pytest.mark.timeout(60 + 4 * OUTAGE_SEC)
def test_row_27_a_receiver_that_is_ill_gets_everything_once_after_growing_pauses(tmp_path, receiver):
    receiver.always = 500
    with Notified(tmp_path, hooks(one=receiver)) as scene:
        begun = time.monotonic()
        miss = scene.write("heartbeat_miss", "alpha")
        until(lambda: receiver.seen, what="an attempt")
        until(lambda: "one: 500" in scene.beat_detail(), what="a degraded beat")
        later = scene.write("heartbeat_ok", "alpha", down_sec=2.0)
        until(lambda: time.monotonic() - begun > OUTAGE_SEC, OUTAGE_SEC + 1)
        assert receiver.taken() == []
        assert scene.pending() == 2
        receiver.always = 200
        receiver.wait("heartbeat_ok", "alpha", 1.3 * 2 * OUTAGE_SEC + 5)
        scene.settled()
        assert [event["id"] for event in receiver.taken()] == [miss, later]
        times = [request.at for request in receiver.seen if request.id == miss]
        gaps = [b - a for a, b in pairwise(times)]
        assert all(gap >= 0.74 * 2**n for n, gap in enumerate(gaps)), gaps
        assert gaps[-1] > 1.1 * gaps[0], gaps
        assert len(gaps) <= 4 + OUTAGE_SEC / 10
        late = OUTAGE_SEC >= 60
        assert [each.data["late"] for each in receiver.seen if each.status == 200] == [late] * 2
        until(lambda: "500" not in scene.beat_detail(), what=lambda: f"a beat that is well: {scene.notifier}")


@pytest.mark.parametrize("status", [429, pytest.param(503, marks=pytest.mark.nightly("[429]"))])
def test_rows_28_30_a_receiver_that_asks_for_peace_has_it_even_over_a_kill(tmp_path, receiver, status):
    receiver.script.append(Answer(status, {"Retry-After": "6"}))
    with Notified(tmp_path, hooks(one=receiver)) as scene:
        miss = scene.write("heartbeat_miss", "alpha")
        until(lambda: receiver.seen, what="an attempt")
        pauses = partial(scene.system.cmd, "HGET", "notifier:state", "d:pauses")
        until(lambda: '"one":[1,' in (pauses() or ""), what="the pause to be stored")
        scene.notifier.kill()
        scene.notifier.start()
        receiver.wait("heartbeat_miss", "alpha", 30)
        first, second = receiver.seen
        assert second.at - first.at >= 6 - 0.1
        assert first.id == second.id == miss


@pytest.mark.parametrize("status", [404, pytest.param(410, marks=pytest.mark.nightly("[404]"))])
def test_row_29_a_receiver_that_is_gone_is_told_over_another_and_left_alone(
    tmp_path, receiver, other, status
):
    receiver.always = status
    port = free_port()
    with Notified(tmp_path, hooks(one=receiver, two=other), env={"METRICS_PORT": str(port)}) as scene:
        miss = scene.write("heartbeat_miss", "alpha")
        other.wait("heartbeat_miss", "alpha")
        until(lambda: any(f"one is broken: {status}" in text for text in texts(other.seen)), what="the news")
        scene.settled()
        for bus in BUSES:
            until(lambda bus=bus: scene.dead(bus), what=f"it in notifier:dead on {bus}")
            [dead] = scene.dead(bus)
            assert (dead["channel"], dead["reason"], dead["message"]["id"]) == ("one", str(status), miss)
        assert scene.told(miss)["channels"] == ["two"]
        until(lambda: f"degraded: one: {status}" in scene.beat_detail(), what="a degraded beat")
        assert samples(port)[key("notifier_channel_broken", channel="one")] == 1
        assert samples(port)[key("notifier_attempts_total", channel="one", outcome="dead")] == 1
        assert receiver.statuses() == [status]
        scene.write("heartbeat_ok", "alpha", down_sec=3.0)
        other.wait("heartbeat_ok", "alpha")
        until(lambda: len(receiver.seen) >= 2, what="one attempt for the next message")
        assert receiver.statuses() == [status] * 2, "it is asked again for nothing else"
        assert sum("broken" in text for text in texts(other.seen)) == 1
        scene.again()
        scene.write("heartbeat_miss", "beta")
        other.wait("heartbeat_miss", "beta")
        receiver.always = 200
        until(lambda: len(receiver.seen) == 3, what="one attempt")
        scene.settled()
        assert sum("broken" in text for text in texts(other.seen)) == 1, "nor after a restart"
        answers = scene.ask("resend", miss)
        assert [(each["channel"], each["ok"]) for each in answers] == [("one", True)]
        assert receiver.taken("alpha")[0]["id"] == miss
        until(lambda: miss not in [each["message"]["id"] for each in scene.dead(BUSES[1])], what="it gone")
        until(lambda: "degraded" not in scene.beat_detail(), what="a beat that is well")
        assert "s3cret" not in scene.notifier.text()


def test_row_31_a_receiver_that_hangs_holds_no_other_back(tmp_path, receiver, other):
    receiver.always = Answer(hang=True)
    with Notified(tmp_path, hooks(one=receiver, two=other)) as scene:
        for n in range(8):
            scene.write("heartbeat_miss", f"s{n}")
            other.wait("heartbeat_miss", f"s{n}")
        # before the first attempt at the one that hangs is given up
        assert other.seen[-1].at - receiver.seen[0].at < 9
        assert len(receiver.statuses()) <= 3
        assert scene.pending() == 8
        receiver.always = 200
        until(lambda: len(receiver.taken()) == 8, what="all of them, once it is well")
        scene.settled()
        assert sorted(event["svc"] for event in receiver.taken()) == [f"s{n}" for n in range(8)]
        assert len(other.taken()) == 8


@pytest.mark.nightly("test_row_31_a_receiver_that_hangs_…; tests/marketswarm/channels/test_http.py")
@pytest.mark.parametrize("answer", [Answer(drip=True), Answer(reset=True)], ids=["drips", "hangs up"])
def test_row_31_nor_one_that_drips_or_hangs_up(tmp_path, receiver, other, answer):
    receiver.always = answer
    with Notified(tmp_path, hooks(ill=receiver, two=other)) as scene:
        for n in range(3):
            scene.write("heartbeat_miss", f"s{n}")
            other.wait("heartbeat_miss", f"s{n}")
        until(lambda: "ill: " in scene.beat_detail(), what="a degraded beat")


def refuse(svc: str, status: int):
    """A receiver's answer to each message with a miss of `svc`; it accepts the others."""

    def choose(request: Request) -> int | None:
        kinds = [event["type"] for event in request.data["events"] if event["svc"] == svc]
        return status if "heartbeat_miss" in kinds else None

    return choose


def test_row_47_a_message_that_a_receiver_always_fails_on_holds_up_no_other_and_is_rerouted_at_its_age_limit(
    tmp_path, receiver, other
):
    receiver.choose = refuse("alpha", 500)
    routes = [{"services": ["alpha", "s*"], "channels": ["one"]}, {"channels": ["two"]}]
    channels = hooks(one=receiver, two=other)
    with Notified(tmp_path, channels, routes=routes, retry_for_sec=9.0, rate_limit_sec=0.0) as scene:
        written = time.monotonic()
        miss = scene.write("heartbeat_miss", "alpha")
        until(lambda: len(receiver.seen) >= 2, what="a second attempt")
        ok = scene.write("heartbeat_ok", "alpha", down_sec=2.0)
        for n in range(4):
            scene.write("heartbeat_miss", f"s{n}")
            receiver.wait("heartbeat_miss", f"s{n}")
        assert not other.taken() or time.monotonic() - written >= 9.0
        other.wait("heartbeat_miss", "alpha", 20)
        assert time.monotonic() - written >= 9.0
        receiver.wait("heartbeat_ok", "alpha", 20)
        scene.settled()
        [dead] = scene.dead()
        assert (dead["channel"], dead["message"]["id"]) == ("one", miss)
        assert dead["reason"] == "gave up after 9 s: 500"
        assert scene.told(miss)["channels"] == ["two"]
        tries = [request.at for request in receiver.seen if request.id == miss]
        assert len(tries) <= 6, "growing pauses for the message that fails"
        assert [event["id"] for event in receiver.taken("alpha")] == [ok], "the thread keeps its order"
        assert not [text for text in texts(other.seen) if "broken" in text]


@pytest.mark.nightly("test_row_47_a_message_…; tests/notifier/test_dispatcher.py keeps since when")
def test_row_47_a_restart_does_not_start_the_age_limit_anew(tmp_path, receiver, other):
    receiver.choose = refuse("alpha", 500)
    routes = [{"services": ["alpha"], "channels": ["one"]}, {"channels": ["two"]}]
    with Notified(tmp_path, hooks(one=receiver, two=other), routes=routes, retry_for_sec=8.0) as scene:
        written = time.monotonic()
        scene.write("heartbeat_miss", "alpha")
        until(lambda: receiver.seen, what="an attempt")
        until(lambda: time.monotonic() - written > 7, what="most of its time to be over")
        scene.again()
        scene.ready()
        begun = time.monotonic()
        other.wait("heartbeat_miss", "alpha")
        assert time.monotonic() - begun < 7, "a full age limit began anew"


@pytest.mark.parametrize("status", [400, pytest.param(413, marks=pytest.mark.nightly("[400]"))])
def test_a_message_that_can_not_be_delivered_breaks_no_channel(tmp_path, receiver, other, status):
    receiver.choose = refuse("alpha", status)
    routes = [{"services": ["alpha", "beta"], "channels": ["one"]}, {"channels": ["two"]}]
    port = free_port()
    env = {"METRICS_PORT": str(port)}
    with Notified(tmp_path, hooks(one=receiver, two=other), routes=routes, env=env) as scene:
        miss = scene.write("heartbeat_miss", "alpha")
        other.wait("heartbeat_miss", "alpha")
        scene.write("heartbeat_miss", "beta")
        receiver.wait("heartbeat_miss", "beta")
        scene.settled()
        [dead] = scene.dead()
        assert (dead["channel"], dead["reason"], dead["message"]["id"]) == ("one", str(status), miss)
        assert samples(port)[key("notifier_channel_broken", channel="one")] == 0
        assert not [text for text in texts(other.seen) if "broken" in text]
        assert not scene.notifier.logs("channel.broken")
