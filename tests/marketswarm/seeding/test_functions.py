"""Functions on real servers: loaded by who seeds, called by all, of few releases."""

import asyncio

import pytest
import redis

from marketswarm.bus import Bus, BusError
from marketswarm.bus.bus import RETRY_FUNCTION_SEC
from marketswarm.bus.scripts import Script, load_all_scripts
from marketswarm.seeding.functions import KEPT_VERSIONS, load_functions
from marketswarm.seeding.transaction import seed_truth
from support.fixtures import closed, opened
from support.rig import HOST, Server
from support.scenes.seeding import truth

pytestmark = pytest.mark.live

ONE = Script("return redis.call('INCR', KEYS[1])", "marketswarm_tried")


def release(number: int) -> dict[str, Script]:
    script = Script(f"return {number}", "marketswarm_tried")
    return {script.function: script}


server = opened(lambda tmp_path: Server(tmp_path / "bus", appendonly="yes"))
bus = closed(lambda server: Bus("system-redis", server.url))


def there(server: Server) -> set[str]:
    with redis.Redis(HOST, server.port, decode_responses=True, protocol=2) as client:
        return {library[1] for library in client.function_list()}


async def test_a_seeding_loads_every_script_before_the_truth_and_changes_nothing_the_second_time(server, bus):
    await seed_truth(truth("a"), [bus], "me")
    assert there(server) == set(load_all_scripts())
    before = server.cmd("FUNCTION", "LIST", "WITHCODE")
    await seed_truth(truth("a"), [bus], "me")
    assert server.cmd("FUNCTION", "LIST", "WITHCODE") == before


async def test_a_script_is_called_by_its_function_where_that_is_loaded(server, bus):
    await load_functions(bus, {ONE.function: ONE})
    assert await bus.script(ONE, ["n"], []) == 1
    found = server.cmd("INFO", "commandstats")
    assert "cmdstat_fcall" in found
    assert "cmdstat_evalsha" not in found


async def test_an_open_server_that_lost_its_functions_is_sent_the_script(server, bus):
    assert await bus.script(ONE, ["n"], []) == 1
    await load_functions(bus, {ONE.function: ONE})
    server.cmd("FUNCTION", "FLUSH")
    assert await bus.script(ONE, ["n"], []) == 2


def count_calls(server):
    """Return how many commands of scripts and functions the server has got, by name."""
    with redis.Redis(HOST, server.port, protocol=2) as client:
        found = client.info("commandstats")
    names = ("fcall", "evalsha", "script|load")
    return {name: found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in names}


