"""The alert log read by a stored position, on a real server: nothing is lost, and no end is for good."""

import orjson
import pytest
from structlog.testing import capture_logs

from marketswarm.keys import ALERT_LOG, ARCHIVE_DEAD
from services.archive.position_consumer import PositionConsumer
from support.rig.one_server import empty_bus, server

__all__ = ["server"]
pytestmark = pytest.mark.live
LAST_ID = "18446744073709551615-18446744073709551615"

bus = empty_bus("system-redis")


async def follow(bus, group="archive"):
    follower = PositionConsumer(bus, [ALERT_LOG], group, "me")
    await follower.open()
    return follower


def add(server, *idents):
    return [server.cmd("XADD", ALERT_LOG, ident, "event", "{}").encode() for ident in idents]


async def read(follower, count=100):
    return await follower.read_new({ALERT_LOG: count}, 0.001)


def ids(entries):
    return [each.id for each in entries]


async def test_what_was_not_acknowledged_is_read_again_and_what_was_is_not(server, bus):
    first = await follow(bus)
    assert await read(first) == []  # there is no log yet
    added = add(server, "1-1", "2-1", "3-1")
    assert ids(await read(first)) == added
    await first.acknowledge(ALERT_LOG, [added[1]])  # the one before it may still be refused
    assert ids(await read(await follow(bus))) == added
    await first.acknowledge(ALERT_LOG, [added[0]])
    assert ids(await read(await follow(bus))) == added[2:]
    await first.acknowledge(ALERT_LOG, [added[2]])
    again = await follow(bus)
    assert await read(again) == []
    assert (await again.read_backlog(ALERT_LOG)).unread == 0
    assert ids(await read(await follow(bus, "another"))) == added
    assert server.cmd("XINFO", "GROUPS", ALERT_LOG) == []


async def test_of_two_instances_the_first_moves_the_position_and_writes_the_dead_letter(server, bus):
    one, two = await follow(bus), await follow(bus)
    add(server, "1-1", "2-1")
    (bad, good), (bad_too, _) = await read(one), await read(two)
    await one.acknowledge(ALERT_LOG, [good.id])
    assert await one.dead_letter(bad, ARCHIVE_DEAD, "no row", 1.0, {})
    assert not await two.dead_letter(bad_too, ARCHIVE_DEAD, "no row", 1.0, {})
    assert server.cmd("XLEN", ARCHIVE_DEAD) == 1
    await two.acknowledge(ALERT_LOG, [good.id])
    (late,) = add(server, "3-1")
    assert ids(await read(two)) == [late]
    await two.acknowledge(ALERT_LOG, [late])
    assert await read(await follow(bus)) == []


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_log_that_is_begun_anew_is_read_after_an_entry_with_the_last_possible_id(
    server, bus, is_restarted
):
    follower = await follow(bus)
    (last,) = add(server, LAST_ID)
    await follower.acknowledge(ALERT_LOG, ids(await read(follower)))
    assert await read(follower) == []
    server.cmd("DEL", ALERT_LOG)
    added = add(server, "5-1", "6-1")
    with capture_logs() as said:
        follower = await follow(bus) if is_restarted else follower
        assert is_restarted or await read(follower) == []
        assert ids(await read(follower)) == added
    assert [(line["event"], line["after"]) for line in said] == [("archive.stream_recreated", last.decode())]
    await follower.acknowledge(ALERT_LOG, added)
    assert await read(await follow(bus)) == []


@pytest.mark.parametrize("stored", ["x", "1", f"1{LAST_ID}", "99999999999999999999-0", "-1-1", "1-1\n"])
async def test_a_position_that_is_no_id_is_as_if_there_were_none(server, bus, stored):
    server.cmd("HSET", "archive:positions", f"archive {ALERT_LOG}", stored)
    added = add(server, "1-1")
    follower = await follow(bus)
    assert ids(await read(follower)) == added
    await follower.acknowledge(ALERT_LOG, added)
    assert await read(await follow(bus)) == []


async def test_entries_that_are_trimmed_off_unread_are_counted_as_lost(server, bus):
    follower = await follow(bus)
    before = await follower.read_backlog(ALERT_LOG)
    added = add(server, "1-1", "2-1", "3-1", "4-1")
    await read(follower, 1)
    await follower.acknowledge(ALERT_LOG, added[:1])
    server.cmd("XTRIM", ALERT_LOG, "MAXLEN", "1")
    again = await follow(bus)
    backlog = await again.read_backlog(ALERT_LOG)
    assert (backlog.unread, backlog.count_lost(before).lost) == (1, 1)
    assert ids(await read(again)) == added[3:]


async def test_an_entry_that_is_too_large_has_no_fields_and_keeps_no_other_from_being_read(server, bus):
    add(server, "1-1")
    for ident in range(2, 24):
        server.cmd("XADD", ALERT_LOG, f"{ident}-1", "event", "x" * 1_000_000)
    add(server, "99-1")
    follower = await follow(bus)
    found = []
    while more := await read(follower):
        found += more
    assert [each.fields is None for each in found] == [False, *[True] * 22, False]
    letter = await follower.dead_letter(found[1], ARCHIVE_DEAD, "too large", 1.0, {})
    assert letter
    assert b"too large" in orjson.dumps(server.cmd("XRANGE", ARCHIVE_DEAD, "-", "+"), default=str)
