"""FAILURES rows 26, 30, 32, 33, 48 and more: what the notifier owes people, whatever happens to it."""

import signal
import threading
import time

import pytest

from support.rig import Proc
from support.rig.receiver import Answer, Receiver, texts
from support.scenes.faults import BUSES, Scene, fault_lasts, only, service
from support.scenes.notifier import ENV, Notified, hooks
from support.waiting import until


def test_row_26_what_happened_while_no_notifier_ran_is_one_digest_and_no_lone_ok(tmp_path, receiver):
    services = {"alpha": service(), "beta": service("market-redis")}
    with Notified(tmp_path, hooks(one=receiver), ("healer", "notifier"), services=services) as scene:
        scene.notifier.kill()
        scene.stop_beating("alpha")
        miss = scene.wait_logged("heartbeat_miss", "alpha")
        scene.beat_again("alpha")
        ok = scene.wait_logged("heartbeat_ok", "alpha", count=2)
        scene.notifier.start()
        receiver.wait("heartbeat_ok", "alpha")
        scene.settled()
        assert only(receiver.seen).data["events"] == [miss, ok]
        for event in (miss, ok):
            assert scene.told(event["id"])["channels"] == ["one"]


def test_row_26_it_says_how_late_it_is(tmp_path, receiver):
    with Notified(tmp_path, hooks(one=receiver)) as scene:
        told = scene.write("heartbeat_miss", "alpha")
        receiver.wait("heartbeat_miss", "alpha")
        scene.settled()
        scene.notifier.kill()
        scene.write("heartbeat_miss", "beta", ago=180)
        scene.write("heartbeat_ok", "beta", ago=120, down_sec=90.0)
        scene.write("heartbeat_miss", "gamma", ago=110)
        scene.notifier.start()
        receiver.wait("heartbeat_ok", "beta")
        receiver.wait("heartbeat_miss", "gamma")
        scene.settled()
        first, *late = receiver.seen
        assert (first.id, first.data["late"]) == (told, False)
        assert all(request.data["late"] for request in late)
        assert all("late)" in request.data["text"] for request in late)
        kinds = [(event["type"], event["svc"]) for event in receiver.taken()[1:]]
        assert kinds.index(("heartbeat_miss", "beta")) < kinds.index(("heartbeat_ok", "beta"))


def test_row_30_a_notifier_killed_before_it_knew_that_it_was_heard_says_it_again_under_the_same_id(
    tmp_path, receiver
):
    receiver.always = Answer(hang=True)
    with Notified(tmp_path, hooks(one=receiver)) as scene:
        miss = scene.write("heartbeat_miss", "alpha")
        until(lambda: receiver.seen, what="an attempt")
        scene.notifier.kill()
        receiver.always = 200
        assert scene.pending() == 1
        scene.notifier.start()
        receiver.wait("heartbeat_miss", "alpha")
        scene.settled()
        assert [request.id for request in receiver.seen] == [miss, miss]
        bodies = {request.body for request in receiver.seen}
        assert len(bodies) == 1
        scene.again()
        scene.write("heartbeat_ok", "alpha", down_sec=3.0)
        receiver.wait("heartbeat_ok", "alpha")
        assert len(receiver.seen) == 3


class Slow(Receiver):
    """One that answers once the notifier is being stopped; `asked` is how often it was."""

    def __init__(self) -> None:
        self.asked, self.stopping = 0, threading.Event()
        super().__init__()

    def _answer(self, handler) -> None:
        self.asked += 1
        self.stopping.wait(10)
        super()._answer(handler)


def test_a_notifier_that_is_stopped_finishes_what_is_on_the_wire_and_says_nothing_twice(tmp_path):
    with Slow() as receiver, Notified(tmp_path, hooks(one=receiver)) as scene:
        scene.write("heartbeat_miss", "alpha")
        until(lambda: receiver.asked, what="it on the wire")
        scene.notifier.signal(signal.SIGTERM)
        time.sleep(0.1)  # for the signal to come: nothing is logged before the body has ended
        receiver.stopping.set()
        assert scene.notifier.wait(15) == 0
        for bus in BUSES:
            assert scene.server(bus).cmd("GET", "notifier:lease") is None
        scene.notifier.start()
        scene.ready()
        scene.settled()
        assert [event["svc"] for event in receiver.taken()] == ["alpha"]
        assert receiver.asked == 1
        assert not [line for line in scene.notifier.logs() if line["level"] in ("error", "critical")]


