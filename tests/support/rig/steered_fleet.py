"""A fleet with users and passwords and an outage, and a client of its board with a token."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import redis

from support.rig import HOST, PLAIN, Proc, free_port
from support.rig.receiver import Receiver
from support.rig.shell import Shell
from support.waiting import until

BEATS = {"interval_sec": 0.5, "timeout_sec": 3}
TRUTH = {
    "fleet": "testing",
    "services": {
        **{svc: {"heartbeat": BEATS} for svc in ("healer", "notifier")},
        "board": {
            "heartbeat": BEATS,
            "settings": {"seed": True, "public": {"title": "Example Ltd", "services": ["backup"]}},
        },
        "backup": {"heartbeat": BEATS},
    },
}
REFUSALS = ("errorstat_NOPERM", "errorstat_NOAUTH", "errorstat_WRONGPASS")


class SteeredFleet:
    """A fleet with users and passwords, its shell, and a client of its board."""

    def __init__(self, folder: Path, receiver: Receiver, truth: Any) -> None:
        self.receiver, webhook = receiver, receiver.url
        self.folder, self.shell, port = folder, Shell(folder), free_port()
        self.port, self.headers = free_port(), dict[str, str]()
        self.shell.write(truth)
        # a message about `backup` must not wait because a test before had one
        env = {"WEBHOOK_URL": webhook, "BOARD_PORT": str(self.port), "RATE_LIMIT_SEC": "0"}
        self.up = Proc("marketswarm", env, folder, "up", "--acl", "--port", str(port))
        self.up.wait_log("fleet.up", 60)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return httpx.request(
            method, f"{self.url}/api/v1{path}", json=body, headers=self.headers, timeout=15, verify=PLAIN
        )

    def make_token(self) -> None:
        """Give its client a new token, which is called deploy: one alone writes only so often."""
        token = self.shell.said("token", "create", "deploy", "--scope", "write", "--by", "kim").strip()
        self.headers = {"Authorization": f"Bearer {token}"}

    def state(self, svc: str) -> str | None:
        with contextlib.suppress(httpx.HTTPError):
            answer = self.ask("GET", f"/services/{svc}")
            return answer.json()["state"] if answer.status_code == 200 else None
        return None

    def operator(self) -> contextlib.closing[Any]:
        return self.connect("operator")

    def connect(self, user: str) -> contextlib.closing[Any]:
        url = (self.folder / f".marketswarm/urls/{user}/system-redis").read_text(encoding="utf-8").strip()
        return contextlib.closing(redis.Redis.from_url(url, decode_responses=True, protocol=2))

    def refused(self) -> dict[str, Any]:
        """Return what the server counted of the commands that it refused to its users."""
        with self.operator() as client:
            return {name: count for name, count in client.info("errorstats").items() if name in REFUSALS}

    def logs(self) -> str:
        """Return all that the parts of the fleet logged."""
        logs = (self.folder / ".marketswarm/logs").glob("*.log")
        return "".join(log.read_text(encoding="utf-8") for log in logs)


@contextlib.contextmanager
def run_steered_fleet(folder: Path, truth: Any = TRUTH) -> Iterator[SteeredFleet]:
    """Run a fleet in which `backup` is down; its client has a token called deploy."""
    with Receiver() as receiver:
        steered = SteeredFleet(folder, receiver, truth)
        try:
            receiver.wait("heartbeat_miss", "backup", 30)  # nothing beats for it
            until(lambda: steered.state("backup") == "down", what="an outage that the board shows")
            steered.make_token()
            yield steered
        finally:
            steered.up.stop(15)
