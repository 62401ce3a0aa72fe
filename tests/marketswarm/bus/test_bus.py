"""The command side of a bus: where it is found, and that nothing hangs on it."""

import asyncio
import contextlib

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import DataError, ResponseError

from marketswarm.bus import Bus, BusError, find_bus_url
from marketswarm.bus.errors import find_bus_reason
from marketswarm.bus.failover import MAX_CONNECTIONS
from marketswarm.bus.scripts import Script
from marketswarm.truth import parse_truth
from support.fixtures import opened
from support.rig import HOST, Server, TcpProxy, free_port
from support.waiting import PATIENT_SEC, auntil

TRUTH = parse_truth(b'{"services":{},"buses":{"market-redis":{"url":"redis://truth:1"}}}').truth

server = opened(lambda tmp_path: Server(tmp_path / "bus"))


async def reason(bus: Bus, request, within_sec: float | None = None) -> str:
    try:
        await bus.ask(request, within_sec)
    except BusError as error:
        return error.reason
    return "none"


# -- where it is


def test_the_environment_goes_before_a_file_and_that_before_the_truth_and_that_before_the_name(tmp_path):
    (tmp_path / "url").write_text("redis://file:1\n")
    file = {"MARKET_REDIS_URL_FILE": str(tmp_path / "url")}
    assert (
        find_bus_url("market-redis", {**file, "MARKET_REDIS_URL": "redis://env:1"}, TRUTH) == "redis://env:1"
    )
    assert find_bus_url("market-redis", file, TRUTH) == "redis://file:1"
    assert find_bus_url("market-redis", {}, TRUTH) == "redis://truth:1"
    assert find_bus_url("market-redis", {}, None) == "redis://market-redis:6379"


def test_a_file_that_can_not_be_read_is_an_error_that_names_the_variable():
    with pytest.raises(BusError, match="MARKET_REDIS_URL_FILE"):
        find_bus_url("market-redis", {"MARKET_REDIS_URL_FILE": "/no/such/file"})


@pytest.mark.parametrize(
    "bad",
    [
        "hunter2",
        "https://me:hunter2@h/x",
        "redis://h:1?db=hunter2",
        "redis://h:hunter2",
        "redis+sentinel://hunter2",
        "redis://:S3@hunter2#et@127.0.0.1:1",
        "redis://:S3@hunter2/et@127.0.0.1:1",
        "redis://127.0.0.1:1/hunter2",
    ],
)
def test_a_url_that_does_not_parse_names_where_it_comes_from_and_never_what_stands_there(tmp_path, bad):
    (tmp_path / "url").write_text(f"{bad}\n")
    raw = b'{"buses":{"third":{"url":"env:PLACE"}},"services":{"a":{"heartbeat":{"redis_url":"env:ELSE"}}}}'
    truth = parse_truth(raw).truth
    for name, environ, said in (
        ("market-redis", {"MARKET_REDIS_URL": bad}, "market-redis: error (MARKET_REDIS_URL: is not redis://"),
        (
            "market-redis",
            {"MARKET_REDIS_URL_FILE": str(tmp_path / "url")},
            "(MARKET_REDIS_URL_FILE: is not redis://",
        ),
        ("third", {"PLACE": bad}, "(PLACE, which buses.third.url names: is not redis://"),
        ("env:ELSE", {"ELSE": bad}, "(ELSE, which heartbeat.redis_url names: is not redis://"),
        ("third", {}, "(buses.third.url: the truth asks for PLACE, which is not set"),
    ):
        with pytest.raises(BusError) as caught:
            find_bus_url(name, environ, truth)
        assert said in str(caught.value)
        assert "hunter2" not in str(caught.value)


def test_what_is_no_url_is_an_error_that_shows_no_part_of_it():
    with pytest.raises(BusError) as found:
        Bus("x", "http://user:secret@h")
    assert "secret" not in str(found.value)
    with pytest.raises(BusError) as found:
        Bus("x", "redis://:S3@secret#et@127.0.0.1:1")
    assert "percent-encode" in str(found.value)
    assert "secret" not in str(found.value)


# -- what goes wrong, in one word


@pytest.mark.live
async def test_nobody_there_is_refused():
    bus = Bus("x", f"redis://{HOST}:{free_port()}")
    assert await reason(bus, bus.client.ping()) == "refused"
    await bus.aclose()


@pytest.mark.live
async def test_a_password_that_is_wrong_or_missing_is_auth(server):
    server.cmd("CONFIG", "SET", "requirepass", "right")
    for url in (server.url, server.url.replace("//", "//:wrong@")):
        bus = Bus("x", url)
        assert await reason(bus, bus.client.ping()) == "auth"
        await bus.aclose()


