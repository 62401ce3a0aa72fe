"""Provide what all benches use: a real server, functions that send commands to it, and a table."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import hiredis
from rich.console import Console
from rich.table import Table

from marketswarm.beat import encode_beat
from marketswarm.fleet.server import find_binary


def find_free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Server:
    """A real server on a private port, without persistence and without a limit on a subscriber's buffer."""

    def __init__(self) -> None:
        self.port = find_free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="marketswarm-bench-")

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [
                str(find_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--dir", self._folder.name, "--client-output-buffer-limit", "pubsub 0 0 0",
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        raise RuntimeError("the server did not start")

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._folder.cleanup()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def pack_publish(channel: str, payload: bytes) -> bytes:
    packed: bytes = hiredis.pack_command(("PUBLISH", channel, payload))  # type: ignore[arg-type]  # its types know one argument
    return packed


def send_commands(sock: socket.socket, reader: hiredis.Reader, packed: Sequence[bytes]) -> None:
    """Send all commands at once, and wait for their replies, which are not checked."""
    sock.sendall(b"".join(packed))
    replies = 0
    while replies < len(packed):
        reader.feed(sock.recv(1 << 16))
        while reader.gets() is not False:
            replies += 1


def publish_beats(port: int, services: Sequence[str], beats: int, *, first: int = 1) -> None:
    """Publish `beats` beats of the services in turn, in our agents' format, and wait for all replies.

    `first` is the `i` of each service's first beat.
    """
    reader = hiredis.Reader()
    started = time.time()
    with connect(port) as sock:
        for start in range(0, beats, 2000):
            packed = []
            for n in range(start, min(start + 2000, beats)):
                svc, i = services[n % len(services)], n // len(services) + first
                payload = encode_beat(svc, i, started + 10 * i, boot="b00700b007aa", rev=3, every=10.0)
                packed.append(pack_publish(f"{svc}:heartbeat", payload))
            send_commands(sock, reader, packed)


def wait_until(
    done: Callable[[], object], what: str, within_sec: float = 60.0, every_sec: float = 0.01
) -> None:
    """Wait until `done` returns a true value; check that every `every_sec` seconds.

    The wait is not measured, or no more exactly than `every_sec`. Raises RuntimeError if `what` was not done
    within `within_sec` seconds, so there is nothing to measure.
    """
    by = time.monotonic() + within_sec
    while not done():
        if time.monotonic() > by:
            raise RuntimeError(f"not within {within_sec:g} s: {what}")
        time.sleep(every_sec)


def print_table(title: str, *rows: tuple[str, ...]) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for row in rows:
        table.add_row(*row)
    Console(width=None if os.isatty(1) else 110).print(table)