def test_row_32_two_hundred_services_that_die_at_once_are_one_message_that_names_them_all(tmp_path, receiver):
    names = [f"s{n:03d}" for n in range(200)]
    services = {name: service(interval_sec=0.5, timeout_sec=3) for name in names}
    channels = hooks(one=receiver)
    with Notified(tmp_path, channels, ("healer", "notifier"), services=services, group_wait_sec=2.0) as scene:
        scene.stop_beating(*names)
        until(lambda: len(receiver.taken()) >= 200, what="all of them at the receiver")
        assert sorted(scene.misses()) == names
        message = receiver.seen[0]
        assert texts(receiver.seen) == [message.data["title"]]
        assert sorted(event["svc"] for event in message.data["events"]) == names
        assert message.data["title"] == "200 services are down"
        scene.settled()
        scene.beat_again(*names)
        until(lambda: len(receiver.taken()) >= 400, what="their return")
        assert len(receiver.seen) == 2


def test_row_33_a_service_that_flaps_is_two_notices_and_not_forty(tmp_path, receiver):
    with Notified(tmp_path, hooks(one=receiver), flap_window_sec=4.0, rate_limit_sec=0.0) as scene:
        for _ in range(20):
            scene.write("heartbeat_miss", "alpha")
            fault_lasts(0.1)
            scene.write("heartbeat_ok", "alpha", down_sec=0.1)
            fault_lasts(0.1)
        until(lambda: any("settled" in text for text in texts(receiver.seen)), what="the end of it")
        said = texts(receiver.seen)
        assert sum("flapping" in text for text in said) == 1
        assert sum("settled" in text for text in said) == 1
        assert len(said) <= 8, said  # and what was said before anybody could know
        scene.settled()


def test_row_48_an_outage_that_lasts_is_told_though_a_blip_before_it_began_a_rate_limit(tmp_path, receiver):
    settings = {"rate_limit_sec": 300.0, "rate_limit_max_hold_sec": 3.0}
    with Notified(tmp_path, hooks(one=receiver), **settings) as scene:
        blip = scene.write("heartbeat_miss", "alpha")
        receiver.wait("heartbeat_miss", "alpha")
        up = scene.write("heartbeat_ok", "alpha", down_sec=1.0)
        receiver.wait("heartbeat_ok", "alpha")
        held = time.monotonic()
        miss = scene.write("heartbeat_miss", "alpha")
        until(lambda: len(receiver.taken()) == 3, what="the outage that lasts")
        assert time.monotonic() - held >= 3
        ok = scene.write("heartbeat_ok", "alpha", down_sec=4.0)
        until(lambda: len(receiver.taken()) == 4, what="its end")
        assert [event["id"] for event in receiver.taken()] == [blip, up, miss, ok]
        scene.settled()


def test_row_34_what_the_notifier_tells_the_sentinel_does_not_and_the_other_way_round(tmp_path, receiver):
    env = {"SENTINEL_TIMEOUT_SEC": "1.5", "SENTINEL_DIRECT_SEC": "5", "WEBHOOK_URL": receiver.url}
    agents = ("healer", "sentinel", "notifier")
    services = {"sentinel": service()}
    with Notified(tmp_path, {}, agents, services=services, env=env, rate_limit_sec=0.0) as scene:
        scene.wait_logged("healer_ok", "healer")  # the first of all is news
        scene["healer"].kill()
        miss = receiver.wait("healer_miss", "healer")
        until(lambda: scene.told(miss["id"]), what="the record")
        assert scene.told(miss["id"])["by"] == "notifier"
        until(
            lambda: miss["id"] in [each["id"] for each in scene["sentinel"].logs("fallback.already_sent")],
            what="the sentinel to find the record",
        )
        scene["healer"].start()
        receiver.wait("healer_ok", "healer")
        scene.settled()  # else it would say it again
        scene.notifier.kill()
        scene["healer"].kill()
        second = scene.wait_logged("healer_miss", "healer", count=2)
        until(lambda: scene.told(second["id"]), what="the record")
        assert scene.told(second["id"])["by"] == "sentinel"
        scene.notifier.start()
        scene.settled()
        kinds = [event["type"] for event in receiver.taken("healer")]
        assert kinds == ["healer_miss", "healer_ok", "healer_miss"]


