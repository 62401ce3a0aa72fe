"""The look at keys of a real server."""

import time

import pytest

from marketswarm.bus import Bus, BusError
from marketswarm.bus.parser import MIB, BoundedParser
from services.mesh.flow_reader import KEYS_PER_STEP, MAX_GROUPS, KeyReading, read_keys
from support.fixtures import closed, opened
from support.rig import Server
from support.rig.limits import without_limits
from support.scenes.agent import Tail

pytestmark = pytest.mark.live

server = opened(lambda tmp_path: Server(tmp_path / "server"))
bus = closed(lambda server: Bus("market-redis", server.url))


def calls(server, command):
    """How often a command was run, scripts included."""
    stats = server.cmd("INFO", "commandstats").get(f"cmdstat_{command}", {"calls": 0})
    return stats["calls"]


async def test_a_stream_and_its_groups_are_seen_in_numbers(server, bus):
    for n in range(5):
        server.cmd("XADD", "s", "*", "n", n)
    server.cmd("XGROUP", "CREATE", "s", "fresh", "0")
    server.cmd("XGROUP", "CREATE", "s", "busy", "0")
    server.cmd("XGROUP", "CREATE", "s", "done", "$")
    server.cmd("XREADGROUP", "GROUP", "busy", "one", "COUNT", "2", "STREAMS", "s", ">")
    found = (await read_keys(bus, ["s"]))["s"]
    assert (found.kind, found.length, found.added) == ("stream", 5, 5)
    assert 0 <= found.last_sec < 10
    groups = {group.name: group for group in found.groups}
    assert {name: (one.lag, one.pending, one.consumers) for name, one in groups.items()} == {
        "fresh": (5, 0, 0),
        "busy": (3, 2, 1),
        "done": (0, 0, 0),
    }
    assert groups["busy"].read == 2
    assert groups["done"].oldest_sec is None
    assert groups["fresh"].oldest_sec == groups["busy"].oldest_sec >= found.last_sec


async def test_what_is_taken_and_not_settled_is_as_old_as_it_is(server, bus):
    old, new = (round(1000 * (time.time() - ago)) for ago in (100, 1))
    server.cmd("XADD", "s", f"{old}-0", "a", 1)
    server.cmd("XGROUP", "CREATE", "s", "g", "0")
    server.cmd("XREADGROUP", "GROUP", "g", "one", "STREAMS", "s", ">")
    server.cmd("XADD", "s", f"{new}-0", "a", 1)
    (group,) = (await read_keys(bus, ["s"]))["s"].groups
    assert 99 < group.oldest_sec < 110
    server.cmd("XACK", "s", "g", f"{old}-0")
    (group,) = (await read_keys(bus, ["s"]))["s"].groups
    assert 0.5 < group.oldest_sec < 10


async def test_what_a_group_has_read_is_known_from_its_beginning_on(server, bus):
    server.cmd("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    assert (await read_keys(bus, ["s"]))["s"].length == 0
    for n in range(10):
        server.cmd("XADD", "s", "MAXLEN", "4", "*", "n", n)
    found = (await read_keys(bus, ["s"]))["s"]
    assert (found.length, found.added, found.groups[0].read) == (4, 10, 0)
    server.cmd("XREADGROUP", "GROUP", "g", "one", "COUNT", "1", "STREAMS", "s", ">")
    assert (await read_keys(bus, ["s"]))["s"].groups[0].read == 7


async def test_other_kinds_are_named_and_a_channel_is_heard_of(server, bus):
    server.cmd("SET", "text", "x")
    server.cmd("HSET", "hash", "a", 1)
    with Tail(server.url, "chan"):
        found = await read_keys(bus, ["text", "hash", "nothing", "chan"])
    assert found == {
        "text": KeyReading("string"),
        "hash": KeyReading("hash"),
        "nothing": KeyReading("none"),
        "chan": KeyReading("channel", 1),
    }


async def test_many_keys_are_seen_in_their_order_and_no_entry_comes_along(server, bus, monkeypatch):
    server.cmd("XADD", "s0", "*", "big", "x" * 5_000_000)
    server.cmd("XGROUP", "CREATE", "s0", "g" * 5000, "0")
    names = [f"s{n}" for n in range(2 * KEYS_PER_STEP + 1)]
    monkeypatch.setattr(BoundedParser, "max_reply_bytes", 100_000)
    found = await read_keys(bus, names)
    assert list(found) == names
    assert found["s0"].groups[0].name == "g" * 200
    assert {one.kind for one in list(found.values())[1:]} == {"none"}


async def test_a_stream_with_a_huge_entry_is_seen_without_a_copy_of_it(server, bus):
    without_limits(server)
    server.cmd("XADD", "huge", "*", "big", "x" * 110 * MIB, within=30)
    for n in range(MAX_GROUPS):
        server.cmd("XGROUP", "CREATE", "huge", f"g{n}", "0")
    server.cmd("CONFIG", "RESETSTAT")
    seen = (await read_keys(bus, ["huge"]))["huge"]
    assert (seen.kind, seen.length, seen.groups) == ("stream", 1, None)
    assert seen.too_large >= 110 * MIB
    assert calls(server, "xinfo|stream") == calls(server, "xrange") == 0


async def test_of_huge_entries_in_a_long_stream_no_more_than_one_is_copied(server, bus):
    without_limits(server)
    fill = "for n = 1, 1000 do redis.call('XADD', KEYS[1], n .. '-0', 'a', 'b') end"
    server.cmd("EVAL", fill, 1, "long")
    for at in (1001, 1002):
        server.cmd("XADD", "long", f"{at}-0", "big", "x" * 40 * MIB, within=30)
        server.cmd("XGROUP", "CREATE", "long", f"g{at}", f"{at - 1}-0")
    server.cmd("XADD", "long", "1003-0", "a", "b")
    server.cmd("XADD", "s", "*", "a", "b")
    server.cmd("CONFIG", "RESETSTAT")
    long, small = (await read_keys(bus, ["long", "s"])).values()
    assert (long.length, long.groups, long.too_large > 40 * MIB) == (1003, None, True)
    assert calls(server, "xrange") == 1, "one beyond the limit, and none after it"
    assert (small.length, small.groups, small.too_large) == (1, None, 0), "left for the next look"
    long, small = (await read_keys(bus, ["long", "s"], {"long"})).values()
    assert (long.kind, long.length, long.groups, long.too_large) == ("stream", 1003, None, 0)
    assert (small.length, small.groups) == (1, ())
    assert calls(server, "xrange") == 1


async def test_groups_that_are_equally_far_are_one_question(server, bus):
    server.cmd("XADD", "s", "*", "a", 1)
    for n in range(MAX_GROUPS):
        server.cmd("XGROUP", "CREATE", "s", f"g{n}", "0")
    server.cmd("CONFIG", "RESETSTAT")
    found = (await read_keys(bus, ["s"]))["s"]
    assert all(group.oldest_sec is not None for group in found.groups)
    assert calls(server, "xrange") == 1


async def test_a_stream_with_very_many_groups_is_seen_without_them(server, bus):
    server.cmd("XADD", "s", "*", "a", 1)
    for n in range(MAX_GROUPS + 1):
        server.cmd("XGROUP", "CREATE", "s", f"g{n}", "0")
    found = (await read_keys(bus, ["s"]))["s"]
    assert (found.length, found.groups) == (1, None)


async def test_no_keys_are_no_question_and_a_server_that_is_away_is_a_bus_error(server, bus):
    server.stop()
    assert await read_keys(bus, []) == {}
    with pytest.raises(BusError, match="refused"):
        await read_keys(bus, ["s"])
