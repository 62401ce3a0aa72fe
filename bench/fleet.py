"""Start a healer for a roster of any size, and a process that sends beats for all of its services."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hiredis
import orjson
import redis

from bench.server import Server, connect, pack_publish, send_commands, wait_until
from marketswarm.beat import encode_beat

ROOT = Path(__file__).parent.parent


def name_services(services: int) -> list[str]:
    return [f"svc{n:06d}" for n in range(services)]


def build_truth(services: int, interval_sec: float, timeout_sec: float) -> bytes:
    beats = {"interval_sec": interval_sec, "timeout_sec": timeout_sec}
    sections: dict[str, Any] = {svc: {"heartbeat": beats} for svc in name_services(services)}
    # the healer's own timeout limits its watchdog, because a start with many services takes seconds on a busy
    # machine
    sections["healer"] = {
        "heartbeat": {"interval_sec": 10, "timeout_sec": 60},
        "threshold": {"heartbeat_cadence": timeout_sec},
    }
    return orjson.dumps({"services": sections})


def run_healer(
    system: Server, market: Server, **settings: str
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return run_program("healer", system, market, **settings)


@contextmanager
def run_program(
    module: str, system: Server, market: Server, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m <module>` while the block runs, on these two buses and with these variables.

    Its log is printed to stderr if its exit code is not 0.
    """
    env = os.environ | {
        "SYSTEM_REDIS_URL": system.url,
        "MARKET_REDIS_URL": market.url,
        "LOG_LEVEL": "WARNING",
        **settings,
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-m", module], env=env, cwd=ROOT, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            if process.wait(15):
                log.seek(0)
                sys.stderr.write(log.read().decode()[-4000:])


def write_truth(servers: list[Server], document: bytes) -> None:
    """Write a truth to each server as revision 1, without bootstrap."""
    for server in servers:
        with redis.Redis(port=server.port) as client:
            client.set("truth:doc", document)
            client.hset("truth:meta", mapping={"revision": 1, "sha256": "bench"})


def wait_for_subscription(server: Server, channel: str, within_sec: float = 60.0) -> float:
    """Return when a client subscribed to the channel, in monotonic seconds."""
    with redis.Redis(port=server.port) as client:
        wait_until(lambda: client.pubsub_numsub(channel)[0][1], f"a subscription to {channel}", within_sec)
        return time.monotonic()


def wait_until_up(client: "redis.Redis", services: int) -> None:
    wait_until(lambda: client.hlen("healer:roster") >= services, "every service to be up", 120.0, 0.1)


def wait_until_settled(client: "redis.Redis", services: int, steady_sec: float) -> None:
    """Wait until the healer has a verdict for `services` services, and `steady_sec` seconds more.

    What the start costs (roster, health keys, first parses) is over then, and is not measured.
    """
    wait_until_up(client, services)
    time.sleep(steady_sec)


class Beater:
    """A process that sends a beat of every service once an interval, evenly spread, until `stop`.

    `last` holds the time of each service's last beat, in monotonic seconds.
    """

    def __init__(self, port: int, services: int, interval_sec: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._commands, commands = context.Pipe()
        self.last: Any = context.Array("d", services, lock=False)
        self._process = context.Process(
            target=_send_beats,
            args=(port, (services, interval_sec), commands, self.last),
            daemon=True,
        )
        self._process.start()
        commands.close()

    def stop(self, first: int | None = None) -> list[float]:
        """Stop the beats of the first `first` services, or end the process for None.

        An ended process stays ended; a further call only returns the times.

        Returns:
            The time of each service's last beat, in monotonic seconds.

        Raises:
            RuntimeError: the process did not acknowledge that within 10 seconds.
        """
        if self._commands.closed:
            return list(self.last)
        self._commands.send(first)
        if not self._commands.poll(10.0):
            raise RuntimeError("the process that beats does not answer")
        self._commands.recv()
        if first is None:
            self._process.join(10)
            self._commands.close()
        return list(self.last)


def _send_beats(
    port: int, fleet: tuple[int, float], commands: "Connection[int | None, int | None]", last: Any
) -> None:
    """Send beats until the command None arrives; this is the main function of the `Beater`'s process.

    Args:
        fleet: the number of services, and the seconds between two beats of one.
        commands: receives how many services, from the first, send no more beats, or None for the end; each
            command is sent back once it is in force.
    """
    services, interval_sec = fleet
    sock = connect(port)
    reader = hiredis.Reader()
    svcs = name_services(services)
    step = max(1, round(services * 0.01 / interval_sec))
    started, n, stopped = time.monotonic(), 0, 0
    while True:
        if commands.poll(max(0.0, started + n * interval_sec / services - time.monotonic())):
            command = commands.recv()
            commands.send(command)
            if command is None:
                return
            stopped = command
            continue
        packed = []
        end = n + step
        now, wall = time.monotonic(), time.time()
        for k in range(n, end):
            if k % services < stopped:
                continue
            svc = svcs[k % services]
            payload = encode_beat(
                svc, k // services + 1, wall, boot="b00700b007aa", rev=1, every=interval_sec
            )
            packed.append(pack_publish(f"{svc}:heartbeat", payload))
            last[k % services] = now
        if packed:
            send_commands(sock, reader, packed)
        n = end
