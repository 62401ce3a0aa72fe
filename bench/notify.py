"""Measure the notifier: the time from the log to the receiver, a backlog, and the cost of idling.

The server and the notifier are real, and a real HTTP receiver runs in this process. Linux only: reads /proc.
"""

import contextlib
import statistics
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import orjson
import redis

from bench.fleet import run_program, write_truth
from bench.footprint import cpu_sec, rss_mb
from bench.server import Server, print_table, wait_until
from marketswarm.event import Event, Kind, encode_event, make_event_id

LOG: Final = "healer:alerts:log"
ALERTS: Final = 1000
BACKLOG: Final = 10_000
IDLE_SEC: Final = 20.0


class Receiver:
    """An HTTP server that answers 200 to every request.

    `arrivals` holds when each event arrived, in monotonic seconds by its id; `messages` counts the requests.
    """

    def __init__(self) -> None:
        self.arrivals: dict[str, float] = {}
        self.messages = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            """Records the events of a request, and answers 200."""

            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                """Record when each event of the message arrived, and answer 200."""
                body = self.rfile.read(int(self.headers["content-length"]))
                now = time.monotonic()
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()
                receiver.messages += 1
                for event in orjson.loads(body)["data"]["events"]:
                    receiver.arrivals.setdefault(event["id"], now)

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def build_truth(group_wait_sec: float) -> bytes:
    """Return a truth with nothing but a notifier that waits `group_wait_sec` seconds to group events."""
    beats = {"interval_sec": 10, "timeout_sec": 60}
    settings = {"group_wait_sec": group_wait_sec, "rate_limit_sec": 0}
    return orjson.dumps({"services": {"notifier": {"heartbeat": beats, "settings": settings}}})


def make_miss(n: int) -> tuple[str, bytes]:
    """Return the id and the JSON of a miss of the service with the number `n`, at the current time."""
    svc, now = f"svc{n:06d}", time.time()
    ident = make_event_id(Kind.HEARTBEAT_MISS, svc, now)
    event = Event(
        Kind.HEARTBEAT_MISS, svc, now, ident, "healer", late_sec=30.01, timeout_sec=30.0, reason="silent"
    )
    return ident, encode_event(event)


def wait_for_events(receiver: Receiver, ids: set[str], within_sec: float) -> None:
    """Wait until the receiver has all events of `ids`. Raise RuntimeError after `within_sec` seconds."""
    wait_until(lambda: ids <= receiver.arrivals.keys(), f"{len(ids)} messages", within_sec, 0.002)


def measure_one_by_one(client: redis.Redis, receiver: Receiver, alerts: int) -> list[float]:
    """Add the alerts to the log one after the other; return the seconds until each was received."""
    took = []
    for n in range(alerts):
        ident, raw = make_miss(n)
        begun = time.monotonic()
        client.xadd(LOG, {"event": raw})
        wait_for_events(receiver, {ident}, 10)
        took.append(receiver.arrivals[ident] - begun)
        time.sleep(0.005)
    return took


def measure_backlog(client: redis.Redis, receiver: Receiver, first: int, events: int) -> tuple[float, int]:
    """Add `events` events to the log at once; return the seconds until all were received, and the messages.

    `first` is the number of the first service.
    """
    found = dict(make_miss(first + n) for n in range(events))
    before = receiver.messages
    pipe = client.pipeline(transaction=True)
    for raw in found.values():
        pipe.xadd(LOG, {"event": raw})
    pipe.execute()
    begun = time.monotonic()
    wait_for_events(receiver, set(found), 60)
    return time.monotonic() - begun, receiver.messages - before


def main(alerts: int = ALERTS, events: int = BACKLOG) -> None:
    """Measure idling, single alerts and a backlog."""
    with (
        Server() as system,
        Server() as market,
        redis.Redis(port=system.port) as client,
        contextlib.closing(Receiver()) as receiver,
    ):
        write_truth([system, market], build_truth(0))
        with run_program("notifier", system, market, WEBHOOK_URL=receiver.url) as process:
            _wait_for_reader(client)
            time.sleep(2)
            began = cpu_sec(process.pid)
            time.sleep(IDLE_SEC)
            idle = (cpu_sec(process.pid) - began) / IDLE_SEC
            memory = rss_mb(process.pid)
            took = sorted(measure_one_by_one(client, receiver, alerts))
        for server in (system, market):
            with redis.Redis(port=server.port) as each:
                each.flushall()
        write_truth([system, market], build_truth(2))
        with run_program("notifier", system, market, WEBHOOK_URL=receiver.url):
            _wait_for_reader(client)
            sec, messages = measure_backlog(client, receiver, alerts, events)
    p99 = took[round(0.99 * alerts) - 1]
    print_table(
        "the notifier",
        (
            f"log to receiver, {alerts} one by one",
            f"median {1000 * statistics.median(took):.1f} ms, p99 {1000 * p99:.1f} ms",
            "goal: p99 50 ms",
        ),
        (f"{events:,} events at once", f"{sec:.1f} s, {messages} messages", "goal: 5 s, few"),
        ("idle", f"{memory:.0f} MB, {100 * idle:.2f} % of a core", "goal: 40 MB, 0.3 %"),
    )


def _wait_for_reader(client: redis.Redis) -> None:
    """Wait until the notifier reads the alert log. Raise RuntimeError after 30 s."""
    by = time.monotonic() + 30
    while True:
        with contextlib.suppress(redis.ResponseError):
            if client.xinfo_consumers(LOG, "notifier"):
                return
        if time.monotonic() > by:
            raise RuntimeError("nobody reads the log")
        time.sleep(0.05)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
