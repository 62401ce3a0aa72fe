"""The light way to a bus bears whoever answers there."""

import socket
import threading
import time
from contextlib import suppress
from typing import Self

import pytest

from marketswarm.cli.post import Post
from marketswarm.cli.wire import AwayError, Wire
from support.rig import Server


class Answers:
    """A server that says the same whatever it is asked, for as long as somebody listens."""

    def __init__(self, said: bytes, *, pause_sec: float | None = None) -> None:
        self._said, self._pause_sec = said, pause_sec
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(0.2)
        with connection, suppress(ConnectionError):
            while not self._over.is_set():
                with suppress(TimeoutError):
                    if not connection.recv(65_536):
                        return
                if self._pause_sec is None:
                    connection.sendall(self._said)
                for byte in self._said if self._pause_sec is not None else b"":
                    connection.sendall(bytes([byte]))
                    self._over.wait(self._pause_sec)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


GARBAGE = {
    "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "numbers": b":7\r\n" * 9,
    "nothing": b"$-1\r\n" * 9,
    "no list": b"*-1\r\n" * 9,
    "lists of lists": b"*1\r\n*1\r\n*1\r\n:1\r\n" * 9,
    "a list without end": b"*1000000000\r\n",
    "a list in a list": b"*1\r\n*1000000000\r\n",
    "a text without end": b"$9999999999\r\n",
    "errors": b"-ERR no\r\n" * 9,
    "deep": b"*1\r\n" * 5000,
    "a truth that is none": b"$2\r\n[]\r\n" * 9,
}


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_whatever_is_answered_a_beat_arrived_or_the_bus_is_away(tmp_path, monkeypatch, said):
    with Answers(said) as bus:
        monkeypatch.setenv("SYSTEM_REDIS_URL", bus.url)
        monkeypatch.setenv("MARKET_REDIS_URL", bus.url)
        post = Post("mesh", tmp_path)
        begun = time.monotonic()
        post.look()
        with suppress(AwayError):
            assert post.beat() >= 0
        assert time.monotonic() - begun < 6
        assert not post.to.named
        post.reconnect()


def test_a_server_that_drips_is_given_up_in_time():
    with Answers(b"$100000\r\n" + b"x" * 100_000, pause_sec=0.05) as bus:
        begun = time.monotonic()
        wire = Wire(bus.url)
        with pytest.raises(AwayError, match="timeout"):
            wire.ask(("GET", "truth:doc"), within_sec=0.5)
        assert time.monotonic() - begun < 5


@pytest.mark.live
def test_words_of_any_kind_arrive_as_they_are_and_a_lost_connection_is_made_anew(tmp_path):
    with Server(tmp_path / "bus") as server:
        wire = Wire(server.url + "/3")
        value = bytes(range(256)) * 5000
        assert wire.ask(("SET", "ä", value), ("GET", "ä"), ("PTTL", "ä")) == [b"OK", value, -1]
        assert server.cmd("EXISTS", "ä") == 0  # it is in the third
        server.restart()
        with pytest.raises(AwayError):
            wire.ask(("PING",))
        assert wire.ask(("PING",)) == [b"PONG"]
        with pytest.raises(AwayError, match="WRONGTYPE"):
            wire.ask(("LPUSH", "ä", "x"))
        wire.close()
        with pytest.raises(AwayError, match="auth"):
            Wire(server.url.replace("//", "//who:hunter%2F2@")).ask(("PING",))
        server.cmd("ACL", "SETUSER", "who", "on", ">hunter/2", "+ping")
        good = Wire(server.url.replace("//", "//who:hunter%2F2@"))
        assert good.ask(("PING",)) == [b"PONG"]
        good.close()