@pytest.mark.live
@pytest.mark.parametrize("transaction", [True, False])
async def test_a_server_that_takes_no_writes_says_why(server, transaction):
    bus = Bus("x", server.url)
    for word, (on, off) in {
        "oom": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        "readonly": (("REPLICAOF", HOST, str(free_port())), ("REPLICAOF", "NO", "ONE")),
    }.items():
        server.cmd(*on)
        pipe = bus.pipeline(transaction=transaction)
        pipe.incr("k")
        pipe.publish("c", "x")
        assert await reason(bus, pipe.execute()) == word
        server.cmd(*off)
    assert await reason(bus, bus.client.incr("k")) == "none"
    await bus.aclose()


@pytest.mark.live
async def test_a_replica_that_shows_nothing_while_its_master_is_away_is_read_only_too(server):
    bus, script = Bus("x", server.url), Script("return redis.call('INCR', KEYS[1])")
    server.cmd("CONFIG", "SET", "replica-serve-stale-data", "no")
    server.cmd("REPLICAOF", HOST, str(free_port()))
    assert await reason(bus, bus.client.get("k")) == "readonly"
    assert await reason(bus, bus.script(script, ["k"], [])) == "readonly"
    await bus.aclose()


@pytest.mark.live
@pytest.mark.parametrize("transaction", [True, False])
async def test_who_was_demoted_is_left_at_once_for_where_the_name_leads_now(tmp_path, server, transaction):
    """A managed service moves the name of the endpoint, and leaves connections to the old one as they are."""
    with Server(tmp_path / "next") as following, TcpProxy(server.port) as name:
        bus = Bus("x", name.url)
        await asyncio.gather(*(bus.ask(bus.client.ping()) for _ in range(3)))
        server.cmd("REPLICAOF", HOST, following.port)
        name.target_port = following.port
        pipe = bus.pipeline(transaction=transaction)
        pipe.publish("c", "x")
        pipe.set("k", "x")
        assert await reason(bus, pipe.execute()) == "readonly"
        assert sorted(await asyncio.gather(*(bus.ask(bus.client.incr("n")) for _ in range(3)))) == [1, 2, 3]
        await auntil(lambda: name.count() <= 3, what="the end of the former connections")
        await bus.aclose()


# -- nothing hangs


@pytest.mark.live
async def test_a_frozen_server_costs_its_time_limit_and_the_next_request_works_when_it_thaws(server):
    bus = Bus("x", server.url, within_sec=0.4)
    assert await bus.ask(bus.client.ping(), PATIENT_SEC)
    script = Script("return redis.call('INCR', KEYS[1])")
    server.freeze()
    for request in (bus.client.get("k"), bus.pipeline().incr("k").execute(), bus.client.ping()):
        async with asyncio.timeout(PATIENT_SEC):
            assert await reason(bus, request) == "timeout"
    with pytest.raises(BusError, match="timeout"):
        async with asyncio.timeout(PATIENT_SEC):
            await bus.script(script, ["n"], [], 0.2)
    server.thaw()
    await bus.ask(bus.client.set("k", "mine"), PATIENT_SEC)
    assert await bus.ask(bus.client.get("k"), PATIENT_SEC) == b"mine", "no answer of an earlier request"
    assert isinstance(await bus.script(script, ["n"], [], PATIENT_SEC), int)
    await bus.aclose()


@pytest.mark.live
async def test_answers_never_go_to_another_request_after_a_time_out(server):
    with TcpProxy(server.port) as wire:
        bus = Bus("x", wire.url, within_sec=0.1)
        for n in range(8):
            server.cmd("SET", f"k{n}", n)
        wire.delay(0.08)
        for n in range(8):
            with contextlib.suppress(BusError):
                assert await bus.ask(bus.client.get(f"k{n}")) == b"%d" % n
        wire.heal()
        found = await asyncio.gather(*(bus.ask(bus.client.get(f"k{n}"), PATIENT_SEC) for n in range(8)))
        assert found == [b"%d" % n for n in range(8)]
        await bus.aclose()


@pytest.mark.live
async def test_a_script_is_sent_whole_to_a_server_that_forgot_it(server):
    bus = Bus("x", server.url)
    script = Script("return ARGV[1]")
    assert await bus.script(script, [], ["a"]) == b"a"
    server.cmd("SCRIPT", "FLUSH")
    assert await bus.script(script, [], ["b"]) == b"b"
    await bus.aclose()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("The user executing the script can't publish to the channel mentioned in the command", "auth"),
        ("ACL failure in script: No permissions to access a channel script: on @user_script:1.", "auth"),
        ("NOPERM this user has no permissions to run the 'incr' command", "auth"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "misconf"),
        ("BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.", "busy"),
        ("BUSYGROUP Consumer Group name already exists", "error"),
        ("wrong number of arguments for 'get' command", "error"),
    ],
)
def test_what_servers_say_in_words_alone_has_its_reason_too(words, reason):
    assert find_bus_reason(ResponseError(words)) == reason


# -- how commands are packed


