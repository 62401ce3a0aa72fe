import asyncio
import socket

import pytest

from services.massive.probing import Prober


@pytest.fixture
async def prober():
    async with Prober() as prober:
        yield prober


async def test_a_port_that_answers_is_well(prober):
    async def hang_up(_reader, writer):
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        probe = await prober.probe("a", "127.0.0.1", port, 2)
    assert (probe.stage, probe.error, probe.where) == ("done", None, f"127.0.0.1:{port}")
    assert probe.dns_ms is not None
    assert probe.tcp_ms is not None


async def test_a_port_that_nobody_has_is_refused(prober):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    probe = await prober.probe("a", "127.0.0.1", port, 2)
    assert (probe.stage, probe.error) == ("tcp", "refused")


async def test_a_name_that_nobody_has_is_unknown(prober, monkeypatch):
    def unknown(*_args, **_more):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    probe = await prober.probe("a", "no.such.invalid", 1, 2)
    assert (probe.stage, probe.error) == ("dns", "unknown_name")


@pytest.mark.parametrize("host", ["a" * 300, "x..y", "\u2028", "host name"])
async def test_a_name_that_is_none_is_a_result_too(prober, host):
    probe = await prober.probe("a", host, 1, 2)
    assert probe.stage == "dns"
    assert probe.error is not None


async def test_a_look_up_that_hangs_costs_its_time_limit(prober, monkeypatch):
    import threading

    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: release.wait(10) and [])
    try:
        probe = await prober.probe("a", "slow.invalid", 1, 0.1)
    finally:
        release.set()
    assert (probe.stage, probe.error) == ("dns", "timeout")


async def test_a_peer_that_does_not_answer_costs_its_time_limit(prober, monkeypatch):
    async def never(*_args, **_more):
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", never)
    probe = await prober.probe("a", "127.0.0.1", 1, 0.1)
    assert (probe.stage, probe.error) == ("tcp", "timeout")
