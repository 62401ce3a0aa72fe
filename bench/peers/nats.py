"""NATS JetStream: a key-value bucket whose keys end after a time, and a watcher that lists them.

    python -m bench.peers.nats users PORT SECONDS CLIENTS EVERY_SEC KEY [KEY …]
    python -m bench.peers.nats watch PORT URL

NATS has no HTTP, so the client is one of its own, which does what `bench.load` does. Nor does the server say
that a key has ended. So somebody has to write and run the watcher.
"""

import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import httpx

from bench.notify import Receiver
from bench.peers.peer import SERVICES, TIMEOUT_SEC, Peer
from bench.peers.prometheus import run_command
from bench.programs import ROOT
from bench.server import find_free_port, wait_for_port

PROGRAMS: Final = ("nats-server",)
DIFFERENCE: Final = (
    "is pinged by its own protocol, and not by HTTP. A ping is a key in a file that is not synced each time. "
    "Sends no alerts: a watcher of ours lists the keys four times a second, and posts those that ended"
)
STREAM: Final = "KV_beats"
LOOK_SEC: Final = 0.25


class Client:
    """One connection, on which one request is under way at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._inbox = f"_INBOX.{random.getrandbits(64):x}"
        writer.write(f'CONNECT {{"verbose":false}}\r\nSUB {self._inbox} 1\r\n'.encode())

    @classmethod
    async def connect(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, subject: str, payload: bytes) -> dict[str, Any]:
        """Publish a message, and return the answer. Raises RuntimeError if it is an error, or none comes."""
        self._writer.write(f"PUB {subject} {self._inbox} {len(payload)}\r\n".encode() + payload + b"\r\n")
        while line := await self._reader.readline():
            if line.startswith(b"PING"):
                self._writer.write(b"PONG\r\n")
            elif line.startswith(b"MSG "):
                body = await self._reader.readexactly(int(line.split()[-1]) + 2)
                answer: dict[str, Any] = json.loads(body)
                if "error" in answer:
                    raise RuntimeError(str(answer["error"]))
                return answer
            elif line.startswith(b"-ERR"):
                raise RuntimeError(line.decode())
        raise RuntimeError("the server closed the connection")


async def make_bucket(port: int) -> None:
    """Make a bucket as the client libraries do: a stream that keeps the last message of each key."""
    settings = {
        "name": STREAM,
        "subjects": ["$KV.beats.>"],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_age": round(TIMEOUT_SEC * 1e9),
        "duplicate_window": round(TIMEOUT_SEC * 1e9),
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
    }
    client = await Client.connect(port)
    await client.ask(f"$JS.API.STREAM.CREATE.{STREAM}", json.dumps(settings).encode())


async def run_users(port: int, seconds: float, clients: int, keys: Sequence[str]) -> dict[str, Any]:
    """Put keys as fast as they are acknowledged; return the rate, and when the last one was."""
    count, last_at = 0, 0.0
    users = [await Client.connect(port) for _ in range(clients)]
    over = time.perf_counter() + seconds

    async def use(number: int, user: Client) -> None:
        nonlocal count, last_at
        chance, own = random.Random(number), keys[number::clients]
        while time.perf_counter() < over:
            await user.ask(chance.choice(own), b"{}")
            count, last_at = count + 1, time.monotonic()

    await asyncio.gather(*(use(number, user) for number, user in enumerate(users)))
    return {"statuses": {"200": count}, "rate": count / seconds, "last_at": last_at}


async def watch(port: int, url: str) -> None:
    """Post the keys that were there at the look before, and are not any more."""
    client, known, http = await Client.connect(port), set[str](), httpx.AsyncClient(trust_env=False)
    while True:
        info = await client.ask(f"$JS.API.STREAM.INFO.{STREAM}", b'{"subjects_filter":">"}')
        present = set(info["state"].get("subjects") or ())
        if gone := sorted(known - present):
            body = json.dumps({"gone": [key.removeprefix("$KV.beats.") for key in gone]}).encode()
            await http.post(url, content=body)
        known = present
        await asyncio.sleep(LOOK_SEC)


def find_names(document: bytes) -> list[str]:
    """Return the keys that the watcher says are gone."""
    names: list[str] = json.loads(document)["gone"]
    return names


@contextlib.contextmanager
def run_peer(receiver: Receiver) -> Iterator[Peer]:
    names, port = [f"svc{n}" for n in range(SERVICES)], find_free_port()
    with tempfile.TemporaryDirectory(prefix="marketswarm-bench-") as name, contextlib.ExitStack() as ends:
        command = ["nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", name]
        server = ends.enter_context(run_command(command, Path(name)))
        wait_for_port(port)
        asyncio.run(make_bucket(port))
        watcher = [sys.executable, "-m", "bench.peers.nats", "watch", str(port), receiver.url]
        pids = [server, ends.enter_context(run_command(watcher, ROOT))]
        yield Peer(port, [f"$KV.beats.{each}" for each in names], names, pids, load="bench.peers.nats")


if __name__ == "__main__":
    what, at, *words = sys.argv[1:]
    if what == "watch":
        asyncio.run(watch(int(at), words[0]))
    else:
        print(json.dumps(asyncio.run(run_users(int(at), float(words[0]), int(words[1]), words[3:]))))
