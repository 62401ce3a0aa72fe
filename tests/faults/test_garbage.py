"""FAILURES row 15 under load: a tenth of a flood is garbage, and detection is on time all the same."""

import os
import random
import time

import pytest
import redis

from marketswarm.beat import encode_beat
from support.rig import HOST
from support.scenes.faults import SLACK, TIMEOUT_SEC, Scene, only, service
from support.waiting import until

CHUNK = 500
MESSAGES = 10_000
"""At least so many come before the service goes silent, however slow the machine."""
HUGE = 64 * 1024


def garbage(chance: random.Random, svc: str, real: bytes) -> bytes:
    """No beat of `svc`; `real` is its last."""
    return chance.choice(
        [
            os.urandom(64),
            b"x" * (HUGE if chance.random() < 0.05 else 5000),
            real[: chance.randrange(len(real))],
            real.replace(svc.encode(), b"someone_else"),
            real[:-2] + b'"',
            real.replace(b'"ts":1', b'"ts":x'),  # as long as a beat, and greater
        ]
    )


@pytest.mark.nightly("test_row_15_ten_thousand_payloads_…; make bench ARGS=garbage has the delay")
def test_row_15_a_tenth_of_garbage_in_a_flood_of_beats_delays_no_miss_and_makes_none(tmp_path):
    services = {"dead": service(), "alive": service(), "loud": service(timeout_sec=10)}
    with Scene(tmp_path, services, idle=["loud"]) as scene:
        chance, beater = random.Random(1), scene.beaters["dead"]
        real = {svc: beater.payloads[svc][-1] for svc in ("dead", "alive")}
        client = redis.Redis(HOST, scene.system.port)
        i = beats = junk = 0

        def flood() -> None:
            nonlocal i, beats, junk
            pipe = client.pipeline(transaction=False)
            for n in range(CHUNK):
                if n % 10:
                    i += 1
                    pipe.publish("loud:heartbeat", encode_beat("loud", i, time.time(), boot="b00700b007aa"))
                    beats += 1
                else:
                    svc = chance.choice(["dead", "alive"])
                    pipe.publish(f"{svc}:heartbeat", garbage(chance, svc, real[svc]))
                    junk += 1
            pipe.execute()

        begun = time.monotonic()
        while time.monotonic() < begun + TIMEOUT_SEC or beats + junk < MESSAGES:
            flood()
        last = scene.stop_beating("dead")
        until(lambda: flood() or scene.misses(), what="the miss")
        miss = only(scene.log("heartbeat_miss"))
        assert miss["svc"] == "dead"
        assert TIMEOUT_SEC <= miss["ts"] - last <= SLACK * (TIMEOUT_SEC + 1)
        healer = scene["healer"]
        # of each service one may be covered by a true beat before anyone looked at it, see `record`
        few = junk - len(real)
        until(lambda: sum(line["count"] for line in healer.logs("beat.malformed")) >= few, what="all counted")
        assert healer.running
        assert only(healer.logs("agent.joined"))
