"""Telling on a real server: once, in order, all or nothing, whatever happens on the way."""

import asyncio
import contextlib

import orjson
import pytest

from marketswarm.bus import Bus
from marketswarm.bus.scripts import load_all_scripts
from marketswarm.detector import Publication, State, Subject, Verdict
from marketswarm.monitor import VerdictEncoder
from marketswarm.seeding.functions import load_functions
from marketswarm.tasks import end_tasks
from support.fixtures import opened
from support.rig import Server, TcpProxy
from support.simulation.publishers import recording_publisher
from support.waiting import auntil

pytestmark = pytest.mark.live

LOG = "healer:alerts:log"
FILL = "for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'event', '{}') end"


def verdict(svc: str, state: State, ts: float) -> Verdict:
    return Verdict(
        svc, state, Publication.ALERT, ts, timeout_sec=30.0, reason="silent" if state is State.DOWN else None
    )


server = opened(lambda tmp_path: Server(tmp_path / "bus"))


@contextlib.asynccontextmanager
async def telling(url: str):
    bus = Bus("system-redis", url, within_sec=0.3)
    notices = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")
    told: list[Verdict] = []
    box = recording_publisher(bus, notices, told)
    task = asyncio.create_task(box.record())
    try:
        yield box, told
    finally:
        await end_tasks(task)
        await bus.aclose()


def events(server: Server) -> list[dict]:
    return [
        orjson.loads(fields[1] if isinstance(fields, list) else fields["event"])
        for _, fields in server.cmd("XRANGE", LOG, "-", "+")
    ]


def logged(server: Server) -> list[tuple[str, str]]:
    return [(event["type"].removeprefix("heartbeat_"), event["svc"]) for event in events(server)]


async def test_an_answer_that_is_lost_tells_nothing_twice_and_keeps_the_order(server):
    with TcpProxy(server.port) as wire:
        async with telling(wire.url) as (box, told):
            patient = Bus("system-redis", server.url, within_sec=10)
            await load_functions(patient, load_all_scripts())  # else the server is asked for one first
            await patient.aclose()
            box.enqueue(verdict("first", State.DOWN, 1.0))
            await auntil(lambda: told)
            wire.swallow(direction="down")
            expected = [("miss", "first")]
            for n, state in enumerate([State.DOWN, State.UP, State.DOWN, State.UP]):
                for svc in "ab":
                    box.enqueue(verdict(svc, state, 2.0 + n))
                    expected.append(("miss" if state is State.DOWN else "ok", svc))
            box.enqueue(verdict("first", State.UNWATCHED, 9.0))
            await auntil(
                lambda: box.retries >= 2 and len(logged(server)) > 1, what="a telling without an answer"
            )
            assert len(told) == 1
            wire.heal()
            await auntil(lambda: not len(box))
            assert logged(server) == [*expected, ("unwatched", "first")]
            assert len(told) == len(expected) + 1


def calls(server: Server) -> int:
    """Return how many functions the server was called for."""
    return int(server.cmd("INFO", "commandstats").get("cmdstat_fcall", {}).get("calls", 0))


async def test_a_call_that_was_given_up_and_arrives_after_its_successors_changes_nothing(server):
    """A connection that is closed delivers what it has still to send, for minutes if the network is away."""
    with TcpProxy(server.port) as wire:
        async with telling(wire.url) as (box, told):
            patient = Bus("system-redis", server.url, within_sec=10)
            await load_functions(patient, load_all_scripts())
            box.enqueue(verdict("first", State.DOWN, 1.0))
            await auntil(lambda: told)
            wire.delay(2.0)
            box.enqueue(verdict("a", State.DOWN, 2.0))
            await auntil(lambda: box.retries)
            before = calls(server)
            wire.delay(0.0)
            for state, ts in ((State.UP, 3.0), (State.DOWN, 4.0), (State.UP, 5.0)):
                await auntil(lambda: not len(box))
                box.enqueue(verdict("a", state, ts))
            await auntil(lambda: len(told) == 5)
            await auntil(lambda: calls(server) - before > 4, what="the call that was given up")
            box.enqueue(verdict("a", State.DOWN, 6.0))
            await auntil(lambda: len(told) == 6)
            await patient.aclose()
            assert [event["ts"] for event in events(server)] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


async def test_a_greater_number_that_another_client_stored_stops_no_publication(server):
    async with telling(server.url) as (box, told):
        for n, number in enumerate(("0", "1000000", "9007199254740991", "1e300", "junk", "-1", "5")):
            server.cmd("HSET", "healer:lease", "call", number)
            box.enqueue(verdict(f"svc{n}", State.DOWN, 1.0))
            await auntil(lambda n=n: len(told) == n + 1)
    assert logged(server) == [("miss", f"svc{n}") for n in range(7)]