def test_two_notifiers_are_one_voice_and_the_second_takes_over_in_time(tmp_path, receiver):
    with Notified(tmp_path, hooks(one=receiver)) as scene:
        standby = scene.resources.enter_context(Proc("notifier", scene.env, scene.folder))
        standby.wait_log("channels.named")
        for n in range(5):
            scene.write("heartbeat_miss", f"s{n}")
        receiver.wait("heartbeat_miss", "s4")
        scene.settled()
        scene.notifier.kill()
        scene.write("heartbeat_miss", "alpha")
        receiver.wait("heartbeat_miss", "alpha")
        scene.settled()
        scene.notifier.start()
        scene.notifier.wait_log("lease.held")
        assert standby.stop() == 0
        scene.write("heartbeat_miss", "beta")
        receiver.wait("heartbeat_miss", "beta")
        events = [event["svc"] for event in receiver.taken()]
        assert sorted(events) == sorted({"s0", "s1", "s2", "s3", "s4", "alpha", "beta"})


@pytest.mark.parametrize(
    "bus", [BUSES[0], pytest.param(BUSES[1], marks=pytest.mark.nightly("[system-redis]"))]
)
def test_a_lost_bus_delays_nothing_and_loses_nothing(tmp_path, receiver, bus):
    remaining = next(each for each in BUSES if each != bus)
    with Notified(tmp_path, hooks(one=receiver)) as scene:
        scene.write("heartbeat_miss", "before", remaining)
        receiver.wait("heartbeat_miss", "before")
        scene.settled()
        scene.server(bus).kill()
        lost = scene.write("bus_miss", bus, remaining)
        receiver.wait("bus_miss", bus)
        if bus != BUSES[0]:  # where it beats
            until(lambda: bus in scene.beat_detail(), what="a beat that says so")
        scene.server(bus).start()
        until(lambda: scene.told(lost, bus), what="the record where it was missed")
        until(lambda: scene.state(bus) == scene.state(remaining), what="the state where it was missed")
        scene.write("heartbeat_miss", "after", bus)
        scene.write("bus_ok", bus, *BUSES, down_sec=3.0)
        receiver.wait("heartbeat_miss", "after")
        receiver.wait("bus_ok", bus)
        scene.settled()
        events = [event["id"] for event in receiver.taken()]
        assert len(set(events)) == len(events) == 4


def test_a_log_that_somebody_deleted_is_read_again_without_repeating_itself(tmp_path, receiver):
    with Notified(tmp_path, hooks(one=receiver)) as scene:
        for n in range(3):
            scene.write("heartbeat_miss", f"s{n}")
        receiver.wait("heartbeat_miss", "s2")
        scene.settled()
        scene.system.cmd("FLUSHALL")
        scene.write("heartbeat_miss", "alpha")
        receiver.wait("heartbeat_miss", "alpha")
        scene.write("heartbeat_ok", "s0", down_sec=3.0)
        receiver.wait("heartbeat_ok", "s0")
        scene.settled()
        ids = [event["id"] for event in receiver.taken()]
        assert len(ids) == len(set(ids)) == 5
        until(lambda: scene.state() == scene.state(BUSES[1]), what="the state again")


