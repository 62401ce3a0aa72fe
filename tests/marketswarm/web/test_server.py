import asyncio
import errno
import logging
import resource
import socket

import pytest
import uvicorn
from uvicorn.server import ServerState

from marketswarm.exit import Code, Exit
from marketswarm.web import server
from marketswarm.web.server import LOG_LINES, GuardedWebSocket, LogLimiter, open_socket, raise_file_limit
from support.waiting import auntil


class Busy:
    """Stands in for `socket.socket`: nobody can bind."""

    def __init__(self, number):
        self.number, self.closed = number, False

    def __call__(self, *_how):
        return self

    def setsockopt(self, *_how):
        pass

    def bind(self, _address):
        raise OSError(self.number, "no")

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("number", "port", "said"),
    [
        (errno.EADDRINUSE, 8080, "BOARD_PORT: port 8080 on 127.0.0.1 is taken"),
        (errno.EACCES, 80, "BOARD_PORT: this user may not listen on port 80"),
        (errno.EADDRNOTAVAIL, 8080, "BOARD_HOST: this machine can't listen on 127.0.0.1"),
    ],
)
def test_an_address_that_is_not_to_be_had_is_said_with_its_variable(monkeypatch, number, port, said):
    busy = Busy(number)
    monkeypatch.setattr(server.socket, "socket", busy)
    monkeypatch.setattr(
        server.socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]
    )
    with pytest.raises(Exit) as end:
        open_socket("127.0.0.1", port, "BOARD")
    assert end.value.code == Code.CONFIGURATION
    assert said in end.value.message
    assert busy.closed


def test_tls_takes_an_address_and_a_certificate_with_its_key(tmp_path):
    (tmp_path / "empty.pem").touch()
    assert server.open_tls_listener(None, 8080, None, "BOARD") is None
    for host, pem, said in (
        ("127.0.0.1", None, "BOARD_TLS_HOST, BOARD_TLS_PEM: both are needed"),
        (None, tmp_path, "BOARD_TLS_HOST, BOARD_TLS_PEM: both are needed"),
        ("127.0.0.1", tmp_path / "absent.pem", r"BOARD_TLS_PEM: can't be read \(No such file"),
        ("127.0.0.1", tmp_path / "empty.pem", "BOARD_TLS_PEM: not a certificate with its key"),
    ):
        with pytest.raises(Exit, match=said) as end:
            server.open_tls_listener(host, 8080, pem, "BOARD")
        assert end.value.code == Code.CONFIGURATION


@pytest.fixture
def few_files():
    """This process may open few files, and more if it asks for them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_as_many_files_may_be_open_as_there_may_be_connections(few_files):
    raise_file_limit(700)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (700, few_files)
    raise_file_limit(600)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 700, "it is not lowered"
    raise_file_limit(few_files + 1 if few_files > 0 else 800)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] in (few_files, 800), "no more than the system allows"


class Transport(asyncio.Transport):
    """A transport that takes all that is written, and says whether its client is read."""

    def __init__(self):
        super().__init__()
        self.is_read, self.written = True, b""

    def write(self, data):
        self.written += data

    def pause_reading(self):
        self.is_read = False

    def resume_reading(self):
        self.is_read = True

    def is_closing(self):
        return False

    def abort(self):
        pass


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MESSAGE = b"\x81\x81\0\0\0\0a"


async def test_a_websocket_is_not_read_while_its_client_reads_nothing():
    taken, take = [], asyncio.Event()

    async def app(_scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await take.wait()
        taken.append(await receive())
        await asyncio.Event().wait()

    config = uvicorn.Config(app, ws=GuardedWebSocket, log_config=None)
    config.load()
    state = ServerState()
    ws, transport = GuardedWebSocket(config, state, {}), Transport()
    ws.connection_made(transport)
    ws.data_received(HANDSHAKE)
    await auntil(lambda: transport.written.startswith(b"HTTP/1.1 101"))
    ws.pause_writing()
    assert not transport.is_read, "each ping would be answered, and the answers kept"
    ws.resume_writing()
    assert transport.is_read
    ws.data_received(MESSAGE)
    assert not transport.is_read, "uvicorn reads no further message before this one is taken"
    ws.pause_writing()
    ws.resume_writing()
    assert not transport.is_read, "it still does not"
    ws.pause_writing()
    take.set()
    await auntil(lambda: taken)
    assert not transport.is_read, "the message was taken, and the client still reads nothing"
    ws.resume_writing()
    assert transport.is_read
    ws.connection_lost(OSError())
    for task in state.tasks:
        task.cancel()
    await asyncio.gather(*state.tasks, return_exceptions=True)


def test_strangers_do_not_fill_the_log_with_requests_that_are_none(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(server.time, "monotonic", lambda: now)
    limiter = LogLimiter()

    def log(message, *args):
        record = logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, message, args, None)
        return record.getMessage() if limiter.filter(record) else None

    assert [log("Invalid HTTP request received.") for _ in range(200)].count(None) == 200 - LOG_LINES
    assert log("returned '%s'", 5) == "returned '5'", "each message has lines of its own"
    now += 60.0
    assert log("Invalid HTTP request received.") == (
        f"Invalid HTTP request received. ({200 - LOG_LINES} more before this one)"
    )
    assert log("Invalid HTTP request received.") is None
