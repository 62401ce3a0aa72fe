"""A real fleet with a board: two buses, a healer, a board, and two services that beat at a hand's bidding."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from support.rig import PLAIN, Fleet, free_port
from support.rig.beater import Beater
from support.rig.event_stream import EventStream
from support.waiting import until

BEATS = {"interval_sec": 0.3, "timeout_sec": 1.5}
TRUTH = {
    "fleet": "testing",
    "services": {
        "healer": {"heartbeat": BEATS},
        "board": {"heartbeat": BEATS, "settings": {"public": {"tags": ["public"]}}},
        "shop": {"heartbeat": BEATS, "tags": ["public"]},
        "web": {"heartbeat": BEATS, "depends_on": ["shop"]},
    },
}


class BoardFleet:
    """The fleet, its board's address, and the beats of its services `shop` and `web`."""

    def __init__(self, fleet: Fleet, port: int) -> None:
        self.fleet, self.port = fleet, port
        self.url = f"http://127.0.0.1:{port}"
        self.brand = fleet.folder / "brand"  # the folder of its logo, which a test makes
        self._is_reseeded = False
        self.beater = Beater({"url": fleet.system.url, "witness": True, **BEATS})

    def get(self, path: str, **how: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=10, verify=PLAIN, **how)

    def state(self, svc: str) -> str | None:
        """The state of a service as the board has it; None while it does not answer."""
        with contextlib.suppress(httpx.HTTPError):
            answer = self.get(f"/api/v1/services/{svc}")
            return answer.json()["state"] if answer.status_code == 200 else None
        return None

    def seed(self, truth: Any) -> None:
        """Seed another truth, until `settle`."""
        self._is_reseeded = True
        self.fleet.seed(truth)

    def settle(self) -> None:
        """Make the fleet what it was at first: its truth, a board that runs, and both services up."""
        if self._is_reseeded:
            self.fleet.seed(TRUTH)
            self._is_reseeded = False
        if "board" not in self.fleet.agents or not self.fleet["board"].running:
            self.fleet.start("board")
        self.beater.restart("shop", "web")
        until(lambda: self.state("shop") == self.state("web") == "up", what="the services to be up")

    def follow(self, last_id: str | None = None) -> EventStream:
        return EventStream(f"{self.url}/api/v1/stream", last_id)


@contextlib.contextmanager
def open_board(folder: Path) -> Iterator[BoardFleet]:
    """Starts it; both services are up on the board."""
    port = free_port()
    env = {"BOARD_PORT": str(port), "BOARD_BRAND_FOLDER": str(folder / "brand")}
    with Fleet(folder, TRUTH, ["healer"], env) as fleet:
        board = BoardFleet(fleet, port)
        try:
            board.settle()
            yield board
        finally:
            board.beater.close()
