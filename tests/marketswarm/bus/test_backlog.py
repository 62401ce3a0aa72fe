"""How a stream stands for a group, on a real server: what waits, and what was lost."""

import threading

import pytest
import redis

from marketswarm.bus import BusError
from marketswarm.bus.backlog import Backlog, format_unread, read_backlog, sum_unread

STREAM, GROUP = "market:quotes", "readers"


async def look(bus, before=None):
    return (await read_backlog(bus, STREAM, GROUP)).count_lost(before or Backlog())


def add(server, count):
    with redis.Redis(port=server.port) as client:
        pipe = client.pipeline()
        for n in range(count):
            pipe.xadd(STREAM, {"n": n})
        return pipe.execute()


def make_group(server):
    server.cmd("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")


def read(server, count):
    server.cmd("XREADGROUP", "GROUP", GROUP, "me", "COUNT", count, "STREAMS", STREAM, ">")


def trim(server, length):
    server.cmd("XTRIM", STREAM, "MAXLEN", "=", length)


async def test_entries_wait_from_when_they_were_added_by_the_clock_of_the_server(server, bus):
    make_group(server)
    assert await look(bus) == Backlog(is_caught_up=True)
    old_ms = int(server.cmd("TIME")[0]) * 1000 - 10_000
    for n in range(5):
        server.cmd("XADD", STREAM, f"{old_ms + n}-1", "n", n)
    found = await look(bus)
    assert (found.unread, found.pending, found.lost, found.is_caught_up) == (5, 0, 0, False)
    assert 9 < found.oldest_sec < 60
    read(server, 5)
    found = await look(bus)
    assert (found.unread, found.pending, found.oldest_sec, found.is_caught_up) == (0, 5, 0.0, True)


async def test_a_full_stream_holds_what_is_not_acknowledged_for_as_long_as_it_is_from_its_end(server, bus):
    make_group(server)
    for second in range(1, 11):
        server.cmd("XADD", STREAM, f"{1000 * second}-0", "n", second)
    read(server, 8)
    assert (await look(bus)).hold_sec is None
    trim(server, 9)
    assert (await look(bus)).hold_sec == 0.0  # the entry of second 2 is the oldest, and is pending
    for second in (1, 2, 3, 4):
        server.cmd("XACK", STREAM, GROUP, f"{1000 * second}-0")
    assert (await look(bus)).hold_sec == 3.0
    for second in (5, 6, 7, 8):
        server.cmd("XACK", STREAM, GROUP, f"{1000 * second}-0")
    assert (await look(bus)).hold_sec == 6.0  # up to the last one that was read


async def test_entries_that_come_while_the_backlog_is_read_are_not_lost(server, bus):
    make_group(server)
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
            backlog = await look(bus, backlog)
            assert backlog.lost == 0
    finally:
        is_over.set()
        publisher.join()


async def test_only_what_goes_unread_is_lost_and_it_is_counted_once(server, bus):
    add(server, 12)
    trim(server, 10)  # before there was a group: nobody's loss
    make_group(server)
    backlog = await look(bus)
    assert (backlog.unread, backlog.lost) == (10, 0)
    read(server, 4)
    trim(server, 8)  # two of the four that are read
    backlog = await look(bus, backlog)
    assert (backlog.unread, backlog.lost) == (6, 0)
    trim(server, 3)  # and the other two, and three more
    backlog = await look(bus, backlog)
    assert (backlog.unread, backlog.lost) == (3, 3)
    read(server, 1)  # some servers count what was passed over as unread from now on
    backlog = await look(bus, backlog)
    assert (backlog.unread, backlog.lost) == (2, 3)
    read(server, 100)
    backlog = await look(bus, backlog)
    assert (backlog.unread, backlog.lost, backlog.is_caught_up) == (0, 3, True)
    # another instance, which begins now, has lost nothing
    assert (await look(bus)).lost == 0
    add(server, 5)
    trim(server, 0)
    assert (await look(bus, backlog)).lost == 8
    assert (await look(bus)).lost >= 5


async def test_many_unread_are_as_many_as_the_server_says_unless_it_lost_count(server, bus):
    make_group(server)
    ids = add(server, 500)
    assert (await look(bus)).unread == 500
    read(server, 1)
    assert (await look(bus)).unread == 499
    server.cmd("XDEL", STREAM, ids[250])
    found = await look(bus)
    assert (found.unread, found.lost) == (None, 0)
    server.cmd("XDEL", STREAM, *ids[251:450])
    read(server, 200)
    assert (await look(bus)).unread == 99


async def test_a_group_that_is_gone_is_an_error(bus):
    with pytest.raises(BusError, match="no such key"):
        await look(bus)
    await bus.ask(bus.client.xadd(STREAM, {"n": 1}))
    with pytest.raises(BusError, match="NOGROUP"):
        await look(bus)


def test_unread_entries_of_several_streams_are_added_up_unless_one_is_not_known():
    assert sum_unread([]) == 0
    assert format_unread(sum_unread([Backlog(unread=1200), Backlog(unread=34)])) == "1,234"
    assert format_unread(sum_unread([Backlog(unread=1200), Backlog(unread=None)])) == "200 or more"
