"""Targets of `mutation`: the readers of RESP must survive whatever a server sends.

`REPLIES` feeds a session's parser from memory, and what comes out goes to a real listener's ear. A `Wire`
is a server on loopback that answers every connection with the same bytes, then hangs up: real sessions and
real requests on it are `Wire.target`.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from types import SimpleNamespace
from typing import Any

from marketswarm.beat import Beat, encode_beat
from marketswarm.bus import Bus, BusError
from marketswarm.bus.listener import Listener, read_clocks
from marketswarm.bus.parser import BatchParser
from marketswarm.bus.scripts import Script
from marketswarm.bus.session import SubscriberConnection
from marketswarm.detector import restore_services
from marketswarm.monitor.feed import DetectorFeed
from marketswarm.tasks import end_tasks
from marketswarm.truth import Watch
from support.fuzz.mutation import Target

BUS = "system-redis"
CANARY = b"healer:canary:me"
WITHIN_SEC = 5.0
REASONS = {"refused", "timeout", "auth", "loading", "readonly", "oom", "misconf", "error"}
VAST = re.compile(rb"[*%~>|]\d{7,}")
"""The reader makes room for an announced array at once: seconds a case. They have a test of their own."""


def bulk(*parts: bytes) -> bytes:
    """Return an array of bulk strings."""
    return b"*%d\r\n%b" % (len(parts), b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))


def message(payload: bytes, channel: bytes = b"a:heartbeat") -> bytes:
    return bulk(b"message", channel, payload)


def answer(channel: bytes, count: int = 1, kind: bytes = b"subscribe") -> bytes:
    """Return the acknowledgement of a SUBSCRIBE."""
    return b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n:%d\r\n" % (len(kind), kind, len(channel), channel, count)


SAMPLES = (
    answer(b"a:heartbeat")
    + answer(CANARY, 2)
    + message(encode_beat(Beat("a", 1, 1.0)))
    + message(b"1", CANARY),
    b"".join(message(encode_beat(Beat("a", i, 1e9 + i, boot="b00700b007aa"))) for i in range(1, 9)),
    message(b"1", CANARY) + message(b"9" * 5000, CANARY) + message(b"\xb2", CANARY) + message(b"2", b"else"),
    b"-ERR unknown command\r\n",
    b"-MOVED 1234 127.0.0.1:7000\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"+OK\r\n:1\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n_\r\n#t\r\n,1.5\r\n(123456789\r\n=7\r\ntxt:abc\r\n",
    b"%1\r\n+a\r\n:1\r\n~2\r\n+a\r\n+b\r\n>3\r\n+message\r\n+a\r\n+b\r\n|1\r\n+a\r\n+b\r\n:1\r\n",
    b"*3\r\n" * 20,
    b"$536870912\r\nabc",
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n",
)
WORDS = (
    b"\r\n", b"*3\r\n", b"*-1\r\n", b"$7\r\nmessage\r\n", b"$-1\r\n", b":1\r\n", b"+OK\r\n", b"-ERR x\r\n",
    b"-MOVED x\r\n", b"-ASK\r\n", b"-LOADING\r\n", b"-\r\n", b"%2\r\n", b"~1\r\n", b">2\r\n", b"*2\r\n",
    b"*0\r\n", b"$9999999999999\r\n", b"*4294967296\r\n", b"_\r\n", b",inf\r\n", b"#f\r\n", answer(b"x"),
    answer(b"a:heartbeat", 0, b"unsubscribe"), message(b"3", CANARY),
    message(encode_beat(Beat("a", 99, 1e9))),
)  # fmt: skip


class Ended(Exception):  # noqa: N818 - no error: it is what is hoped for
    """The session ended with a BusError."""


def make_listener(bus: Bus) -> tuple[Listener, DetectorFeed]:
    """Return a listener and the feed that it fills, which monitors `a` and publishes no verdict."""
    feed = DetectorFeed(
        publish=lambda _verdict: None,
        wake=lambda: None,
        notify_session_opened=lambda _bus: None,
        notify_silence_ended=lambda: None,
    )
    feed.detector.set_roster([Watch("a", BUS, "a:heartbeat", 1.0, 3.0)], {BUS: 10.0}, read_clocks())
    feed.detector.buses[BUS].clock.note_session_opened()
    list(restore_services(feed.detector, {}, {}, read_clocks()))
    found = Listener(bus, feed, listener="healer", boot="me")
    found.set_channels(frozenset({"a:heartbeat"}))
    return found, feed


class StateStore:
    """A session whose socket is bytes in memory, at their end."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.bus = Bus(BUS, "redis://127.0.0.1:1")

    def examine(self, raw: bytes) -> Hashable:
        """Handle every batch; the session must end with a known reason."""
        if VAST.search(raw):
            return "vast"
        return self._end_of(raw, []), self._end_of(raw, ["a:heartbeat", CANARY.decode()])

    def _end_of(self, raw: bytes, asked: list[str]) -> Hashable:
        stream = asyncio.StreamReader(loop=self.loop)
        stream.feed_data(raw)
        stream.feed_eof()
        parser = BatchParser(65536)
        parser.on_connect(SimpleNamespace(_reader=stream, encoder=SimpleNamespace(decode_responses=False)))
        connection = SimpleNamespace(
            _parser=parser, pack_command=lambda *_: b"", send_packed_command=self._send
        )
        session = SubscriberConnection(self.bus, connection)
        with contextlib.suppress(StopIteration):
            session.subscribe(asked).send(None)
        listener, feed = make_listener(self.bus)
        for _ in range(len(raw) + 2):
            try:
                self._batch(session, listener)
            except BusError as error:
                assert error.reason in REASONS, error  # noqa: PT017 - a target, no test
                counts = feed.detector.counts
                return error.reason, min(counts.heard, 2), min(counts.malformed, 2), session.is_settled
        raise AssertionError("the session never ends")

    async def _send(self, _packed: bytes, *, check_health: bool) -> None:
        """Nobody reads it."""

    def _batch(self, session: SubscriberConnection, listener: Listener) -> None:
        try:
            session.read_batch().send(None)
        except StopIteration as done:
            listener.handle_messages(done.value)
        else:
            raise AssertionError("waits for more than there is")


