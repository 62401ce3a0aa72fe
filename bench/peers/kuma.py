"""Uptime Kuma with SQLite, as its installation without Docker runs it.

UPTIME_KUMA_FOLDER names a checkout with its packages in `node_modules`.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.notify import Receiver
from bench.peers.peer import SERVICES, SLOW_TIMEOUT_SEC, Peer
from bench.peers.prometheus import run_command
from bench.server import find_free_port, wait_for_port

PROGRAMS: Final = ("node", "$UPTIME_KUMA_FOLDER/node_modules/.bin/knex")
DIFFERENCE: Final = (
    f"times out after {SLOW_TIMEOUT_SEC:g} s, and a second of its own that counts as delay. Sends a webhook "
    "for each. A ping is rows of a file that is not synced each time. It refuses some if a monitor is pinged "
    "twice at once, which the client does not do"
)
SETUP: Final = """
const { io } = require("socket.io-client");
const [port, url, count, interval] = process.argv.slice(1);
const socket = io(`http://127.0.0.1:${port}`, { transports: ["websocket"] });
const ask = (...words) => new Promise((done, fail) =>
    socket.emit(...words, (answer) => (answer.ok ? done(answer) : fail(new Error(answer.msg)))));
socket.once("setup", async () => {
    const password = "Bench-" + Math.random();
    await ask("setup", "bench", password);
    await ask("login", { username: "bench", password });
    const hook = { name: "hook", type: "webhook", webhookContentType: "json", webhookURL: url };
    const { id } = await ask("addNotification", hook, null);
    for (let n = 0; n < count; n++) {
        await ask("add", {
            type: "push", name: `svc${n}`, pushToken: `svc${n}`, interval: +interval,
            retryInterval: +interval, maxretries: 0, accepted_statuscodes: [], conditions: [],
            notificationIDList: { [id]: true },
        });
    }
    process.exit(0);
});
"""
"""It makes an account and the monitors as the page does, as soon as the server asks for an account."""


def find_names(document: bytes) -> list[str]:
    """Return the monitor that a webhook says is down."""
    told = json.loads(document)
    return [told["monitor"]["name"]] if told["heartbeat"]["status"] == 0 else []


@contextlib.contextmanager
def run_peer(receiver: Receiver) -> Iterator[Peer]:
    names, port = [f"svc{n}" for n in range(SERVICES)], find_free_port()
    folder = Path(os.environ["UPTIME_KUMA_FOLDER"]).absolute()
    with tempfile.TemporaryDirectory(prefix="marketswarm-bench-") as data:
        env = os.environ | {
            "DATA_DIR": f"{data}/",
            "UPTIME_KUMA_DB_TYPE": "sqlite",
            "UPTIME_KUMA_HOST": "127.0.0.1",
            "UPTIME_KUMA_PORT": str(port),
            "https_proxy": "http://127.0.0.1:9",  # it must not ask for a newer version
        }
        with run_command(["node", "server/server.js"], folder, env) as pid:
            wait_for_port(port)
            words = [str(port), receiver.url, str(SERVICES), f"{SLOW_TIMEOUT_SEC:g}"]
            subprocess.run(["node", "-e", SETUP, *words], cwd=folder, check=True, timeout=300)
            yield Peer(port, [f"/api/push/{name}" for name in names], names, [pid], SLOW_TIMEOUT_SEC)
