"""Provide a real Redis, commands that are packed by hand, and ports."""

import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

import hiredis
import orjson
import redis

from bench.programs import wait_until
from marketswarm.bus.scripts import load_all_scripts
from marketswarm.fleet.server import find_binary

BEATS: Final = {"interval_sec": 10, "timeout_sec": 60}


class Server:
    """A real server on a private port, without persistence and without a limit on a subscriber's buffer.

    `clients` is how many connections it takes.
    """

    def __init__(self, clients: int = 10_000) -> None:
        self._clients = clients
        self.port = find_free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="marketswarm-bench-")

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [
                str(find_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--dir", self._folder.name, "--client-output-buffer-limit", "pubsub 0 0 0",
                "--maxclients", str(self._clients),
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for_port(self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._folder.cleanup()


@contextmanager
def start_buses(services: Mapping[str, Any]) -> Iterator[tuple[Server, Server]]:
    """Start the two buses, system and market, and seed both with a truth, revision 1, and our functions.

    A section of `services` without a heartbeat gets BEATS.
    """
    document = orjson.dumps(
        {"services": {svc: {"heartbeat": BEATS, **each} for svc, each in services.items()}}
    )
    with Server() as system, Server() as market:
        scripts = load_all_scripts().values()
        for server in (system, market):
            with redis.Redis(port=server.port) as client:
                for script in scripts:  # as bootstrap does
                    client.function_load(f"#!lua name={script.function}\n{script.library}")
                client.set("truth:doc", document)
                client.hset("truth:meta", mapping={"revision": 1, "sha256": "bench"})
        yield system, market


def find_free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for_port(port: int) -> None:
    wait_until(lambda: is_open(port), f"a server on port {port}")


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def pack_command(*words: str | bytes) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its types know one argument
    return packed


def send_commands(sock: socket.socket, reader: hiredis.Reader, packed: Sequence[bytes]) -> list[Any]:
    """Send all commands at once, and return their replies. Raise the first reply that is an error."""
    sock.sendall(b"".join(packed))
    replies: list[Any] = []
    while len(replies) < len(packed):
        reply = reader.gets()
        if reply is False:
            reader.feed(sock.recv(1 << 16))
        elif isinstance(reply, Exception):
            raise reply
        else:
            replies.append(reply)
    return replies