async def hear_out(session: SubscriberConnection, listener: Listener) -> None:
    """Handle all messages of a session, until it ends; raise what it raises."""
    async with asyncio.timeout(4 * WITHIN_SEC):
        while True:
            listener.handle_messages(await session.read_batch())


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[str]:
    """Run a server whose connections `handle` answers; yield its URL."""
    at_work: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_work.add(asyncio.current_task())
        try:
            with contextlib.suppress(OSError):
                await handle(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            at_work.discard(asyncio.current_task())

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await end_tasks(*at_work)
        await server.wait_closed()


_ASKED = Script("return {1}")


class Wire:
    """The server; closes all it has opened."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._raw = b""
        self._ends = contextlib.AsyncExitStack()
        self._runner.run(self._start())

    async def _start(self) -> None:
        url = await self._ends.enter_async_context(serving(self._answer))
        self.bus = Bus(BUS, url, within_sec=WITHIN_SEC)
        self._ends.push_async_callback(self.bus.aclose)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(self._raw)
        writer.write_eof()
        await reader.read(65536)

    def close(self) -> None:
        self._runner.run(self._ends.aclose())
        self._runner.close()

    def examine(self, raw: bytes) -> Hashable:
        """Run a session, then a request: each must return or raise BusError within its time."""
        if VAST.search(raw):
            return "vast"
        self._raw = raw
        return self._runner.run(self._case())

    async def _case(self) -> Hashable:
        ends: list[Any] = []
        session = SubscriberConnection(self.bus)
        try:
            await session.connect()
            await session.subscribe(["a:heartbeat", CANARY.decode()])
            await hear_out(session, make_listener(self.bus)[0])
        except BusError as error:
            ends.append(error.reason)
        finally:
            await session.close()
        pipe = self.bus.pipeline(transaction=len(self._raw) % 2 == 0)
        pipe.get("a").hgetall("b").xadd("c", {"d": "e"})
        # one kind of request a case: each of them wants a connection of its own
        client = self.bus.client
        requests = [
            lambda: self.bus.ask(client.get("truth:doc")),
            lambda: self.bus.ask(client.hgetall("truth:meta")),
            lambda: self.bus.ask(client.hscan("healer:roster", 0, count=100)),
            lambda: self.bus.script(_ASKED, ["k"], ["a"]),
            lambda: self.bus.ask(client.xread({"healer:alerts:log": "0"})),
            lambda: self.bus.ask(pipe.execute()),
            lambda: self.bus.ask(client.pubsub_numsub("a")),
            lambda: self.bus.ask(client.info()),
        ]
        kind = len(self._raw) % len(requests)
        try:
            ends.append((kind, type(await requests[kind]()).__name__))
        except BusError as error:
            ends.append((kind, error.reason))
        await self.bus.pool.disconnect()
        assert all(end[1] in REASONS or end[1][0].isalpha() for end in ends[1:])
        assert ends[0] in REASONS
        return tuple(ends)

    def target(self) -> Target:
        return Target("socket", self.examine, SAMPLES, WORDS, 0.01)


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    found = Wire()
    try:
        yield found
    finally:
        found.close()


@contextlib.contextmanager
def replies() -> Iterator[Target]:
    """Yield the target over a parser in memory."""
    memory = StateStore()
    try:
        yield Target("replies", memory.examine, SAMPLES, WORDS, 0.1)
    finally:
        memory.loop.close()
