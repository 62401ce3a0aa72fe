"""A slice of `make fuzz` in every run, and what servers that lie do to whoever listens to them."""

import asyncio
import contextlib
import ctypes
import gc
import os
from pathlib import Path

import pytest

from marketswarm.beat import Beat, encode_beat
from marketswarm.bus import Bus, BusError
from marketswarm.bus.parser import BatchParser, BoundedParser
from marketswarm.bus.scripts import Script
from marketswarm.bus.session import SubscriberConnection
from marketswarm.tasks import end_tasks
from support.fuzz.fast_path import SIGHT
from support.fuzz.mutation import feed
from support.fuzz.replies import (
    CANARY,
    answer,
    bulk,
    hear_out,
    make_listener,
    message,
    replies,
    serving,
    wire,
)
from support.fuzz.targets import BEAT, EVENT, TRUTH
from support.rig import Server
from support.waiting import auntil

SEED = 1
NAMES = ["beat", "event", "truth", "sight"]
MIB = 1024 * 1024
BYTES_DO = pytest.mark.nightly("the same with bytes")


@pytest.mark.parametrize(
    ("target", "cases"),
    [(BEAT, 4000), (EVENT, 2500), (TRUTH, 500), (SIGHT, 5000)],
    ids=NAMES,
)
def test_no_input_whatever_breaks_what_reads_it(target, cases):
    found = feed(target, cases, SEED)
    assert not found.failure, found.failure
    assert len(found.outcomes) > 20


@pytest.mark.slow
def test_no_bytes_whatever_break_a_session_in_another_way_than_a_bus_error():
    with replies() as target:
        found = feed(target, 500, SEED)
    assert not found.failure, found.failure
    assert len(found.outcomes) > 20


def test_no_server_whatever_breaks_a_session_or_a_request_in_another_way_than_a_bus_error():
    with wire() as server:
        found = feed(server.target(), 150, SEED)
    assert not found.failure, found.failure
    assert len(found.outcomes) > 10


ANSWERED = answer(b"a:heartbeat") + answer(CANARY, 2)
BEATS = b"".join(message(encode_beat(Beat("a", i, 1e9 + i))) for i in range(1, 4))
LIES = {
    "no array": b":1\r\n",
    "a nil": b"*-1\r\n",
    "two parts": bulk(b"message", b"a:heartbeat"),
    "three bytes for three parts": b"$3\r\nabc\r\n",
    "a map": b"%3\r\n+message\r\n+x\r\n+a:heartbeat\r\n+x\r\n:1\r\n+x\r\n",
    "a map with a key that is a list": b"%1\r\n*1\r\n:1\r\n+b\r\n",
    "a number for a payload": b"*3\r\n$7\r\nmessage\r\n$11\r\na:heartbeat\r\n:5\r\n",
    "four parts": bulk(b"message", b"a:heartbeat", b"x", b"y"),
    "a map of a message": b"%3\r\n:0\r\n+message\r\n:1\r\n$11\r\na:heartbeat\r\n:2\r\n$1\r\nx\r\n",
    "a list for a channel": b"*3\r\n$7\r\nmessage\r\n*1\r\n:1\r\n$1\r\nx\r\n",
    "an answer that nobody asked for": answer(b"a:heartbeat"),
    "an error": b"-ERR no\r\n",
    "an error inside": b"*3\r\n$7\r\nmessage\r\n$11\r\na:heartbeat\r\n-ERR no\r\n",
    "half a redirection": b"-MOVED x\r\n",
    "no protocol": b"\x00\xff\x00",
    "more than memory": b"*4294967295\r\n",
    "deeper than the reader goes": b"*1\r\n" * 20,
}


