"""Connections of the board, with their bytes in memory and a clock that is moved: answers in one write."""

import asyncio
import gc
import weakref

import pytest
import uvicorn
from uvicorn.server import ServerState

from marketswarm.web.server import ANSWER_SEC, MAX_PIPELINED, REQUEST_SEC, WHOLE_ANSWER, GuardedProtocol

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"
GET, POST = (
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1",
)


class Wire:
    """A transport that keeps what was written, write by write."""

    def __init__(self):
        self.writes, self.is_closed = [], False

    def write(self, data):
        self.writes.append(data)

    def close(self):
        self.is_closed = True

    abort = close

    def is_closing(self):
        return self.is_closed

    def can_write_eof(self):
        return False

    def get_extra_info(self, name):
        return {"peername": ("10.9.8.7", 5), "sockname": ("127.0.0.1", 80)}.get(name)

    def pause_reading(self):
        pass

    resume_reading = pause_reading


class Timer:
    """What `call_at` returns."""

    def __init__(self, at, call):
        self.at, self.call, self.is_cancelled = at, call, False

    def cancel(self):
        self.is_cancelled = True


class MovedLoop:
    """The event loop, with a clock that the test moves."""

    def __init__(self):
        self.now, self.timers, self.create_task = 100.0, [], asyncio.get_running_loop().create_task

    def time(self):
        return self.now

    def call_at(self, at, call):
        self.timers.append(Timer(at, call))
        return self.timers[-1]

    def call_later(self, delay, call):
        return self.call_at(self.now + delay, call)

    def move(self, seconds):
        """Move the clock, and call what is due."""
        self.now += seconds
        due = [each for each in self.timers if each.at <= self.now]
        self.timers = [each for each in self.timers if each.at > self.now]
        for each in due:
            if not each.is_cancelled:
                each.call()


class Connection:
    """A connection to an application that answers each request when it may."""

    def __init__(self):
        self.wire, self.loop, self.may_answer = Wire(), MovedLoop(), asyncio.Event()
        self.may_answer.set()
        how = {"interface": "asgi3", "ws": "none", "lifespan": "off", "log_config": None}
        config = uvicorn.Config(self.answer, access_log=False, proxy_headers=False, **how)
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"today")]
        self.protocol = GuardedProtocol(config, state, {}, self.loop, find_bound=lambda: 700)
        self.protocol.connection_made(self.wire)

    async def answer(self, scope, _receive, _send):
        await self.may_answer.wait()
        await scope["extensions"][WHOLE_ANSWER](HEAD, b"OK")

    async def take(self, data):
        """Take bytes of the client; go on until every task that may go on has."""
        self.protocol.data_received(data)
        await settle()


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def connection():
    connection = Connection()
    yield connection
    connection.protocol.connection_lost(None)
    await settle()


@pytest.mark.parametrize(
    ("request_bytes", "end", "is_closed"),
    [
        (GET, b"\r\nOK", False),
        (POST, b"\r\nOK", False),
        (GET.replace(b"GET", b"HEAD"), b"\r\n", False),
        (GET.replace(b"1.1", b"1.0"), b"connection: close\r\n\r\nOK", True),
        (GET.replace(b"x\r\n", b"x\r\nConnection: close\r\n"), b"connection: close\r\n\r\nOK", True),
    ],
)
async def test_an_answer_is_one_write_with_the_headers_of_the_server(
    connection, request_bytes, end, is_closed
):
    await connection.take(request_bytes)
    assert connection.wire.writes == [HEAD + b"date: today\r\n" + end]
    assert connection.wire.is_closed is is_closed


async def test_requests_that_came_at_once_are_answered_one_after_another(connection):
    await connection.take(POST + GET + POST)
    assert connection.wire.writes == [HEAD + b"date: today\r\n\r\nOK"] * 3


async def test_a_client_with_too_many_requests_before_the_first_answer_is_cut(connection):
    connection.may_answer.clear()
    await connection.take(GET * (1 + MAX_PIPELINED))
    assert not connection.wire.is_closed
    await connection.take(GET)
    assert connection.wire.is_closed
    assert connection.wire.writes == []


