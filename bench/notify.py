"""Measure the notifier: the time from the log to the receiver, and what events of a backlog cost.

The server and the notifier are real, and a real HTTP receiver runs in this process. The limit is a bare loop
that reads the same log by a group of its own, and sends each entry to the same receiver.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import orjson
import redis

from bench.figures import Pair, Sample, percentile
from bench.limits import WITHOUT_END
from bench.programs import Usage, Worker, run_program, wait_until
from bench.server import start_buses
from marketswarm.event import Event, Kind, encode_event, make_event_id

LOG: Final = "healer:alerts:log"
ALERTS: Final = 500
BACKLOG: Final = 10_000


def find_ids(document: bytes) -> list[str]:
    return [event["id"] for event in orjson.loads(document)["data"]["events"]]


class Receiver:
    """An HTTP server that answers 200 to every request.

    `arrivals` holds when what `find_names` finds in a body arrived first, in monotonic seconds.
    """

    def __init__(self, find_names: Callable[[bytes], Iterable[str]]) -> None:
        self.arrivals: dict[str, float] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            """Records what a request names, and answers 200."""

            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                """Record when the message arrived, and answer 200."""
                body = self.rfile.read(int(self.headers["content-length"]))
                now = time.monotonic()
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()
                for name in find_names(body):
                    receiver.arrivals.setdefault(name, now)

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def make_miss(n: int) -> tuple[str, bytes]:
    """Return the id and the JSON of a miss of the service with the number `n`, at the current time."""
    svc, now = f"svc{n:06d}", time.time()
    ident = make_event_id(Kind.HEARTBEAT_MISS, svc, now)
    event = Event(
        Kind.HEARTBEAT_MISS, svc, now, ident, "healer", late_sec=30.01, timeout_sec=30.0, reason="silent"
    )
    return ident, encode_event(event)


@contextlib.contextmanager
def run_notifier(receiver: Receiver, group_wait_sec: float) -> Iterator[tuple[Any, int, int]]:
    """Run a notifier that reads the log; yield a client and the port of its bus, and its process id."""
    settings = {"group_wait_sec": group_wait_sec, "rate_limit_sec": 0}
    with (
        start_buses({"notifier": {"settings": settings}}) as buses,
        redis.Redis(port=buses[0].port) as client,
        run_program("notifier", buses, WEBHOOK_URL=receiver.url) as process,
    ):
        wait_until(lambda: is_read(client), "a reader of the log")
        time.sleep(1)  # it has done what it does at its start
        yield client, buses[0].port, process.pid


def is_read(client: Any) -> bool:
    with contextlib.suppress(redis.ResponseError):
        return bool(client.xinfo_consumers(LOG, "notifier"))
    return False


def send_one_by_one(client: Any, receiver: Receiver, stream: str, alerts: int) -> list[float]:
    """Add alerts to a stream one after the other; return the milliseconds until each was received."""
    took = []
    for n in range(alerts):
        ident, raw = make_miss(n)
        begun = time.monotonic()
        client.xadd(stream, {"event": raw})
        wait_until(lambda: ident in receiver.arrivals, "a message", 0.001)  # noqa: B023 - called here
        took.append(1000 * (receiver.arrivals[ident] - begun))
        time.sleep(0.005)
    return took


def add_backlog(client: Any, stream: str, events: int) -> set[str]:
    found = dict(make_miss(n) for n in range(events))
    pipe = client.pipeline(transaction=True)
    for raw in found.values():
        pipe.xadd(stream, {"event": raw})
    pipe.execute()
    return set(found)


def measure(scale: float) -> Sample:
    alerts, events = round(ALERTS * scale), round(BACKLOG * scale)
    with contextlib.closing(Receiver(find_ids)) as receiver:
        with run_notifier(receiver, 0.0) as (client, port, _):
            ours = send_one_by_one(client, receiver, LOG, alerts)
            with Worker("bench.limits", "deliverer", port, "bare:log", receiver.port) as bare:
                bare.read()
                add_backlog(client, "bare:log", events)
                bare_sec = bare.ask(events)
                bare.send(WITHOUT_END)
                theirs = send_one_by_one(client, receiver, "bare:log", alerts)
        with run_notifier(receiver, 2.0) as (client, _, pid):
            usage, ids = Usage(pid), add_backlog(client, LOG, events)
            wait_until(lambda: ids <= receiver.arrivals.keys(), "the backlog")
            sec, used = usage.sec(), usage.cpu_sec()
    return {
        "late": Pair(percentile(ours, 0.5), percentile(theirs, 0.5)),
        "p99": Pair(percentile(ours, 0.99), percentile(theirs, 0.99)),
        "backlog": Pair(1e6 * used / events, 1e6 * bare_sec / events),
        "backlog_sec": Pair(sec, 2.0),
    }