async def test_a_full_server_takes_nothing_at_all_and_later_everything(server):
    async with telling(server.url) as (box, told):
        server.cmd("CONFIG", "SET", "maxmemory", "1")
        for n in range(150):
            box.enqueue(verdict(f"svc{n}", State.DOWN, 1.0))
        await auntil(lambda: box.retries >= 2)
        assert (told, server.cmd("EXISTS", LOG, "healer:roster", "health:svc0")) == ([], 0)
        server.cmd("CONFIG", "SET", "maxmemory", "0")
        await auntil(lambda: not len(box))
        assert logged(server) == [("miss", f"svc{n}") for n in range(150)]
        assert server.cmd("HLEN", "healer:roster") == 150
        assert 60 <= server.cmd("TTL", "health:svc149") <= 90


async def test_a_server_killed_in_the_midst_tells_each_once(server):
    async with telling(server.url) as (box, _):
        for n in range(300):
            box.enqueue(verdict(f"svc{n}", State.DOWN, 1.0))
        await auntil(lambda: len(box) < 300)
        server.stop()
        for n in range(300):
            box.enqueue(verdict(f"svc{n}", State.UP, 2.0))
        server.start()
        await auntil(lambda: not len(box))
        found = logged(server)
        assert len(found) == len(set(found)) == 600
        assert found[:300] == [("miss", f"svc{n}") for n in range(300)]


async def test_a_channel_that_is_closed_to_us_loses_nothing_of_the_log(server):
    server.cmd("ACL", "SETUSER", "default", "resetchannels")
    async with telling(server.url) as (box, told):
        box.enqueue(verdict("a", State.DOWN, 1.0))
        await auntil(lambda: told)
        assert logged(server) == [("miss", "a")]


@pytest.mark.parametrize(("command", "taken"), [("hset", 0), ("set", 0), ("hdel", 1), ("del", 1)])
async def test_a_verdict_that_is_refused_halfway_leaves_no_trace_however_often_it_is_offered(
    server, command, taken
):
    server.cmd("ACL", "SETUSER", "half", "on", ">pw", "~*", "&*", "+@all", f"-{command}")
    url = server.url.replace("redis://", "redis://half:pw@")
    expected = [("miss", "one"), ("unwatched", "one")]
    async with telling(url) as (box, told):
        for n, state in enumerate((State.DOWN, State.UNWATCHED)):
            box.enqueue(verdict("one", state, float(n)))
        await auntil(lambda: box.retries >= 3)
        assert len(told) == taken
        assert logged(server) == expected[:taken]
        for key in ("health:one", "healer:roster"):
            assert server.cmd("EXISTS", key) == taken, key
        server.cmd("ACL", "SETUSER", "half", f"+{command}")
        await auntil(lambda: len(told) == 2)
    assert logged(server) == expected
    assert not server.cmd("EXISTS", "health:one", "healer:roster")


def of_bus(state: State, ts: float) -> Verdict:
    return verdict("market-redis", state, ts)._replace(subject=Subject.BUS, reason=None)


@pytest.mark.parametrize("entry", ["{", "[]", "1", '{"verdict":null}'])
async def test_an_entry_that_cannot_be_read_hides_no_verdict_and_is_said(server, entry, capsys):
    server.cmd("HSET", "healer:roster", "bus:market-redis", entry)
    async with telling(server.url) as (box, told):
        for times in (1, 2):
            box.enqueue(of_bus(State.UP, 1.0))
            await auntil(lambda times=times: len(told) == times)
    assert logged(server) == [("bus_ok", "market-redis")]
    assert "".join(capsys.readouterr()).count("publish.entry_unreadable") == 1


async def test_what_the_notifier_has_not_read_yet_stays_on_the_log(server):
    server.cmd("EVAL", FILL, 1, LOG, 120_000)
    server.cmd("XGROUP", "CREATE", LOG, "notifier", "0")
    async with telling(server.url) as (box, told):
        for n in range(150):
            box.enqueue(verdict(f"svc{n}", State.DOWN, 1.0))
        await auntil(lambda: len(told) == 150)
        assert server.cmd("XLEN", LOG) == 120_150
        server.cmd("XGROUP", "SETID", LOG, "notifier", "$", "ENTRIESREAD", 120_150)

        def is_short() -> bool:  # each of these has the server trim some of what is too much
            box.enqueue(verdict(f"later{len(told)}", State.DOWN, 1.0))
            return server.cmd("XLEN", LOG) < 101_000

        await auntil(is_short)
