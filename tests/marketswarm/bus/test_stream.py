"""Entries of a stream on a real server, some of them far larger than any reader would take."""

import pytest

from marketswarm.bus import Bus
from marketswarm.bus.errors import ReplyTooLongError
from marketswarm.bus.stream import (
    FIRST_ID,
    StreamEntry,
    entry_sort_key,
    has_begun_anew,
    is_entry_id,
    read_entries_before,
    read_entries_by_id,
    read_newest_id,
    read_streams_after,
)
from support.fixtures import closed
from support.rig import Server
from support.rig.limits import without_limits
from support.waiting import auntil

pytestmark = pytest.mark.live

MIB = 1024 * 1024


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "bus") as server:
        without_limits(server)
        yield server


bus = closed(lambda server: Bus("bus", server.url))


def add(server, number, value=b"x"):
    server.cmd("XADD", "s", f"{number}-0", "a", value, "b", "y")


async def read_after(bus, last: bytes) -> list[StreamEntry]:
    return (await read_streams_after(bus, {"s": last}, count=10)).get("s", [])


def shown(entries: list[StreamEntry]) -> list[tuple[bytes, bool]]:
    return [(entry.id, entry.fields is not None) for entry in entries]


@pytest.mark.parametrize("size", [70_000, 20 * MIB], ids=["that fits a reply", "that fits none"])
async def test_an_entry_that_is_too_large_comes_without_fields_between_its_neighbours(server, bus, size):
    add(server, 1)
    add(server, 2, b"x" * size)
    add(server, 3)
    found = await read_after(bus, b"0-0")
    assert shown(found) == [(b"1-0", True), (b"2-0", False), (b"3-0", True)]
    assert (found[0].fields, found[1].size) == ({b"a": b"x", b"b": b"y"}, size + 3)
    assert shown(await read_entries_before(bus, "s", b"+", count=2)) == [(b"3-0", True), (b"2-0", False)]
    assert shown(await read_entries_by_id(bus, "s", [b"1-0", b"2-0", b"7-0"])) == [
        (b"1-0", True),
        (b"2-0", False),
    ]


async def test_a_page_is_cut_where_the_reply_would_be_too_long(server, bus, monkeypatch):
    monkeypatch.setattr("marketswarm.bus.stream.REPLY_BYTES", 100_000)
    for number in range(1, 6):
        add(server, number, b"x" * 45_000)
    first = await read_after(bus, b"0-0")
    assert shown(first) == [(b"1-0", True), (b"2-0", True)]
    assert shown(await read_after(bus, first[-1].id)) == [
        (b"3-0", True),
        (b"4-0", True),
    ]
    ids = [b"%d-0" % number for number in range(1, 6)]
    assert [entry.id for entry in await read_entries_by_id(bus, "s", ids)] == ids


async def test_the_newest_id_is_told_without_the_entry(server, bus):
    assert await read_newest_id(bus, "s") == b"0-0"
    add(server, 9)
    add(server, 10, b"x" * (20 * MIB))
    assert await read_newest_id(bus, "s") == b"10-0"
    assert entry_sort_key(b"9-0") < entry_sort_key(b"10-0") < entry_sort_key(b"10-1")


async def test_a_connection_that_was_given_up_serves_nobody_after_it(server, bus):
    server.cmd("SET", "large", b"x" * (4 * MIB))
    with pytest.raises(ReplyTooLongError):
        await bus.ask(bus.client.get("large"), max_bytes=MIB)
    assert len(await bus.ask(bus.client.get("large"))) == 4 * MIB

    async def answers() -> bool:
        return bool(await bus.ask(bus.client.ping()))

    await auntil(answers)


@pytest.mark.parametrize(
    "text", [b"", b"1", b"-1-1", b"1-1\n", b"18446744073709551616-0", b"99999999999999999999-1"]
)
def test_what_no_server_reads_after_is_no_entry_s_id(text):
    assert not is_entry_id(text)
    assert is_entry_id(b"18446744073709551615-18446744073709551615")


async def test_a_stream_is_begun_anew_if_its_newest_entry_is_older_than_what_was_read(server, bus):
    assert not await has_begun_anew(bus, "s", FIRST_ID)
    server.cmd("XADD", "s", "5-1", "a", "b")
    assert not await has_begun_anew(bus, "s", b"5-1")
    assert not await has_begun_anew(bus, "s", b"4-9")
    assert await has_begun_anew(bus, "s", b"5-2")
    server.cmd("DEL", "s")
    assert await has_begun_anew(bus, "s", b"5-1")