async def test_a_client_that_is_gone_gets_nothing(connection):
    connection.may_answer.clear()
    await connection.take(GET)
    connection.protocol.connection_lost(None)
    connection.may_answer.set()
    await settle()
    assert connection.wire.writes == []


async def test_an_answer_waits_until_the_client_reads(connection):
    connection.protocol.pause_writing()
    await connection.take(GET)
    assert connection.wire.writes == []
    connection.protocol.resume_writing()
    await settle()
    assert len(connection.wire.writes) == 1


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\n"])
async def test_a_client_that_sends_nothing_or_too_slowly_is_cut(connection, begun):
    for _ in range(10):
        await connection.take(begun and (begun if connection.loop.now == 100 else b"X: y\r\n"))
        assert not connection.wire.is_closed
        connection.loop.move(REQUEST_SEC / 10)
    assert connection.wire.is_closed


async def test_a_client_that_reads_nothing_is_cut_and_one_that_reads_in_time_is_not(connection):
    for reads in (True, False):
        connection.protocol.pause_writing()
        await connection.take(GET)
        connection.loop.move(ANSWER_SEC - 1)
        assert not connection.wire.is_closed
        if reads:
            connection.protocol.resume_writing()
            await settle()
    connection.loop.move(1)
    assert connection.wire.is_closed


async def test_a_connection_without_a_request_is_closed_in_time_after_its_last_answer(connection):
    await connection.take(GET)
    connection.loop.move(4)
    await connection.take(GET)
    connection.loop.move(4)
    assert not connection.wire.is_closed
    connection.loop.move(1)
    assert connection.wire.is_closed


async def test_a_connection_is_not_closed_while_its_request_is_answered(connection):
    await connection.take(GET)
    connection.may_answer.clear()
    await connection.take(GET)
    connection.loop.move(9)
    assert not connection.wire.is_closed
    connection.may_answer.set()
    await settle()
    assert len(connection.wire.writes) == 2
    connection.loop.move(5)
    assert connection.wire.is_closed


async def test_a_connection_has_one_timer_however_many_requests_it_had(connection):
    for _ in range(20):
        await connection.take(GET)
    assert len([each for each in connection.loop.timers if not each.is_cancelled]) == 1
    connection.protocol.connection_lost(None)
    assert all(each.is_cancelled for each in connection.loop.timers)


UNFINISHED = b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\n1"


async def test_what_follows_a_last_answer_is_dropped_and_answered_by_nothing(connection):
    await connection.take(UNFINISHED)
    assert not connection.wire.is_closed
    await connection.take(b"23456789" + GET + b"\0no request")
    connection.loop.move(4)
    assert not connection.wire.is_closed, "the client may still read its answer"
    assert len(connection.wire.writes) == 1
    connection.loop.move(1)
    assert connection.wire.is_closed


async def test_a_last_answer_has_its_own_time_whatever_the_body_took(connection):
    connection.may_answer.clear()
    await connection.take(UNFINISHED)
    connection.loop.move(REQUEST_SEC - 1)
    connection.may_answer.set()
    await settle()
    connection.loop.move(4)
    assert not connection.wire.is_closed
    connection.loop.move(1)
    assert connection.wire.is_closed


@pytest.fixture
def no_collector():
    """The garbage collector does not look for circles."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("request_bytes", [GET, POST])
async def test_a_request_and_its_connection_are_freed_without_the_collector(request_bytes):
    connection = Connection()
    await connection.take(request_bytes)
    first = weakref.ref(connection.protocol.cycle)
    await connection.take(request_bytes)
    assert first() is None
    assert len(connection.wire.writes) == 2
    last, protocol = weakref.ref(connection.protocol.cycle), weakref.ref(connection.protocol)
    connection.wire.close()
    connection.protocol.connection_lost(None)
    connection.loop.timers.clear()
    del connection.protocol
    await settle()
    assert (last(), protocol()) == (None, None)
