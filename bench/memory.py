"""Test whether memory stays flat: ten million beats to a real healer, and a fleet's day in simulated time.

Linux only: reads /proc. The resident memory at the end is compared with that after a tenth of the way, when
caches and arenas are filled and every service has been heard. Both tests have the events of a bad day:
processes that start anew, old beats that are repeated, garbage, services that flap; the simulated day also
has canaries and new truths.
"""

import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import redis

from bench.fleet import build_truth, name_services, run_healer, wait_for_subscription, write_truth
from bench.footprint import rss_mb
from bench.server import Server, print_table
from bench.storm import Storm, make_garbage
from marketswarm.beat import encode_beat
from marketswarm.detector import CANARY_EVERY_SEC, Detector, Moment, restore_services
from marketswarm.truth import Watch

SERVICES: Final = 1000
BEATS: Final = 10_000_000
DAY_SEC: Final = 24 * 3600.0
MAY_GROW: Final = 0.05
SHARE: Final = 0.05
FLAP_SEC: Final = 5.0

Growth = tuple[float, float, float]
"""The MB of memory after a tenth of the way, at most from then on, and at the end."""


def run_soak(beats: int = BEATS, services: int = SERVICES) -> tuple[Growth, int, float]:
    """Send `beats` payloads to a healer process over a real server, as fast as both can.

    Returns:
        The memory, how many payloads were sent, and in how many seconds.
    """
    with Server() as system, Server() as market:
        write_truth([system, market], build_truth(services, 1.0, 3.0))
        with run_healer(system, market) as process, redis.Redis(port=system.port) as client:
            wait_for_subscription(system, f"{name_services(services)[-1]}:heartbeat")
            storm = Storm(system.port, services, 0, reboots=25, replays=True)
            storm.set_garbage_share(SHARE)
            started, flaps, found = time.monotonic(), 0, []
            while storm.sent.value < beats:
                time.sleep(0.5)
                found.append((storm.sent.value, rss_mb(process.pid)))
                if time.monotonic() > started + (flaps + 1) * FLAP_SEC:
                    flaps += 1
                    storm.silence_services(-1 if flaps % 2 else flaps % 20, 20)
            sent, sec = storm.sent.value, time.monotonic() - started
            storm.stop()
            _wait_until_heard(client)
            found.append((sent, rss_mb(process.pid)))
    return _find_growth(found, beats), sent, sec


def _wait_until_heard(client: "redis.Redis") -> None:
    """Wait until the server has sent the healer everything, and one second more.

    Raises RuntimeError if that took longer than 60 s.
    """
    by = time.monotonic() + 60
    while any(int(each["omem"]) for each in client.client_list(_type="pubsub")):
        if time.monotonic() > by:
            raise RuntimeError("the healer does not keep up")
        time.sleep(0.1)
    time.sleep(1)


def _find_growth(measurements: list[tuple[int, float]], whole: float) -> Growth:
    """Return the memory after a tenth of `whole`, the most from then on, and the last.

    `measurements` holds the progress, in the unit of `whole`, and the memory in MB of each measurement.
    """
    tenth = next(mb for at, mb in measurements if at >= whole / 10)
    return tenth, max(mb for at, mb in measurements if at >= whole / 10), measurements[-1][1]


def simulate_day(services: int = SERVICES) -> tuple[Growth, int]:
    """Run in a process of its own; return its memory and how many payloads it had."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_day, args=(sender, services), daemon=True)
    process.start()
    sender.close()
    found: list[tuple[int, float]] = []
    payloads = 0
    while receiver.poll(600):
        at, mb, payloads = receiver.recv()
        found.append((at, mb))
        if at >= DAY_SEC:
            break
    process.join(10)
    return _find_growth(found, DAY_SEC), payloads


def _run_day(out: Any, services: int) -> None:
    """Simulate a healer's day and send its progress to `out`; this is the main function of the process.

    The detector gets canaries, beats, ticks, suspects and new truths, as in a healer, but without sockets.
    """
    chance = random.Random(1)
    now = Moment(0.0, 1.7e9)
    detector = Detector(now)
    detector.set_roster(_build_watches(services, 0), {"bus": 10.0}, now)
    clock = detector.buses["bus"].clock
    clock.note_session_opened()
    list(restore_services(detector, {}, {}, now))
    svcs, payloads = name_services(services), 0
    steps = round(DAY_SEC / CANARY_EVERY_SEC)
    for step in range(steps):
        now = Moment(step * CANARY_EVERY_SEC, 1.7e9 + step * CANARY_EVERY_SEC)
        clock.note_canary_sent(step, now.mono)
        clock.note_canary_accepted(now)
        messages = list(_generate_messages(step, svcs, now.wall, chance))
        payloads += len(messages)
        detector.take_messages("bus", messages, now)
        detector.take_canary("bus", step, now)
        for suspect in detector.tick(now).suspects:
            detector.evaluate_suspect(suspect.svc, None, now)
        detector.silences.take()
        if step % 14_400 == 14_399:  # each hour another truth
            detector.set_roster(_build_watches(services, step // 14_400 % 2), {"bus": 10.0}, now)
        if step % (steps // 200) == 0:
            out.send((now.mono, rss_mb(os.getpid()), payloads))
    out.send((DAY_SEC, rss_mb(os.getpid()), payloads))


def _build_watches(services: int, variant: int) -> list[Watch]:
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
        real = encode_beat(svc, i, wall, boot=boot, rev=3, every=10.0)
        yield b"message", channel, real
        luck = chance.random()
        if luck < SHARE:
            yield b"message", channel, make_garbage(chance, svc, real)
        elif luck < 2 * SHARE:
            yield b"message", channel, encode_beat(svc, i - 1, wall - 10, boot=boot, rev=3, every=10.0)
        elif luck < 3 * SHARE:  # another instance, unknown so far
            yield b"message", channel, encode_beat(svc, 1, wall, boot=f"{chance.getrandbits(48):x}")


def main(beats: int = BEATS, services: int = SERVICES) -> None:
    """Exit with an error if memory grew by more than 5 %."""
    growth, sent, sec = run_soak(beats, services)
    day_growth, payloads = simulate_day(services)
    rows = {
        f"{sent:,} payloads into a healer process, {sent / sec:,.0f} a second": growth,
        f"a simulated day, {payloads:,} payloads": day_growth,
    }
    print_table(
        f"resident memory, {services:,} services (goal: flat within 5 %)",
        *[
            (name, f"{tenth:.1f} MB after a tenth", f"{most:.1f} MB at most", f"{end:.1f} MB at the end")
            for name, (tenth, most, end) in rows.items()
        ],
    )
    if any(most > (1 + MAY_GROW) * tenth for tenth, most, _ in rows.values()):
        sys.exit("memory grows")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