async def test_a_bus_that_an_older_release_seeded_is_asked_once_for_a_function_that_it_lacks(
    server, bus, monkeypatch
):
    assert [await bus.script(ONE, ["n"], []) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert count_calls(server) == {"fcall": 1, "evalsha": 6, "script|load": 1}
    await load_functions(bus, {ONE.function: ONE})
    assert await bus.script(ONE, ["n"], []) == 6
    assert count_calls(server)["fcall"] == 1
    loop = asyncio.get_running_loop()
    later = loop.time() + RETRY_FUNCTION_SEC + 1
    monkeypatch.setattr(loop, "time", lambda: later)
    assert [await bus.script(ONE, ["n"], []) for _ in range(2)] == [7, 8]
    assert count_calls(server) == {"fcall": 3, "evalsha": 7, "script|load": 1}


async def test_who_may_no_longer_send_a_script_calls_the_function_that_was_loaded_since(server):
    server.cmd("ACL", "SETUSER", "svc", "on", ">pw", "~*", "+fcall", "+evalsha", "+script|load", "+incr")
    bus = Bus("x", server.url.replace("redis://", "redis://svc:pw@"))
    assert await bus.script(ONE, ["n"], []) == 1
    await load_functions(other := Bus("x", server.url), {ONE.function: ONE})
    server.cmd("ACL", "SETUSER", "svc", "-evalsha", "-script")
    assert [await bus.script(ONE, ["n"], []) for _ in range(2)] == [2, 3]
    server.cmd("FUNCTION", "FLUSH")
    with pytest.raises(BusError, match="run bootstrap"):
        await bus.script(ONE, ["n"], [])
    await asyncio.gather(bus.aclose(), other.aclose())


async def test_a_server_that_has_no_functions_at_all_is_sent_the_script(tmp_path):
    with Server(tmp_path / "old", rename_command="FCALL disabled") as server:
        bus = Bus("x", server.url)
        await load_functions(bus, {ONE.function: ONE})
        assert [await bus.script(ONE, ["n"], []) for _ in range(3)] == [1, 2, 3]
        await bus.aclose()


async def test_who_may_send_no_script_is_told_to_have_the_bus_seeded(server):
    server.cmd("ACL", "SETUSER", "svc", "on", ">pw", "~*", "+fcall", "+incr")
    bus = Bus("market-redis", server.url.replace("redis://", "redis://svc:pw@"))
    with pytest.raises(BusError, match="run bootstrap") as error:
        await bus.script(ONE, ["n"], [])
    assert (error.value.reason, error.value.bus) == ("misconf", "market-redis")
    await load_functions(bus2 := Bus("x", server.url), {ONE.function: ONE})
    assert await bus.script(ONE, ["n"], []) == 1
    server.cmd("ACL", "SETUSER", "svc", "resetkeys", "~mine")
    with pytest.raises(BusError) as error:
        await bus.script(ONE, ["n"], [])
    assert error.value.reason == "auth"
    await asyncio.gather(bus.aclose(), bus2.aclose())


async def test_users_of_the_release_before_who_may_only_send_scripts_go_on(server):
    server.cmd("ACL", "SETUSER", "svc", "on", ">pw", "~*", "+evalsha", "+script|load", "+incr")
    bus = Bus("x", server.url.replace("redis://", "redis://svc:pw@"))
    await load_functions(other := Bus("x", server.url), {ONE.function: ONE})
    assert await bus.script(ONE, ["n"], []) == 1
    await asyncio.gather(bus.aclose(), other.aclose())


async def test_of_old_releases_a_few_stay_and_what_is_in_use_always_does(server, bus):
    for number in range(KEPT_VERSIONS + 3):
        await load_functions(bus, release(number))
        await asyncio.sleep(0.002)  # the time of loading tells which is older
    newest = {name for number in range(2, KEPT_VERSIONS + 3) for name in release(number)}
    assert there(server) == newest
    await load_functions(bus, release(2))
    assert there(server) == newest
    server.cmd(
        "FUNCTION", "LOAD", "#!lua name=mine\nredis.register_function('mine', function() return 1 end)"
    )
    await load_functions(bus, release(99))
    assert "mine" in there(server)


async def test_a_library_that_somebody_else_put_in_our_place_is_replaced(server, bus):
    name = ONE.function
    body = f"redis.register_function('{name}', function() return 'theirs' end)"
    server.cmd("FUNCTION", "LOAD", f"#!lua name={name}\n{body}")
    assert await bus.script(ONE, ["n"], []) == b"theirs"
    await load_functions(bus, {name: ONE})
    assert await bus.script(ONE, ["n"], []) == 1


async def test_a_script_that_does_not_compile_keeps_no_other_from_being_loaded(server, bus, capsys):
    broken = Script("return (", "marketswarm_broken")
    await load_functions(bus, {broken.function: broken, ONE.function: ONE})
    assert there(server) == {ONE.function}
    assert "functions.refused" in "".join(capsys.readouterr())


async def test_functions_are_there_after_a_restart(server, bus):
    await load_functions(bus, {ONE.function: ONE})
    server.stop()
    server.start()
    assert there(server) == {ONE.function}


async def test_many_who_seed_at_once_agree(server):
    buses = [Bus("system-redis", server.url) for _ in range(4)]
    await asyncio.gather(*(load_functions(bus, load_all_scripts()) for bus in buses))
    assert there(server) == set(load_all_scripts())
    for bus in buses:
        await bus.aclose()


def test_what_one_function_sets_of_cjson_hides_nothing_from_another(server):
    """The functions of a server have one Lua state, and only who seeds may put one there."""
    script = Script("return cjson.decode(ARGV[1]).a[1][1]", "marketswarm_reads")
    with redis.Redis(HOST, server.port) as client:
        client.function_load(f"#!lua name={script.function}\n{script.library}")
        client.function_load(
            "#!lua name=evil\nredis.register_function('evil', function() cjson.decode_max_depth(1) end)"
        )
        client.fcall("evil", 0)
        client.eval("cjson.decode_max_depth(1)", 0)
        assert client.fcall(script.function, 0, '{"a":[["x"]]}') == b"x"


WAYS = {
    "a global": "x = 1",
    "a global by its table": "_G.tonumber = nil",
    "a function of a library": "string.format = nil",
    "the same behind its back": "rawset(string, 'format', nil)",
    "a metatable": "setmetatable(_G, {})",
    "the methods of strings": "getmetatable('').__index = {}",
    "what redis has": "redis.call = nil",
    "what cjson has": "cjson.decode = nil",
}


@pytest.mark.parametrize("what", WAYS)
def test_nothing_else_that_a_script_sets_is_seen_by_a_function(server, what):
    """A server that lets this through would still need somebody who may load a function."""
    script = Script("return cjson.encode({tonumber('7'), string.format('%d', 3)})", "marketswarm_reads")
    with redis.Redis(HOST, server.port) as client:
        client.function_load(f"#!lua name={script.function}\n{script.library}")
        with pytest.raises(redis.ResponseError):
            client.eval(WAYS[what], 0)
        assert client.fcall(script.function, 0) == b'[7,"3"]'