@pytest.mark.nightly("tests/notifier/test_dispatcher.py acknowledges all without channels")
def test_without_any_channel_it_says_so_once_and_pours_out_no_history_when_there_is_one(tmp_path, receiver):
    with Notified(tmp_path, {}) as scene:
        for n in range(50):
            scene.write("heartbeat_miss", f"s{n}")
            scene.write("heartbeat_ok", f"s{n}", down_sec=1.0)
        scene.settled()
        assert len(scene.notifier.logs("channels.none")) == 1
        until(lambda: "no channel is configured" in scene.beat_detail(), what=scene.beat_detail)
        scene.notifier.stop()
        scene.start("notifier", WEBHOOK_URL=receiver.url)
        scene.notifier.wait_log("channels.named")
        scene.write("heartbeat_miss", "alpha")
        receiver.wait("heartbeat_miss", "alpha")
        assert len(receiver.taken()) == 1


@pytest.mark.nightly(
    "test_a_channel_that_cant_be_opened_…; tests/notifier/test_channel_pool.py has each mistake"
)
def test_channels_none_of_which_can_be_opened_are_a_mistake(tmp_path):
    settings = {"channels": {"one": {"type": "pigeon"}}}
    with Scene(tmp_path, {"notifier": {**service(), "settings": settings}}, (), env=ENV) as scene:
        notifier = scene.start("notifier")
        assert notifier.wait() == 2
        assert "no such kind" in notifier.text()


def test_a_channel_that_cant_be_opened_is_told_over_another(tmp_path, receiver):
    channels = {**hooks(one=receiver), "two": {"type": "webhook", "url": "env:NOTIFY_NOT_THERE"}}
    with Notified(tmp_path, channels) as scene:
        until(lambda: any("two can't be opened" in text for text in texts(receiver.seen)), what="the news")
        until(lambda: "degraded" in scene.beat_detail() and "NOT_THERE" in scene.beat_detail())


def test_row_64_what_begins_in_a_silence_or_without_a_channel_is_told_when_that_ends(tmp_path, receiver):
    services = {"alpha": service(), "beta": service()}
    with Notified(tmp_path, {}, services=services) as scene:
        scene.write("heartbeat_miss", "alpha")  # no channel is open
        scene.settled()
        silence = scene.silence("beta")
        scene.seed(scene.with_settings(channels=hooks(one=receiver)))
        receiver.wait("heartbeat_miss", "alpha")
        for _ in range(4):  # it begins to flap inside a silence
            scene.write("heartbeat_miss", "beta")
            scene.write("heartbeat_ok", "beta", down_sec=1.0)
        scene.settled()
        scene.wait_beats("notifier", 4)
        assert texts(receiver.seen) == ["alpha is down"]
        scene.end(silence)
        until(lambda: "beta is flapping" in texts(receiver.seen), what=lambda: f"it: {texts(receiver.seen)}")
        assert texts(receiver.seen) == ["alpha is down", "beta is flapping"]


def test_row_65_an_exception_between_an_event_and_its_message_loses_neither(tmp_path, receiver):
    services = {svc: service() for svc in ("alpha", "bad", "beta")}
    with Notified(tmp_path, hooks(one=receiver), agents=(), services=services) as scene:
        notifier = scene.program(
            "notifier_with_defects", "notifier", FIRST_BATCH=str(tmp_path / "first-batch")
        )
        scene.ready()
        for svc in services:
            scene.write("heartbeat_miss", svc)
        until(lambda: not notifier.running, what="the end of a notifier that could not group a batch")
        assert {event["svc"] for event in receiver.taken()} <= {"bad"}
        assert scene.pending() >= 2
        notifier.start()
        for svc in services:
            receiver.wait("heartbeat_miss", svc)
        scene.settled()
        assert "bad: heartbeat_miss" in texts(receiver.seen)
        assert {each["about"] for each in notifier.logs("router.defect")} == {"bad"}
        for svc in services:
            scene.write("heartbeat_ok", svc, down_sec=1.0)
        for svc in services:
            receiver.wait("heartbeat_ok", svc)
        scene.settled()
        assert len({event["id"] for event in receiver.taken()}) == 6
