"""One connection, against a real server that behaves as it likes."""

import asyncio
import ssl
import time

import pytest
from pydantic import SecretStr
from websockets.asyncio.server import serve

from marketswarm.net.errors import ConnectionEnded
from services.market.massive import ConnectionState, ProtocolMachine, Request
from services.massive.market.api import MAX_FRAME_BYTES, StreamConnection, authenticate
from support.fixtures import opened
from support.rig import free_port
from support.rig.certificates import Authority
from support.rig.market_api import HOST, KEY, SmallMarket, ending, honest, mute, saying, status
from support.waiting import PATIENT_SEC, auntil

market = opened(lambda: SmallMarket("AAPL"))


def wire(market, **how):
    return StreamConnection(market.ws, SecretStr(KEY), **how)


async def ends(market, auth_sec=5.0, **how):
    """Why a connection ends, read to its end."""
    machine = ProtocolMachine(["AAPL"])
    try:
        async with asyncio.timeout(PATIENT_SEC), wire(market, **how) as line:
            await authenticate(line, machine, auth_sec)
            while True:
                heard = machine.receive(await line.receive(), 1000 * time.time())
                if heard.end_reason:
                    return heard.end_reason
    except ConnectionEnded as ended:
        return ended.reason


async def test_it_is_let_in_asks_and_hears(market):
    machine = ProtocolMachine(["AAPL"])
    async with wire(market) as line:
        await authenticate(line, machine, 5)
        for request in machine.set_symbols(["AAPL"]):
            await line.send_request(request)
        held = machine.receive(await line.receive(), 1000 * time.time()).confirmed
        start = market.last_minute()
        await asyncio.to_thread(market.make, "AAPL", start)
        heard = machine.receive(await line.receive(), 1000 * time.time())
    assert (held, machine.state) == (["AAPL"], ConnectionState.STREAMING)
    assert [(each.symbol, each.start_ms) for each in heard.bars] == [("AAPL", start)]
    assert market.keys == [KEY]


ENDINGS = {
    "mute": (mute, "silent"),
    "auth_failed": (None, "auth_failed"),
    "max_connections": (ending("max_connections"), "max_connections"),
    "slow": (ending("", 1008, "Slow consumer"), "slow_consumer"),
    "policy": (ending("", 1008), "closed_1008"),
    "bye": (ending("", 1000), "closed_1000"),
    "huge": (saying("x" * (MAX_FRAME_BYTES + 1)), "too_big"),
}


@pytest.mark.parametrize("how", ENDINGS)
async def test_whatever_ends_it_is_a_word(market, how):
    mood, word = ENDINGS[how]
    market.moods.append(mood or honest)
    if mood is None:
        async with StreamConnection(market.ws, SecretStr("another")) as line:
            with pytest.raises(ConnectionEnded, match=word):
                await authenticate(line, ProtocolMachine([]), 5)
    else:
        assert await ends(market, auth_sec=0.3 if mood is mute else 5.0) == word


async def test_a_connection_that_is_cut_is_broken(market):
    reading = asyncio.create_task(ends(market))
    await auntil(lambda: market.subscribed)
    await asyncio.to_thread(market.cut)
    assert await reading == "broken"


async def test_one_that_is_dead_without_a_word_is_noticed():
    async def nobody(reader, writer):
        await reader.read()  # until it is given up
        writer.close()
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_server(nobody, HOST, 0)
    url = f"ws://{HOST}:{server.sockets[0].getsockname()[1]}/"
    with pytest.raises(ConnectionEnded, match="timeout"):
        async with StreamConnection(url, SecretStr(KEY), open_sec=0.2):
            pass
    server.close()
    await gone.wait()


async def test_a_peer_that_answers_no_ping_is_given_up(market):
    """The socket stays open, as with a machine that lost its power."""

    over = False

    async def frozen(market, connection):
        if await market.admit(connection):
            connection.transport.pause_reading()
            await auntil(lambda: over)
            connection.transport.abort()

    market.moods.append(frozen)
    assert await ends(market, alive_sec=0.4) == "silent"
    over = True


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (
            b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n",
            "redirected",
        ),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "http_403"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "http_200"),
        (b"SSH-2.0-something\r\n\r\n", "handshake"),
        (b"", "handshake"),
    ],
)
async def test_what_is_no_such_server_is_told_apart_and_gets_no_key(market, answer, word):
    """A redirect leads to a server that would take the key, and is not followed."""
    got = bytearray()

    async def other(reader, writer):
        got.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer.replace(b"{port}", str(market.port).encode()))
        writer.close()

    server = await asyncio.start_server(other, HOST, 0)
    with pytest.raises(ConnectionEnded, match=f"^{word}$"):
        async with StreamConnection(f"ws://{HOST}:{server.sockets[0].getsockname()[1]}/", SecretStr(KEY)):
            pass
    server.close()
    assert not market.met
    assert KEY.encode() not in got


async def test_nobody_there_is_refused():
    with pytest.raises(ConnectionEnded, match="refused"):
        async with StreamConnection(f"ws://{HOST}:{free_port()}/", SecretStr(KEY)):
            pass


async def test_a_flood_waits_at_the_other_end():
    """What is not read stays theirs: a second of flood is no second of memory."""
    sent = 0

    async def flooding(market, connection):
        nonlocal sent
        if await market.admit(connection):
            frame = status("x") + " " * 500_000
            while True:
                await connection.send(frame)
                sent += 1

    with SmallMarket() as market:
        market.moods.append(flooding)
        machine = ProtocolMachine([])
        async with wire(market) as line:
            await authenticate(line, machine, 5)
            await auntil(lambda: sent)
            before = -1
            while before != sent:  # until it stands still
                before = sent
                await asyncio.sleep(0.2)
            assert 0 < sent < 100
            for _ in range(30):
                assert len(await line.receive()) > 500_000
            await auntil(lambda: sent > 30)


@pytest.mark.needs("openssl")
async def test_over_tls_it_trusts_whom_the_system_trusts_and_nobody_else(tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.certificate("market"))

    async def handler(connection):
        await connection.send(status("connected"))
        await connection.wait_closed()

    async with serve(handler, HOST, 0, ssl=context) as server:
        url = f"wss://{HOST}:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(ConnectionEnded, match="tls"):
            async with StreamConnection(url, SecretStr(KEY)):
                pass
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        async with StreamConnection(url, SecretStr(KEY)) as line:
            assert ProtocolMachine([]).receive(await line.receive(), 0).requests == [Request("auth")]
