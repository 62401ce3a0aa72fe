"""Test whether memory stays flat: ten million beats to a real healer, and a fleet's day in simulated time.

The memory from a tenth of the way on is compared with that after this tenth, when caches and arenas are
filled and every service has been heard. Both tests have the events of a bad day: processes that start anew,
old beats that are repeated, garbage, services that flap; the simulated day also has canaries and new truths.
"""

import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

from bench.beats import Beats, make_garbage, name_services
from bench.figures import Pair, Sample
from bench.healer import run_fleet
from bench.programs import Worker, answer, pss_mb
from marketswarm.beat import Beat, encode_beat
from marketswarm.detector import CANARY_EVERY_SEC, Detector, Moment, restore_services
from marketswarm.truth import Watch

SERVICES: Final = 1000
BEATS: Final = 10_000_000
DAY_SEC: Final = 24 * 3600.0
SHARE: Final = 0.05
FLAP_SEC: Final = 5.0


def measure(scale: float) -> Sample:
    return {"beats": measure_beats(round(BEATS * scale)), "day": measure_day(scale)}


def measure_beats(count: int) -> Pair:
    """Send payloads to a healer process over a real server, as fast as both can."""
    with run_fleet(SERVICES, 1.0, lambda port: Beats(port, SERVICES, 0, reboots=25, replays=True)) as fleet:
        fleet.beats.set_garbage_share(SHARE)
        first, began, flaps, found = fleet.beats.sent.value, time.monotonic(), 0, []
        while (sent := fleet.beats.sent.value - first) < count:
            found.append((sent / count, pss_mb(fleet.pid)))
            time.sleep(0.5)
            if time.monotonic() > began + (flaps + 1) * FLAP_SEC:
                flaps += 1
                fleet.beats.silence_services(range(flaps % 20, SERVICES if flaps % 2 else 0, 20))
        found.append((1.0, pss_mb(fleet.pid)))
    return find_growth(found)


def find_growth(measurements: Sequence[tuple[float, float]]) -> Pair:
    """Return the most memory after a tenth of the way, and the memory then.

    `measurements` holds the progress, 0.0 to 1.0, and the memory in MB of each measurement.
    """
    after = [mb for at, mb in measurements if at >= 0.1]
    return Pair(max(after), after[0])


def measure_day(scale: float) -> Pair:
    """Simulate the day in a process of its own."""
    with Worker("bench.memory", scale) as worker:
        found = [worker.read() for _ in range(200)]
    return find_growth(found)


def run_day(part: float) -> None:
    """Simulate this part of a healer's day, and print the progress and the memory 200 times.

    The detector gets canaries, beats, ticks, suspects and new truths, as in a healer, but without sockets.
    """
    chance = random.Random(1)
    now = Moment(0.0, 1.7e9)
    detector = Detector(now)
    detector.set_roster(_make_watches(SERVICES, 0), {"bus": 10.0}, now)
    clock = detector.buses["bus"].clock
    clock.note_session_opened()
    list(restore_services(detector, {}, {}, now))
    svcs = name_services(SERVICES)
    steps = round(part * DAY_SEC / CANARY_EVERY_SEC)
    for step in range(steps):
        now = Moment(step * CANARY_EVERY_SEC, 1.7e9 + step * CANARY_EVERY_SEC)
        clock.note_canary_sent(step, now.mono)
        clock.note_canary_accepted(now)
        messages = list(_generate_messages(step, svcs, now.wall, chance))
        detector.take_messages("bus", messages, now)
        detector.take_canary("bus", step, now)
        for suspect in detector.tick(now).suspects:
            detector.evaluate_suspect(suspect.svc, None, now)
        detector.silences.take()
        detector.observer.take_unsaved(now.mono)
        if step % 14_400 == 14_399:  # each hour another truth
            detector.set_roster(_make_watches(SERVICES, step // 14_400 % 2), {"bus": 10.0}, now)
        if (step + 1) * 200 // steps > step * 200 // steps:
            answer([step / steps, pss_mb(os.getpid())])


def _make_watches(services: int, variant: int) -> list[Watch]:
    """Leave services out, and change timeouts, if `variant` is 1."""
    return [
        Watch(svc, "bus", f"{svc}:heartbeat", 10.0, 30.0 + 5 * (variant and n % 7 == 0))
        for n, svc in enumerate(name_services(services))
        if not (variant and n % 10 == 0)
    ]


def _generate_messages(
    step: int, svcs: list[str], wall: float, chance: random.Random
) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield the messages of a quarter of a second: a beat of each service every 10 s, and invalid ones."""
    of = round(10.0 / CANARY_EVERY_SEC)
    for n in range(step % of, len(svcs), of):
        svc, i = svcs[n], step // of
        if (i + n) % 500 < 8 and n % 3 == 0:
            continue  # down for more than a minute
        channel = f"{svc}:heartbeat".encode()
        boot = f"boot{(i + n) // 300}.{n}"  # a new process every 50 minutes
        real = encode_beat(Beat(svc, i, wall, boot=boot, rev=3, every=10.0))
        yield b"message", channel, real
        luck = chance.random()
        if luck < SHARE:
            yield b"message", channel, make_garbage(chance, svc, real)
        elif luck < 2 * SHARE:
            yield b"message", channel, encode_beat(Beat(svc, i - 1, wall - 10, boot=boot, rev=3, every=10.0))
        elif luck < 3 * SHARE:  # another instance, unknown so far
            yield b"message", channel, encode_beat(Beat(svc, 1, wall, boot=f"{chance.getrandbits(48):x}"))


if __name__ == "__main__":
    run_day(float(sys.argv[1]))
