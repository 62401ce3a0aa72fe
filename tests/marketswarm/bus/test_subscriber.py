"""The simple subscriber on a real server: when it says that it hears, and when that it does not."""

import asyncio
import contextlib
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest

from marketswarm.bus import Bus
from marketswarm.bus.parser import MAX_MESSAGE_BYTES
from marketswarm.bus.subscriber import YIELD_EVERY, subscribe
from marketswarm.tasks import end_tasks
from support.fixtures import opened
from support.rig import Server
from support.waiting import auntil

pytestmark = pytest.mark.live

server = opened(lambda tmp_path: Server(tmp_path / "bus"))


@contextlib.asynccontextmanager
async def subscribed(server: Server, **to):
    """What a subscriber reports, as words, while it is at work."""
    bus, said = Bus("x", server.url), []
    task = asyncio.create_task(
        subscribe(
            bus,
            on_message=lambda channel, payload: said.append(f"{channel.decode()} {payload.decode()}"),
            on_subscribed=lambda: said.append("joined"),
            on_lost=lambda error: said.append(error.reason),
            on_skipped=lambda channel: said.append(f"{channel.decode()} skipped"),
            **to,
        )
    )
    try:
        yield said
    finally:
        await end_tasks(task)
        await bus.aclose()


async def test_it_hears_what_comes_right_after_it_joined(server):
    async with subscribed(server, channels=["a", "b"], patterns=["*:c"]) as said:
        await auntil(lambda: "joined" in said)
        assert server.cmd("PUBSUB", "NUMSUB", "a", "b") == ["a", 1, "b", 1]
        assert server.cmd("PUBLISH", "x:c", "1") == 1
        await auntil(lambda: said == ["joined", "x:c 1"], what=lambda: f"the message: {said}")


async def test_one_that_is_refused_never_joined_asks_less_and_less_and_joins_once_it_may(server):
    server.cmd("CONFIG", "SET", "requirepass", "hush")
    server.password = "hush"  # noqa: S105 - of this test's server
    async with subscribed(server, channels=["a"]) as said:
        begun = time.monotonic()
        await auntil(lambda: len(said) == 4, what=lambda: f"refusals: {said}")
        assert set(said) == {"auth"}
        assert time.monotonic() - begun >= 0.1 + 0.2 + 0.4
        server.cmd("CONFIG", "SET", "requirepass", "")
        server.password = None
        await auntil(lambda: said[-1] == "joined", what=lambda: f"joined: {said}")


async def test_a_session_that_is_killed_is_lost_once_and_joined_again(server):
    async with subscribed(server, patterns=["*"]) as said:
        await auntil(lambda: "joined" in said)
        server.cmd("CLIENT", "KILL", "TYPE", "pubsub")
        await auntil(lambda: said == ["joined", "refused", "joined"], what=lambda: f"joined again: {said}")


@pytest.mark.parametrize("to", [{"channels": ["a:c", "b:c"]}, {"patterns": ["*:c"]}])
@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES + 1, 3_000_000])
async def test_a_message_that_is_too_long_is_skipped_and_those_around_it_are_heard(server, to, size):
    async with subscribed(server, **to) as said:
        await auntil(lambda: "joined" in said)
        server.cmd("PUBLISH", "a:c", "1")
        for _ in range(2):
            server.cmd("PUBLISH", "a:c", "x" * size)
        server.cmd("PUBLISH", "b:c", "2")
        wanted = ["joined", "a:c 1", "a:c skipped", "a:c skipped", "b:c 2"]
        await auntil(lambda: said == wanted, what=lambda: f"all but the long ones: {said}")


async def test_a_burst_is_heard_in_its_order_and_other_tasks_run_meanwhile(server):
    async with subscribed(server, channels=["a"], patterns=["*:c"]) as said:
        await auntil(lambda: "joined" in said)
        numbers = range(3000)
        script = "for i = 0, 2999 do redis.call('PUBLISH', i % 2 == 0 and 'a' or 'x:c', tostring(i)) end"
        steps = asyncio.create_task(count_steps(lambda: len(said) > len(numbers)))
        server.cmd("EVAL", script, "0")
        await auntil(lambda: len(said) > len(numbers))
        assert said[1:] == [f"{'x:c' if n % 2 else 'a'} {n}" for n in numbers]
        assert await steps > len(numbers) / YIELD_EVERY


async def test_messages_gather_and_are_read_together_and_a_flood_is_not_held_up(server):
    heard_at = []
    bus = Bus("x", server.url)
    joined = asyncio.Event()
    task = asyncio.create_task(
        subscribe(
            bus,
            channels=["a"],
            on_message=lambda _channel, _payload: heard_at.append(time.monotonic()),
            on_subscribed=joined.set,
            on_lost=lambda _error: None,
            gather_sec=0.2,
        )
    )
    async with asyncio.timeout(10):
        await joined.wait()
    for n in range(40):
        server.cmd("PUBLISH", "a", str(n))
        await asyncio.sleep(0.01)
    await auntil(lambda: len(heard_at) == 40)
    assert any(later - earlier > 0.15 for earlier, later in pairwise(heard_at))
    begun = time.monotonic()
    server.cmd("EVAL", "for i = 1, 40 do redis.call('PUBLISH', 'a', string.rep('x', 100000)) end", "0")
    await auntil(lambda: len(heard_at) == 80)
    assert time.monotonic() - begun < 40 * 0.2 / 2
    await end_tasks(task)
    await bus.aclose()


async def count_steps(is_over):
    steps = 0
    while not is_over():
        steps += 1
        await asyncio.sleep(0)
    return steps


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"-NOPERM no\r\n", "auth"),
        (b":1\r\n", "error"),
        (b"*0\r\n", "error"),
        (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n:1\r\n", "error"),
    ],
)
async def test_what_is_no_message_ends_the_session_after_those_before_it(reply, reason):
    heard = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"

    async def answer(reader, writer):
        while b"SUBSCRIBE" not in (asked := await reader.read(1000)):
            writer.write(b"+OK\r\n" * asked.count(b"*"))
        writer.write(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n" + heard + reply + heard)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with subscribed(SimpleNamespace(url=f"redis://127.0.0.1:{port}"), channels=["a"]) as said:
            await auntil(lambda: len(said) >= 4, what=lambda: f"a second session: {said}")
            assert said[:4] == ["joined", "a x", reason, "joined"]
