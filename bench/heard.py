"""Compare how many beats a second the healer handles with the number for a bare hiredis subscriber.

Both subscribe to the same channels of the same real server. While they wait, the server buffers a burst for
them, and then each reads it. The bare one only decodes replies and JSON and stores a time, as a simple
`last_seen` loop would; the healer's code, a session and a detector, checks every payload, recognises replays,
and keeps the listening clock. Each run is a process that prints one line of JSON for `measure`; the medians
and the ratio are printed at the end.
"""

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time

import hiredis
import orjson

from bench.fleet import name_services
from bench.server import Server, print_table, publish_beats
from marketswarm.bus import Bus
from marketswarm.bus.listener import read_clocks
from marketswarm.bus.session import SubscriberConnection
from marketswarm.detector import Detector, restore_services
from marketswarm.truth import Watch

CHANNELS = 100_000
BEATS = 1_000_000
RUNS = 3


def read_bare(port: int, channels: int, beats: int) -> None:
    """Read `beats` beats with a blocking socket, hiredis, orjson and a dictionary, and print the times.

    It checks nothing, so Python can't be faster. The first beat of each service is not measured.
    """
    sock = socket.create_connection(("127.0.0.1", port))
    reader = hiredis.Reader()
    services = name_services(channels)
    for start in range(0, channels, 1000):
        some = [f"{svc}:heartbeat" for svc in services[start : start + 1000]]
        sock.sendall(hiredis.pack_command(("SUBSCRIBE", *some)))  # type: ignore[arg-type]  # its types know one argument only
        acks = 0
        while acks < len(some):
            reader.feed(sock.recv(1 << 16))
            while reader.gets() is not False:
                acks += 1
    last: dict[str, float] = {}
    _wait_for_go()
    heard = 0
    while heard < channels:  # the first beat of each service, which is not measured
        reader.feed(sock.recv(1 << 16))
        while (reply := reader.gets()) is not False:
            last[orjson.loads(reply[2])["svc"]] = 0.0
            heard += 1
    _wait_for_go()
    wall, cpu, heard = time.perf_counter(), time.process_time(), 0
    while heard < beats:
        reader.feed(sock.recv(1 << 16))
        now = time.monotonic()
        while (reply := reader.gets()) is not False:
            last[orjson.loads(reply[2])["svc"]] = now
            heard += 1
    _print_times(wall, cpu, heard)


def read_with_healer(port: int, channels: int, beats: int) -> None:
    asyncio.run(_read_with_healer(port, channels, beats))


async def _read_with_healer(port: int, channels: int, beats: int) -> None:
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
    _wait_for_go()
    while detector.counts.heard < channels:
        detector.take_messages(bus.name, await session.read_batch(), read_clocks())
    _wait_for_go()
    beats += channels
    wall, cpu = time.perf_counter(), time.process_time()
    while detector.counts.heard < beats:
        detector.take_messages(bus.name, await session.read_batch(), read_clocks())
        await asyncio.sleep(0)
    _print_times(wall, cpu, detector.counts.heard - channels)
    assert detector.counts.malformed == detector.counts.replayed == 0
    await session.close()
    await bus.aclose()


def _wait_for_go() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def _print_times(wall: float, cpu: float, heard: int) -> None:
    """Print JSON: the number of beats, and the wall and processor seconds since `wall` and `cpu`."""
    print(
        json.dumps({"heard": heard, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}),
        flush=True,
    )


def measure_reader(server: Server, kind: str, channels: int, beats: int) -> dict[str, float]:
    """Run `bare` or `ours` in a process of its own, publish beats for it, and return its times."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "bench.heard", kind, str(server.port), str(channels), str(beats)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdin
    assert worker.stdout
    assert worker.stdout.readline() == "ready\n"
    # the first round makes every service known, because the steady state is measured
    publish_beats(server.port, name_services(channels), channels, first=10)
    worker.stdin.write("go\n")
    worker.stdin.flush()
    assert worker.stdout.readline() == "ready\n"
    publish_beats(server.port, name_services(channels), beats, first=11)
    worker.stdin.write("go\n")
    worker.stdin.flush()
    found: dict[str, float] = json.loads(worker.stdout.readline())
    worker.wait(30)
    return found


def main(channels: int = CHANNELS, beats: int = BEATS) -> None:
    """Run both RUNS times, in turn, and print their medians and the ratio."""
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    costs: dict[str, list[float]] = {"bare": [], "ours": []}
    with Server() as server:
        for _ in range(RUNS):
            for kind in ("bare", "ours"):
                found = measure_reader(server, kind, channels, beats)
                rates[kind].append(found["heard"] / found["wall"])
                costs[kind].append(found["cpu"] / found["heard"] * 1e6)
    ratio = statistics.median(o / b for o, b in zip(rates["ours"], rates["bare"], strict=True))
    print_table(
        "beats heard per second",
        (
            "bare hiredis + orjson",
            f"{statistics.median(rates['bare']):,.0f}/s",
            f"{statistics.median(costs['bare']):.2f} us CPU a beat",
        ),
        (
            "healer",
            f"{statistics.median(rates['ours']):,.0f}/s",
            f"{statistics.median(costs['ours']):.2f} us CPU a beat",
        ),
        ("ratio", f"{ratio:.2f}", "goal: 1.0 or more"),
    )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        {"bare": read_bare, "ours": read_with_healer}[sys.argv[1]](*map(int, sys.argv[2:]))
    else:
        main()
