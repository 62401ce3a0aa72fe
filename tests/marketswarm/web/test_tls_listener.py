"""The board's TLS listener with real sockets: silent clients do not keep others out."""

import asyncio
import contextlib
import ssl

import httpx
import pytest

from marketswarm.access.certificate import prepare_certificate
from marketswarm.tasks import end_tasks
from marketswarm.web import server, tls_listener
from marketswarm.web.server import open_socket, open_tls_listener, serve

HOST = "127.0.0.1"
pytestmark = [pytest.mark.live, pytest.mark.needs("openssl")]


class Scene:
    """A server with a plain port and one for TLS, which answers every request with 200."""

    def __init__(self, folder):
        certificate = prepare_certificate(folder, HOST)
        self.plain = open_socket(HOST, 0, "BOARD")
        self.tls = open_tls_listener(HOST, 0, certificate.file, "BOARD")
        self.context = ssl.create_default_context(cafile=str(certificate.shared))
        self.port = self.tls.listening.getsockname()[1]
        self.streams = []

    async def __call__(self, scope, _receive, send):
        assert scope["scheme"] == "https"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def connect(self, port=None):
        """Connect, and stay silent; return the reader, which is at its end once the server has closed."""
        reader, writer = await asyncio.open_connection(HOST, port or self.port)
        self.streams.append(writer)
        return reader

    async def ask(self):
        async with httpx.AsyncClient(verify=self.context) as client:
            return (await client.get(f"https://{HOST}:{self.port}/")).status_code

    def close(self):
        for writer in self.streams:
            writer.transport.abort()


@pytest.fixture
async def scene(tmp_path):
    found = Scene(tmp_path)
    serving = asyncio.create_task(serve(found, found.plain, lambda: 0, lambda: None, found.tls))
    yield found
    found.close()
    await end_tasks(serving)


async def is_closed(reader):
    with contextlib.suppress(ConnectionError):
        await reader.read()
    return True


async def test_silent_clients_end_one_another_and_no_honest_one(scene, monkeypatch):
    monkeypatch.setattr(tls_listener, "MAX_HANDSHAKES", 4)
    monkeypatch.setattr(tls_listener, "HANDSHAKE_SEC", 600.0)
    silent = [await scene.connect() for _ in range(20)]
    async with asyncio.timeout(20):
        assert await scene.ask() == 200
        assert all([await is_closed(each) for each in silent[:16]]), "the oldest make room for newer ones"
    assert scene.tls.refused == 17, "one for the honest client"
    assert not any(each.at_eof() for each in silent[17:])
    async with asyncio.timeout(20):
        assert [await scene.ask() for _ in range(6)] == 6 * [200], "a complete handshake makes room again"
    assert scene.tls.refused == 17


async def test_a_silent_client_is_closed_before_long(scene, monkeypatch):
    monkeypatch.setattr(tls_listener, "HANDSHAKE_SEC", 0.05)
    async with asyncio.timeout(20):
        assert await is_closed(await scene.connect())
    assert scene.tls.refused == 0, "this was not for others' sake"


async def test_bytes_that_are_not_tls_end_their_connection_alone(scene):
    reader = await scene.connect()
    scene.streams[-1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(1000))
    async with asyncio.timeout(20):
        assert await is_closed(reader)
        assert await scene.ask() == 200


async def test_one_is_closed_at_once_while_the_board_has_all_its_connections(scene, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(server, "REFUSED_CONNECTIONS", 1)
    monkeypatch.setattr(tls_listener, "HANDSHAKE_SEC", 600.0)
    plain = scene.plain.getsockname()[1]
    for _ in range(2):
        await scene.connect(plain)
    async with asyncio.timeout(20):
        while scene.tls.refused == 0:  # until the server has taken both
            await scene.connect()
        refused = scene.tls.refused
        assert await is_closed(await scene.connect())
    assert scene.tls.refused == refused + 1
