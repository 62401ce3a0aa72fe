"""Does a port answer."""

import asyncio
import errno
import socket
import threading

import pytest

from services.massive.probes.probers.context import ProbeContext, SystemLookUp
from services.massive.probes.probers.tcp import probe
from services.massive.targets import Tcp


async def known(*addresses):
    return list(addresses)


async def test_a_port_that_answers_is_well(context):
    with socket.create_server(("127.0.0.1", 0)) as peer:
        port = peer.getsockname()[1]
        found = await probe(Tcp(name="a", host="127.0.0.1", port=port), context)
    assert (found.stage, found.error, found.where) == ("done", None, f"127.0.0.1:{port}")
    assert found.facts == {"address": "127.0.0.1"}
    assert set(found.ms) == {"dns", "tcp", "total"}


async def test_a_port_that_nobody_has_is_refused(context):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = await probe(Tcp(name="a", host="127.0.0.1", port=port), context)
    assert (found.stage, found.error) == ("tcp", "refused")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_a_file_descriptor_or_memory_no_probe_is_made(context, monkeypatch, code):
    async def fail(*_args, **_more):
        raise OSError(code, "none left")

    monkeypatch.setattr(asyncio, "open_connection", fail)
    found = await probe(Tcp(name="a", host="127.0.0.1", port=1), context)
    assert (found.stage, found.error) == ("tcp", "not_made")


async def test_of_several_addresses_one_that_answers_is_enough():
    with socket.create_server(("127.0.0.1", 0)) as peer:
        port = peer.getsockname()[1]
        # nobody listens at the second one; the first says so, or hangs, as the machine has it
        context = ProbeContext(4.0, lambda _host, _port: known("127.0.0.2", "127.0.0.1"))
        found = await probe(Tcp(name="a", host="two.example", port=port), context)
    assert (found.error, found.facts["address"]) == (None, "127.0.0.1")


async def test_an_address_that_hangs_leaves_the_others_some_time(monkeypatch):
    opened = asyncio.open_connection

    async def hang_at_the_first(address, port):
        if address == "192.0.2.1":
            await asyncio.Event().wait()
        return await opened(address, port)

    monkeypatch.setattr(asyncio, "open_connection", hang_at_the_first)
    with socket.create_server(("127.0.0.1", 0)) as peer:
        port = peer.getsockname()[1]
        context = ProbeContext(3.0, lambda _host, _port: known("192.0.2.1", "127.0.0.1"))
        found = await probe(Tcp(name="a", host="two.example", port=port), context)
    assert found.error is None


@pytest.mark.parametrize(
    ("code", "word"), [(socket.EAI_NONAME, "unknown_name"), (socket.EAI_AGAIN, "look_up_failed")]
)
async def test_a_name_that_nobody_has_is_told_from_one_that_could_not_be_looked_up(
    code, word, context, monkeypatch
):
    def unknown(*_args, **_more):
        raise socket.gaierror(code, "in the system's words")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = await probe(Tcp(name="a", host="no.such.invalid", port=1), context)
    assert (found.stage, found.error) == ("dns", word)


@pytest.mark.parametrize("host", ["a" * 253, "x..y", "host name"])
async def test_a_name_that_is_none_is_a_result_too(context, host):
    found = await probe(Tcp(name="a", host=host, port=1), context)
    assert found.stage == "dns"
    assert found.error is not None


async def test_a_look_up_that_hangs_costs_its_time_limit(monkeypatch):
    release, look_up = threading.Event(), SystemLookUp(1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: release.wait(10) and [])
    try:
        found = await probe(Tcp(name="a", host="slow.invalid", port=1), ProbeContext(0.1, look_up))
    finally:
        release.set()
        look_up.close()
    assert (found.stage, found.error) == ("dns", "timeout")


async def test_a_peer_that_does_not_answer_costs_its_time_limit(monkeypatch):
    async def never(*_args, **_more):
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", never)
    context = ProbeContext(0.1, lambda _host, _port: known("127.0.0.1"))
    found = await probe(Tcp(name="a", host="127.0.0.1", port=1), context)
    assert (found.stage, found.error) == ("tcp", "timeout")


async def test_a_stop_is_no_result(context, monkeypatch):
    begun = asyncio.Event()

    async def never(*_args, **_more):
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", never)
    task = asyncio.create_task(probe(Tcp(name="a", host="127.0.0.1", port=1), context))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
