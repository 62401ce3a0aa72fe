"""FAILURES rows 15 and 16: payloads that are no sign of life."""

import itertools
import random

import pytest
import redis

from marketswarm.beat import MalformedBeat, parse_beat
from support.rig import HOST
from support.scenes.faults import (
    SLACK,
    TIMEOUT_SEC,
    WARM_UP_SEC,
    Scene,
    fault_lasts,
    fits_beat,
    fits_outage,
    instance,
    only,
    service,
    stamp,
)
from support.waiting import until

COUNT = 10_000
CHUNK = 250
HUGE = 65_536


def hostile(svc: str, real: bytes, boot: str) -> list[bytes]:
    """What may be heard on a channel without being a beat; some of it is a real beat but for a detail."""
    return [
        b"",
        b"null",
        b"\x00\xff\xfe\x80" * 32,
        b"[" * 4000,
        b'{"svc":' * 500,
        b"9" * 4000,
        b'"' + b"x" * HUGE + b'"',
        real[:-1] + b',"pad":"' + b"x" * 5000 + b'"}',
        real[:-1],
        real + b"}",
        real + b" x",
        real.replace(svc.encode(), b"somebody"),
        real.replace(svc.encode(), b"also_dead"),
        b'{"i":1,"ts":1.0}',
        b'{"svc":["%s"],"i":1,"ts":1.0}' % svc.encode(),
        *(
            b'{"svc":"%s","i":%s,"ts":%s,"boot":"%s"}' % (svc.encode(), i, ts, boot.encode())
            for i, ts in [
                (b"true", b"1.0"),
                (b"-1", b"1.0"),
                (b"1.5", b"1.0"),
                (b"1e9", b"1.0"),
                (b"+9", b"1.0"),
                (b"009", b"1.0"),
                (b'"900"', b"1.0"),
                (b"", b"1.0"),
                (b"9" * 40, b"1.0"),
                (b"900", b""),
                (b"900", b"NaN"),
                (b"900", b"1e999"),
                (b"900", b"1.2.3"),
                (b"900", b"."),
                (b"900", b"null"),
                (b"900", b'"now"'),
            ]
        ),
    ]


def test_row_15_ten_thousand_payloads_that_are_no_beats_are_counted_and_change_nothing(tmp_path):
    services = {"dead": service(), "also_dead": service(), "alive": service()}
    with Scene(tmp_path, services) as scene:
        boot = scene.beaters["dead"].boots["dead"]
        last = scene.stop_beating("dead", "also_dead")
        kinds = hostile("dead", scene.beaters["dead"].payloads["dead"][-1], boot)
        accepted = [kind for kind in kinds if not isinstance(parse_beat(kind, "dead"), MalformedBeat)]
        assert accepted == []
        sent = [random.choice(kinds) for _ in range(COUNT)]
        client = redis.Redis(HOST, scene.system.port)
        for start in range(0, COUNT, CHUNK):  # over two timeouts: the silence shows in between
            pipe = client.pipeline(transaction=False)
            for payload in sent[start : start + CHUNK]:
                pipe.publish("dead:heartbeat", payload)
                pipe.set("beat:dead", payload, px=3000)
            pipe.execute()
            fault_lasts(2 * TIMEOUT_SEC * CHUNK / COUNT)
        for svc in ("dead", "also_dead"):
            scene.wait_logged("heartbeat_miss", svc)
            miss = only(scene.log("heartbeat_miss", svc))
            assert miss["ts"] - last <= SLACK * (TIMEOUT_SEC + 1)
            assert fits_beat(miss["since"], last)
        scene.listen_for(TIMEOUT_SEC)
        assert sorted(scene.misses()) == ["also_dead", "dead"]
        assert len(scene.alarms()) == 2  # no ok either
        healer = scene["healer"]
        until(
            lambda: sum(line["count"] for line in healer.logs("beat.malformed")) >= COUNT, what="all counted"
        )
        said = healer.logs("beat.malformed")
        assert said[-1]["total"] == COUNT
        assert all(stamp(later) - stamp(line) > 0.9 for line, later in itertools.pairwise(said))
        assert healer.running
        assert only(healer.logs("agent.joined"))


@pytest.mark.parametrize("instances", [1, pytest.param(2, marks=pytest.mark.nightly("[1]"))])
def test_row_16_old_beats_bring_a_dead_service_no_life_not_even_after_a_restart_of_the_healer(
    tmp_path, instances
):
    with Scene(tmp_path, {"dead": service(), "alive": service()}) as scene:
        beater, names = scene.beaters["dead"], ["dead"]
        if instances == 2:
            names.append(instance("dead", scene))
            until(lambda: len(beater.beats[names[1]]) > 5, what="a few beats of the second one")
        beater.stop(*names)
        last = max(beater.last(name) for name in names)
        replayed = [payload for name in names for payload in beater.payloads[name]]

        def replay() -> bool:
            scene.system.cmd("PUBLISH", "dead:heartbeat", random.choice(replayed))
            return True

        until(lambda: replay() and scene.misses(), what="the miss")
        miss = only(scene.log("heartbeat_miss"))
        assert miss["late_sec"] >= TIMEOUT_SEC
        assert fits_beat(miss["since"], last)
        until(
            lambda: replay() and not scene.system.cmd("EXISTS", "beat:dead"), what="the end of its last beat"
        )
        scene["healer"].kill()
        scene["healer"].start()
        # from before it knows who was down
        until(
            lambda: replay() and scene["healer"].logs("monitor.state_loaded")[1:],
            what="the healer to recall it",
        )
        proven = scene.proven() + TIMEOUT_SEC + WARM_UP_SEC
        until(lambda: replay() and scene.proven() >= proven, what="a while of replays")
        assert [event["type"] for event in scene.alarms()] == ["heartbeat_miss"]
        first = scene.beat_again("dead")  # the same boot goes on where it was
        assert fits_outage(scene.alerts.wait("heartbeat_ok", "dead")["down_sec"], first - last)
