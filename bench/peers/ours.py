"""MarketSwarm with a board that takes pings, a healer and a notifier."""

import contextlib
from collections.abc import Iterator
from typing import Final

import orjson

from bench.notify import Receiver
from bench.peers.peer import SERVICES, TIMEOUT_SEC, Peer
from bench.pings import prepare_bus, takes_pings
from bench.programs import run_program, wait_until
from bench.server import find_free_port, start_buses, wait_for_port

DIFFERENCE: Final = (
    "each ping is written to Redis before it is acknowledged; the webhook groups what comes at once"
)
PROGRAMS: Final[tuple[str, ...]] = ()


def find_names(document: bytes) -> list[str]:
    """Return the services that a webhook says are missed, but for those that were never pinged before."""
    events = orjson.loads(document)["data"]["events"]
    missed = (event for event in events if event["type"] == "heartbeat_miss")
    return [event["svc"] for event in missed if event["reason"] != "never_seen"]


@contextlib.contextmanager
def run_peer(receiver: Receiver) -> Iterator[Peer]:
    names, port = [f"svc{n}" for n in range(SERVICES)], find_free_port()
    beat = {"heartbeat": {"interval_sec": TIMEOUT_SEC / 3, "timeout_sec": TIMEOUT_SEC}}
    notifier = {"settings": {"group_wait_sec": 0, "rate_limit_sec": 0}}
    services = {"healer": {}, "board": {}, "notifier": notifier, **dict.fromkeys(names, beat)}
    with start_buses(services) as buses:
        secret = prepare_bus(buses[0].url)
        with (
            run_program("healer", buses) as healer,
            run_program("services.board", buses, BOARD_PORT=str(port)) as board,
            run_program("notifier", buses, WEBHOOK_URL=receiver.url) as alerts,
        ):
            wait_for_port(port)
            paths = [f"/ping/{secret}/{name}" for name in names]
            wait_until(lambda: takes_pings(port, paths[:1]), "the board to take pings", 0.5)
            pids = [healer.pid, board.pid, alerts.pid, *(bus.process.pid for bus in buses)]
            yield Peer(port, paths, names, pids)
