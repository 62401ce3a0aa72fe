"""What a consumer says of a stream, on a real server: the backlog, and what was lost."""

import threading
import time

import pytest
import redis

from marketswarm.bus import Bus
from services.archive.consumer import Backlog, Consumer
from support.rig import Server

STREAM = "bars:features"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
async def consumer(server):
    """A consumer of one stream, whose group is not made yet."""
    server.cmd("FLUSHALL")
    bus = Bus("market-redis", server.url)
    yield Consumer(bus, [STREAM], "archive", "boot")
    await bus.aclose()


async def look(consumer, before):
    return (await consumer.read_backlog(STREAM, time.time())).count_lost(before)


def add(server, count):
    with redis.Redis(port=server.port) as client:
        pipe = client.pipeline()
        for n in range(count):
            pipe.xadd(STREAM, {"n": n})
        pipe.execute()


def trim(server, length):
    server.cmd("XTRIM", STREAM, "MAXLEN", length)


async def test_entries_that_come_while_the_backlog_is_read_are_not_lost(server, consumer):
    await consumer.open()
    is_over = threading.Event()

    def publish():
        with redis.Redis(port=server.port) as client:
            while not is_over.is_set():
                client.xadd(STREAM, {"n": 1})

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        backlog = Backlog()
        while backlog.unread < 300:
            backlog = await look(consumer, backlog)
            assert backlog.lost == 0
    finally:
        is_over.set()
        publisher.join()


async def test_only_what_goes_unread_is_lost_and_it_is_counted_once(server, consumer):
    add(server, 12)
    trim(server, 10)  # before there was a group: nobody's loss
    await consumer.open()
    backlog = await look(consumer, Backlog())
    assert (backlog.unread, backlog.lost) == (10, 0)
    assert len(await consumer.read_new(4, 0.1)) == 4
    trim(server, 8)  # two of the four that are read
    backlog = await look(consumer, backlog)
    assert (backlog.unread, backlog.lost) == (6, 0)
    trim(server, 3)  # and the other two, and three more
    backlog = await look(consumer, backlog)
    assert (backlog.unread, backlog.lost) == (3, 3)
    await consumer.read_new(100, 0.1)
    backlog = await look(consumer, backlog)
    assert (backlog.unread, backlog.lost, backlog.is_caught_up) == (0, 3, True)
    # another instance, which begins now, has lost nothing
    assert (await look(consumer, Backlog())).lost == 0
    add(server, 5)
    trim(server, 0)
    assert (await look(consumer, backlog)).lost == 8
    assert (await look(consumer, Backlog())).lost >= 5