def saying(*said: bytes, then_hang: bool = False):
    """A server that says one thing after the other to everyone."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        for some in said:
            writer.write(some)
            await writer.drain()
        while then_hang and await reader.read(65536):
            pass

    return serving(handle)


@contextlib.asynccontextmanager
async def session_on(url: str):
    bus = Bus("system-redis", url)
    session = SubscriberConnection(bus)
    try:
        await session.connect()
        await session.subscribe(["a:heartbeat", CANARY.decode()])
        yield session, *make_listener(bus)
    finally:
        await session.close()
        await bus.aclose()


async def test_a_session_ends_at_what_is_no_message_and_what_came_before_it_was_heard():
    for name, lie in LIES.items():
        async with (
            saying(ANSWERED + BEATS + lie + BEATS, then_hang=True) as url,
            session_on(url) as (session, listener, feed),
        ):
            with pytest.raises(BusError) as caught:
                await hear_out(session, listener)
            assert (name, caught.value.reason, feed.detector.counts.heard) == (name, "error", 3)


async def test_a_request_ends_with_a_bus_error_or_what_was_said():
    for lie in LIES.values():
        async with saying(lie) as url:
            for ask in (
                lambda bus: bus.ask(bus.client.hscan("healer:roster", 0)),
                lambda bus: bus.ask(bus.client.pubsub_numsub("a")),
                lambda bus: bus.script(Script("return 1"), ["k"], ["a"]),
            ):
                bus = Bus("system-redis", url, within_sec=5)
                with contextlib.suppress(BusError):
                    await ask(bus)
                await bus.aclose()


def rss() -> int:
    """What this process holds, without what is free again: other tests have left much of that."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("announced", "chunk"),
    [
        pytest.param(b"$536870912\r\n", b"x" * MIB, id="bytes"),
        pytest.param(b"*500000000\r\n", b":1\r\n" * 250_000, id="an array", marks=BYTES_DO),
        pytest.param(b"+", b"x" * MIB, id="a line", marks=BYTES_DO),
    ],
)
async def test_a_reply_without_end_is_cut_off_where_its_kind_may_end(announced, chunk, monkeypatch):
    monkeypatch.setattr(BatchParser, "max_reply_bytes", 8 * MIB)
    monkeypatch.setattr(BoundedParser, "max_reply_bytes", 8 * MIB)
    before = rss()
    async with saying(ANSWERED, announced, *[chunk] * 64) as url:
        async with session_on(url) as (session, listener, _feed):
            with pytest.raises(BusError, match="more than 8388608 bytes"):
                await hear_out(session, listener)
        bus = Bus("system-redis", url, within_sec=20)
        request = bus.pipeline()
        request.get("a").get("b").get("c")
        with pytest.raises(BusError, match="more than 8388608 bytes"):
            await bus.ask(request.execute())
        await bus.aclose()
    assert rss() - before < 64 * MIB


@pytest.mark.parametrize("mib", [24, 15], ids=["cut off", "hung up"])
async def test_sessions_that_were_cut_off_hold_nothing_of_what_they_had_read(mib, monkeypatch):
    monkeypatch.setattr(BatchParser, "max_reply_bytes", 16 * MIB)
    errors = []  # as whoever is to log them might keep them
    async with saying(ANSWERED, b"$536870912\r\n", *[b"x" * MIB] * mib) as url:
        before = rss()
        for _ in range(12):
            async with session_on(url) as (session, listener, _feed):
                with pytest.raises(BusError) as caught:
                    await hear_out(session, listener)
                errors.append(caught.value)
    assert len(errors) == 12
    assert rss() - before < 96 * MIB


async def test_a_number_too_long_to_read_on_the_canaries_channel_means_nothing():
    async with (
        saying(ANSWERED + message(b"9" * 5000, CANARY) + BEATS) as url,
        session_on(url) as (session, listener, feed),
    ):
        with pytest.raises(BusError):
            await hear_out(session, listener)
        assert feed.detector.counts.heard == 3


@pytest.mark.live
async def test_a_listener_whose_server_lied_in_every_way_hears_the_true_one_that_follows(tmp_path):
    lies = [ANSWERED + lie for lie in LIES.values()] + list(LIES.values())
    with Server(tmp_path / "bus") as server:

        async def lie_or_pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if lies:
                await reader.read(65536)
                writer.write(lies.pop())
                await writer.drain()
            else:
                await passed_on(reader, writer, server.port)

        async with serving(lie_or_pass_on) as url:
            bus = Bus("system-redis", url, within_sec=0.5)
            listener, feed = make_listener(bus)
            task = asyncio.create_task(listener.run())
            try:
                clock = feed.detector.buses["system-redis"].clock
                await auntil(lambda: task.done() or (not lies and clock.is_listening), what="the true one")
                assert not task.done(), task.exception()
                server.cmd("PUBLISH", "a:heartbeat", encode_beat(Beat("a", 1000, 2e9)))
                await auntil(lambda: feed.detector.services["a"].last_beat is not None, what="a beat")
            finally:
                await end_tasks(task)
                await bus.aclose()


async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Bytes both ways, until either side has no more."""
    there, back = await asyncio.open_connection("127.0.0.1", port)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while some := await source.read(65536):
                sink.write(some)
                await sink.drain()
        sink.close()

    try:
        await asyncio.gather(pump(reader, back), pump(there, writer))
    finally:
        back.close()
        with contextlib.suppress(OSError):
            await back.wait_closed()