@pytest.mark.parametrize(
    "url", ["redis://h:1", "rediss://h:1", "unix:///run/bus", "redis+sentinel://h:1/main"]
)
def test_a_command_is_packed_as_the_client_library_would(url):
    ours = Bus("bus", url).pool.make_connection()
    theirs = Connection()
    commands = [
        ("CONFIG GET", "save"),
        ("SET", "key", b"\x00\xff\r\n", "EX", 90),
        ("HSET", "key", "name", "Zürich", "n", -(10**30), "x", 1.5, "", b""),
        ("FCALL", "f", 1, "key", *([b"v" * 100_000, "w"] * 20)),
    ]
    for command in commands:
        assert b"".join(ours.pack_command(*command)) == b"".join(theirs.pack_command(*command))
    assert b"".join(ours.pack_commands(commands)) == b"".join(theirs.pack_commands(commands))
    assert len(ours.pack_command(*commands[-1])) == 1, "at once, and not piece by piece"
    for unusable in (None, True, ["list"]):
        with pytest.raises(DataError):
            ours.pack_command("SET", "key", unusable)
    with pytest.raises(UnicodeEncodeError):
        ours.pack_command("SET", "key", "\ud800")


@pytest.mark.live
async def test_a_connection_comes_back_from_each_request_also_from_one_that_failed_or_was_cancelled(server):
    bus = Bus("x", server.url)

    def pipeline(*keys):
        pipe = bus.pipeline()
        for key in keys:
            pipe.lpush(key, 1)
        return pipe.execute()

    await bus.ask(bus.client.set("text", "x"))
    assert await reason(bus, pipeline("list", "text")) == "error"
    assert await reason(bus, bus.client.lpush("text", 1)) == "error"
    assert await reason(bus, bus.client.blpop("none"), 0.05) == "timeout"
    waits = bus.pipeline()
    waits.execute_command("BLPOP", "none", 0)
    assert await reason(bus, waits.execute(), 0.05) == "timeout"
    assert await bus.ask(pipeline("list")) == [2], "no reply of a request before"
    made = []
    for _ in range(2):
        assert await asyncio.gather(*(bus.ask(bus.client.get("text")) for _ in range(5))) == [b"x"] * 5
        assert await asyncio.gather(*(bus.ask(pipeline("list")) for _ in range(5)))
        made.append(server.cmd("INFO", "stats")["total_connections_received"])
    assert made[1] == made[0] + 1, "those that came back are used again; one is of `cmd`"
    await bus.aclose()


@pytest.mark.live
async def test_more_requests_than_a_pool_has_connections_wait_for_one_and_none_fails(server):
    bus = Bus("x", server.url)
    await bus.ask(bus.client.set("text", "x"))
    assert (
        await asyncio.gather(*(bus.ask(bus.client.get("text"), PATIENT_SEC) for _ in range(350)))
        == [b"x"] * 350
    )
    assert server.cmd("INFO", "clients")["connected_clients"] <= MAX_CONNECTIONS + 1, "one is of `cmd`"
    await bus.aclose()


@pytest.mark.live
async def test_the_time_limit_of_a_request_counts_its_wait_for_a_connection_which_no_end_of_it_loses(server):
    bus = Bus("x", f"{server.url}?max_connections=2")
    held = [asyncio.create_task(bus.ask(bus.client.blpop("none"), PATIENT_SEC)) for _ in range(2)]
    await auntil(lambda: server.cmd("INFO", "clients")["blocked_clients"] == 2)
    assert await reason(bus, bus.client.get("text"), 0.05) == "timeout", "and not that it refuses"
    cancelled = asyncio.create_task(bus.ask(bus.client.get("text"), PATIENT_SEC))
    waiting = [asyncio.create_task(bus.ask(bus.client.incr("n"), PATIENT_SEC)) for _ in range(5)]
    await asyncio.sleep(0)
    cancelled.cancel()
    held[0].cancel()
    assert await asyncio.gather(*waiting) == [1, 2, 3, 4, 5], "in turn, over the one that came back"
    held[1].cancel()
    await asyncio.gather(*held, cancelled, return_exceptions=True)
    for _ in range(2):
        held = [asyncio.create_task(bus.ask(bus.client.blpop("none"), PATIENT_SEC)) for _ in range(2)]
        await auntil(lambda: server.cmd("INFO", "clients")["blocked_clients"] == 2, what="both of them")
        for each in held:
            each.cancel()
        await asyncio.gather(*held, return_exceptions=True)
    await bus.aclose()


@pytest.mark.parametrize(("option", "said"), [("", "refused"), ("&nonsense=1", "error")])
async def test_a_connection_that_fails_or_can_not_be_made_leaves_room_for_the_next_one(option, said):
    bus = Bus("x", f"redis://{HOST}:{free_port()}?max_connections=1{option}")
    for _ in range(3):
        assert await reason(bus, bus.client.get("text")) == said
    await bus.aclose()
