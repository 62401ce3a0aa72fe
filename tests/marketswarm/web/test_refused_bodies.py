"""A client that still sends what was refused hears why: real connections, and the bounds of that."""

import asyncio
import socket
import ssl
from functools import partial

import pytest
import uvicorn
from uvicorn.server import ServerState

from marketswarm.web import server
from marketswarm.web.server import GuardedProtocol
from support.rig.certificates import Authority
from support.waiting import auntil

REASON = b"a body has at most 65536 bytes\n"


async def refuse(_scope, receive, send):
    """Refuse a request as the guard does, once the first piece of its body is there."""
    await receive()
    headers = [(b"content-length", b"%d" % len(REASON)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": REASON})


class Site:
    """A server of the refusals, at a port of its own."""

    def __init__(self, listening, state):
        self.port, self.state = listening.sockets[0].getsockname()[1], state


@pytest.fixture
async def site(request, tmp_path):
    config = uvicorn.Config(refuse, access_log=False, proxy_headers=False, lifespan="off", log_config=None)
    config.load()
    state, context = ServerState(), None
    if getattr(request, "param", "plain") == "tls":
        context = Authority(tmp_path).untrusted("board")
    make = partial(GuardedProtocol, config, state, {}, find_bound=lambda: 700)
    listening = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, ssl=context)
    yield Site(listening, state)
    listening.close()
    for each in list(state.connections):
        each.transport.abort()
    await auntil(lambda: not state.connections)


def send_all_then_read(port, size, context):
    """Send a body of `size` bytes, whatever comes meanwhile, then return all that was answered."""
    with socket.create_connection(("127.0.0.1", port), 20) as plain:
        client = plain if context is None else context.wrap_socket(plain)
        with client:
            client.sendall(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
            left = size
            while left:
                client.sendall(b"x" * min(left, 65_536))
                left -= min(left, 65_536)
            answer = b""
            while not answer.endswith(REASON):
                if not (piece := client.recv(65_536)):
                    break
                answer += piece
            return answer


@pytest.mark.parametrize("site", ["plain", "tls"], indirect=True)
async def test_a_client_that_sends_all_before_it_reads_hears_why_it_was_refused(site, request):
    context = None
    if request.node.callspec.params["site"] == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    answer = await asyncio.to_thread(send_all_then_read, site.port, 5_000_000, context)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(REASON)
    await auntil(lambda: not site.state.connections)


async def send_forever(writer):
    while True:
        writer.write(b"x" * 10_000)
        await writer.drain()
        await asyncio.sleep(0)


async def test_a_client_that_never_ends_its_body_is_cut(site, monkeypatch):
    monkeypatch.setattr(server, "MAX_DRAINED_BYTES", 100_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nx")
    assert await reader.read() != b""  # to the end of what the server sends: it has closed its side
    with pytest.raises(OSError, match=r"reset|[Bb]roken|lost"):
        await send_forever(writer)
    writer.close()


async def test_a_client_that_stops_in_its_body_and_stays_is_cut(site, monkeypatch):
    monkeypatch.setattr(server, "DRAIN_SEC", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nx")
    assert (await reader.read()).endswith(REASON)
    await auntil(lambda: not site.state.connections)
    writer.close()
