"""Compare how many beats a second the healer hears with the number for a bare hiredis subscriber.

Both subscribe to the same channels of the same real server. While they wait, the server buffers a burst for
them, and then each reads it. The healer's code, a session and a detector, checks every payload, recognises
replays, and keeps the listening clock.
"""

import asyncio
import sys
import time

from bench.beats import name_services, publish_beats
from bench.figures import Pair, Sample
from bench.programs import Worker, answer, read_order
from bench.server import Server
from marketswarm.bus import Bus
from marketswarm.bus.listener import read_clocks
from marketswarm.bus.session import SubscriberConnection
from marketswarm.detector import Detector, restore_services
from marketswarm.truth import Watch

CHANNELS = 100_000
BEATS = 1_000_000


async def subscribe(port: int, channels: int) -> None:
    """Hear beats with the healer's code. Orders and answers are those of the bare subscriber."""
    bus = Bus("system-redis", f"redis://127.0.0.1:{port}")
    detector = Detector(read_clocks())
    watches = [Watch(svc, bus.name, f"{svc}:heartbeat", 10.0, 30.0) for svc in name_services(channels)]
    detector.set_roster(watches, {bus.name: 10.0}, read_clocks())
    session = SubscriberConnection(bus)
    await session.connect()
    for start in range(0, channels, 1000):
        await session.subscribe([watch.channel for watch in watches[start : start + 1000]])
        while not session.is_settled:
            await session.read_batch()
    list(restore_services(detector, {}, {}, read_clocks()))
    answer("ready")
    while True:
        upto = detector.counts.heard + read_order()
        wall, cpu = time.perf_counter(), time.process_time()
        while detector.counts.heard < upto:
            detector.take_messages(bus.name, await session.read_batch(), read_clocks())
            await asyncio.sleep(0)
        assert detector.counts.malformed == detector.counts.replayed == 0
        answer([time.perf_counter() - wall, time.process_time() - cpu])


def measure_reader(server: Server, worker: Worker, channels: int, beats: int) -> tuple[float, float]:
    """Return how many beats a second a subscriber reads, and the microseconds of a core for each."""
    services = name_services(channels)
    with worker:
        worker.read()
        # the first round makes every service known, because the steady state is measured
        publish_beats(server.port, services, channels, first=10)
        worker.ask(channels)
        publish_beats(server.port, services, beats, first=11)
        wall, cpu = worker.ask(beats)
    return beats / wall, 1e6 * cpu / beats


def measure(scale: float) -> Sample:
    channels, beats = round(CHANNELS * scale), round(BEATS * scale)
    with Server() as server:
        bare = measure_reader(
            server, Worker("bench.limits", "subscriber", server.port, channels), channels, beats
        )
        ours = measure_reader(server, Worker("bench.heard", server.port, channels), channels, beats)
    return {"rate": Pair(ours[0], bare[0]), "processor": Pair(ours[1], bare[1])}


if __name__ == "__main__":
    asyncio.run(subscribe(int(sys.argv[1]), int(sys.argv[2])))
